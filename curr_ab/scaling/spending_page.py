"""Advice on money as one page: a sentence, a picture, what to buy, and which runs to make first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from curr_ab.charts import STAR, Chart, Drawing, Key, linear, logarithmic, rules
from curr_ab.files import replacing
from curr_ab.pages import packaged_text, render, render_page
from curr_ab.pictures import save_pictures
from curr_ab.quantities import format_quantity
from curr_ab.scaling.spending import Outlook, Purchase, Spending
from curr_ab.scaling.spending_runs import Trials
from curr_ab.scaling.uncertainty import Interval

NAME = "spending"
_SIZE = (620.0, 420.0)
_STRIP = 0.2  # height of the split of the money, as a share of the losses above it
_ALONE = {"pairs": "only more pairs", "parameters": "only a larger model", "passes": "only more passes"}
_SAME = 1.05  # an amount that differs by less is the same in a sentence


@dataclass(frozen=True)
class Table:
    """A table of the page; the first field of a row is its name."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def write_spending(spending: Spending, trials: Trials | str, folder: Path) -> Path:
    """Write the page, its twin in Markdown and the picture, and return the page; each appears whole.

    `trials` are the runs to make first, or the reason why there are none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    picture = draw_spending(spending)
    if picture is not None:
        save_pictures({NAME: picture}, folder, ("svg", "png"))
    values = page_values(spending, trials) | {"picture": picture}
    styles = [packaged_text("charts.css"), packaged_text("scaling/spending.css"), rules(3, 0)]
    texts = {
        f"{NAME}.md": render("scaling/spending.md", **values),
        f"{NAME}.html": render_page("scaling/spending.html", styles=styles, **values),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder / f"{NAME}.html"


def page_values(spending: Spending, trials: Trials | str) -> dict[str, Any]:
    """The sentences and tables that page and Markdown share."""
    planned = isinstance(trials, Trials)
    return {
        "title": _title(spending),
        "answer": _answer(spending),
        "comparisons": list(_comparisons(spending)),
        "purchase_table": _purchase_table(spending),
        "other_table": _other_table(spending),
        "notes": spending.notes,
        "is_extrapolated": any("beyond the runs" in note for note in spending.notes),
        "trial_sentence": _trial_sentence(trials) if isinstance(trials, Trials) else trials,
        "trial_table": _trial_table(trials) if isinstance(trials, Trials) else None,
        "narrowing_table": _narrowing_table(spending, trials) if isinstance(trials, Trials) else None,
        "planned": planned,
    }


def _title(spending: Spending) -> str:
    cost = spending.best.cost
    if not cost:
        return "What there is suffices"
    return f"The next {format_quantity(cost)} go mostly into {_where(spending)}"


def _where(spending: Spending) -> str:
    """The thing that the larger part of the money goes into."""
    best, now = spending.best, spending.now
    if best.for_pairs >= best.for_training:
        return "new pairs"
    larger, oftener = best.parameters / now.parameters, best.passes / now.passes
    if max(larger, oftener) < _SAME:
        return "training"
    return "a larger model" if larger >= oftener else "more passes"


def _answer(spending: Spending) -> str:
    best = spending.best
    parameters, pairs, passes = _amounts(best)
    often = f"{passes} {'pass' if passes == '1' else 'passes'}"
    training = f"training a model of {parameters} parameters in {often} over {pairs} pairs"
    share = best.for_pairs / best.cost if best.cost else 0.0
    money, for_pairs, rest = map(format_quantity, (best.cost, best.for_pairs, best.for_training))
    if not best.cost:
        bought = f"Nothing needs to be bought for {training}"
    elif share < 0.005:
        bought = f"Buy no new pairs. Put all of {money} into {training}"
    else:
        bought = f"Of {money}, put {for_pairs} ({share:.0%}) into new pairs and {rest} into {training}"
    return f"{bought}: the law expects a loss of {_with_interval(best.loss, spending.intervals['loss'])}."


def _comparisons(spending: Spending) -> Iterator[str]:
    best, now = spending.best, spending.now
    parameters, pairs, passes = _amounts(now)
    yield (
        f"The run of the lowest loss so far had {parameters} parameters, {pairs} pairs and {passes} passes; "
        f"the law gives it a loss of {now.loss:.4g}. Beside it the advice has "
        f"{_times(best.sequences, now.sequences, 'pairs')}, "
        f"{_times(best.parameters, now.parameters, 'parameters')} and "
        f"{_times(best.passes, now.passes, 'passes')}."
    )
    if spending.alone:
        name, one = min(spending.alone.items(), key=lambda item: item[1].purchase.loss)
        yield (
            f"Of a single thing, and all else as in that run, the same money does best as "
            f"{_ALONE[name].removeprefix('only ')}: a loss of {_with_interval(one.purchase.loss, one.loss)}."
        )


def _times(value: float, other: float, unit: str) -> str:
    ratio = value / other
    return f"as many {unit}" if 1 / _SAME < ratio < _SAME else f"{ratio:.2g} times the {unit}"


def _with_interval(value: float, between: Interval) -> str:
    return f"{value:.4g} (95 %: {between.low:.4g} to {between.high:.4g})"


def _range(between: Interval) -> str:
    low, high = format_quantity(between.low), format_quantity(between.high)
    return "" if low == high else f"{low} to {high}"


def _purchase_table(spending: Spending) -> Table:
    best = spending.best
    rows = [
        (label, format_quantity(getattr(best, name)), _range(spending.intervals[name]))
        for name, label in (
            ("sequences", "pairs to train on"),
            ("parameters", "parameters of the model"),
            ("passes", "passes over the pairs"),
            ("loss", "expected loss"),
            ("cost", "cost"),
        )
    ]
    rows += [
        ("of it for new pairs", format_quantity(best.for_pairs), ""),
        ("of it for training", format_quantity(best.for_training), ""),
    ]
    return Table("What to buy", ("", "advice", "95 %"), tuple(rows))


def _other_table(spending: Spending) -> Table:
    rows = [("as advised", spending.best, _range(spending.intervals["loss"]))]
    rows += [(_ALONE[name], one.purchase, _range(one.loss)) for name, one in spending.alone.items()]
    rows += [(f"at the size {name}", bought, "") for name, bought in spending.by_size.items()]
    return Table(
        f"What else {format_quantity(spending.best.cost)} would buy",
        ("", "loss", "95 %", "parameters", "pairs", "passes"),
        tuple((name, f"{bought.loss:.4g}", between, *_amounts(bought)) for name, bought, between in rows),
    )


def _amounts(bought: Purchase) -> tuple[str, ...]:
    return tuple(map(format_quantity, (bought.parameters, bought.sequences, bought.passes)))


def _trial_sentence(trials: Trials) -> str:
    count = sum(run.num_seeds for run in trials.runs)
    runs = "1 run" if count == 1 else f"{count} runs"
    return (
        f"Before the money is spent, {runs} of {trials.flops:.2g} FLOPs in all, on pairs that are there, "
        "would narrow this answer most."
    )


def _trial_table(trials: Trials) -> Table:
    rows = [
        (
            *map(format_quantity, (run.parameters, run.sequences, run.passes)),
            f"{run.num_seeds}",
            f"{run.flops:.2g}",
        )
        for run in trials.runs
    ]
    return Table("Runs to make first", ("parameters", "pairs", "passes", "seeds", "FLOPs"), tuple(rows))


def _narrowing_table(spending: Spending, trials: Trials) -> Table:
    units = {"sequences": "pairs", "parameters": "parameters", "passes": "passes"}
    rows = [(label, _range(trials.before[name]), _range(trials.after[name])) for name, label in units.items()]
    return Table("What 95 % of simulated studies would advise", ("", "now", "with these runs"), tuple(rows))


def draw_spending(spending: Spending) -> Drawing | None:
    """The loss by money with its interval, and how the money is split; None where nothing costs money."""
    curve = spending.curve
    if not curve:
        return None
    budgets = [one.purchase.cost for one in curve]
    losses = linear(end for one in curve for end in (one.loss.low, one.loss.high, one.purchase.loss))
    height = _STRIP * (losses.high - losses.low)
    base = losses.low - 1.5 * height
    chart = Chart(NAME, logarithmic(budgets, 0.02), linear([base, losses.high], 0), _SIZE)
    money = chart.x.ticks()
    chart.x_axis(money, list(map(format_quantity, money)), "money (logarithmic)")
    ticks = [value for value in chart.y.ticks() if value >= losses.low]
    chart.y_axis("{:.4g}".format, "expected loss (nats per token)", ticks)
    low, high = ([(one.purchase.cost, getattr(one.loss, end)) for one in curve] for end in ("low", "high"))
    chart.band(low, high, "d2")
    for is_extrapolated, points in _pieces(curve):
        chart.line(points, "law", "line dashed" if is_extrapolated else "line")
    split = [(one.purchase.cost, base + height * one.purchase.for_pairs / one.purchase.cost) for one in curve]
    floor, ceiling = ([(budget, value) for budget in budgets] for value in (base, base + height))
    chart.band(floor, split, "d0 full")
    chart.band(split, ceiling, "d1 full")
    chart.note("split of the money", chart.x.start + 4, chart.y(base + height) - 5)
    best = spending.best
    tip = f"{format_quantity(best.cost)}: {_with_interval(best.loss, spending.intervals['loss'])}"
    chart.point(best.cost, best.loss, "law", STAR, tip, "star", 9)
    return chart.drawn(
        "What money buys: the expected loss, and how the money is split",
        "; ".join(_described(one) for one in curve[:: max(1, len(curve) // 8)]),
        keys=[
            Key("law", STAR, "advised", "star"),
            Key("d2", 1, "95 % interval", "band"),
            Key("d0", 1, "for new pairs", "dot full"),
            Key("d1", 1, "for training", "dot full"),
        ],
        notes=["The line is dashed where the purchase lies beyond the runs that the law was fitted to."],
    )


def _pieces(curve: Sequence[Outlook]) -> Iterator[tuple[bool, list[tuple[float, float]]]]:
    """The curve in pieces within the runs and beyond them, each from where the last one ended."""
    for is_extrapolated, steps in groupby(
        pairwise(curve), lambda step: step[0].is_extrapolated or step[1].is_extrapolated
    ):
        pairs = list(steps)
        outlooks = [pairs[0][0], *(after for _, after in pairs)]
        yield is_extrapolated, [(one.purchase.cost, one.purchase.loss) for one in outlooks]


def _described(one: Outlook) -> str:
    bought = one.purchase
    parameters, pairs, passes = _amounts(bought)
    return (
        f"{format_quantity(bought.cost)}: loss {bought.loss:.4g}, {parameters} parameters, {pairs} pairs, "
        f"{passes} passes, {format_quantity(bought.for_pairs)} of it for new pairs"
    )
