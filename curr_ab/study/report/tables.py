"""The tables of a report, once for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from urllib.parse import quote

from curr_ab.data.description import statistics
from curr_ab.data.preparing.splits import SPLITS
from curr_ab.pages import words
from curr_ab.quantities import format_duration
from curr_ab.scaling.draws import Component
from curr_ab.study.report.findings import law_rows
from curr_ab.study.report.grid import Grid, Spot, digits_of, loss_of, region_of, written
from curr_ab.study.summary import CellSummary, StudySummary


@dataclass(frozen=True)
class Field:
    """One field of a table; `links` are (words, relative path)."""

    text: str
    best: bool = False
    links: tuple[tuple[str, str], ...] = ()
    style: str = ""

    @property
    def classes(self) -> str:
        """Classes of the style sheet."""
        return " ".join(part for part in (self.style, "best" if self.best else "") if part)

    @property
    def markdown(self) -> str:
        """The field in a table of Markdown."""
        links = " · ".join(f"[{words(name)}]({path})" for name, path in self.links)
        text = words(self.text)
        return links or (f"**{text}**" if self.best else text)


@dataclass(frozen=True)
class Table:
    """The first column names its row."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Field, ...], ...]


def plain(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of texts."""
    return Table(caption, tuple(header), tuple(tuple(Field(text) for text in row) for row in rows))


def address(path: str) -> str:
    """A relative path as the address of a link."""
    return quote(path)


def loss_table(grid: Grid) -> Table:
    """Sizes by data; the lowest loss with each data set is marked."""
    measured = [found for _, row in grid.rows() for _, found in row]
    digits, tints = digits_of(measured), _tints([loss for loss, _ in measured])
    best = {data: grid.best(data) for data in grid.data}
    rows = []
    for size in grid.sizes:
        losses = [_loss(grid, grid.spots.get((size, data)), best[data], digits, tints) for data in grid.data]
        rows.append((Field(grid.long_size_label(size)), *losses))
    caption = f"Held-out loss in nats per masked residue ± standard error {grid.kind_of_error}."
    return Table(caption, ("size", *map(grid.data_label, grid.data)), tuple(rows))


def _tints(losses: Sequence[float]) -> Callable[[float], str]:
    """Classes of tints, h0 for the highest loss to h5 for the lowest."""
    low, high = min(losses, default=0.0), max(losses, default=1.0)
    return lambda loss: f"h{round(5 * (high - loss) / (high - low or 1.0))}"


def _loss(
    grid: Grid, spot: Spot | None, best: Spot | None, digits: int, tints: Callable[[float], str]
) -> Field:
    if spot is None:
        return Field("")
    found = grid.estimate(spot, loss_of)
    if found is None:
        return Field(progress(spot.first), style=spot.first.state)
    missing = len(spot.cells) - len(spot.done)
    done = f" ({len(spot.done)} of {len(spot.cells)} {grid.repeated_over})" if missing else ""
    return Field(written(found, digits) + done, spot is best, style=tints(found[0]))


def progress(cell: CellSummary) -> str:
    """The state in words, with the step of a running cell."""
    steps = [step for step, _ in (*cell.training_curve, *cell.held_out_curve)]
    if cell.state == "running" and steps:
        return f"running, step {max(steps):,} of {cell.steps:,}"
    return cell.state


def cell_table(grid: Grid) -> Table:
    """Every cell with its figures and its files."""
    names = [name for name in product(grid.sizes, grid.data) if name in grid.spots]
    cells = [cell for name in names for cell in grid.spots[name].cells]
    digits = digits_of([found for cell in cells if (found := loss_of(cell))])
    # A draw that has one seed has one of its own, which the log names.
    repeats = {(cell.member, cell.draw) for cell in cells if cell.draw}
    repeat = "seed" if not repeats else "draw" if len(repeats) == len(cells) else "draw · seed"
    header = ["cell", "shape", "parameters", "pairs", repeat, "state", "loss", "pairing", "tokens/s", "time"]
    rows = [_cell(cell, repeat, digits) for cell in cells]
    if any(row[-1].links for row in rows):
        header.append("files")
    each = repeat.replace(" · ", ", a ")
    caption = f"Every cell: a size, a data set, a {each}. Errors are of its own held-out pairs and folds."
    return Table(caption, tuple(header), tuple(row[: len(header)] for row in rows))


def _cell(cell: CellSummary, repeat: str, digits: int) -> tuple[Field, ...]:
    found, speed = loss_of(cell), cell.tokens_per_second
    links = [("log", cell.log)] if cell.log and cell.state != "waiting" else []
    if cell.export is not None:
        links = [("card", f"{cell.export}/README.md"), ("checkpoint", f"{cell.export}/"), *links]
    return (
        Field(cell.member),
        Field(cell.shape),
        Field(f"{cell.parameters:,}"),
        Field(f"{cell.pairs:,}"),
        Field(repeat.replace("draw", str(cell.draw)).replace("seed", str(cell.seed))),
        Field(progress(cell), style=cell.state),
        Field("" if found is None else written(found, digits)),
        Field("" if cell.pairing is None else f"{cell.pairing[0]:.1%} ± {cell.pairing[1]:.1%}"),
        Field("" if speed is None else f"{speed:,.0f}"),
        Field("" if cell.seconds is None else format_duration(cell.seconds)),
        Field("", links=tuple((name, address(path)) for name, path in links)),
    )


def cell_fields(cell: CellSummary) -> tuple[Field, ...]:
    """The row of a cell outside the grid."""
    found = loss_of(cell)
    return (
        Field(cell.member),
        Field("causal" if cell.objective == "clm" else "masked"),
        Field(cell.after),
        Field(f"{cell.parameters:,}"),
        Field(f"{cell.pairs:,}"),
        Field(f"{cell.steps:,}"),
        Field(progress(cell), style=cell.state),
        Field("" if found is None else written(found, 4)),
        Field("" if cell.seconds is None else format_duration(cell.seconds)),
    )


def region_table(grid: Grid, places: Sequence[str]) -> Table:
    """The numbers behind the small charts, a row for each size with each data set."""
    rows = []
    for spot in [spot for _, row in grid.rows() for spot, _ in row]:
        losses = [grid.estimate(spot, region_of(place)) for place in places]
        if any(losses):
            rows.append([spot.first.member, *("" if loss is None else written(loss, 3) for loss in losses)])
    return plain(f"Loss by place ± standard error {grid.kind_of_error}.", ("cell", *places), rows)


def law_table(summary: StudySummary) -> Table | None:
    """The estimates of the fit."""
    if (fit := summary.law.fit) is None:
        return None
    header = ("estimate", "value", *(f"95% by {spread.method}" for spread in fit.spreads))
    return plain("The fit, with its uncertainty measured in every way.", header, law_rows(fit))


def baseline_table(summary: StudySummary) -> Table:
    rows = [(name, f"{loss:.4f}") for name, loss in summary.baselines.items()]
    return plain("Held-out loss without a model.", ("frequencies", "loss"), rows)


def noise_table(summary: StudySummary, grid: Grid) -> Table | None:
    """The sources of noise, over all data and for each data set."""
    noise = summary.law.noise
    if not noise:
        return None
    columns = {"all data": "all", **{grid.data_label(data): str(grid.pairs(data)) for data in grid.data}}
    found = {name: {part.source: part for part in noise.get(key, ())} for name, key in columns.items()}
    rows = [
        (source, *(_component(found[name].get(source)) for name in columns)) for source in found["all data"]
    ]
    caption = (
        "Noise of a cell's loss, by its source: standard deviation in nats, and in brackets its degrees of "
        "freedom; 0 where the other sources explain all."
    )
    return plain(caption, ("source", *columns), rows)


def _component(part: Component | None) -> str:
    if part is None:
        return ""
    return f"{part.sd:.3f}" + ("" if part.freedom is None else f" ({part.freedom})")


def joint_table(summary: StudySummary) -> Table | None:
    """Laws by all cells at once, and how well each tells cells that it has not seen."""
    if not summary.law.joint:
        return None
    rows = []
    for fit in summary.law.joint:
        found = fit.intervals.get("growth")
        band = "" if found is None else f"{2**found.median:.2f} ({2**found.low:.2f} to {2**found.high:.2f})"
        errors = (fit.residual, fit.size_left_out, fit.data_left_out)
        rows.append((fit.law, str(fit.unknowns), *("" if e is None else f"{e:.3f}" for e in errors), band))
    caption = (
        "Laws by all cells at once, where a draw moves all its sizes: root mean square error of means over "
        "draws, in nats, of cells that the fit has seen, and of each size and each data set that it has not; "
        "then the factor by which twice the data multiply the best size, with its 95%."
    )
    header = ("law", "unknowns", "all cells", "size left out", "data left out", "twice the data")
    return plain(caption, header, rows)


def data_tables(summary: StudySummary) -> list[Table]:
    """Splits, training sets, what was dropped, lengths."""
    report = summary.data_report
    if not report:
        return []
    splits = [(name, f"{report['pairs'][name]:,}", f"{report['clusters'][name]:,}") for name in SPLITS]
    subsets = [(name, f"{count:,}") for name, count in report["subsets"].items()]
    tables = [
        plain("Splits, by clusters of similar sequences.", ("split", "pairs", "clusters"), splits),
        plain(f"{_sets(summary)}.", ("set", "pairs"), subsets),
    ]
    if report["dropped"]:
        dropped = [(reason, f"{count:,}") for reason, count in report["dropped"].items()]
        tables.append(plain("Records that were dropped.", ("reason", "records"), dropped))
    lengths = []
    for name, counts in report["histograms"].items():
        found = statistics({int(value): count for value, count in counts.items()})
        keys = ("min", "median", "mean", "max")
        lengths.append((name, *(f"{found[key]:.1f}".removesuffix(".0") for key in keys)))
    tables.append(plain("Residues.", ("", "least", "median", "mean", "most"), lengths))
    return tables


def _sets(summary: StudySummary) -> str:
    draws = max((cell.draw for cell in summary.cells), default=0)
    return f"Training sets, {draws} draws of each that share no pair" if draws else "Nested training sets"


def provenance_table(summary: StudySummary) -> Table:
    """Preset, time, machine and versions."""
    rows = [
        ("preset", summary.preset),
        ("started", summary.started.replace("T", " ")),
        ("time", format_duration(summary.seconds)),
        ("hardware", summary.hardware),
        *summary.versions.items(),
    ]
    return plain("How this was made.", ("", ""), rows)
