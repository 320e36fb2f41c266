"""Causal cells in a report: what masked cells gain from their weights, and what they generate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curr_ab.charts import Chart, Drawing, Key, linear, logarithmic
from curr_ab.quantities import format_quantity
from curr_ab.study.report.grid import written
from curr_ab.study.report.tables import Table, cell_fields, plain
from curr_ab.study.summary import StudySummary

_NAMES = {
    "coefficient": "coefficient",
    "parameters_exponent": "exponent of the parameters",
    "clm_tokens_exponent": "exponent of the causal tokens",
    "seen_tokens_exponent": "exponent of the masked tokens",
    "best_clm_share": "best share of causal tokens",
}
Row = Mapping[str, Any]


def further_cells_table(summary: StudySummary) -> Table | None:
    """Every cell outside the grid; causal losses are of all residues, and compare with each other alone."""
    if not summary.further_cells:
        return None
    header = ("cell", "objective", "after", "parameters", "pairs", "steps", "state", "loss", "time")
    rows = tuple(cell_fields(cell) for cell in summary.further_cells)
    caption = (
        "Cells beside the grid. A causal loss is of the next residue: it compares with causal ones alone."
    )
    return Table(caption, header, rows)


def runs_table(summary: StudySummary) -> Table | None:
    """The masked cells of the transfer law: their tokens, their loss, and what the causal ones saved."""
    if not (table := summary.transfer.get("table")):
        return None
    saved, doubts = (summary.transfer.get(name, {}) for name in ("transferred", "transferred_intervals"))
    rows = []
    for row in table:
        clm, name = row["clm_tokens"], row["cell"]
        gain = ("", "") if not clm else (_saved(saved.get(name)), _tokens(doubts.get(name)))
        rows.append(
            (
                name,
                format_quantity(row["parameters"]),
                format_quantity(clm) if clm else "none",
                format_quantity(row["seen_tokens"]),
                written((row["loss"], row["standard_error"]), 4),
                *gain,
            )
        )
    header = (
        "cell",
        "parameters",
        "causal tokens before",
        "masked tokens",
        "held-out loss",
        "tokens saved",
        "95%",
    )
    caption = (
        "Masked cells, from scratch and after causal ones. Tokens saved: those that training from scratch "
        "needs for the same loss, less the masked tokens that were seen; their interval is by the noise of "
        "all these losses, and unbounded where it leaves the cells from scratch."
    )
    return plain(caption, header, rows)


def _saved(tokens: float | None) -> str:
    if tokens is None:
        return "not bracketed"
    return format_quantity(tokens) if tokens > 0 else "none"


def _tokens(found: Row | None) -> str:
    """An interval of tokens saved; its ends are words where they are infinite."""
    if not found or found["low"] is None or found["high"] is None:
        return "not determined"
    low, high = (format_quantity(float(found[end])) for end in ("low", "high"))
    return f"{low} to {high}"


def estimates_table(summary: StudySummary) -> Table | None:
    """The estimates of the fit with their intervals."""
    fit = summary.transfer
    if "estimates" not in fit:
        return None
    rows = []
    for name, value in fit["estimates"].items():
        if value is None:
            continue
        bands = [_band(spread["intervals"].get(name)) for spread in fit["spreads"]]
        label = _NAMES.get(name) or name.replace("best_clm_share", "best share").replace("[", " (").replace(
            "]", ")"
        )
        rows.append((label, _number(value), *bands))
    header = ("estimate", "value", *(f"95% by {spread['method']}" for spread in fit["spreads"]))
    return plain("The transfer law, with its uncertainty measured in every way.", header, rows)


def _number(value: float | str) -> str:
    return f"{float(value):.3g}"


def _band(found: Row | None) -> str:
    if not found or found["low"] is None or found["high"] is None:
        return "not determined"
    return f"{_number(found['low'])} to {_number(found['high'])}"


def transfer_sentences(summary: StudySummary) -> list[str]:
    """Sentences about the fit, or the reason why there is none."""
    fit = summary.transfer
    if not fit:
        return []
    if problem := fit.get("problem"):
        return [problem]
    after = [row for row in fit["table"] if row["clm_tokens"]]
    found = [tokens for tokens in fit["transferred"].values() if tokens is not None]
    gained = sum(tokens > 0 for tokens in found)
    said = [
        f"Causal training saved masked tokens in {gained} of {len(after)} cells, whose loss other cells "
        "reach from scratch with more tokens."
    ]
    bands = [band for band in fit.get("transferred_intervals", {}).values() if band["low"] is not None]
    if bands:
        sure = sum(float(band["low"]) > 0 for band in bands)
        said.append(f"In {sure} of {len(after)} the 95% interval of the tokens saved lies above zero.")
    said.append(_shares(fit))
    return [*said, *(f"{warning[0].upper()}{warning[1:]}." for warning in fit["warnings"])]


def _shares(fit: Mapping[str, Any]) -> str:
    exponent = fit["estimates"].get("clm_tokens_exponent")
    if exponent is None:
        return "How the saving grows with the causal tokens is not determined."
    bands = [spread["intervals"].get("clm_tokens_exponent") for spread in fit["spreads"]]
    sure = any(band and band["low"] is not None and float(band["low"]) > 0 for band in bands)
    doubt = (
        "at least one of its 95% intervals leaves out zero"
        if sure
        else "all of its 95% intervals hold zero, so these cells do not show that it grows"
    )
    return f"It goes as the causal tokens to the power {_number(exponent)}; {doubt}."


def budgets(summary: StudySummary) -> list[str]:
    """The names of the lines of the charts: the endings of the cells' names, from scratch first."""
    names = dict.fromkeys(_budget(row) for row in _after_first(summary.transfer.get("table", ())))
    return list(names)


def _after_first(table: Sequence[Row]) -> list[Row]:
    return sorted(table, key=lambda row: row["clm_tokens"])


def _budget(row: Row) -> str:
    if not row["clm_tokens"]:
        return "from scratch"
    ending = next((part for part in row["cell"].split("-") if part.startswith("clm")), "clm")
    return f"after {ending.removeprefix('clm')} causal steps"


def budget_keys(summary: StudySummary) -> list[Key]:
    """The legend of the charts."""
    return [Key(f"d{index}", index, name) for index, name in enumerate(budgets(summary))]


def charts(summary: StudySummary) -> list[tuple[str, Drawing]]:
    """Loss by masked tokens for each size, a line for each number of causal steps before."""
    table = summary.transfer.get("table", ())
    if not table:
        return []
    largest = max(row["sequences"] for row in table)
    table = [row for row in _after_first(table) if row["sequences"] == largest]
    return [
        (f"{format_quantity(size)} parameters", _chart(summary, table, size))
        for size in sorted({row["parameters"] for row in table})
    ]


def _chart(summary: StudySummary, table: Sequence[Row], size: float) -> Drawing:
    rows = [row for row in table if row["parameters"] == size]
    tokens = [row["seen_tokens"] for row in table]
    ends = [row["loss"] + sign * row["standard_error"] for row in rows for sign in (-1, 1)]
    chart = Chart(
        f"transfer-{size:.0f}",
        logarithmic(tokens, 0.1),
        linear(ends, 0.1),
        (360.0, 270.0),
        (48.0, 14.0, 12.0, 42.0),
    )
    ticks = chart.x.ticks(4)
    chart.x_axis(ticks, [format_quantity(tick) for tick in ticks], "masked tokens")
    chart.y_axis(lambda value: f"{value:g}")
    words = []
    for index, name in enumerate(budgets(summary)):
        points = sorted((row for row in rows if _budget(row) == name), key=lambda row: row["seen_tokens"])
        if not points:
            continue
        chart.line([(row["seen_tokens"], row["loss"]) for row in points], f"d{index}", "line thin")
        for row in points:
            tip = f"{row['cell']}: {written((row['loss'], row['standard_error']), 4)}"
            chart.error_bar(row["seen_tokens"], row["loss"], row["standard_error"], f"d{index}")
            chart.point(row["seen_tokens"], row["loss"], f"d{index}", index, tip)
        words.append(f"{name}: lowest {min(row['loss'] for row in points):.3f}")
    return chart.drawn(f"Loss by masked tokens at {format_quantity(size)} parameters", "; ".join(words))


def generation_tables(summary: StudySummary) -> list[Table]:
    """For each causal cell that was judged, the measures of its samples beside those of real pairs."""
    tables = []
    for cell in (*summary.cells, *summary.further_cells):
        if not cell.generation:
            continue
        samples = list(dict.fromkeys(sample for found in cell.generation.values() for sample in found))
        rows = [
            (metric, *(written(found[one], 3) if one in found else "" for one in samples))
            for metric, found in cell.generation.items()
        ]
        caption = f"{cell.member}: what it generates, beside real pairs, ± standard error."
        tables.append(plain(caption, ("measure", *samples), rows))
    return tables
