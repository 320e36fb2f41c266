"""`curr-ab data`: prepare shards, simulate pairs, describe what was prepared."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curr_ab.cli.shell import CORES, QUIET, InputOptions, ShareOptions, add_command, hand_on, say
from curr_ab.cluster import ExecutorOptions
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.family import DATA_SIZES
from curr_ab.options import Options, add_flags, option, read_flags, read_options
from curr_ab.workers import num_cores


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(ShareOptions):
    """The way in which data are prepared; none of these changes a shard."""

    out: Path = option(help="Folder of the shards", metavar="FOLDER")
    keep_going: bool = option(False, "Set malformed files aside and say so, rather than stop at the first")
    keep_dropped: bool = option(False, "Write the dropped records to dropped.parquet")
    report: Path | None = option(
        None, "Table of what became of each row of the input: .csv, .tsv or .parquet", metavar="FILE"
    )
    processes: int | None = option(None, "Number of processes", shown=CORES, least=1)
    quiet: bool = option(False, QUIET)


@dataclass(frozen=True, kw_only=True)
class SimulateOptions(Options):
    """The simulated pairs."""

    pairs: int = option(help="Number of pairs", least=1)
    out: Path = option(help="Parquet file to write", metavar="FILE")
    donors: int = option(40, "Number of donors that the pairs are of", least=1)
    seed: int = option(42, "Seed of the simulation", least=0)
    quiet: bool = option(False, QUIET)


@dataclass(frozen=True, kw_only=True)
class DescribeOptions(Options):
    """The report on a prepared folder."""

    out: Path | None = option(None, "Folder of the report", shown="the prepared folder", metavar="FOLDER")
    quiet: bool = option(False, QUIET)


def add_commands(commands: Any) -> None:
    """Add `data` to the subcommands of `curr-ab`."""
    about = "Prepare shards, simulate pairs, describe what was prepared."
    data = commands.add_parser("data", help="prepare, simulate and describe data", description=about)
    verbs = data.add_subparsers(title="commands", metavar="COMMAND", required=True)

    text = "clean pairs of all sources, split them so that relatives stay together, and write token shards"
    more = " The same command goes on where it was interrupted."
    prepare = add_command(verbs, "prepare", text, _prepare, PrepareOptions, ExecutorOptions, more=more)
    help = "Files, patterns such as 'oas/*.csv.gz', addresses such as s3://… and hf://datasets/owner/name, "
    help += "builtin; or one prepared folder or data set, whose shards are rebuilt as they were"
    prepare.add_argument("sources", nargs="+", metavar="SOURCE", help=help)
    add_flags(prepare.add_argument_group("input"), InputOptions)
    add_flags(prepare.add_argument_group("plan"), PreparationPlan, leave_out=("names",))

    text = "simulate pairs whose full truth is known (extra `simulate`; GenAIRR is GPL-3)"
    add_command(verbs, "simulate", text, _simulate, SimulateOptions)

    text = "print a table of a prepared folder, and write plots and an HTML page"
    describe = add_command(verbs, "describe", text, _describe, DescribeOptions)
    describe.add_argument("folder", metavar="FOLDER", help="Folder of the shards")


def _prepare(args: argparse.Namespace) -> None:
    if getattr(args, "subsets", None) == ["paper"]:
        args.subsets = [f"{size.letter}={size.num_pairs}" for size in DATA_SIZES]
    options, source = read_options(args, PrepareOptions), read_options(args, InputOptions)
    given = read_flags(args, PreparationPlan) | {"names": source.names}
    plan = PreparationPlan(chains="unpaired" if source.unpaired else "paired", **given)
    if hand_on(args, options.out, options.processes) == "slurm":
        return
    from curr_ab.data import prepare

    index = prepare(
        args.sources,
        options.out,
        plan,
        processes=options.processes or num_cores(),
        keep_going=options.keep_going,
        keep_dropped=options.keep_dropped,
        report=options.report,
        progress=not options.quiet,
        share=options.share,
    )
    if not options.quiet:
        _print_summary(index)


def _print_summary(index: dict[str, Any]) -> None:
    report = index["report"]
    from curr_ab.data.preparing.checks import check_rows
    from curr_ab.data.reading.table import Recognised, summaries

    for source, changes in summaries([Recognised(**one) for one in index["recognised"]]):
        say(source, *(f"  {change}" for change in changes), sep="\n")
    say(f"{report['kept']:,} of {report['read']:,} records kept")
    for reason, count in report["dropped"].items():
        say(f"  dropped, {reason}: {count:,}")
    for message in report["set_aside"]:
        say(f"  set aside: {message}")
    if report["repeated_ids"]:
        say(f"  {report['repeated_ids']:,} records have the id of an earlier one; they are kept")
    for split, pairs in report["pairs"].items():
        say(f"{split}: {pairs:,} in {report['clusters'][split]:,} clusters")
    for name, count in check_rows(report):
        say(f"{name}: {count}")
    say("subsets: " + ", ".join(f"{name} {pairs:,}" for name, pairs in index["subsets"].items()))
    say(f"fingerprint {index['fingerprint']}")


def _simulate(args: argparse.Namespace) -> None:
    options = read_options(args, SimulateOptions)
    from curr_ab.data import simulate_pairs
    from curr_ab.files import write_parquet

    pairs = simulate_pairs(
        options.pairs, seed=options.seed, num_donors=options.donors, progress=not options.quiet
    )
    write_parquet(options.out, pairs)


def _describe(args: argparse.Namespace) -> None:
    options = read_options(args, DescribeOptions)
    from curr_ab.data import describe
    from curr_ab.data.description import table, write_report
    from curr_ab.pictures import require_matplotlib

    require_matplotlib()
    description = describe(args.folder, progress=not options.quiet)
    say(table(description))
    say(f"report: {write_report(description, options.out or args.folder)}")
