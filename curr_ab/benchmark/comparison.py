"""Models of one task side by side: who is best, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from curr_ab.benchmark.folder import COMPARISONS, TABLE, Entry, task_folder, write_csv
from curr_ab.benchmark.scores import LOWER_IS_BETTER
from curr_ab.benchmark.statistics import PairedTest, paired_tests

COLUMNS = (
    *("model", "form", "baseline", "metric", "value", "standard_error", "low", "high", "items", "units"),
    *("against_best_model", "p_best_model", "p_holm_best_model"),
    *("against_best_baseline", "p_best_baseline", "p_holm_best_baseline"),
)
_COMPARED = ("first", "second", "difference", "low", "high", "p", "p_holm")


@dataclass(frozen=True)
class Standing:
    """The entries of a task, best first, with the test of each pair of them that holds a model."""

    task: str
    entries: tuple[Entry, ...]
    tests: tuple[PairedTest, ...]

    @property
    def best_model(self) -> Entry | None:
        return next((one for one in self.entries if not one.measurement.is_baseline), None)

    @property
    def best_baseline(self) -> Entry | None:
        return next((one for one in self.entries if one.measurement.is_baseline), None)

    def test(self, first: Entry, second: Entry | None) -> PairedTest | None:
        """The test of these two, the first one's score less the second's; None where there is none."""
        for one in self.tests:
            if second is not None and (one.first, one.second) == (first.name, second.name):
                return one
            if second is not None and (one.second, one.first) == (first.name, second.name):
                return PairedTest(
                    first.name, second.name, -one.difference, -one.high, -one.low, one.p, one.p_holm
                )
        return None


def stand(task: str, entries: Sequence[Entry], seed: int) -> Standing:
    """Order and tests of the entries; the correction counts every pair that could be read off the table."""
    if not entries:
        return Standing(task, (), ())
    sign = 1 if entries[0].metric in LOWER_IS_BETTER else -1
    ordered = sorted(entries, key=lambda one: (sign * one.interval.value, one.name))
    pairs = [
        (first.name, second.name)
        for first, second in combinations(ordered, 2)
        if not (first.measurement.is_baseline and second.measurement.is_baseline)
    ]
    tests = paired_tests({one.name: one.found for one in ordered}, pairs, seed)
    return Standing(task, tuple(ordered), tuple(tests))


def write_tables(out: Path, standing: Standing) -> None:
    """The table of a task, and all its tests, as CSV with every digit."""
    folder = task_folder(out, standing.task)
    write_csv(folder / TABLE, COLUMNS, rows_of(standing))
    tests = [{name: getattr(one, name) for name in _COMPARED} for one in standing.tests]
    write_csv(folder / COMPARISONS, _COMPARED, tests)


def rows_of(standing: Standing) -> list[dict[str, Any]]:
    """A row for each entry: what the table's file and the report show."""
    rows = []
    for entry in standing.entries:
        row: dict[str, Any] = {
            "model": entry.name,
            "form": entry.measurement.form,
            "baseline": "yes" if entry.measurement.is_baseline else "no",
            "metric": entry.metric,
            "value": entry.interval.value,
            "standard_error": entry.interval.standard_error,
            "low": entry.interval.low,
            "high": entry.interval.high,
            "items": entry.num_items,
            "units": entry.interval.num_units,
        }
        for name, other in (("model", standing.best_model), ("baseline", standing.best_baseline)):
            test = standing.test(entry, other)
            row |= {
                f"against_best_{name}": None if test is None else test.difference,
                f"p_best_{name}": None if test is None else test.p,
                f"p_holm_best_{name}": None if test is None else test.p_holm,
            }
        rows.append(row)
    return rows
