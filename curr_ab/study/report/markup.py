"""HTML and SVG elements from Python values: text is escaped unless it was made here."""

from __future__ import annotations

from html import escape

_VOID = ("line", "rect", "circle", "polygon", "polyline")


class Markup(str):
    """Text that is markup already; every other text is escaped where it becomes part of an element."""

    __slots__ = ()


def join(parts: list[str]) -> Markup:
    """The parts one after the other."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """`class_` stands for class and `stroke_width` for stroke-width; None leaves an attribute out."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID and not children:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(list(children))}</{tag}>")


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")
