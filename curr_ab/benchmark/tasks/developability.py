"""Developability: GDPa1, five assays of 246 antibodies with the folds of its owners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from curr_ab.benchmark.tasks.folds import check_leaks, clone_groups, find_leaks, given_folds
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.benchmark.tasks.rows import Columns, Row, measured, read_rows
from curr_ab.benchmark.tasks.task import Task

FOLD = "hierarchical_cluster_IgG_isotype_stratified_fold"
NAME = "antibody_name"
CHAIN_COLUMNS = ("vh_protein_sequence", "vl_protein_sequence")
# By column: what it measures, and whether more of it is better.
ASSAYS: Mapping[str, tuple[str, Literal[1, -1]]] = {
    "AC-SINS_pH7.4": ("self-interaction", -1),
    "HIC": ("hydrophobicity", -1),
    "PR_CHO": ("polyreactivity", -1),
    "Titer": ("titre", 1),
    "Tm2": ("second melting temperature", 1),
}
_FILE = "GDPa1_v1.2_20250814.csv"
_COLUMNS = Columns(
    _FILE,
    heavy=(CHAIN_COLUMNS[0],),
    light=(CHAIN_COLUMNS[1],),
    id=(NAME,),
    values=((FOLD,), *((assay,) for assay in ASSAYS)),
)


def read_developability(files: Sequence[Path], options: TaskOptions) -> tuple[Task, ...]:
    """A task for each assay, over the antibodies that it has measured, on the folds of the file."""
    [path] = files
    rows, notes = read_rows(path, _COLUMNS)
    return tuple(_task(path, rows, notes, assay, options) for assay in ASSAYS)


def _task(path: Path, rows: Sequence[Row], notes: Sequence[str], assay: str, options: TaskOptions) -> Task:
    meaning, sign = ASSAYS[assay]
    known, values = measured(rows, assay)
    pairs, ids = tuple(row.pair for row in known), tuple(row.id for row in known)
    folds = given_folds([row.text(FOLD) for row in known], lambda row: f"{path}, record {known[row].record}")
    leaks = check_leaks(str(path), find_leaks(ids, pairs, None, folds), options)
    own = [f"{assay}: {len(known):,} of {len(rows):,} antibodies are measured"]
    if relatives := find_leaks(ids, pairs, clone_groups(pairs), folds):
        own.append(
            f"the given folds part {len(relatives):,} antibodies from one with a close CDRH3, such as "
            f"{relatives[0].partition(' (')[0]}"
        )
    return Task(
        name=f"developability-{assay}",
        title=f"{assay} ({meaning}, {'higher' if sign > 0 else 'lower'} is better)",
        kind="number",
        pairs=pairs,
        ids=ids,
        labels=np.array(values),
        folds=folds,
        metric="spearman",
        average="folds",  # as the owners of the data average
        sign=sign,
        notes=(*notes, *own),
        leaks=leaks,
    )
