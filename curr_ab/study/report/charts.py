"""A chart as inline SVG: axes, lines, bands, points. Colours are classes that the page defines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from curr_ab.study.report.markup import Markup, element, join, number
from curr_ab.study.report.scales import Scale

Point = tuple[float, float]
LEFT, RIGHT, TOP, BOTTOM = 56.0, 30.0, 12.0, 42.0
_SHAPES: tuple[tuple[Point, ...], ...] = (
    (),  # a circle
    ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
    ((0, -1.15), (1.1, 0.85), (-1.1, 0.85)),
    ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    ((0, 1.15), (1.1, -0.85), (-1.1, -0.85)),
    ((-1.2, 0.1), (0, -1.15), (1.2, 0.1), (0.75, 1.1), (-0.75, 1.1)),
    ((-1.1, -0.5), (1.1, -0.5), (1.1, 0.5), (-1.1, 0.5)),
)
STAR = -1  # no series has it
_STAR = tuple(
    (reach * math.sin(math.pi * step / 5), -reach * math.cos(math.pi * step / 5))
    for step, reach in enumerate((1.25, 0.52) * 5)
)


def marker(shape: int, x: float, y: float, radius: float, **attributes: str | float | None) -> Markup:
    """The marker number `shape`, the same for a series in every chart."""
    corners = _STAR if shape == STAR else _SHAPES[shape % len(_SHAPES)]
    if not corners:
        return element("circle", cx=x, cy=y, r=radius, **attributes)
    return element(
        "polygon", points=_path((x + radius * a, y + radius * b) for a, b in corners), **attributes
    )


def _path(points: Iterable[Point]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


class Chart:
    """Marks are added in the coordinates of the values; `svg` gives the picture."""

    def __init__(
        self, name: str, x: Scale, y: Scale, size: tuple[float, float], margins: Sequence[float] = ()
    ) -> None:
        self._name = name
        self.width, self.height = size
        left, right, top, bottom = margins or (LEFT, RIGHT, TOP, BOTTOM)
        self.x = x.over(left, self.width - right)
        self.y = y.over(self.height - bottom, top)
        self._under: list[str] = []
        self._marks: list[str] = []
        self._over: list[str] = []
        self._rules: list[tuple[float, str]] = []
        self._taken: list[Point] = []  # places of marks, which words avoid

    def x_axis(
        self, ticks: Sequence[float], labels: Sequence[str], title: str = "", grid: bool = False
    ) -> None:
        """Labels that would touch another are left out, the ends' last."""
        base = self.y.start
        taken: list[Point] = []
        places = [(self.x(value), label) for value, label in zip(ticks, labels, strict=True)]
        for at, label in (*places[:1], *places[:0:-1]):
            self._under.append(element("line", class_="tick", x1=at, x2=at, y1=base, y2=base + 4))
            if grid:
                self._under.append(element("line", class_="grid", x1=at, x2=at, y1=base, y2=self.y.end))
            half = 4 * len(label) + 3
            if all(at + half < low or at - half > high for low, high in taken):
                self._under.append(_text(label, at, base + 17, "middle"))
                taken.append((at - half, at + half))
        self._under.append(element("line", class_="axis", x1=self.x.start, x2=self.x.end, y1=base, y2=base))
        if title:
            middle = (self.x.start + self.x.end) / 2
            self._under.append(_text(title, middle, self.height - 5, "middle", "name"))

    def y_axis(
        self, show: Callable[[float], str], title: str = "", ticks: Sequence[float] | None = None
    ) -> None:
        for value in self.y.ticks() if ticks is None else ticks:
            at = self.y(value)
            self._under.append(element("line", class_="grid", x1=self.x.start, x2=self.x.end, y1=at, y2=at))
            self._under.append(_text(show(value), self.x.start - 6, at + 4, "end"))
        if title:
            middle = (self.y.start + self.y.end) / 2
            turned = f"rotate(-90 11 {number(middle)})"
            self._under.append(_text(title, 11, middle, "middle", "name", transform=turned))

    def line(self, points: Iterable[Point], series: str, style: str = "line") -> None:
        placed = [(self.x(a), self.y(b)) for a, b in points]
        if len(placed) > 1:
            self._marks.append(element("polyline", class_=f"{style} {series}", points=_path(placed)))
        for (a, b), (c, d) in pairwise(placed):
            self._taken += [(a + (c - a) * step / 8, b + (d - b) * step / 8) for step in range(9)]

    def band(self, low: Iterable[Point], high: Iterable[Point], series: str) -> None:
        ring = [*low, *reversed(list(high))]
        placed = ((self.x(a), self.y(b)) for a, b in ring)
        self._marks.append(element("polygon", class_=f"band {series}", points=_path(placed)))

    def interval(self, low: float, high: float, y: float, series: str, tip: str) -> None:
        """A horizontal bar from `low` to `high`, cut where the chart ends."""
        start, end = self.x(self.x.clamp(low)), self.x(self.x.clamp(high))
        self._marks.append(
            element(
                "rect",
                class_=f"span {series}",
                x=start,
                y=self.y(y) - 4.5,
                width=max(end - start, 1.0),
                height=9,
                rx=3,
                data_tip=tip,
            )
        )

    def error_bar(self, x: float, y: float, error: float, series: str) -> None:
        at, low, high = self.x(x), self.y(self.y.clamp(y - error)), self.y(self.y.clamp(y + error))
        self._marks.append(element("line", class_=f"error {series}", x1=at, x2=at, y1=low, y2=high))

    def bar(self, low: float, high: float, height: float, series: str, tip: str) -> None:
        """From the base line up."""
        start, end, top = self.x(low), self.x(high), self.y(height)
        self._marks.append(
            element(
                "rect",
                class_=f"bar {series}",
                x=start,
                y=top,
                width=max(end - start - 0.6, 0.6),
                height=self.y.start - top,
                data_tip=tip,
            )
        )

    def point(
        self, x: float, y: float, series: str, shape: int, tip: str, style: str = "dot", radius: float = 5
    ) -> None:
        """Drawn over the edge of the chart rather than cut by it."""
        self._over.append(
            marker(shape, self.x(x), self.y(y), radius, class_=f"{style} {series}", data_tip=tip)
        )

    def rule(self, y: float, label: str) -> None:
        """A horizontal line that is told apart by its words; they stand where there is room for them."""
        at = self.y(y)
        self._marks.append(element("line", class_="rule", x1=self.x.start, x2=self.x.end, y1=at, y2=at))
        self._rules.append((at, label))

    def _rule_label(self, at: float, label: str) -> Markup:
        width = 6.3 * len(label)
        starts, baselines = (self.x.end - width, self.x.start), (at - 5, at + 13)

        def crowd(place: Point) -> int:
            x, y = place
            return sum(x - 4 < a < x + width + 4 and y - 15 < b < y + 8 for a, b in self._taken)

        x, y = min(((x, y) for y in baselines for x in starts), key=crowd)
        if x == self.x.start:
            return _text(label, x + 4, y, "start", "note")
        return _text(label, self.x.end, y, "end", "note")

    def note(self, text: str, x: float, y: float, anchor: str = "start", series: str = "note") -> None:
        """Words in pixels of the chart."""
        self._over.append(_text(text, x, y, anchor, series))

    def end_labels(self, labels: Sequence[tuple[float, str, str]]) -> None:
        """(value, text, series) right of the chart, moved apart where they would touch."""
        last, gap = -1e9, 13.0
        for value, text, series in sorted(labels, key=lambda label: -label[0]):
            last = max(self.y(value) + 4, last + gap)
            self._over.append(_text(text, self.x.end + 5, last, "start", f"end {series}"))

    def svg(self, label: str, description: str) -> Markup:
        """`label` and `description` are for those who do not see the chart."""
        box = {"x": self.x.start, "y": self.y.end}
        clip = element(
            "clipPath",
            element("rect", width=self.x.end - self.x.start, height=self.y.start - self.y.end, **box),
            id=f"{self._name}-clip",
        )
        content = (
            element("title", label, id=f"{self._name}-title"),
            element("desc", description, id=f"{self._name}-desc"),
            element("defs", clip),
            join(self._under),
            join([self._rule_label(at, label) for at, label in self._rules]),
            element("g", join(self._marks), clip_path=f"url(#{self._name}-clip)"),
            join(self._over),
        )
        return element(
            "svg",
            *content,
            viewBox=f"0 0 {number(self.width)} {number(self.height)}",
            role="img",
            aria_labelledby=f"{self._name}-title",
            aria_describedby=f"{self._name}-desc",
        )


def _text(
    text: str, x: float, y: float, anchor: str, style: str = "", **attributes: str | float | None
) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=style or None, **attributes)
