"""Affinity: variants of one antibody and what was measured of each, to be ranked with or without examples."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from curr_ab.benchmark.tasks.folds import clone_groups
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.benchmark.tasks.rows import Columns, Row, measured, merge_repeats, read_rows, short_name
from curr_ab.benchmark.tasks.task import Task
from curr_ab.options import OptionError

Direction = Literal["higher", "lower"]
# A correlation over fewer variants of a parent says nothing.
FEWEST = 20


@dataclass(frozen=True)
class Assays:
    """The form of one source: its columns, its number, and the better direction by the name of the file."""

    columns: Columns
    value: str
    directions: tuple[tuple[str, Direction], ...] = ()  # pattern of the file's name; the first that fits
    logarithm: bool = False  # the number is a KD: its logarithm is what is learnt
    several: bool = False  # a file has variants of several antibodies, whose numbers do not compare


# KD and AlphaSeq's log10 KD fall with affinity; AbBiBench has turned its numbers round, as have the newer
# files of FLAb that say so in a column of their own.
SOURCES: Mapping[str, Assays] = {
    "magma": Assays(
        Columns("MAGMA-seq (VH, VL, KD in nM)", ("VH",), ("VL",), values=(("KD",),)),
        "KD",
        (("", "lower"),),
        logarithm=True,
        several=True,
    ),
    "alphaseq": Assays(
        Columns(
            "AlphaSeq (mata_sequence, alphaseq_affinity in log10 nM)",
            id=("mata_description",),
            values=(("alphaseq_affinity",),),
            needed=("mata_sequence",),
            recognised=True,
        ),
        "alphaseq_affinity",
        (("", "lower"),),
    ),
    "flab": Assays(
        Columns(
            "FLAb (heavy, light, fitness)",
            ("heavy",),
            ("light",),
            values=(("fitness",),),
            optional=("neg_log_Kd",),
        ),
        "fitness",
    ),
    "abbibench": Assays(
        Columns(
            "AbBiBench (NAME_benchmarking_data.csv: mut_heavy_chain_seq, binding_score)",
            ("mut_heavy_chain_seq",),
            ("mut_light_chain_seq", "light_chain_seq"),
            values=(("binding_score",),),
        ),
        "binding_score",
        ((r"^(1mhp|1mlc|1n8z|2fjg|3gbn|4fqi|aayl49|aayl51)_", "higher"),),  # those of its leaderboard
    ),
}


def _read(source: str, files: Sequence[Path], options: TaskOptions) -> tuple[Task, ...]:
    """A task for each file, or for each parent antibody where a file has variants of several."""
    return tuple(task for path in files for task in _of_file(source, path, options))


read_magma, read_alphaseq, read_flab, read_abbibench = (partial(_read, source) for source in SOURCES)


def _of_file(source: str, path: Path, options: TaskOptions) -> list[Task]:
    assays = SOURCES[source]
    rows, notes = read_rows(path, assays.columns, single=source == "abbibench")
    if source == "abbibench":
        rows, more = _with_light(rows, options)
        notes += more
    known, values = measured(rows, assays.value)
    if assays.logarithm:
        values = [_logarithm(row, assays.value, value) for row, value in zip(known, values, strict=True)]
    if len(known) < len(rows):
        notes.append(f"rows without {assays.value}, which are left out: {len(rows) - len(known):,}")
    merged, means = merge_repeats(known, values)
    if repeats := len(known) - len(merged):
        notes.append(f"rows that repeat an earlier pair, which counts once with its mean: {repeats:,}")
    sign = _sign(path, known, assays, options)
    large = _parents(path, merged, assays)
    if few := len(merged) - sum(map(len, large)):
        notes.append(f"variants of parents with fewer than {FEWEST}, which are left out: {few:,}")
    tasks = []
    for number, own in enumerate(large, start=1):
        name = f"affinity-{source}-{short_name(path)}" + (f"-{number}" if len(large) > 1 else "")
        chosen = [merged[row] for row in own]
        tasks.append(_task(name, path, chosen, [means[row] for row in own], sign, notes))
    return tasks


def _parents(path: Path, rows: Sequence[Row], assays: Assays) -> list[list[int]]:
    """The rows of each parent that has enough of them."""
    parents: dict[str, list[int]] = {}
    clones = clone_groups([row.pair for row in rows]) if assays.several else ("",) * len(rows)
    for row, clone in enumerate(clones):
        parents.setdefault(clone, []).append(row)
    large = [own for own in parents.values() if len(own) >= FEWEST]
    if not large:
        most = max(map(len, parents.values()), default=0)
        raise ValueError(
            f"{path} must have {FEWEST} variants of an antibody; the most that it has of one is {most}; "
            "give a file with more"
        )
    return large


def _task(
    name: str,
    path: Path,
    rows: Sequence[Row],
    values: Sequence[float],
    sign: Literal[1, -1],
    notes: Sequence[str],
) -> Task:
    pairs = tuple(row.pair for row in rows)
    labels = np.array(values)
    if np.ptp(labels) == 0:
        raise ValueError(
            f"{path}: the numbers of {name} must differ; all are {labels[0]:g}; leave the file out"
        )
    direction = "higher is better" if sign > 0 else "lower is better, and the sign is turned"
    return Task(
        name=name,
        title=f"Affinity of variants ({path.name})",
        kind="ranking",
        pairs=pairs,
        ids=tuple(row.id for row in rows),
        labels=labels,
        metric="spearman",
        sign=sign,
        notes=(
            *notes,
            f"{len(rows):,} variants, the first of them {rows[0].id}; {direction}",
            "variants of one antibody: training sets of the few shots are drawn at random, so that their "
            "scores are those of interpolation",
        ),
    )


def _sign(path: Path, rows: Sequence[Row], assays: Assays, options: TaskOptions) -> Literal[1, -1]:
    """The sign of the better direction: what the user says, what is known of the file, or an error."""
    words = options.direction
    if words is None:
        words = next((one for pattern, one in assays.directions if re.search(pattern, path.name)), None)
    if words is None and rows and all(_is_copy(row) for row in rows):
        words = "higher"  # FLAb's fitness that is its own -log KD
    if words is None:
        raise OptionError(
            f"{path}: is a higher or a lower {assays.value} better? It is not known of this file; set "
            "direction to higher or lower",
            "direction",
        )
    return 1 if words == "higher" else -1


def _is_copy(row: Row) -> bool:
    return "neg_log_Kd" in row.values and row.number("neg_log_Kd") == row.number("fitness")


def _logarithm(row: Row, name: str, value: float) -> float:
    if value <= 0:
        raise row.malformed(f"{name} must be above 0; got {value:g}")
    return math.log10(value)


def _with_light(rows: Sequence[Row], options: TaskOptions) -> tuple[list[Row], list[str]]:
    """Heavy variants with a light chain: of the file, or the parent's that the user names."""
    out = [row if row.light else replace(row, light=options.light_chain) for row in rows]
    if all(row.light for row in out):
        return out, []
    return out, [
        "the file has heavy chains alone: each is measured without its partner, unless light_chain is that "
        "of the parent"
    ]
