"""Polyreactivity: ELISA flags of Boughter's antibodies, alone and as training part for other sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curr_ab.benchmark.tasks.folds import clone_groups, grouped_folds
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.benchmark.tasks.rows import Columns, Row, read_rows
from curr_ab.benchmark.tasks.task import Pair, Task
from curr_ab.data.reading.sources import MalformedSource

LABELS = ("specific", "polyreactive")
_TRAINED = Columns(
    "boughter.csv (ELISA flags, 1,117 rows)",
    heavy=("heavy_seq",),
    light=("light_seq",),
    id=("id",),
    values=(("label",), ("include_in_training",)),
)
_TESTED = Columns(
    "jain.csv or shehata.csv, in the columns of boughter.csv",
    heavy=_TRAINED.heavy,
    light=_TRAINED.light,
    id=_TRAINED.id,
    values=(("label",),),
)


def read_polyreactivity(files: Sequence[Path], options: TaskOptions) -> tuple[Task, ...]:
    """Boughter in folds of clones; then, for each further file, all of Boughter against that file.

    Rows with a label are those with no flag and those with four or more; one to three are called mild and are
    left out, as their file's `include_in_training` says.
    """
    first, *others = files
    rows, notes = read_rows(first, _TRAINED)
    usable = [row for row in rows if _is_true(row, "include_in_training") and row.text("label") is not None]
    notes.append(
        f"{first.name}: {len(usable):,} of {len(rows):,} rows are in training; the others have one to three "
        "flags, which their file leaves out"
    )
    usable, repeats = _without_repeats(usable)
    notes += repeats
    labels = np.array([_class(row) for row in usable])
    groups = clone_groups([row.pair for row in usable])
    tasks = [
        Task(
            name="polyreactivity",
            title="Polyreactivity (Boughter, folds of clones)",
            kind="classes",
            pairs=tuple(row.pair for row in usable),
            ids=tuple(row.id for row in usable),
            labels=labels,
            label_names=LABELS,
            groups=groups,
            folds=grouped_folds(groups, labels, options),
            metric="auroc",
            notes=tuple(notes),
        )
    ]
    tasks += [_against(path, usable, notes) for path in others]
    return tuple(tasks)


def _against(path: Path, trained: Sequence[Row], notes: Sequence[str]) -> Task:
    """One fold: what is not in the other set trains, and the other set tests."""
    tested, own = read_rows(path, _TESTED)
    tested = [row for row in tested if row.text("label") is not None]
    groups = clone_groups([row.pair for row in (*trained, *tested)])
    of_tested = set(groups[len(trained) :])
    kept = [row for row, group in zip(trained, groups, strict=False) if group not in of_tested]
    rows = [*kept, *tested]
    labels = np.array([_class(row) for row in rows])
    left_out = len(trained) - len(kept)
    counts = np.bincount(labels[len(kept) :], minlength=2)
    if not counts.all():
        problem = f"label must be 0 and 1 of some records each; got {counts[0]:,} and {counts[1]:,}"
        raise MalformedSource(str(path), f"{problem}; give a file with both")
    return Task(
        name=f"polyreactivity-{path.name.partition('.')[0]}",
        title=f"Polyreactivity (trained on Boughter, tested on {path.name.partition('.')[0]})",
        kind="classes",
        pairs=tuple(row.pair for row in rows),
        ids=tuple(f"{Path(row.source).name.partition('.')[0]}/{row.id}" for row in rows),
        labels=labels,
        label_names=LABELS,
        groups=tuple(clone_groups([row.pair for row in rows])),
        folds=((np.arange(len(kept)), np.arange(len(kept), len(rows))),),
        metric="auroc",
        notes=(
            *notes,
            *own,
            f"{path.name}: {counts[1]:,} of {len(tested):,} are polyreactive",
            f"training antibodies of a clone in {path.name}, which are left out: {left_out:,}",
        ),
    )


def _without_repeats(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Each pair once; one that is labelled both ways is left out."""
    labels: dict[Pair, set[int]] = {}
    firsts: dict[Pair, Row] = {}
    for row in rows:
        labels.setdefault(row.pair, set()).add(_class(row))
        firsts.setdefault(row.pair, row)
    kept = [row for pair, row in firsts.items() if len(labels[pair]) == 1]
    both = len(firsts) - len(kept)
    notes = []
    if repeats := len(rows) - len(firsts):
        notes.append(f"rows that repeat an earlier pair, which counts once: {repeats:,}")
    if both:
        notes.append(f"pairs that are labelled both ways, which are left out: {both:,}")
    return kept, notes


def _class(row: Row) -> int:
    value = row.number("label")
    if value not in (0, 1):
        raise row.malformed(f"label must be 0 (specific) or 1 (polyreactive); got {row.text('label')!r}")
    return int(value)


def _is_true(row: Row, name: str) -> bool:
    text = (row.text(name) or "").casefold()
    if text not in ("true", "false", "1", "0", "1.0", "0.0"):
        raise row.malformed(f"{name} must be True or False; got {text!r}")
    return text in ("true", "1", "1.0")
