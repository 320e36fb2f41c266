"""`curr-ab scaling fit | advise | reproduce | plan`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.extras import needs_extra
from curr_ab.scaling.any_law import LAWS, fit_law

if TYPE_CHECKING:
    from curr_ab.scaling.runs import Runs
    from curr_ab.scaling.uncertainty import Doubt

_ADVISING_LAWS = LAWS[:3]
_DATA_COLUMNS = ("seen_tokens", "unique_tokens", "sequences")


def add_commands(commands: Any) -> None:
    """Add `scaling` with its four verbs to the parser's commands."""
    scaling = commands.add_parser(
        "scaling",
        help="fit scaling laws, doubt them, take advice",
        description="Scaling laws: how much data, how big a model, and how sure one can be.",
    )
    verbs = scaling.add_subparsers(title="verbs", metavar="VERB", required=True)

    fit = verbs.add_parser("fit", help="fit a law to a table of runs", description=_fit.__doc__)
    fit.add_argument(
        "results",
        type=Path,
        nargs="+",
        metavar="RESULTS",
        help="the runs: a CSV file (docs/scaling.md), or results.json file(s) of `curr-ab evaluate loss`",
    )
    fit.add_argument("--task", metavar="NAME", help="which loss of results.json files (the only one)")
    fit.add_argument("--law", choices=LAWS, required=True)
    fit.add_argument(
        "--data", choices=_DATA_COLUMNS, help="column that is D in the parametric law (seen_tokens)"
    )
    fit.add_argument("--project-to", metavar="SIZE", help="size whose data iso-data projects (650M)")
    fit.add_argument("--starts", type=Path, metavar="FILE.csv", help="write the outcome of every start")
    fit.add_argument("--plot", type=Path, metavar="DIR", help="write figures as PNG and SVG")
    _add_doubt(fit)
    fit.set_defaults(run=_fit)

    advise = verbs.add_parser("advise", help="best size or data, by every law", description=_advise.__doc__)
    question = advise.add_mutually_exclusive_group(required=True)
    question.add_argument("--params", metavar="SIZE", help="size of the model: 650M")
    question.add_argument("--sequences", metavar="COUNT", help="different pairs to train on: 2M")
    _add_budget(question, advise)
    advise.add_argument("--results", type=Path, metavar="RESULTS.csv", help="also fit your own runs")
    advise.add_argument("--law", choices=_ADVISING_LAWS, help="the law to fit to them")
    _add_doubt(advise)
    advise.set_defaults(run=_advise)

    reproduce = verbs.add_parser(
        "reproduce", help="published figures beside ours", description=_reproduce.__doc__
    )
    reproduce.add_argument("--plot", type=Path, metavar="DIR", help="write the paper's two figures")
    _add_doubt(reproduce, noise=False, draws=10_000)
    reproduce.set_defaults(run=_reproduce)

    plan = verbs.add_parser("plan", help="design the next runs for a budget", description=_plan.__doc__)
    budget = plan.add_mutually_exclusive_group(required=True)
    _add_budget(budget, plan)
    plan.add_argument("--results", type=Path, metavar="RESULTS.csv", help="your runs (the paper's 11 points)")
    plan.add_argument("--max-sequences", metavar="COUNT", help="data that could be had (the largest so far)")
    plan.add_argument("--tokens-per-run", metavar="COUNT", help="length of a run (the paper's 15.4B)")
    plan.add_argument("--project-to", metavar="SIZE", help="size whose data is projected (650M)")
    _add_doubt(plan)
    plan.set_defaults(run=_plan)


def _add_budget(group: Any, parser: argparse.ArgumentParser) -> None:
    group.add_argument(
        "--budget" if parser.prog.endswith("plan") else "--flops", dest="flops", metavar="FLOPS"
    )
    group.add_argument("--gpu-hours", metavar="HOURS", help="with --gpu, instead of FLOPs")
    parser.add_argument("--gpu", metavar="NAME", help="a100, h100 or h200")
    parser.add_argument("--utilisation", type=float, metavar="SHARE", help="of the GPU's peak (0.4)")


def _add_doubt(parser: argparse.ArgumentParser, noise: bool = True, draws: int = 1000) -> None:
    if noise:
        parser.add_argument("--noise", type=float, metavar="SD", help="of a loss, in nats (from the seeds)")
    parser.add_argument("--draws", type=int, default=draws, help="draws for intervals (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--json", action="store_true")


def _doubt(args: argparse.Namespace) -> Doubt:
    from curr_ab.scaling.uncertainty import Doubt

    return Doubt(
        draws=args.draws,
        noise_sd=getattr(args, "noise", None),
        seed=args.seed,
        workers=args.workers,
        progress=not args.json,
    )


def _flops(args: argparse.Namespace) -> float | None:
    from curr_ab.quantities import parse_quantity
    from curr_ab.scaling.compute import UTILIZATION, gpu_flops

    if args.gpu_hours is None:
        if args.gpu or args.utilisation is not None:
            raise ValueError("--gpu and --utilisation belong to --gpu-hours")
        return None if args.flops is None else parse_quantity(args.flops)
    if args.gpu is None:
        raise ValueError("--gpu-hours needs --gpu: a100, h100 or h200")
    utilization = UTILIZATION if args.utilisation is None else args.utilisation
    return gpu_flops(parse_quantity(args.gpu_hours), args.gpu, utilization)


def _quantity(text: str | None) -> float | None:
    from curr_ab.quantities import parse_quantity

    return None if text is None else parse_quantity(text)


def _show(result: Any, lines: Iterable[str], as_json: bool) -> None:
    from curr_ab.scaling.report import to_json

    print(to_json(result) if as_json else "\n".join(lines))


def _fit(args: argparse.Namespace) -> None:
    """Fit one law: estimates, intervals, local optima, influence, warnings."""
    with needs_extra("scaling"):
        from curr_ab import scaling
        from curr_ab.scaling.plots import plot_fit, save_plots
        from curr_ab.scaling.report import describe_fit, write_starts

    runs = _read(args.results, args.task)
    fit = fit_law(runs, args.law, _doubt(args), args.data, _quantity(args.project_to))
    if args.starts is not None:
        if not isinstance(fit, scaling.LogLossFit):
            raise ValueError(f"--starts belongs to laws fitted from many starts, not to {args.law}")
        write_starts(fit, args.starts)
    if args.plot is not None:
        save_plots(plot_fit(fit, args.data or "seen_tokens"), args.plot)
    _show(fit, describe_fit(fit), args.json)


def _read(paths: list[Path], task: str | None) -> Runs:
    """A table of runs, or what was measured."""
    from curr_ab import scaling

    if all(path.suffix == ".json" for path in paths):
        return scaling.read_measured_runs(paths, task)
    if len(paths) > 1 or task is not None:
        raise ValueError(
            "several files, and --task, are for results.json files; a table of runs is one CSV file"
        )
    return scaling.read_runs(paths[0])


def _advise(args: argparse.Namespace) -> None:
    """What each law says about one question, with 95 % intervals where they can be had."""
    with needs_extra("scaling"):
        from curr_ab import scaling
        from curr_ab.scaling.report import describe_advice

    if (args.results is None) != (args.law is None):
        raise ValueError("--results and --law belong together")
    question = scaling.Question(_quantity(args.params), _quantity(args.sequences), _flops(args))
    doubt = _doubt(args)
    fits = () if args.results is None else (fit_law(scaling.read_runs(args.results), args.law, doubt),)
    answers = scaling.advise(question, fits, doubt)
    _show(answers, describe_advice(answers), args.json)


def _reproduce(args: argparse.Namespace) -> None:
    """Every published figure that can be computed from data in the package."""
    with needs_extra("scaling"):
        from curr_ab import scaling
        from curr_ab.scaling.advice import PAPER_NOISE_SD
        from curr_ab.scaling.plots import plot_fit, save_plots
        from curr_ab.scaling.report import describe_reproduced

    rows = scaling.reproduce(_doubt(args))
    if args.plot is not None:
        doubt = scaling.Doubt(noise_sd=PAPER_NOISE_SD, seed=args.seed, workers=args.workers)
        fit = scaling.fit_iso_data(scaling.published_runs("test-loss-2025-09"), doubt)
        save_plots(plot_fit(fit), args.plot)
    _show(rows, describe_reproduced(rows), args.json)


def _plan(args: argparse.Namespace) -> None:
    """The grid of runs that would narrow the iso-data projection's interval most, and its cost."""
    with needs_extra("scaling"):
        from curr_ab import scaling
        from curr_ab.scaling.advice import PAPER_NOISE_SD
        from curr_ab.scaling.iso_data import PROJECTED_PARAMETERS
        from curr_ab.scaling.report import describe_plan
        from curr_ab.scaling.uncertainty import noise_of

    doubt = _doubt(args)
    if args.results is None:
        runs, noise = scaling.published_runs("test-loss-2025-09"), doubt.noise_sd or PAPER_NOISE_SD
    else:
        runs = scaling.read_runs(args.results)
        found = noise_of(runs, doubt)
        if not found:
            raise ValueError("the noise is unknown: repeat runs with other seeds, or give it with --noise")
        noise = found
    plan = scaling.plan_iso_data(
        runs,
        budget_flops=_flops(args) or 0.0,
        noise_sd=noise,
        max_sequences=_quantity(args.max_sequences),
        tokens_per_run=_quantity(args.tokens_per_run),
        project_to=_quantity(args.project_to) or PROJECTED_PARAMETERS,
        doubt=doubt,
    )
    _show(plan, describe_plan(plan), args.json)
