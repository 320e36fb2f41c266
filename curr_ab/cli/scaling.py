"""`curr-ab scaling fit | advise | reproduce | plan`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from curr_ab.cli.shell import CORES, Parser
from curr_ab.extras import needs_extra
from curr_ab.options import OptionError, Options, add_flags, option, read_flags, read_options
from curr_ab.scaling.compute import UTILIZATION, gpu_flops
from curr_ab.scaling.doubt import DataColumn, Doubt

if TYPE_CHECKING:
    from curr_ab.scaling.runs import Runs
    from curr_ab.scaling.spending import Prices
    from curr_ab.scaling.uncertainty import Fit

Law = Literal["iso-data", "isoflop", "parametric", "repeated-data", "transfer"]
_PROJECTED = "Size of the model whose data the iso-data law projects, in parameters"


Gpu = Literal["a100", "h100", "h200", "b200", "l40s", "a10"]  # a test compares them with the table of peaks


@dataclass(frozen=True, kw_only=True)
class ShownOptions(Options):
    """The computing and printing of numbers."""

    workers: int | None = option(None, "Number of processes", shown=CORES, least=1)
    json: bool = option(False, "Print JSON rather than a table")


@dataclass(frozen=True, kw_only=True)
class FitOptions(Options):
    """A law, and the runs that it is fitted to."""

    task: str | None = option(
        None, "Task of the losses in results.json files", shown="the only one", metavar="NAME"
    )
    law: Law = option(help="Law to fit")
    data: DataColumn | None = option(None, "Column that is D in the parametric law", shown="seen_tokens")
    project_to: float | None = option(None, _PROJECTED, shown="650M", metavar="SIZE", above=0)
    starts: Path | None = option(None, "File for the outcome of every start of the fit", metavar="FILE.csv")
    plot: Path | None = option(None, "Folder for figures as PNG and SVG", metavar="FOLDER")


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(Options):
    """Compute, in GPU hours instead of FLOPs."""

    gpu_hours: float | None = option(None, "Budget in hours of one GPU", metavar="HOURS", above=0)
    gpu: Gpu | None = option(None, "GPU whose hours they are")
    utilization: float | None = option(
        None,
        "Share of the GPU's peak that training reaches",
        shown=str(UTILIZATION),
        metavar="SHARE",
        above=0,
        most=1,
    )


@dataclass(frozen=True, kw_only=True)
class MoneyOptions(BudgetOptions):
    """Prices, and what there is."""

    loss: float | None = option(None, "Loss to reach for the least money", metavar="NATS", above=0)
    price_per_pair: float | None = option(None, "Price of a new pair", metavar="MONEY", least=0)
    price_per_gpu_hour: float | None = option(None, "Price of an hour of one GPU", metavar="MONEY", least=0)
    owned: float | None = option(
        None, "Number of pairs that are there already", shown="0", metavar="COUNT", least=0
    )


@dataclass(frozen=True, kw_only=True)
class AdviseOptions(MoneyOptions):
    """A question; exactly one of six."""

    budget: float | None = option(None, "Money to spend: what loss it buys", metavar="MONEY", above=0)
    params: float | None = option(None, "Size of the model, such as 650M", metavar="SIZE", above=0)
    sequences: float | None = option(
        None, "Number of different pairs to train on, such as 2M", metavar="COUNT", above=0
    )
    flops: float | None = option(None, "Budget in FLOPs, such as 1e20", metavar="FLOPS", above=0)
    max_sequences: float | None = option(None, "Number of pairs that could be had", metavar="COUNT", above=0)
    results: Path | None = option(None, "Runs of your own to fit a law to as well", metavar="RESULTS.csv")
    law: Literal["iso-data", "isoflop", "parametric"] | None = option(
        None, "Law to fit to them; for money it is repeated-data"
    )
    report: Path | None = option(
        None,
        "Folder for a page about money, its twin in Markdown and its picture, with the runs to make first",
        metavar="FOLDER",
    )


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(Options):
    """The published figures."""

    draws: int = option(10_000, "Number of draws for the 95 % intervals", least=20)
    plot: Path | None = option(None, "Folder for the paper's two figures", metavar="FOLDER")


@dataclass(frozen=True, kw_only=True)
class PlanOptions(MoneyOptions):
    """The next runs; with money or a loss those that make the advice on it surer."""

    budget: float | None = option(None, "Budget in FLOPs, such as 3e20", metavar="FLOPS", above=0)
    money: float | None = option(None, "Money whose best use is to be known better", metavar="MONEY", above=0)
    results: Path | None = option(
        None, "Runs of your own", shown="the paper's 11 points", metavar="RESULTS.csv"
    )
    max_sequences: float | None = option(
        None, "Number of pairs that could be had", shown="the largest so far", metavar="COUNT", above=0
    )
    tokens_per_run: float | None = option(
        None, "Length of a run in tokens", shown="the paper's 15.4B", metavar="COUNT", above=0
    )
    project_to: float | None = option(None, _PROJECTED, shown="650M", metavar="SIZE", above=0)


def add_commands(commands: Any) -> None:
    """Add `scaling` with its four verbs to the parser's commands."""
    scaling = commands.add_parser(
        "scaling",
        help="fit scaling laws, doubt them, take advice",
        description="Scaling laws: how much data, how big a model, and how sure one can be.",
    )
    verbs = scaling.add_subparsers(title="verbs", metavar="VERB", required=True)
    fit = _add(verbs, "fit", "fit a law to a table of runs", _fit, FitOptions)
    help = "Runs: a CSV file (docs/how-to/scaling.md), results.json files of `curr-ab evaluate loss`, or "
    help += "folders of `curr-ab pretrain` runs, whose validation losses are curves"
    fit.add_argument("runs", type=Path, nargs="+", metavar="RESULTS", help=help)
    _add(verbs, "advise", "answer what size or data is best, by every law", _advise, AdviseOptions)
    template = verbs.add_parser(
        "template", help="print a table of runs to fill in", description=_template.__doc__
    )
    template.set_defaults(run=_template)
    _add(verbs, "reproduce", "show the published figures beside ours", _reproduce, ReproduceOptions)
    _add(verbs, "plan", "design the next runs for a budget", _plan, PlanOptions)


def _add(
    verbs: Any, name: str, text: str, run: Callable[[argparse.Namespace], None], options: type
) -> Parser:
    parser: Parser = verbs.add_parser(name, help=text, description=run.__doc__)
    add_flags(parser, options)
    own = ("draws", "noise_sd") if options is ReproduceOptions else ()
    add_flags(parser, Doubt, leave_out=("workers", *own))
    add_flags(parser, ShownOptions)
    parser.set_defaults(run=run)
    return parser


def _doubt(args: argparse.Namespace) -> Doubt:
    shown = read_options(args, ShownOptions)
    given = read_flags(args, Doubt) | {"workers": shown.workers or os.cpu_count() or 1}
    return Doubt(**given, progress=not shown.json)


def _flops(options: MoneyOptions, flops: float | None) -> float | None:
    if options.gpu_hours is None:
        if options.price_per_gpu_hour is not None:  # the GPU is the one that the price is of
            return flops
        for name in ("gpu", "utilization"):
            if getattr(options, name) is not None:
                raise OptionError(f"{name} must come with gpu_hours", name, "gpu_hours")
        return flops
    if options.gpu is None:
        raise OptionError(f"gpu must be one of {', '.join(get_args(Gpu))} where gpu_hours are given", "gpu")
    return gpu_flops(options.gpu_hours, options.gpu, options.utilization or UTILIZATION)


def _require_one(options: Any, *names: str) -> None:
    given = [name for name in names if getattr(options, name) is not None]
    if len(given) != 1:
        raise OptionError(f"exactly one of {', '.join(names)} must be given; got {len(given)}", *names)


def _show(args: argparse.Namespace, result: Any, lines: Iterable[str]) -> None:
    from curr_ab.scaling.report import to_json

    print(to_json(result) if read_options(args, ShownOptions).json else "\n".join(lines))


def _fit(args: argparse.Namespace) -> None:
    """Fit one law: estimates, intervals, local optima, influence, warnings."""
    options, doubt = read_options(args, FitOptions), _doubt(args)
    with needs_extra("scaling"):
        from curr_ab import scaling
        from curr_ab.scaling.plots import plot_fit, save_plots
        from curr_ab.scaling.report import describe_fit, write_starts

    runs = _read(args.runs, options.task)
    fit = _fit_law(runs, options.law, doubt, options.data, options.project_to)
    if options.starts is not None:
        if not isinstance(fit, scaling.LogLossFit):
            message = f"starts must be none for the law {options.law}, which is not fitted from many starts"
            raise OptionError(message, "starts")
        write_starts(fit, options.starts)
    if options.plot is not None:
        save_plots(plot_fit(fit, options.data or "seen_tokens"), options.plot)
    _show(args, fit, describe_fit(fit))


def _fit_law(
    runs: Runs, law: Law, doubt: Doubt, data: DataColumn | None = None, project_to: float | None = None
) -> Fit:
    """Fit the law called `law`; an option of another law is refused."""
    from curr_ab import scaling
    from curr_ab.scaling.iso_data import PROJECTED_PARAMETERS

    if data is not None and law != "parametric":
        raise OptionError(f"data must be none for the law {law}; only parametric has a choice", "data")
    if project_to is not None and law != "iso-data":
        raise OptionError(f"project_to must be none for the law {law}; only iso-data projects", "project_to")
    if law == "iso-data":
        return scaling.fit_iso_data(runs, doubt, project_to or PROJECTED_PARAMETERS)
    if law == "parametric":
        return scaling.fit_parametric(runs, doubt, data=data or "seen_tokens")
    fits = {
        "isoflop": scaling.fit_isoflop,
        "repeated-data": scaling.fit_repeated_data,
        "transfer": scaling.fit_transfer,
    }
    return fits[law](runs, doubt)


def _read(paths: Sequence[Path], task: str | None) -> Runs:
    """A table of runs, what was measured, or the curves of runs."""
    from curr_ab import scaling

    if all(path.is_dir() for path in paths) and task is None:
        return scaling.read_curves(paths)
    if all(path.suffix == ".json" for path in paths):
        return scaling.read_measured_runs(paths, task)
    if len(paths) > 1 or task is not None:
        message = "several files, and task, are for results.json files; a table of runs must be one CSV file"
        raise OptionError(message, "task")
    return scaling.read_runs(paths[0])


def _advise(args: argparse.Namespace) -> None:
    """Answer one question by every law, or about money by a law of own runs, with 95 % intervals."""
    options, doubt = read_options(args, AdviseOptions), _doubt(args)
    _require_one(options, "params", "sequences", "flops", "gpu_hours", "budget", "loss")
    if options.budget is not None or options.loss is not None:
        _spend(args, options, doubt)
        return
    _refuse_money(options, "budget", "max_sequences", "report")
    flops = _flops(options, options.flops)
    if (options.results is None) != (options.law is None):
        raise OptionError("results and law belong together; got one of them", "results", "law")
    with needs_extra("scaling"):
        from curr_ab import scaling
        from curr_ab.scaling.report import describe_advice

    question = scaling.Question(options.params, options.sequences, flops)
    fits: tuple[Any, ...] = ()
    if options.results is not None and options.law is not None:
        fits = (_fit_law(_read([options.results], None), options.law, doubt),)
    answers = scaling.advise(question, fits, doubt)
    _show(args, answers, describe_advice(answers))


def _refuse_money(options: MoneyOptions, question: str, *others: str) -> None:
    """Refuse prices, and what else belongs to money, where nothing is asked about it."""
    for name in ("price_per_pair", "price_per_gpu_hour", "owned", *others):
        if getattr(options, name) is not None:
            raise OptionError(f"{name} must come with {question} or loss", name, question, "loss")


def _prices(options: AdviseOptions | PlanOptions) -> Prices:
    """The prices of a question of money, to own runs."""
    if options.results is None:
        raise OptionError("results must be given for a question of money; got none", "results")
    if options.price_per_pair is None or options.price_per_gpu_hour is None:
        message = "both prices must be given for a question of money; 0 is what costs nothing"
        raise OptionError(message, "price_per_pair", "price_per_gpu_hour")
    if options.gpu is None:
        raise OptionError(f"gpu must be one of {', '.join(get_args(Gpu))} for the price of its hours", "gpu")
    with needs_extra("scaling"):
        from curr_ab import scaling

    per_hour = gpu_flops(1, options.gpu, options.utilization or UTILIZATION)
    return scaling.Prices(options.price_per_pair, options.price_per_gpu_hour / per_hour, options.owned or 0.0)


def _spend(args: argparse.Namespace, options: AdviseOptions, doubt: Doubt) -> None:
    """Where money goes furthest, by the repeated-data law of own runs."""
    if options.law is not None:
        raise OptionError("law must be none for a question of money: it is repeated-data", "law")
    prices = _prices(options)
    with needs_extra("scaling"):
        from curr_ab import scaling
        from curr_ab.scaling.report import describe_spending
        from curr_ab.scaling.spending_page import write_spending
        from curr_ab.scaling.spending_runs import trial_flops

    fit = scaling.fit_repeated_data(_read([options.results or Path()], None), doubt)
    question = {"budget": options.budget, "loss": options.loss, "max_sequences": options.max_sequences}
    spending = scaling.spend(fit, prices, **question)
    if options.report is not None:
        trials: scaling.Trials | str
        try:
            flops = trial_flops(spending.best, prices)
            trials = scaling.plan_spending(fit, prices, budget_flops=flops, **question, doubt=doubt)
        except ValueError as error:
            trials = f"No runs are planned: {error}."
        write_spending(spending, trials, options.report)
    _show(args, spending, describe_spending(spending))


def _template(args: argparse.Namespace) -> None:
    """Print a table with every column and two invented runs, to fill in; what is not known is left out."""
    with needs_extra("scaling"):
        from curr_ab.scaling.runs import TEMPLATE

    print(TEMPLATE, end="")


def _reproduce(args: argparse.Namespace) -> None:
    """Compute every published figure that data in the package allow."""
    options, doubt = read_options(args, ReproduceOptions), _doubt(args)
    with needs_extra("scaling"):
        from curr_ab import scaling
        from curr_ab.scaling.advice import PAPER_NOISE_SD
        from curr_ab.scaling.plots import plot_fit, save_plots
        from curr_ab.scaling.report import describe_reproduced

    rows = scaling.reproduce(replace(doubt, draws=options.draws))
    if options.plot is not None:
        drawn = scaling.Doubt(noise_sd=PAPER_NOISE_SD, seed=doubt.seed, workers=doubt.workers)
        fit = scaling.fit_iso_data(scaling.published_runs("test-loss-2025-09"), drawn)
        save_plots(plot_fit(fit), options.plot)
    _show(args, rows, describe_reproduced(rows))


def _plan(args: argparse.Namespace) -> None:
    """Design the runs that would narrow the iso-data projection most, or advice on money, with their cost."""
    options, doubt = read_options(args, PlanOptions), _doubt(args)
    _require_one(options, "budget", "gpu_hours")
    flops = _flops(options, options.budget)
    if options.money is not None or options.loss is not None:
        _plan_spending(args, options, doubt, flops or 0.0)
        return
    _refuse_money(options, "money")
    with needs_extra("scaling"):
        from curr_ab import scaling
        from curr_ab.scaling.advice import PAPER_NOISE_SD
        from curr_ab.scaling.iso_data import PROJECTED_PARAMETERS
        from curr_ab.scaling.report import describe_plan
        from curr_ab.scaling.uncertainty import noise_of

    if options.results is None:
        runs, noise = scaling.published_runs("test-loss-2025-09"), doubt.noise_sd or PAPER_NOISE_SD
    else:
        runs = scaling.read_runs(options.results)
        noise = noise_of(runs, doubt) or 0.0
        if not noise:
            raise OptionError("noise must be given, or runs repeated with other seeds; got neither", "noise")
    plan = scaling.plan_iso_data(
        runs,
        budget_flops=flops or 0.0,
        noise_sd=noise,
        max_sequences=options.max_sequences,
        tokens_per_run=options.tokens_per_run,
        project_to=options.project_to or PROJECTED_PARAMETERS,
        doubt=doubt,
    )
    _show(args, plan, describe_plan(plan))


def _plan_spending(args: argparse.Namespace, options: PlanOptions, doubt: Doubt, flops: float) -> None:
    """The runs that narrow the advice on money most."""
    _require_one(options, "money", "loss")
    for name in ("tokens_per_run", "project_to"):
        if getattr(options, name) is not None:
            raise OptionError(f"{name} must be none for a question of money; leave it out", name)
    prices = _prices(options)
    with needs_extra("scaling"):
        from curr_ab import scaling
        from curr_ab.scaling.report import describe_trials

    fit = scaling.fit_repeated_data(_read([options.results or Path()], None), doubt)
    trials = scaling.plan_spending(
        fit,
        prices,
        budget_flops=flops,
        budget=options.money,
        loss=options.loss,
        max_sequences=options.max_sequences,
        doubt=doubt,
    )
    _show(args, trials, describe_trials(trials))
