"""One HTML page about a prepared folder, with its pictures inside."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from curr_ab.data.atomic import replacing
from curr_ab.data.cleaning import REASONS
from curr_ab.data.describing import Description, summary_rows
from curr_ab.data.plots import draw_plots, save_plots
from curr_ab.data.splitting import SPLITS

FOLDER_NAME = "report"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem; }
img { width: 100%; } code { font-size: .85em; overflow-wrap: anywhere; }
"""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(header, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _image(name: str, path: Path) -> str:
    data = b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(name.replace("_", " "))}" src="data:image/png;base64,{data}">'


def _page(description: Description, pictures: dict[str, Path]) -> str:
    report, index = description.report, description.index
    statistics = [
        (f"{measure} {series}", *(f"{found[key]:,.2f}".removesuffix(".00") for key in found))
        for measure, series, found in summary_rows(description)
    ]
    splits = [(name, f"{report['pairs'][name]:,}", f"{report['clusters'][name]:,}") for name in SPLITS]
    drops = [(f"{reason}: {REASONS[reason]}", f"{count:,}") for reason, count in report["dropped"].items()]
    crossing = report["clusters_in_several_splits"]
    proof = (
        "No cluster has pairs in more than one split."
        if crossing == 0
        else f"{crossing:,} clusters cross splits!"
    )
    aside = "".join(f"<li>{escape(message)}</li>" for message in report["set_aside"])
    sections = [
        f"<h1>Antibody pairs in <code>{escape(description.folder.name)}</code></h1>",
        f"<p>{report['kept']:,} of {report['read']:,} records kept. ",
        f"Fingerprint <code>{index['fingerprint']}</code></p>",
        "<h2>Splits</h2>",
        _table(("split", "pairs", "clusters"), splits),
        f"<p>{proof} Nested training sets: ",
        ", ".join(f"{escape(name)} {pairs:,}" for name, pairs in index["subsets"].items()) + ".</p>",
        "<h2>Dropped</h2>",
        _table(("reason", "records"), drops) if drops else "<p>Nothing was dropped.</p>",
        f"<h2>Set aside</h2><ul>{aside}</ul>" if aside else "",
        "<h2>Numbers</h2>",
        _table(("", "records", "min", "median", "mean", "max"), statistics),
        "<h2>Plots</h2><div class='plots'>",
        *(_image(name, path) for name, path in pictures.items()),
        "</div>",
    ]
    head = f"<meta charset='utf-8'><title>Antibody pairs</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(sections)}</body></html>\n"


def write_report(description: Description, folder: str | os.PathLike[str]) -> Path:
    """The path of the page, after it and its pictures are written to `report` in the folder."""
    out = Path(folder) / FOLDER_NAME
    pictures = save_plots(draw_plots(description), out)
    with replacing(out / "index.html") as temporary:
        temporary.write_text(_page(description, pictures))
    return out / "index.html"
