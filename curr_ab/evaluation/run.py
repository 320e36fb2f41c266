"""Suites: `run_suite` measures one on one checkpoint, unless that is done; `write_tables` compares models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from curr_ab.data.reading.objects import files_of, is_files
from curr_ab.evaluation.measurement import RECORD, Measurement, Subject, find_subject, read_measurement
from curr_ab.evaluation.plan import PLANS, make_plan
from curr_ab.family import MEMBERS
from curr_ab.files import claimed, remove_leftovers, replacing
from curr_ab.published import FIGURES, PART_FIGURES, PublishedFigure
from curr_ab.results import Result, add_results, is_headline, read_results, write_results

RESULTS = "results.json"
LOCK = ".measure.lock"
NOTE = (
    "Published: the paper's figure for its own checkpoint of that member on its own data, never measured "
    "here; a difference means something on the same data only."
)
# Of the paper's two versions of the test loss the later one, where it shows the member.
_TEST_LOSSES = ("test-loss-2025-09", "test-loss-2025-05")
# Details that tell numbers of one model apart for a reader.
_DETAILS = dict.fromkeys(
    (
        *("place", "sample", "group", "recipe", "recipe_digest", "protocol", "method", "changes"),
        *("assay", "score", "assays", "germline"),
        *(one.name for plan in PLANS.values() for one in fields(plan)),
    )
)


class Suite(Protocol):
    """The module of a suite in `evaluation/suites/`; each has its own plan and its own data."""

    def open_data(self, plan: Any, sources: list[str]) -> Any:
        """The data, with their `fingerprint`."""

    def measure(
        self, subject: Subject, plan: Any, data: Any, folder: Path, say: Callable[[str], None]
    ) -> list[Result]:
        """The numbers; the folder takes all else that is made."""


@runtime_checkable
class DrawnSuite(Suite, Protocol):
    """A suite whose models share a picture."""

    def draw(self, folder: Path, measurement: Measurement) -> None:
        """Draw all measurements that compare with this one."""


@runtime_checkable
class TabledSuite(Suite, Protocol):
    """A suite with tables of its own."""

    def table(self, folder: Path) -> str:
        """The tables of all measurements in the folder."""


def suite_of(name: str) -> Suite:
    """The module of a suite, imported here because each needs libraries that the others do not."""
    match name:
        case "loss":
            from curr_ab.evaluation.suites import loss

            return loss
        case "regions":
            from curr_ab.evaluation.suites import regions

            return regions
        case "fitness":
            from curr_ab.evaluation.suites import fitness

            return fitness
        case "specificity" | "pairing":
            from curr_ab.evaluation.suites import classification

            return classification
        case "generation":
            from curr_ab.evaluation.suites import generation

            return generation
    raise AssertionError(f"make_plan knows no suite {name}")


def run_suite(
    suite: str,
    model: str | Path,
    data: Any,
    out: str | Path,
    *,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> list[Result]:
    """The suite's numbers of one model, also added to `out/results.json`.

    `data` are files, prepared folders, or objects, as `read_pairs` takes them.
    Every measurement has a folder of its own in `out/SUITE`, with all that it made. What was measured
    already, on the same weights and data with the same options, is read from there.
    """
    plan = make_plan(suite, options)
    if not is_files(data):
        with files_of(data) as names:
            return run_suite(suite, model, names, out, say=say, **options)
    module = suite_of(suite)
    sources = [str(data)] if isinstance(data, str | Path) else [str(source) for source in data]
    subject = find_subject(model, plan)
    opened = module.open_data(plan, sources)
    measurement = Measurement.of(suite, subject, data=opened.fingerprint, settings=plan.settings)
    folder = Path(out) / suite / f"{_file_name(subject.name)}-{measurement.key[:8]}"
    if (folder / RESULTS).exists() and read_measurement(folder) == measurement:
        say(f"{suite} of {subject.name}: measured already, in {folder}")
    else:
        precision = str(subject.checkpoint.precision().dtype).removeprefix("torch.")
        device = subject.checkpoint.device_of()
        say(f"{suite} of {subject.name} on {', '.join(sources)}, {precision} on {device}")
        with claimed(folder, "measures in", lock_name=LOCK):
            remove_leftovers(folder)
            measurement.write(folder)
            rows = module.measure(subject, plan, opened, folder, say)
            rows = [replace(row, details={**row.details, **plan.unusual}) for row in rows]
            write_results(folder / RESULTS, rows)
    results = read_results(folder / RESULTS)
    with claimed(Path(out), "adds results in", wait=True):
        add_results(Path(out) / RESULTS, results)
    if isinstance(module, DrawnSuite):
        module.draw(Path(out) / suite, measurement)
    return results


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in text)


def write_tables(out: str | Path, suite: str) -> str:
    """The table of all measurements of a suite in `out`; the same text goes to `out/SUITE/table.md`."""
    folder = Path(out) / suite
    module = suite_of(suite)
    if isinstance(module, TabledSuite):
        text = module.table(folder)
    else:
        shown, left_out = _rows(folder)
        rows = sorted(shown, key=lambda row: (_rank(row[0]), row[0].task, str(row[0].identity)))
        text = "\n".join([*_lines(rows), *_skipped(folder), *left_out]) + "\n"
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(text)
    return text


def _rows(folder: Path) -> tuple[list[tuple[Result, PublishedFigure | None]], list[str]]:
    """The numbers that are shown, with the published figure where there is one to compare with.

    And a note on each folder that cannot be read.
    """
    rows, notes = [], []
    for path in sorted(folder.glob(f"*/{RESULTS}")):
        measurement = read_measurement(path.parent)
        if measurement is None:
            notes.append(
                f"\nleft out: {path.parent.name} (its {RECORD} is missing or broken; measure it again)"
            )
            continue
        for row in filter(is_headline, read_results(path)):
            rows.append((row, published_for(row) if measurement.is_member else None))
    return rows, notes


def published_for(row: Result) -> PublishedFigure | None:
    """The paper's figure for the same task, metric and part of the same member.

    Of a cross-validation only beside the published protocol with nothing changed.
    """
    if "recipe" in row.details and (row.details.get("protocol") != "published" or "changes" in row.details):
        return None
    tasks = [row.task]
    if row.task == "test-loss" and row.details.get("objective") == "mlm":
        tasks = list(_TEST_LOSSES)
    figures = {
        figure.task: figure
        for figure in (*FIGURES, *PART_FIGURES)
        if (figure.member, figure.metric, figure.part) == (row.model, row.metric, _part(row))
    }
    return next((figures[task] for task in tasks if task in figures), None)


def _part(row: Result) -> str:
    """Name of its part in `PublishedFigure.part`; the paper's regions are those of mutated chains."""
    if row.task == "regions":
        region, group = row.details["place"], row.details["group"]
        return str(region) if group == "mutated chains" else f"{region} of {group}"
    return str(row.details.get("pairs", "")) if row.task == "pairing" else ""


def _skipped(folder: Path) -> Iterator[str]:
    """Assays that were left out, once each."""
    skipped: dict[str, str] = {}
    for path in sorted(folder.glob("*/skipped.json")):
        skipped |= json.loads(path.read_text())
    if skipped:
        yield "\nskipped: " + "; ".join(f"{name} ({reason})" for name, reason in skipped.items())


def _rank(row: Result) -> int:
    return list(MEMBERS).index(row.model) if row.model in MEMBERS else len(MEMBERS)


def _lines(rows: list[tuple[Result, PublishedFigure | None]]) -> Iterator[str]:
    yield "| model | task | metric | measured ± SE | published | difference | items | data |"
    yield "|---|---|---|---:|---:|---:|---:|---|"
    for row, figure in rows:
        details = ", ".join(f"{key} {row.details[key]}" for key in _DETAILS if key in row.details)
        published = "" if figure is None else f"{figure.value:.4f} ({figure.task})"
        difference = "" if figure is None else f"{row.value - figure.value:+.4f}"
        yield (
            f"| {row.model} | {row.task}{f' ({details})' if details else ''} | {row.metric} "
            f"| {row.shown} | {published} | {difference} | {row.num_items:,} "
            f"| {row.dataset}, {row.split} |"
        )
    if any(figure is not None for _, figure in rows):
        sources = sorted({figure.source for _, figure in rows if figure is not None})
        yield f"\n{NOTE} Sources: {'; '.join(sources)}."
