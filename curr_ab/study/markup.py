"""HTML and SVG elements from Python values: text is escaped unless it was made here."""

from __future__ import annotations

from html import escape

_VOID = ("meta", "br", "img", "path", "line", "rect", "circle", "polygon", "polyline", "col")


class Markup(str):
    """Text that is markup already; every other text is escaped where it becomes part of an element."""

    __slots__ = ()


def join(parts: list[str]) -> Markup:
    """The parts one after the other."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def element(tag: str, *children: str, **attributes: str | float | bool | None) -> Markup:
    """`class_` stands for class and `stroke_width` for stroke-width; None and False leave an attribute out."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID and not children:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(list(children))}</{tag}>")


def _value(value: str | float | bool) -> str:
    if value is True:
        return ""
    return value if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")
