"""`curr-ab pretrain`, and the same for `accelerate launch`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curr_ab.cli.shell import Parser, interruptible, run
from curr_ab.options import OptionError, Options, add_flags, option, read_flags, read_options
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan

DESCRIPTION = """Train a member on prepared data, or go on where the run in OUT stands.

The defaults are the published plan. To use several devices, start the same arguments with
`accelerate launch --config_file train_scripts/accelerate/ddp.yaml train_scripts/pretrain.py`."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(Options):
    """Options that are not part of a plan."""

    out: Path | None = option(None, "Folder of the run; needed except for a dry run", metavar="FOLDER")
    plan: tuple[Path, ...] = option((), "Plan files, of which later ones change earlier ones", metavar="YAML")
    dry_run: bool = option(False, "Print the plan and what it takes, and train nothing")


def add_commands(commands: Any) -> None:
    """Add `pretrain` to the command line."""
    add_arguments(
        commands.add_parser("pretrain", help="train a member on prepared data", description=DESCRIPTION)
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The plan's fields as options, and what is not part of a plan."""
    parser.add_argument(
        "member",
        nargs="?",
        metavar="MEMBER",
        default=argparse.SUPPRESS,
        help="Member to train, such as 350M-F (default: 8M-F, or what the plan files say)",
    )
    add_flags(parser, PretrainOptions)
    plan = parser.add_argument_group("plan", "Changes of the files, in which they are written `name: value`")
    add_flags(plan, PretrainingPlan, leave_out=("member",))
    parser.set_defaults(run=_pretrain)


def _pretrain(args: argparse.Namespace) -> None:
    """Resolve the plan, then print what it takes or train."""
    options = read_options(args, PretrainOptions)
    plan = resolve_plan(read_flags(args, PretrainingPlan), options.plan)
    if not plan.data:
        raise OptionError("data must name a folder made by `curr-ab data prepare`; got none", "data")
    if options.dry_run:
        from curr_ab.pretraining.preview import preview

        print(preview(plan))
        return
    if options.out is None:
        raise OptionError("out must name the folder of the run; got none", "out")
    from curr_ab.pretraining import pretrain

    with interruptible("pretrain"):
        print(f"checkpoint: {pretrain(plan, options.out)}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """The command of `train_scripts/pretrain.py`; exit status 2 for bad input, 128 + N after signal N."""
    parser = Parser(prog="pretrain", description=DESCRIPTION)
    add_arguments(parser)
    return run(parser, argv)
