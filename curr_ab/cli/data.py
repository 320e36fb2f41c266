"""`curr-ab data`: prepare shards, simulate pairs, describe what was prepared."""

from __future__ import annotations

import argparse
import os
from typing import Any


def _size(text: str) -> float:
    """A number with a point is a share, one without is a count of pairs."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def _subsets(text: str) -> dict[str, float]:
    if text == "paper":
        from curr_ab.family import DATA_SIZES

        return {size.letter: size.num_pairs for size in DATA_SIZES}
    try:
        named = [item.split("=") for item in text.split(",")]
        return {name: _size(size) for name, size in named}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like F=1.0,H=0.5,Q=0.25") from None


def _prepare(args: argparse.Namespace) -> None:
    from curr_ab.data import CleaningLimits, ColumnNames, PreparationPlan, prepare

    plan = PreparationPlan(
        names=ColumnNames(args.heavy_column, args.light_column, args.id_column),
        chains="unpaired" if args.unpaired else "paired",
        limits=CleaningLimits(args.min_length, args.max_length, args.max_ambiguous),
        cluster=args.cluster,
        identity=args.identity,
        coverage=args.coverage,
        group_by_donor=args.group_by == "donor",
        validation=args.validation,
        test=args.test,
        subsets=args.subsets,
        seed=args.seed,
        pairs_per_shard=args.pairs_per_shard,
        masks=not args.no_masks,
    )
    index = prepare(
        args.sources,
        args.out,
        plan,
        processes=args.processes,
        keep_going=args.keep_going,
        keep_dropped=args.keep_dropped,
        progress=not args.quiet,
    )
    if not args.quiet:
        _print_summary(index)


def _print_summary(index: dict[str, Any]) -> None:
    report = index["report"]
    print(f"{report['kept']:,} of {report['read']:,} records kept")
    for reason, count in report["dropped"].items():
        print(f"  dropped, {reason}: {count:,}")
    for message in report["set_aside"]:
        print(f"  set aside: {message}")
    if report["repeated_ids"]:
        print(f"  {report['repeated_ids']:,} records have the id of an earlier one; they are kept")
    for split, pairs in report["pairs"].items():
        print(f"{split}: {pairs:,} in {report['clusters'][split]:,} clusters")
    print(f"clusters in more than one split: {report['clusters_in_several_splits']}")
    print("subsets: " + ", ".join(f"{name} {pairs:,}" for name, pairs in index["subsets"].items()))
    print(f"fingerprint {index['fingerprint']}")


def _simulate(args: argparse.Namespace) -> None:
    from pathlib import Path

    from curr_ab.data import simulate_pairs
    from curr_ab.files import write_parquet

    pairs = simulate_pairs(args.pairs, seed=args.seed, num_donors=args.donors, progress=not args.quiet)
    write_parquet(Path(args.out), pairs)


def _describe(args: argparse.Namespace) -> None:
    from curr_ab.data import describe
    from curr_ab.data.description import table, write_report

    description = describe(args.folder, progress=not args.quiet)
    print(table(description))
    print(f"report: {write_report(description, args.out or args.folder)}")


def _add_prepare(commands: Any) -> None:
    text = "sources to clean, split token shards"
    parser = commands.add_parser("prepare", help=text, description=text)
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="file, pattern, builtin or hf://owner/name"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the shards")
    parser.add_argument("--unpaired", action="store_true", help="the sources hold single chains")
    parser.add_argument("--heavy-column", metavar="NAME", help="where the aliases do not fit")
    parser.add_argument("--light-column", metavar="NAME")
    parser.add_argument("--id-column", metavar="NAME")
    parser.add_argument("--min-length", type=int, default=70, help="residues of a chain (%(default)s)")
    parser.add_argument("--max-length", type=int, default=160, help="residues of a chain (%(default)s)")
    parser.add_argument(
        "--max-ambiguous", type=float, default=0.02, help="share of X, B, Z, U, O (%(default)s)"
    )
    parser.add_argument(
        "--cluster",
        choices=("mmseqs", "exact", "source"),
        default="mmseqs",
        help="what is held apart: similar pairs, equal heavy chains, or the source's own split (%(default)s)",
    )
    parser.add_argument("--identity", type=float, default=0.9, help="of a cluster, for mmseqs (%(default)s)")
    parser.add_argument("--coverage", type=float, default=0.8, help="of a cluster, for mmseqs (%(default)s)")
    parser.add_argument("--group-by", choices=("donor",), help="hold donors apart as well")
    parser.add_argument("--validation", type=_size, default=0.05, help="share (0.05) or pairs (50000)")
    parser.add_argument("--test", type=_size, default=0.05, help="share (0.05) or pairs (50000)")
    parser.add_argument(
        "--subsets",
        type=_subsets,
        default={"F": 1.0, "H": 0.5, "Q": 0.25},
        help="nested training sets: F=1.0,H=0.5,Q=0.25 (the default), counts, or `paper`",
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--pairs-per-shard", type=int, default=1 << 17)
    parser.add_argument(
        "--no-masks", action="store_true", help="leave region, segment and mutation masks out"
    )
    parser.add_argument("--keep-going", action="store_true", help="set malformed files aside and say so")
    parser.add_argument(
        "--keep-dropped", action="store_true", help="write dropped records to dropped.parquet"
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="(as many as there are cores)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no summary")
    parser.set_defaults(run=_prepare)


def _add_simulate(commands: Any) -> None:
    text = "pairs with full truth (needs the extra `simulate`; GenAIRR is GPL-3)"
    parser = commands.add_parser("simulate", help=text, description=text)
    parser.add_argument("--pairs", type=int, required=True)
    parser.add_argument("--out", required=True, metavar="FILE", help="Parquet file")
    parser.add_argument("--donors", type=int, default=40)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_simulate)


def _add_describe(commands: Any) -> None:
    text = "table, plots and one HTML page of a prepared folder"
    parser = commands.add_parser("describe", help=text, description=text)
    parser.add_argument("folder", metavar="DIR", help="folder of the shards")
    parser.add_argument("--out", metavar="DIR", help="folder of the report (DIR itself)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_describe)


def add_commands(commands: Any) -> None:
    """Add `data` to the subcommands of `curr-ab`."""
    data = commands.add_parser("data", help="prepare, simulate and describe data", description=__doc__)
    verbs = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_prepare(verbs)
    _add_simulate(verbs)
    _add_describe(verbs)
