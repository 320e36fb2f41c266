"""`run_suite`: one suite on one checkpoint, unless the same has been measured already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from curr_ab.evaluation.measurement import Measurement, read_measurement
from curr_ab.evaluation.plan import (
    ClassificationPlan,
    FitnessPlan,
    LossPlan,
    RegionsPlan,
    SuitePlan,
    make_plan,
)
from curr_ab.files import claimed
from curr_ab.results import Result, add_results, read_results, write_results

if TYPE_CHECKING:
    from curr_ab.evaluation.pair_tables import PairTable, PreparedSplit
    from curr_ab.evaluation.subject import Subject
    from curr_ab.evaluation.suites.classification import LabelledData
    from curr_ab.evaluation.suites.fitness import FitnessData

RESULTS = "results.json"


class Fingerprinted(Protocol):
    """Opened data; the fingerprint tells their content."""

    @property
    def fingerprint(self) -> str: ...


Plan = TypeVar("Plan", bound=SuitePlan)
Data = TypeVar("Data", bound=Fingerprinted)


@dataclass(frozen=True)
class Suite(Generic[Plan, Data]):
    """A suite: it opens and checks its data, measures a model on them, and may draw several models."""

    open_data: Callable[[Plan, list[str]], Data]
    # The last two arguments: the folder of the measurement, and a function that shows a line to the user.
    measure: Callable[[Subject, Plan, Data, Path, Callable[[str], None]], list[Result]]
    draw: Callable[[Path, Measurement], None] | None = None


def _loss() -> Suite[LossPlan, PreparedSplit]:
    from curr_ab.evaluation.suites import loss

    return Suite(loss.open_data, loss.measure)


def _regions() -> Suite[RegionsPlan, PairTable]:
    from curr_ab.evaluation.suites import region_figures, regions

    return Suite(regions.open_data, regions.measure, region_figures.draw_regions)


def _classification() -> Suite[ClassificationPlan, LabelledData]:
    from curr_ab.evaluation.suites import classification

    return Suite(classification.open_data, classification.measure)


def _fitness() -> Suite[FitnessPlan, FitnessData]:
    from curr_ab.evaluation.suites import fitness

    return Suite(fitness.open_data, fitness.measure)


# Functions, because suites need libraries that the others do not.
_SUITES: Mapping[str, Callable[[], Suite[Any, Any]]] = {
    "loss": _loss,
    "regions": _regions,
    "specificity": _classification,
    "pairing": _classification,
    "fitness": _fitness,
}


def run_suite(
    suite: str,
    model: str | Path,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> list[Result]:
    """The suite's numbers of one model, also added to `out/results.json`.

    Every measurement has a folder of its own in `out/SUITE`, with all that it made. What was measured
    already, on the same weights and data with the same options, is read from there.
    """
    plan = make_plan(suite, options)
    chosen = _SUITES[suite]()
    sources = [str(data)] if isinstance(data, str | Path) else [str(source) for source in data]
    from curr_ab.evaluation.subject import find_subject

    subject = find_subject(model, plan)
    opened = chosen.open_data(plan, sources)
    measurement = Measurement.of(suite, subject, data=opened.fingerprint, settings=plan.settings)
    folder = Path(out) / suite / f"{_file_name(subject.name)}-{measurement.key[:8]}"
    if (folder / RESULTS).exists() and read_measurement(folder) == measurement:
        say(f"{suite} of {subject.name}: measured already, in {folder}")
    else:
        precision = str(subject.checkpoint.precision().dtype).removeprefix("torch.")
        device = subject.checkpoint.device_of()
        say(f"{suite} of {subject.name} on {', '.join(sources)}, {precision} on {device}")
        measurement.write(folder)
        rows = chosen.measure(subject, plan, opened, folder, say)
        rows = [replace(row, details={**row.details, **plan.unusual}) for row in rows]
        write_results(folder / RESULTS, rows)
    results = read_results(folder / RESULTS)
    with claimed(Path(out), "adds results in", wait=True):
        add_results(Path(out) / RESULTS, results)
    if chosen.draw is not None:
        chosen.draw(Path(out) / suite, measurement)
    return results


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in text)
