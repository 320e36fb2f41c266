"""`curr-ab study`: the whole of the paper from one command."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.extras import needs_extra

if TYPE_CHECKING:
    from curr_ab.study.preset import Preset

DESCRIPTION = """Data, 15 models, evaluation, scaling law, exports with cards, report: in one folder.

The same command goes on where the study stands: after a crash, Ctrl-C, or a cell that failed."""


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("name one cell at least, such as 8M-F")
    return names


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count above 0")
    return int(text)


def add_commands(commands: Any) -> None:
    """Add `study` to the command line."""
    parser = commands.add_parser(
        "study",
        help="the whole of the paper: data, 15 models, evaluation, law, exports, report",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--preset",
        metavar="NAME|YAML",
        help="mini, small, paper or a file (that of the study in OUT, else mini)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the study (studies/PRESET)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="prepared pairs, instead of the preset's own"
    )
    parser.add_argument("--only", type=_names, default=(), metavar="CELL,CELL", help="make these cells alone")
    parser.add_argument(
        "--restart", type=_names, default=(), metavar="CELL,CELL", help="throw the work on these cells away"
    )
    parser.add_argument("--max-parallel", type=_count, metavar="N", help="cells at a time (what fits)")
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm", "print"),
        default="local",
        help="train here, by a Slurm array, or print the commands (%(default)s)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="CELL.key=value",
        help="change a cell's plan, or that of a pattern ('*-Q.steps=600'); evaluation.SUITE.key, launch.key",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and what it takes; write nothing"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Resolve the preset, then make the study; exit status 1 when a cell failed."""
    with needs_extra("study"):
        from transformers.utils.logging import disable_progress_bar

        from curr_ab.study import plan_study, run_study
        from curr_ab.study.closing import closing_words
        from curr_ab.training.stopping import Interrupted

        out, preset = _resolve(args)
        if args.dry_run:
            plan = plan_study(preset, out, args.data, only=args.only, restart=args.restart)
            print("\n".join([preset.title, *plan, preset.takes]).rstrip())
            return
        again = _going_on(args, out)
        disable_progress_bar()  # of files that are loaded or written: they would cut through the table
        try:
            outcome = run_study(
                preset,
                out,
                data=args.data,
                only=args.only,
                restart=args.restart,
                launcher=args.launcher,
                command=again,
                made_by=_making(args, out, preset),
            )
        except Interrupted as stopped:
            print(f"study: {stopped}", file=sys.stderr)
            raise SystemExit(stopped.exit_status) from stopped
    if outcome.launched:
        print("\n".join(closing_words(out, outcome, again)))
    if outcome.problems:
        raise SystemExit(1)


def _resolve(args: argparse.Namespace) -> tuple[Path, Preset]:
    from curr_ab.study.folder import StudyFolder
    from curr_ab.study.preset import change, read_preset

    begun = StudyFolder(args.out).preset if args.out and args.preset is None else None
    preset = begun or read_preset(args.preset or "mini")
    changes = list(args.set)
    if args.max_parallel:
        changes.append(f"launch.max_parallel={args.max_parallel}")
    return args.out or Path("studies") / preset.name, change(preset, changes)


def _going_on(args: argparse.Namespace, out: Path) -> str:
    """The command that goes on with the study, whose preset lies in its folder with all changes."""
    data = ["--data", str(args.data)] if args.data else []
    only = ["--only", ",".join(args.only)] if args.only else []
    return shlex.join(["curr-ab", "study", "--out", str(out), *data, *only])


def _making(args: argparse.Namespace, out: Path, preset: Preset) -> str:
    """The command that makes this study in a fresh folder, for the report."""
    from curr_ab.study.folder import StudyFolder
    from curr_ab.study.preset import change, preset_names, read_preset

    source, changes = args.preset or preset.name, args.set
    if args.preset is None:  # it came from the folder, perhaps with changes of an earlier command
        known = change(read_preset(source), changes) if source in preset_names() else None
        if known is None or replace(known, launch=preset.launch) != preset:
            source, changes = str(StudyFolder(out).preset_file), []
    told = [word for one in changes for word in ("--set", one)]
    data = ["--data", str(args.data)] if args.data else []
    return shlex.join(["curr-ab", "study", "--preset", str(source), "--out", str(out), *data, *told])
