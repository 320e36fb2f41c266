"""The sections of the page: each picture with a sentence on what one sees, each table in its own box."""

from __future__ import annotations

from collections.abc import Sequence

from curr_ab.measures.held_out import LOSS_REGIONS
from curr_ab.study.report import figures
from curr_ab.study.report import figures as law_figures
from curr_ab.study.report.charts import STAR, Markup, element, join, marker
from curr_ab.study.report.findings import Verdict, drawn_spread, is_fitted, judge, remarks, worth
from curr_ab.study.report.grid import Grid, minutes_of, pairing_of, throughput_of
from curr_ab.study.report.tables import (
    Field,
    Table,
    address,
    baseline_table,
    cell_table,
    data_tables,
    law_table,
    loss_table,
    provenance_table,
    region_table,
)
from curr_ab.study.summary import StudySummary


def _verdict(verdict: Verdict) -> Markup:
    return element(
        "div",
        element("strong", verdict.title),
        element("p", verdict.headline),
        element("ul", *(element("li", reason) for reason in verdict.reasons)) if verdict.reasons else "",
        class_="verdict yes" if verdict.identifiable else "verdict",
    )


def law(summary: StudySummary, grid: Grid) -> Markup:
    """The paper's two figures, and what the law is worth."""
    if not any(row for _, row in grid.rows()):
        return _verdict(judge(summary.law))
    fitted = is_fitted(summary.law)
    star = key("ink", STAR, "optimum of a fitted parabola", "star") if fitted else ""
    ring = "" if fitted else key("ink", 0, "lowest measured loss", "ring")
    points = (
        "Each point is the mean over the seeds of a cell, its bar one standard error."
        if grid.seeds > 1
        else "Each point is a trained model, its bar one standard error."
    )
    if fitted:
        drawn = drawn_spread(summary.law)["method"]
        first = (
            f"{points} Lower is better. The curves are parabolas fitted to the "
            "points of one data set; the star is the size at which a curve is lowest, and the bar through "
            f"it shows where 95% of repeated draws put it ({drawn})."
        )
        second = (
            "Each star is the best size from the figure before, with its bar. The line is the power law "
            f"through them; the shaded band holds 95% of draws ({drawn}), and the wider it is the less is "
            "known. The table below has the other ways to measure it, too. The "
            "open diamond is what the law gives for the size that it is projected to."
        )
    else:
        first = (
            f"{points} Lower is better. A ring marks the lowest loss with each data "
            "set. Where the losses have a minimum a parabola is drawn, with a star if its lowest point "
            "lies in the picture; elsewhere dotted lines only join the points."
        )
        second = (
            "For each data set, the trained size with the lowest loss. Without a law this is all there is "
            "to show: the true best size may lie between the trained ones, or beyond them."
        )
    pictures = [
        element("a", name.replace("_", " "), href=address(path)) for name, path in summary.law_figures.items()
    ]
    estimates = law_table(summary)
    warnings = [element("li", warning) for warning in remarks(summary.law)]
    return join(
        [
            legend(grid, [part for part in (star, ring) if isinstance(part, Markup)]),
            element(
                "div",
                figure(
                    law_figures.loss_by_size(grid, summary.law, summary.baselines),
                    "Figure 1. Loss by model size, for each data set",
                    first,
                ),
                figure(
                    law_figures.data_by_size(grid, summary.law),
                    "Figure 2. Data and the size that is best for it",
                    second,
                ),
                class_="pair",
            ),
            _verdict(judge(summary.law)),
            element("h3", f"What a law through {len(grid.data)} points is worth"),
            element("p", worth(len(grid.data))),
            table(estimates) if estimates is not None else "",
            details("What the fit itself says", element("ul", *warnings, class_="findings"))
            if warnings
            else "",
            element("p", "As pictures: ", *commas(pictures), ".") if pictures else "",
        ]
    )


def losses(summary: StudySummary, grid: Grid) -> Markup:
    """The table of sizes by data, and what needs no model."""
    seen = (
        "Down a column the size grows, along a row the data. The stronger its tint, the lower a loss; the "
        "lowest with each data set has a frame."
    )
    ladder = figures.against_baselines(grid, summary.baselines)
    shown = "The mean over seeds of every cell" if grid.seeds > 1 else "Every cell"
    explained = (
        f"{shown}, one line for each data set, beside two guesses that need no model: how frequent residues "
        "are (unigram), and how frequent they are at each position of each chain (position-wise). A cell "
        "that lies right of them has not learned, or has learned its few pairs by heart."
    )
    return join(
        [
            element("p", seen),
            table(loss_table(grid)),
            element(
                "div",
                figure(ladder, "Figure 3. All cells beside guesses without a model", explained),
                table(baseline_table(summary)),
                class_="pair",
            )
            if ladder
            else "",
        ]
    )


def regions(grid: Grid) -> Markup | None:
    """Small charts, in the order of the chain."""
    charts = dict(figures.regions(grid, LOSS_REGIONS))
    if not charts:
        return None
    groups = {"Heavy chain": "heavy ", "Light chain": "light ", "CDRH3, by origin of the residue": "CDRH3 "}
    parts: list[str] = []
    for title, start in groups.items():
        found = [
            element("figure", element("strong", place.removeprefix(start)), picture)
            for place, picture in charts.items()
            if place.startswith(start)
        ]
        parts += [element("h3", title), element("div", *found, class_="many")]
    explained = (
        "Loss by model size for each part of the antibody, framework (FWR) and loops (CDR), all on one "
        "logarithmic scale: a panel whose lines lie high is hard to predict. In CDRH3, residues come from "
        "the V, D or J gene or are untemplated (N), which no genome holds."
    )
    return join(
        [
            element("p", element("strong", "What you see. "), explained),
            legend(grid),
            *parts,
            details("The numbers", table(region_table(grid, LOSS_REGIONS))),
        ]
    )


def training(grid: Grid) -> Markup | None:
    """One chart for each data set."""
    found = figures.training(grid)
    if not found:
        return None
    explained = (
        "The thin line is the loss on the pairs that a model trains on, the bold line with markers that "
        "on pairs it never saw. Where the thin line falls on while the bold one turns up, the model "
        "learns its pairs by heart: too little data for its size, or too many steps."
    )
    sizes = [key(f"s{index}", index, grid.long_size_label(size)) for index, size in enumerate(grid.sizes)]
    charts = [figure(picture, grid.data_label(data)) for data, picture in found]
    return join(
        [
            element("p", element("strong", "What you see. "), explained),
            element("ul", *sizes, class_="legend"),
            element("div", *charts, class_="three"),
        ]
    )


def probe_and_speed(grid: Grid) -> Markup | None:
    """The pairing probe with chance; tokens a second; minutes a cell."""
    chance = (0.5, "chance")
    probe = figures.by_size(grid, "pairing", pairing_of, "Accuracy of the pairing probe", _percent, chance)
    fast = figures.by_size(grid, "speed", throughput_of, "Tokens per second", lambda value: f"{value:,.0f}")
    slow = figures.by_size(grid, "minutes", minutes_of, "Minutes per cell", lambda value: f"{value:.3g}")
    explained = {
        "Native or shuffled?": (
            "Told from the models' embeddings: does this light chain come from the cell of this heavy "
            "chain? Half of the pairs are shuffled. A bar is one standard error: where twice the bar reaches "
            "the dashed line, nothing is shown to be learned."
        ),
        "Tokens per second": "How fast a cell trained on this machine.",
        "Minutes per cell": "What a cell took in all, evaluation while training included.",
    }
    shown = [
        figure(picture, title, seen)
        for (title, seen), picture in zip(explained.items(), (probe, fast, slow), strict=True)
        if picture is not None
    ]
    return join([legend(grid), element("div", *shown, class_="three")]) if shown else None


def _percent(value: float) -> str:
    return f"{value:.0%}"


def data(summary: StudySummary) -> Markup | None:
    """Splits, sets, lengths."""
    report = summary.data_report
    if not report:
        return None
    crossing = report["clusters_in_several_splits"]
    proof = (
        "no cluster has pairs in more than one split"
        if crossing == 0
        else f"{crossing:,} clusters cross splits"
    )
    told = (
        f"{report['kept']:,} of {report['read']:,} records were kept. Pairs are split by clusters of similar "
        f"sequences: {proof}. The training sets are nested, so that a larger one holds all of a smaller one."
    )
    charts = [
        element(
            "figure",
            element("strong", name),
            figures.histogram(name, counts, "heavy" if name.startswith("heavy") else "light"),
        )
        for name, counts in report["histograms"].items()
    ]
    return join(
        [
            element("p", told),
            element("p", "Fingerprint ", element("code", report["fingerprint"]), "."),
            element("div", *(table(found) for found in data_tables(summary)), class_="tables"),
            element("div", *charts, class_="four"),
        ]
    )


def cells(summary: StudySummary, grid: Grid) -> Markup:
    """All cells with their files, and the logs of those that failed."""
    failed = [cell for cell in summary.cells if cell.state == "failed"]
    kept = any(cell.export is not None for cell in summary.cells)
    told = "An exported cell is a checkpoint folder that stock transformers loads, with a card."
    problems = [
        join(
            [
                element("h3", f"{cell.member}, seed {cell.seed}"),
                element("pre", cell.problem or "no message", tabindex="0"),
                element("p", element("a", "the whole log", href=address(cell.log))),
            ]
        )
        for cell in failed
    ]
    return join(
        [
            element("p", told) if kept else "",
            table(cell_table(grid)),
            element("div", element("h3", "Failed"), *problems, id="failed") if failed else "",
        ]
    )


def made(summary: StudySummary) -> Markup:
    """The command, the machine, the versions."""
    notes = [element("li", note) for note in summary.notes]
    return join(
        [
            element("p", "The command that makes this again:"),
            element("pre", summary.command, tabindex="0"),
            table(provenance_table(summary), "words"),
            element("ul", *notes, class_="findings") if notes else "",
        ]
    )


def table(found: Table, style: str | None = None) -> Markup:
    """A table that scrolls in its own box where the window is narrow."""
    head = element("tr", *(element("th", name, scope="col") for name in found.header))
    body = [
        element("tr", element("th", _field(row[0]), scope="row"), *(_data(field) for field in row[1:]))
        for row in found.rows
    ]
    named = any(found.header)
    inner = element(
        "table",
        element("caption", element("span", found.caption)),
        element("thead", head) if named else "",
        element("tbody", *body),
        class_=style,
    )
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=found.caption)


def _data(field: Field) -> Markup:
    classes = " ".join(part for part in (field.style, "best" if field.best else "") if part)
    return element("td", _field(field), class_=classes or None)


def _field(field: Field) -> Markup:
    return join([field.text, *(element("a", words, href=path) for words, path in field.links)])


def figure(picture: Markup, title: str, seen: str = "") -> Markup:
    caption = element("figcaption", element("strong", "What you see. "), seen) if seen else ""
    return element("figure", element("strong", title), picture, caption)


def key(series: str, shape: int, words: str, style: str = "dot") -> Markup:
    picture = element(
        "svg", marker(shape, 7, 7, 5, class_=f"{style} {series}"), viewBox="0 0 14 14", aria_hidden="true"
    )
    return element("li", picture, words)


def legend(grid: Grid, more: Sequence[Markup] = ()) -> Markup:
    data = [key(f"d{index}", index, grid.data_label(name)) for index, name in enumerate(grid.data)]
    return element("ul", *data, *more, class_="legend")


def commas(parts: Sequence[Markup]) -> list[str]:
    return [text for part in parts for text in (", ", part)][1:]


def details(words: str, *content: Markup) -> Markup:
    return element("details", element("summary", words), *content)
