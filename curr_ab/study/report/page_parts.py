"""What the sections of the page are made of: tables, figures with a caption, legends."""

from __future__ import annotations

from collections.abc import Sequence

from curr_ab.study.report.charts import marker
from curr_ab.study.report.grid import Grid
from curr_ab.study.report.markup import Markup, element, join
from curr_ab.study.report.tables import Field, Table


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
