"""`curr-ab study`: the whole of the paper from one command."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from curr_ab.cli.shell import add_command, interruptible, say
from curr_ab.extras import needs_extra
from curr_ab.hub.jobs import JobOptions, refuse_without_job, require_bucket
from curr_ab.options import OptionError, Options, option, read_options

if TYPE_CHECKING:
    from curr_ab.study.preset import Preset

MORE = """ All is in one folder.

The same command goes on where the study stands: after a crash, Ctrl-C, or a cell that failed."""


@dataclass(frozen=True, kw_only=True)
class StudyOptions(Options):
    """The study, and what of it is made."""

    preset: str | None = option(
        None,
        "Preset: mini, small, paper, transfer or a YAML file",
        shown="that of the study in OUT, else mini",
        metavar="NAME|YAML",
    )
    out: Path | None = option(None, "Folder of the study", shown="studies/PRESET", metavar="FOLDER")
    data: Path | None = option(
        None, "Folder of prepared pairs", shown="the preset's own pairs", metavar="FOLDER"
    )
    only: tuple[str, ...] = option((), "Cells to make, such as 8M-F 8M-H", shown="all", metavar="CELL")
    restart: tuple[str, ...] = option((), "Cells whose work is thrown away and made anew", metavar="CELL")
    max_parallel: int | None = option(
        None, "Number of cells that train at a time", shown="what the machine has room for", least=1
    )
    launcher: Literal["local", "slurm", "jobs", "print"] = option(
        "local", "Way to train: here, by a Slurm array, in jobs on machines of the Hub, or print the commands"
    )
    bucket: str | None = option(
        None,
        "Folder in a bucket where jobs find a copy of the prepared pairs as data, and leave the cells",
        metavar="hf://buckets/OWNER/NAME/FOLDER",
    )
    set: tuple[str, ...] = option(
        (),
        "Changes of the plans of a cell or a pattern, such as '*-Q.steps=600'; also evaluation.SUITE.key, "
        "launch.key and transfer.key",
        metavar="CELL.KEY=VALUE",
    )
    dry_run: bool = option(False, "Print the plan and what it takes, and write nothing")


def add_commands(commands: Any) -> None:
    """Add `study` to the command line."""
    text = "make the whole of the paper: data, 15 models, evaluation, scaling law, exports, report"
    add_command(commands, "study", text, run, StudyOptions, JobOptions, more=MORE)


def run(args: argparse.Namespace) -> None:
    """Resolve the preset, then make the study; exit status 1 when a cell failed."""
    options, job = read_options(args, StudyOptions), read_options(args, JobOptions)
    refuse_without_job(options.launcher, job)
    if options.launcher == "jobs":
        require_bucket(options.bucket, "bucket")
    elif options.bucket is not None:
        problem = f"bucket must be left out for the launcher {options.launcher}"
        raise OptionError(problem, "bucket", "launcher")
    with needs_extra("study"):
        from transformers.utils.logging import disable_progress_bar

        from curr_ab.study import plan_study, run_study
        from curr_ab.study.jobs import CellJobs
        from curr_ab.study.study import closing_words

        out, preset = _resolve(options)
        jobs = CellJobs(options.bucket, job) if options.launcher == "jobs" else None
        if options.dry_run:
            plan = plan_study(
                preset, out, options.data, only=options.only, restart=options.restart, jobs=jobs
            )
            say("\n".join([preset.title, *plan, preset.takes]).rstrip())
            return
        again = _going_on(options, out)
        disable_progress_bar()  # of files that are loaded or written: they would cut through the table
        with interruptible("study"):
            outcome = run_study(
                preset,
                out,
                data=options.data,
                only=options.only,
                restart=options.restart,
                launcher=options.launcher,
                jobs=jobs,
                command=again,
                made_by=_making(options, out, preset),
            )
    if outcome.launched:
        say("\n".join(closing_words(out, outcome, again)))
    if outcome.problems:
        raise SystemExit(1)


def _resolve(options: StudyOptions) -> tuple[Path, Preset]:
    from curr_ab.study.folder import StudyFolder
    from curr_ab.study.preset import change, read_preset

    begun = StudyFolder(options.out).preset if options.out and options.preset is None else None
    preset = begun or read_preset(options.preset or "mini")
    changes = list(options.set)
    if options.max_parallel:
        changes.append(f"launch.max_parallel={options.max_parallel}")
    return options.out or Path("studies") / preset.name, change(preset, changes)


def _command(*words: str, options: StudyOptions, **lists: Sequence[str]) -> str:
    """A command with the same data, and the lists that are not empty."""
    data = ["--data", str(options.data)] if options.data else []
    given = [word for flag, words in lists.items() if words for word in (f"--{flag}", *words)]
    return shlex.join(["curr-ab", "study", *words, *data, *given])


def _going_on(options: StudyOptions, out: Path) -> str:
    """The command that goes on with the study, whose preset lies in its folder with all changes."""
    return _command("--out", str(out), options=options, only=options.only)


def _making(options: StudyOptions, out: Path, preset: Preset) -> str:
    """The command that makes this study in a fresh folder, for the report."""
    from curr_ab.study.folder import StudyFolder
    from curr_ab.study.preset import change, preset_names, read_preset

    source, changes = options.preset or preset.name, options.set
    if options.preset is None:  # it came from the folder, perhaps with changes of an earlier command
        shipped = change(read_preset(source), changes) if source in preset_names() else None
        if shipped is None or replace(shipped, launch=preset.launch) != preset:
            source, changes = str(StudyFolder(out).preset_file), ()
    return _command("--preset", source, "--out", str(out), options=options, set=changes)
