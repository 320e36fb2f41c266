"""Paratope: which residues of a chain touch the antigen, on the published parts of AntiBERTa's split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curr_ab.benchmark.near_pairs import NEAR, near_pairs
from curr_ab.benchmark.tasks.folds import check_leaks, find_leaks
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.benchmark.tasks.rows import Columns, Row, read_rows
from curr_ab.benchmark.tasks.task import Task

LABELS = ("outside", "paratope")
_LETTERS = {"N": 0, "P": 1}
_COLUMNS = Columns(
    "sabdab_train.parquet, sabdab_val.parquet and sabdab_test.parquet of AntiBERTa",
    sequence=("sequence",),
    values=(("paratope_labels",),),
    optional=("pdb",),
)


def read_paratope(files: Sequence[Path], options: TaskOptions) -> tuple[Task, ...]:
    """Training part, validation part, test part: fitted on the first two, and measured on the last."""
    parts = [read_rows(path, _COLUMNS) for path in files]
    near = _without_near(parts)
    rows = [row for part, _ in parts for row in part]
    ids = tuple(
        f"{row.text('pdb')} {path.stem} {row.record}"
        if row.values.get("pdb")
        else f"{path.stem} {row.record}"
        for path, (part, _) in zip(files, parts, strict=True)
        for row in part
    )
    num_test = len(parts[-1][0])
    folds = ((np.arange(len(rows) - num_test), np.arange(len(rows) - num_test, len(rows))),)
    pairs = tuple(row.pair for row in rows)
    leaks = check_leaks(str(files[-1]), find_leaks(ids, pairs, None, folds), options, "remove one of them")
    labels = tuple(_labels(row) for row in rows)
    notes = [note for _, own in parts for note in own]
    notes += near
    notes.append("single chains: each is measured alone, without its partner")
    structures = [{row.text("pdb") for row in part if row.values.get("pdb")} for part, _ in parts]
    fitted: set[str | None] = set().union(*structures[:-1])
    if shared := structures[-1] & fitted:
        notes.append(
            f"the published parts share {len(shared):,} of {len(structures[-1]):,} test structures: another "
            "chain of the same antibody is in training"
        )
    return (
        Task(
            name="paratope",
            title="Paratope residues of single chains (AntiBERTa's split)",
            kind="residues",
            pairs=pairs,
            ids=ids,
            labels=labels,
            label_names=LABELS,
            folds=folds,
            metric="aupr",
            notes=tuple(notes),
            leaks=leaks,
        ),
    )


def _without_near(parts: Sequence[tuple[list[Row], list[str]]]) -> list[str]:
    """Take out of the fitted parts what is near a chain of the test part; notes that say so."""
    pairs = [row.pair for part, _ in parts for row in part]
    first = len(pairs) - len(parts[-1][0])  # of the test part
    close = {one for one, two in near_pairs(pairs) if one < first <= two}
    place = 0
    for part, _ in parts[:-1]:
        kept = [row for number, row in enumerate(part, place) if number not in close]
        place += len(part)
        part[:] = kept
    if not close:
        return []
    return [
        f"training chains that differ by {NEAR} or fewer residues from one of the test part, which are left "
        f"out: {len(close):,}"
    ]


def _labels(row: Row) -> tuple[int, ...]:
    """A class for each residue of the variable domain."""
    text = row.text("paratope_labels") or "[]"
    letters: Sequence[str] = json.loads(text) if text.startswith("[") else text
    if wrong := sorted({*map(str, letters)} - _LETTERS.keys()):
        raise row.malformed(f"paratope_labels must be P or N; got {wrong[0]!r}")
    chain = row.heavy or row.light or ""
    start = row.start or 0
    if len(letters) < start + len(chain) or (row.start is None and len(letters) != len(chain)):
        raise row.malformed(f"each of {len(chain)} residues must have a label; got {len(letters)} labels")
    return tuple(_LETTERS[letter] for letter in letters[start : start + len(chain)])
