"""`curr-ab pretrain`, and the same for `accelerate launch`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curr_ab.pretraining.plan import PretrainingPlan, options, resolve_plan

DESCRIPTION = """Train a member on prepared data, or go on where the run in OUT stands.

The defaults are the published plan. To use several devices, start the same arguments with
`accelerate launch --config_file train_scripts/accelerate/ddp.yaml train_scripts/pretrain.py`."""


def add_commands(commands: Any) -> None:
    """Add `pretrain` to the command line."""
    parser = commands.add_parser(
        "pretrain",
        help="train a member on prepared data",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The plan's fields as options, and what is not part of a plan."""
    parser.add_argument("member", nargs="?", help="such as 350M-F (8M-F, or what the plan files say)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the run")
    parser.add_argument("--plan", type=Path, action="append", default=[], metavar="YAML", help="plan file(s)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and what it takes; train nothing"
    )
    plan = parser.add_argument_group("plan (overrides the files; written `name: value` in them)")
    for name, kind, help in options():
        if name in ("member", "config"):
            continue
        flag = "--" + name.replace("_", "-")
        default = getattr(PretrainingPlan, name)
        shown = f"{help} ({' '.join(map(str, default)) if isinstance(default, tuple) else default})"
        if kind is bool:
            plan.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=shown)
        else:
            several = "*" if isinstance(default, tuple) else None
            plan.add_argument(flag, metavar=name.rpartition("_")[2].upper(), help=shown, nargs=several)
    plan.add_argument("--config", nargs="*", metavar="KEY=VALUE", help="changes of the model's configuration")


def run(args: argparse.Namespace) -> None:
    """Resolve the plan, then print what it takes or train."""
    import yaml

    given = {name: getattr(args, name) for name, _, _ in options() if getattr(args, name) is not None}
    for name, value in given.items():  # text on the command line means what it would mean in YAML
        if isinstance(value, str):
            given[name] = yaml.safe_load(value) if name not in ("data", "unpaired_data") else value
        elif isinstance(value, list) and name != "config":
            given[name] = [yaml.safe_load(item) for item in value]
    given["config"] = dict(_key_value(item) for item in args.config or ())
    plan = resolve_plan(given, args.plan)
    if not plan.data:
        raise ValueError("name the training data: --data FOLDER, made by `curr-ab data prepare`")
    if args.dry_run:
        from curr_ab.pretraining.preview import preview

        print(preview(plan))
        return
    if args.out is None:
        raise ValueError("name the folder of the run: --out FOLDER")
    from curr_ab.pretraining import pretrain
    from curr_ab.training.stopping import Interrupted

    try:
        print(f"checkpoint: {pretrain(plan, args.out)}", file=sys.stderr)
    except Interrupted as stopped:
        print(f"pretrain: {stopped}", file=sys.stderr)
        raise SystemExit(stopped.exit_status) from stopped


def _key_value(text: str) -> tuple[str, Any]:
    import yaml

    key, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"--config takes KEY=VALUE, not {text!r}")
    return key, yaml.safe_load(value)


def main(argv: Sequence[str] | None = None) -> int:
    """The command of `train_scripts/pretrain.py`; exit status 2 for bad input, 128 + N after signal N."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError) as error:
        print(f"pretrain: {error}", file=sys.stderr)
        return 2
    return 0
