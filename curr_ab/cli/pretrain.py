"""`curr-ab pretrain`, and the same for `accelerate launch`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from curr_ab.cli.shell import Parser, interruptible, run
from curr_ab.hub import jobs
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
    launcher: Literal["local", "jobs"] = option(
        "local", "Way to train: here, or in a job on a machine of the Hub, with data and OUT there"
    )


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
    add_flags(parser.add_argument_group("job", "With the launcher jobs"), jobs.JobOptions)
    plan = parser.add_argument_group("plan", "Changes of the files, in which they are written `name: value`")
    add_flags(plan, PretrainingPlan, leave_out=("member",))
    parser.set_defaults(run=_pretrain)


def _pretrain(args: argparse.Namespace) -> None:
    """Resolve the plan, then print what it takes or train."""
    options = read_options(args, PretrainOptions)
    plan = resolve_plan(read_flags(args, PretrainingPlan), options.plan)
    job = read_options(args, jobs.JobOptions)
    jobs.refuse_without_job(options.launcher, job, options.out)
    if options.launcher == "jobs":
        from curr_ab.hub.job_start import start

        start([_run_of(plan, options.out)], job, dry_run=options.dry_run)
        return
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


def _run_of(plan: PretrainingPlan, out: Path | None) -> jobs.Run:
    """The run for a job, whose data are on its disk."""
    from curr_ab.pretraining.preview import step_costs

    folder = jobs.require_bucket(jobs.address_of(out))
    data = {"data": plan.data, "unpaired_data": plan.unpaired_data}
    addresses = {
        field: jobs.require_address(name, field) for field, name in data.items() if name or field == "data"
    }
    folders = {field: f"{jobs.DISK}/{field}" for field in addresses}
    if plan.init_from is not None and Path(plan.init_from).exists():
        jobs.require_address(plan.init_from, "init_from")
    flops, num_parameters = step_costs(plan)
    # A GPU's peak is that of half precision.
    workload = jobs.Workload(flops, num_parameters, plan.steps, plan.save_every)
    return jobs.Run(
        f"pretrain {plan.member}",
        folder,
        ("pretrain", "--plan", jobs.SETTINGS_FILE, "--out", jobs.FOLDER),
        {**plan.to_dict(), **folders},
        "train",
        tuple((addresses[field], folders[field]) for field in addresses),
        workload if plan.precision != "fp32" else None,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command of `train_scripts/pretrain.py`; exit status 2 for bad input, 128 + N after signal N."""
    parser = Parser(prog="pretrain", description=DESCRIPTION)
    add_arguments(parser)
    return run(parser, argv)
