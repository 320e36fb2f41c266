"""`curr-ab benchmark`: models, peers and baselines side by side on public data sets."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.benchmark.plan import BenchmarkPlan, read_suite
from curr_ab.benchmark.tasks.catalogue import TASKS
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.cli.shell import add_command, say
from curr_ab.extras import needs_extra
from curr_ab.options import Options, add_flags, option, read_flags, read_options

if TYPE_CHECKING:
    from curr_ab.benchmark.run import Benchmark

_WIDTH = max(map(len, TASKS))
_SUITES = "\n".join(f"  {name:<{_WIDTH}} {reader.title}" for name, reader in TASKS.items())
_MORE = (
    " All of them see the same pairs, folds and masks, each in its own form of input; baselines that need no "
    "model stand beside them. The same command goes on where the folder stands; more models can be added to "
    "it.\n\nSUITE is a YAML file with `models` and `tasks`, a list of entries with `task`, `data` and "
    f"options, or one of\n{_SUITES}"
)


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Models, data, and the folder of results."""

    models: tuple[str, ...] = option(
        (),
        "Models: members, folders, adapters, Hub ids, esm2:8M … esm2:15B, antiberty, baseline:NAME, or "
        "predictions:FILE of others",
        shown="the suite's",
        metavar="MODEL",
    )
    data: tuple[str, ...] = option(
        (), "Files of the task, as their owners publish them", shown="the suite's", metavar="FILE"
    )
    out: Path = option(help="Folder of predictions, results, tables and the report", metavar="FOLDER")


def add_commands(commands: Any) -> None:
    """Add `benchmark` to the command line."""
    text = "measure models beside others, and beside baselines, on public data sets"
    parser = add_command(commands, "benchmark", text, _benchmark, RunOptions, more=_MORE)
    parser.add_argument("suite", metavar="SUITE", help="Name of a task, or a YAML file that lists several")
    add_flags(parser.add_argument_group("task"), TaskOptions)
    add_flags(parser.add_argument_group("measurement and models"), BenchmarkPlan)


def _benchmark(args: argparse.Namespace) -> None:
    """Run what is not done, print the tables; status 1 where a model failed."""
    options, plan = read_options(args, RunOptions), read_options(args, BenchmarkPlan)
    suite = read_suite(args.suite, options.data, read_flags(args, TaskOptions))
    with needs_extra("evaluate"):
        from curr_ab.benchmark.report import write_report
        from curr_ab.benchmark.run import run_benchmark

        found = run_benchmark(suite, options.models, options.out, plan, say=_say)
        page = write_report(found)
    for line in lines_of(found):
        say(line)
    say(f"\n{page}")
    if found.failures:
        for one in found.failures:
            say(f"benchmark: {one.task}: {one.model} failed: {one.reason}", file=sys.stderr)
        raise SystemExit(1)


def _say(line: str) -> None:
    say(line, file=sys.stderr, flush=True)


def lines_of(found: Benchmark) -> list[str]:
    """The table of each task as text."""
    lines = []
    for standing in found.standings:
        lines += ["", f"{standing.task}, {standing.entries[0].metric}" if standing.entries else standing.task]
        width = max((len(entry.name) for entry in standing.entries), default=0)
        for entry in standing.entries:
            one = entry.interval
            line = f"  {entry.name:<{width}}  {one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
            test = standing.test(entry, standing.best_baseline)
            if test is not None:
                line += (
                    f"  against {test.second}: {test.difference:+.4f}, p {test.p:.3g}, Holm {test.p_holm:.3g}"
                )
            lines.append(line)
    return lines[1:]
