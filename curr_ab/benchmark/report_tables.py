"""The tables of a report, whose every number names the file that it stands in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from curr_ab.benchmark.comparison import Standing, rows_of
from curr_ab.benchmark.folder import BENCHMARK, COMPARISONS, MEASUREMENT, SCORES, TABLE, file_name
from curr_ab.benchmark.plan import Suite
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.pages import words
from curr_ab.quantities import format_setting


@dataclass(frozen=True)
class Field:
    """One field; `source` is the file, and after # the row and the column or key, that the number is from.

    Names of models in it are quoted as in addresses, for they may hold a slash.
    """

    text: str
    source: str = ""
    classes: str = ""

    @property
    def markdown(self) -> str:
        """The field in a table of Markdown."""
        text = words(self.text)
        return f"**{text}**" if "best" in self.classes else text


@dataclass(frozen=True)
class Row:
    """One row and the name of what it is about."""

    name: str
    fields: tuple[Field, ...]
    is_baseline: bool = False


@dataclass(frozen=True)
class Table:
    """The first column of the header is that of the rows' names."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]


def score_table(standing: Standing) -> Table:
    """Scores with intervals, best first, and what separates them from the best model and baseline."""
    file = f"{file_name(standing.task)}/{TABLE}"
    rows = []
    for place, row in enumerate(rows_of(standing)):
        where = f"{file}#{_part(row['model'])}"
        numbers = [
            _number(row[name], f"{where}/{name}", name, best=place == 0) for name in ("value", "low", "high")
        ]
        for name in ("model", "baseline"):
            for column in (f"against_best_{name}", f"p_best_{name}", f"p_holm_best_{name}"):
                numbers.append(_number(row[column], f"{where}/{column}", column))
        numbers += [Field(f"{row[name]:,}", f"{where}/{name}") for name in ("items", "units")]
        rows.append(Row(row["model"], tuple(numbers), row["baseline"] == "yes"))
    header = (
        *("", standing.entries[0].metric, "from", "to"),
        *("less the best model", "p", "p, Holm"),
        *("less the best baseline", "p", "p, Holm"),
        *("items", "units"),
    )
    entry = standing.entries[0]
    how = "the mean over folds" if entry.by_fold else "over all pairs together"
    caption = f"{entry.metric}, {how}, with its 95% interval. Units are {entry.units}."
    return Table(caption, header, tuple(rows))


def metric_table(standing: Standing, out: Path) -> Table:
    """Every metric of every entry, and what a model made of a few measured pairs."""
    metrics = list(dict.fromkeys(name for entry in standing.entries for name in entry.others))
    rows = []
    for entry in standing.entries:
        file = f"{entry.folder.relative_to(out).as_posix()}/{SCORES}"
        numbers = [_number(entry.others.get(name), f"{file}#others/{name}", name) for name in metrics]
        rows.append(Row(entry.name, tuple(numbers), entry.measurement.is_baseline))
    caption = "Metrics without an interval are for reading, not for choosing."
    return Table(caption, ("", *metrics), tuple(rows))


def input_table(standing: Standing, out: Path) -> Table:
    """How each entry reads a pair, and which of its features the training parts chose."""
    rows = []
    for entry in standing.entries:
        file = entry.folder.relative_to(out).as_posix()
        form = Field(entry.measurement.form, f"{file}/{MEASUREMENT}#form", "words")
        chosen = Field("; ".join(entry.notes), f"{file}/{SCORES}#notes" if entry.notes else "", "words")
        settings = [
            Field(str(value), f"{file}/{MEASUREMENT}#settings/{name}", "words")
            if (value := entry.measurement.settings.get(name))
            else Field("")
            for name in ("mode", "dtype")
        ]
        rows.append(Row(entry.name, (form, *settings, chosen), entry.measurement.is_baseline))
    header = ("", "form", "mode", "number type", "features")
    return Table("The form of input, how it was computed, and the features chosen.", header, tuple(rows))


def test_table(standing: Standing) -> Table:
    """Every test of two entries, as they stand in the file."""
    file = f"{file_name(standing.task)}/{COMPARISONS}"
    rows = []
    for one in standing.tests:
        where = f"{file}#{_part(one.first)}/{_part(one.second)}"
        names = ("difference", "low", "high", "p", "p_holm")
        numbers = [_number(getattr(one, name), f"{where}/{name}", name) for name in names]
        rows.append(Row(one.first, (Field(one.second, classes="words"), *numbers)))
    header = ("first", "second", "difference", "from", "to", "p", "p, Holm")
    return Table("The first's score less the second's, with its 95% interval.", header, tuple(rows))


def settings_table(settings: dict[str, Any]) -> Table:
    """The settings that all models share."""
    rows = [
        Row(name.replace("_", " "), (Field(format_setting(value), f"{BENCHMARK}#settings/{name}", "words"),))
        for name, value in settings.items()
        if value is not None
    ]
    return Table("The same for all models.", ("setting", "value"), tuple(rows))


def option_table(suite: Suite) -> Table:
    """What the user decided of each task."""
    names = [one.name for one in fields(TaskOptions)]
    rows = []
    for place, request in enumerate(suite.tasks):
        values = [getattr(request.options, name) for name in names]
        own = [
            Field("")
            if value is None
            else Field(format_setting(value), f"{BENCHMARK}#tasks/{place}/options/{name}")
            for name, value in zip(names, values, strict=True)
        ]
        rows.append(Row(request.task, tuple(own)))
    header = ("task", *(name.replace("_", " ") for name in names))
    return Table(
        "The options of each task; a file's own folds and directions count first.", header, tuple(rows)
    )


def _part(name: str) -> str:
    """The name as one part of a place, whatever it holds."""
    return quote(name, safe="")


def _number(value: float | None, source: str, name: str, *, best: bool = False) -> Field:
    if value is None:
        return Field("")
    is_p = name.partition("_")[0] == "p"
    text = f"{value:.2g}" if is_p else f"{round(value, 3) + 0.0:.3f}"  # no -0.000
    return Field(text, source, "best" if best else "")


def noted(texts: Sequence[str], file: str) -> list[Field]:
    """Notes with the place in the file that they are from."""
    return [Field(text, f"{file}#notes/{place}") for place, text in enumerate(texts)]
