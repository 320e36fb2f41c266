"""Charts as SVG, for a page or as files of their own: axes, lines, bands, points, each named to the pointer.

Colours are classes, so that a page shows them on light and on dark paper.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from curr_ab.pages import packaged_text

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
FILE_FONT = "DejaVu Sans"  # matplotlib brings it, so that a picture has words where a system has no fonts
_FILE_LETTER = 7.0  # width of a letter of it in a legend
_FILE_LEFT, _FILE_TOP = 14.0, 30.0  # the margin of the words around a chart
_FILE_STYLE = """.paper { fill: var(--paper); }
svg text.title { font-weight: 700; font-size: 14px; fill: var(--ink); }
svg text.small { font-size: 10.5px; }
svg text { font-size: 11.5px; }
"""
_VOID = ("line", "rect", "circle", "polygon", "polyline")
# After Okabe and Ito, darker or lighter until each stands out from its paper by 3 to 1.
_DATA = (
    ("#c4500a", "#ff9a5c"),
    ("#00805d", "#3fd0a2"),
    ("#0068ad", "#6db9f2"),
    ("#a3457c", "#ee9fcb"),
    ("#6b6b6b", "#b9b9b9"),
    ("#8a6d00", "#e5cf58"),
)
# Sizes are ordered, so their colours are a ramp: the ends and the middle of it.
_SIZES = (("#c27800", "#ffe08a"), ("#b03a74", "#f58c6c"), ("#2b1b6b", "#b89bf2"))


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
        self._under: list[Markup] = []
        self._marks: list[Markup] = []
        self._over: list[Markup] = []
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
        box = {"x": start, "y": self.y(y) - 4.5, "width": max(end - start, 1.0), "height": 9, "rx": 3}
        self._marks.append(element("rect", class_=f"span {series}", **box, data_tip=tip))

    def error_bar(self, x: float, y: float, error: float, series: str) -> None:
        at, low, high = self.x(x), self.y(self.y.clamp(y - error)), self.y(self.y.clamp(y + error))
        self._marks.append(element("line", class_=f"error {series}", x1=at, x2=at, y1=low, y2=high))

    def bar(self, low: float, high: float, height: float, series: str, tip: str) -> None:
        """A bar from the base line up."""
        start, end, top = self.x(low), self.x(high), self.y(height)
        box = {"x": start, "y": top, "width": max(end - start - 0.6, 0.6), "height": self.y.start - top}
        self._marks.append(element("rect", class_=f"bar {series}", **box, data_tip=tip))

    def point(
        self, x: float, y: float, series: str, shape: int, tip: str, style: str = "dot", radius: float = 5
    ) -> None:
        """Drawn over the edge of the chart rather than cut by it."""
        self._over.append(
            marker(shape, self.x(x), self.y(y), radius, class_=f"{style} {series}", data_tip=tip)
        )

    def rule(self, y: float, label: str) -> None:
        """A horizontal line with words beside it, which stand where there is room for them."""
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

    def drawn(
        self, label: str, description: str, *, keys: Sequence[Key] = (), notes: Sequence[str] = ()
    ) -> Drawing:
        """The finished picture; `label` and `description` are for those who do not see it.

        `keys` and `notes` stand below a picture that is a file of its own; a page says them in its own way.
        """
        box = {"x": self.x.start, "y": self.y.end}
        clip = element(
            "clipPath",
            element("rect", width=self.x.end - self.x.start, height=self.y.start - self.y.end, **box),
            id=f"{self._name}-clip",
        )
        marks = (
            element("defs", clip),
            *self._under,
            *(self._rule_label(at, label) for at, label in self._rules),
            element("g", _join(self._marks), clip_path=f"url(#{self._name}-clip)"),
            *self._over,
        )
        size = (self.width, self.height)
        return Drawing(self._name, size, label, description, _join(marks), tuple(keys), tuple(notes))


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a marker and what it stands for."""

    series: str
    shape: int
    words: str
    style: str = "dot"

    @property
    def picture(self) -> Markup:
        mark = marker(self.shape, 7, 7, 5, class_=f"{self.style} {self.series}")
        return element("svg", mark, viewBox="0 0 14 14", aria_hidden="true")


@dataclass(frozen=True)
class Drawing:
    """A finished chart: part of a page as it stands, or a file of its own."""

    name: str
    size: tuple[float, float]
    label: str
    description: str
    marks: Markup
    keys: tuple[Key, ...]
    notes: tuple[str, ...]

    def __html__(self) -> str:
        """The picture inside a page, which a template asks for."""
        return self._svg(self.size, self.marks)

    def file(self) -> str:
        """The picture as a file: with its title, a legend and notes, in the colours of light paper."""
        width, height = self.size
        chart = element("g", self.marks, transform=f"translate(0 {number(_FILE_TOP)})")
        around = [_text(self.label, _FILE_LEFT, 20, "start", "title")]
        left, base = _FILE_LEFT, _FILE_TOP + height + 14
        for key in self.keys:
            room = _FILE_LETTER * len(key.words) + 34
            if left > _FILE_LEFT and left + room > width:
                left, base = _FILE_LEFT, base + 19
            around.append(marker(key.shape, left + 5, base - 4, 5, class_=f"{key.style} {key.series}"))
            around.append(_text(key.words, left + 15, base, "start"))
            left += room
        for note in self.notes:
            base += 18
            around.append(_text(note, _FILE_LEFT, base, "start", "small"))
        drawn = _join([chart, *around])
        numbers = (map(int, re.findall(rf'class="[a-z ]*\b{letter}(\d+)', drawn)) for letter in "ds")
        style = element("style", Markup(_file_style(*(max(own, default=-1) + 1 for own in numbers))))
        paper = element("rect", width=width, height=base + 12, class_="paper")
        svg = self._svg(
            (width, base + 12),
            _join([style, paper, chart, *around]),
            xmlns="http://www.w3.org/2000/svg",
            width=width,
            height=base + 12,
        )
        return svg + "\n"

    def _svg(self, size: tuple[float, float], content: Markup, **attributes: str | float) -> Markup:
        return element(
            "svg",
            element("title", self.label, id=f"{self.name}-title"),
            element("desc", self.description, id=f"{self.name}-desc"),
            content,
            viewBox=f"0 0 {number(size[0])} {number(size[1])}",
            role="img",
            aria_labelledby=f"{self.name}-title",
            aria_describedby=f"{self.name}-desc",
            **attributes,
        )


def _file_style(num_data: int, num_sizes: int) -> str:
    """The style sheet of a file: renderers of SVG know no variables, so they are replaced by their values."""
    papers = packaged_text("pages.css").partition("}")[0]
    values = dict(re.findall(r"--([\w-]+): ([^;]+);", papers))
    values["sans"] = f"{FILE_FONT!r}, {values['sans']}"
    sheet = packaged_text("charts.css") + rules(num_data, num_sizes).partition("@media")[0] + _FILE_STYLE
    return re.sub(r"var\(--([\w-]+)\)", lambda found: values[found[1]], sheet)


def _text(
    text: str, x: float, y: float, anchor: str, style: str = "", **attributes: str | float | None
) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=style or None, **attributes)


@dataclass(frozen=True)
class Scale:
    """Values `low` to `high` lie at `start` to `end`."""

    low: float
    high: float
    start: float = 0.0
    end: float = 1.0
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(max(value, 1e-300))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def over(self, start: float, end: float) -> Scale:
        """The same values at other places."""
        return Scale(self.low, self.high, start, end, self.logarithmic)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def clamp(self, value: float) -> float:
        """The nearest value that the scale shows."""
        return min(max(value, self.low), self.high)

    def ticks(self, at_most: int = 6) -> list[float]:
        """Round values, evenly spread."""
        return self._powers(at_most) if self.logarithmic else self._steps(at_most)

    def _steps(self, at_most: int) -> list[float]:
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / at_most))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= at_most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]

    def _powers(self, at_most: int) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            found = [factor * 10.0**power for power in exponents for factor in factors]
            if len(shown := [value for value in found if self.holds(value)]) <= at_most:
                return shown if len(shown) > 2 else self._steps(at_most)
        return shown[:: math.ceil(len(shown) / at_most)]


def linear(values: Iterable[float], margin: float = 0.06, from_zero: bool = False) -> Scale:
    """A scale over the values with a margin at both ends."""
    found = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = (0.0 if from_zero else min(found)), max(found)
    room = margin * ((high - low) or abs(high) or 1.0)
    return Scale(low if from_zero else low - room, high + room)


def logarithmic(values: Iterable[float], margin: float = 0.06) -> Scale:
    """A logarithmic scale over the positive values with a margin at both ends."""
    found = [math.log(value) for value in values if 0 < value < math.inf] or [0.0, 1.0]
    room = margin * ((max(found) - min(found)) or 1.0)
    return Scale(math.exp(min(found) - room), math.exp(max(found) + room), logarithmic=True)


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """`class_` stands for class and `stroke_width` for stroke-width; None leaves an attribute out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value if isinstance(value, str) else number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID and not children:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{_join(children)}</{tag}>")


def _join(parts: Iterable[str]) -> Markup:
    """The parts one after the other; what is not markup is escaped."""
    return Markup("").join(parts)


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")


def rules(num_data: int, num_sizes: int) -> str:
    """The classes d0, d1 … of data sets and s0, s1 … of sizes, as CSS."""
    data = [_DATA[index % len(_DATA)] for index in range(num_data)]
    sizes = [_ramp(index / max(1, num_sizes - 1)) for index in range(num_sizes)]
    light, dark = (
        "".join(
            f".{letter}{index}{{color:{pair[paper]}}}"
            for letter, pairs in (("d", data), ("s", sizes))
            for index, pair in enumerate(pairs)
        )
        for paper in (0, 1)
    )
    return f"{light}@media screen and (prefers-color-scheme:dark){{{dark}}}"


def _ramp(share: float) -> tuple[str, str]:
    first = min(int(share * 2), 1)
    between = share * 2 - first
    light, dark = (_mix(a, b, between) for a, b in zip(_SIZES[first], _SIZES[first + 1], strict=True))
    return light, dark


def _mix(one: str, other: str, share: float) -> str:
    pairs = ((int(one[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
