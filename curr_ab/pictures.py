"""Pictures: the style of all matplotlib figures, how pictures are saved, and how notebooks show them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from curr_ab.charts import FILE_FONT, Drawing
from curr_ab.extras import needs_extra
from curr_ab.files import remove_half_written, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which is too light for lines; none is told by its colour alone.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CHAIN_COLOURS = {"heavy": COLOURS[0], "light": COLOURS[1]}
BAND = 0.18  # opacity of an interval
DPI = 150
_RASTER_ZOOM = 2  # pixels of a PNG for each unit of a chart
_SIZE = (6.4, 4.4)  # inches
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "svg.hashsalt": "curr-ab",  # equal figures give equal files
}


@dataclass(frozen=True)
class Picture:
    """A page that a notebook shows where it is a cell's last line, and that can be saved."""

    page: str = field(repr=False)
    height: int  # in a notebook, in pixels
    writers: Mapping[str, Callable[[Path], None]] = field(repr=False)  # of other kinds of file, by suffix

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page (.html), or the picture as a file of another kind."""
        path = Path(path)
        if path.suffix == ".html":
            with replacing(path) as temporary:
                temporary.write_text(self.page, encoding="utf-8")
        elif path.suffix in self.writers:
            self.writers[path.suffix](path)
        else:
            suffixes = " or ".join([".html", *self.writers])
            raise ValueError(f"the name of the picture must end in {suffixes}; got {path.name}")

    def _repr_html_(self) -> str:
        """The page in a frame of its own: its style and its script leave the notebook alone."""
        style = f"width: 100%; height: {self.height}px; border: 0"
        return f'<iframe srcdoc="{escape(self.page)}" sandbox="allow-scripts" style="{style}"></iframe>'


def require_matplotlib() -> None:
    """Say that matplotlib is missing before the work begins of which it is to make pictures."""
    with needs_extra("plots"):
        import matplotlib  # noqa: F401


def new_figure(
    size: tuple[float, float] = _SIZE,
    rows: int = 1,
    columns: int = 1,
    *,
    extra: str = "plots",
    **subplots: Any,
) -> tuple[Figure, list[Axes]]:
    """An empty figure and its axes, row by row; `extra` is what brings matplotlib here."""
    with needs_extra(extra):
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure  # without pyplot: no global state, no window system

    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes: Any = figure.subplots(rows, columns, squeeze=False, **subplots)
    return figure, list(axes.ravel())


def plain(text: str) -> str:
    """A name of the user's, in which matplotlib would read a formula between dollars."""
    return text.replace("$", r"\$")


def set_title(axes: Axes, text: str) -> None:
    """Write the title of axes, in the style of all."""
    axes.set_title(plain(text), loc="left", fontsize=10)


def add_legend(target: Figure | Axes, *parts: Any, **options: Any) -> None:
    """Add the legend of a figure or of axes, in the style of all."""
    if len(parts) == 2:
        parts = (parts[0], list(map(plain, parts[1])))
    target.legend(*parts, **{"frameon": False, "fontsize": 9, **options})


def colours(count: int) -> Sequence[Any]:
    """So many colours; more than the palette has are shades of one scale."""
    if count <= len(COLOURS):
        return COLOURS[:count]
    from matplotlib import colormaps

    return [colormaps["viridis"](share) for share in (0.92 * place / (count - 1) for place in range(count))]


def save_pictures(
    pictures: Mapping[str, Figure | Drawing], folder: Path, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Each picture in each format (png, svg), under its name; a file appears whole or not at all.

    The PNG of a chart is made from the very SVG that is the chart.
    """
    paths = []
    for name, picture in pictures.items():
        for suffix in formats:
            path = folder / f"{name}.{suffix}"
            remove_half_written(path)
            with replacing(path) as temporary:
                if isinstance(picture, Drawing):
                    text = picture.file()
                    temporary.write_bytes(text.encode() if suffix == "svg" else _raster(text))
                else:
                    _save_figure(picture, temporary, suffix)
            paths.append(path)
    return paths


def _save_figure(figure: Figure, path: Path, suffix: str) -> None:
    from matplotlib import rc_context

    with rc_context(_STYLE):
        # No date: equal figures give equal files.
        figure.savefig(path, format=suffix, dpi=DPI, metadata={"Date": None} if suffix == "svg" else None)


def _raster(svg: str) -> bytes:
    """An SVG as PNG, with matplotlib's fonts: the same bytes whichever fonts the system has, if any."""
    with needs_extra("plots"):
        import matplotlib
        import resvg_py

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return resvg_py.svg_to_bytes(
        svg_string=svg,
        zoom=_RASTER_ZOOM,
        skip_system_fonts=True,
        font_dirs=[str(fonts)],
        font_family=FILE_FONT,
        sans_serif_family=FILE_FONT,
    )
