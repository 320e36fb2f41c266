"""The report of a study as one HTML page that needs nothing but itself."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path

from curr_ab.files import replacing
from curr_ab.quantities import format_duration
from curr_ab.study.report import page_sections as sections
from curr_ab.study.report.charts import Markup, element, join, rules
from curr_ab.study.report.findings import findings, is_finished, status
from curr_ab.study.report.grid import Grid, make_grid, pairing_of, written
from curr_ab.study.report.markdown import render_markdown
from curr_ab.study.summary import StudySummary


def render_page(summary: StudySummary) -> str:
    """The page; its policy lets it load nothing and run no other script than its own."""
    grid = make_grid(summary)
    style = _file("report.css") + rules(len(grid.data), len(grid.sizes))
    script = _file("report.js")
    values = {
        "title": escape(summary.title),
        "style-hash": _hash(style),
        "script-hash": _hash(script),
        "style": style,
        "script": script,
        "body": _body(summary, grid),
    }
    parts = _file("report.html").split("{{")
    page = parts[0]  # in one pass: what is put in is not searched for more names
    for part in parts[1:]:
        name, _, rest = part.partition("}}")
        page += values[name] + rest
    return page


def _file(name: str) -> str:
    return (files("curr_ab.study.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _body(summary: StudySummary, grid: Grid) -> Markup:
    built = [
        ("law", "Size and data", sections.law(summary, grid)),
        ("losses", "Losses", sections.losses(summary, grid)),
        ("regions", "Where it is hard", sections.regions(grid)),
        ("training", "Training", sections.training(grid)),
        (
            "probe",
            "Pairing and speed" if any(row for _, row in grid.rows(pairing_of)) else "Speed",
            sections.probe_and_speed(grid),
        ),
        ("data", "Data", sections.data(summary)),
        ("cells", "Cells", sections.cells(summary, grid)),
        ("made", "How it was made", sections.made(summary)),
    ]
    present = [(key, name, content) for key, name, content in built if content is not None]
    links = join([element("a", name, href=f"#{key}") for key, name, _ in present])
    return element(
        "main",
        _header(summary, grid, links),
        *(element("section", element("h2", name), content, id=key) for key, name, content in present),
        element("footer", "This page holds everything it shows; its numbers are also in report.json."),
    )


def _header(summary: StudySummary, grid: Grid, links: Markup) -> Markup:
    said = findings(summary, grid)
    lede = (
        "Small language models of paired antibodies, each trained with the same recipe on nested sets of the "
        "same pairs: what does more data buy, and which size makes the best of it?"
    )
    return element(
        "header",
        element("p", f"A study of size and data · preset {summary.preset}", class_="eyebrow"),
        element("h1", summary.title),
        element("p", lede, class_="lede"),
        _facts(summary, grid),
        _banner(summary),
        element("nav", links, aria_label="Contents"),
        element("h3", "What the cells show") if said else "",
        element("ul", *(element("li", sentence) for sentence in said), class_="findings") if said else "",
    )


def _facts(summary: StudySummary, grid: Grid) -> Markup:
    done = sum(cell.state == "done" for cell in summary.cells)
    shape = f"{len(grid.sizes)} sizes by {len(grid.data)} data sets" + (
        f", up to {grid.seeds} seeds" if grid.seeds > 1 else ""
    )
    facts = [(f"{done} of {len(summary.cells)}", f"cells trained: {shape}")]
    best = [(found, spot) for _, row in grid.rows() for spot, found in row]
    if best:
        found, spot = min(best, key=lambda item: item[0])
        facts.append(
            (
                written((found[0], 0), 3),
                f"lowest held-out loss of {grid.counted(len(best))}, by {spot.first.member}",
            )
        )
    pairs = [grid.pairs(data) for data in grid.data]
    facts.append((f"{min(pairs):,} to {max(pairs):,}", "training pairs, least to most"))
    facts.append((format_duration(summary.seconds), summary.hardware))
    return element(
        "dl",
        *(element("div", element("dt", words), element("dd", value)) for value, words in facts),
        class_="facts",
    )


def _banner(summary: StudySummary) -> Markup:
    told = []
    if not is_finished(summary):
        text = f"The study is under way. {status(summary)} This report is written again as cells finish."
        told.append(element("p", text, class_="banner"))
    if failed := [cell.member for cell in summary.cells if cell.state == "failed"]:
        link = element("a", "what happened", href="#failed")
        told.append(element("p", f"Failed: {', '.join(failed)} (", link, ").", class_="banner failed"))
    return join([*told])


def write_report(summary: StudySummary, folder: Path) -> Path:
    """The path of the page; each file appears whole or not at all."""
    texts = {
        "report.json": summary.to_json(),
        "report.md": render_markdown(summary),
        "report.html": render_page(summary),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder / "report.html"
