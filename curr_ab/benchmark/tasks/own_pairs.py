"""Tasks of any table of pairs: native or exchanged partners, and the loss on masked residues by region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curr_ab.benchmark.tasks.folds import clone_groups, grouped_folds
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.benchmark.tasks.rows import Columns, Row, read_rows, short_name, with_own_names
from curr_ab.benchmark.tasks.task import Task
from curr_ab.domains import find_domains
from curr_ab.finetuning.examples import family_numbers
from curr_ab.randomness import random_stream

_COLUMNS = Columns("any table of pairs")
LABELS = ("exchanged", "native")
_FEWEST = 40  # native pairs of a kind of light chain


def read_pairing(files: Sequence[Path], options: TaskOptions) -> tuple[Task, ...]:
    """Native pairs against pairs with a light chain of the same locus from another clone, κ and λ apart.

    Every chain stands in one native and one exchanged pair, so that neither chain alone, nor its locus, says
    which it is. Partners come from the same fold, so that no chain is on both sides of one.
    """
    rows, notes = _unique(files)
    loci = [_locus(row.light or "") for row in rows]
    tasks = []
    for locus, name in (("K", "kappa"), ("L", "lambda")):
        own = [row for row, one in zip(rows, loci, strict=True) if one == locus]
        if len(own) < _FEWEST:
            notes.append(f"{len(own):,} pairs have a {name} chain, fewer than {_FEWEST}: no task of them")
            continue
        tasks.append(_pairing(name, own, notes, options))
    if not tasks:
        raise ValueError(
            f"{files[0]} must have {_FEWEST} pairs with light chains of one kind; got {len(rows):,} in all"
        )
    return tuple(tasks)


def _pairing(name: str, rows: Sequence[Row], notes: Sequence[str], options: TaskOptions) -> Task:
    clones = clone_groups([row.pair for row in rows])
    # A heavy clone with all that share one of its light chains: no exchange among them is a foreign pair.
    families = family_numbers(clones, (row.light for row in rows))
    groups = tuple(f"family {number}" for number in families.tolist())
    parts = grouped_folds(groups, [0] * len(rows), options)
    pairs, ids, labels, own_groups, fold_of = [], [], [], [], []
    for number, (_, test) in enumerate(parts):
        partners = _exchanged(
            test.tolist(), groups, random_stream(options.seed, "exchanged partners", number)
        )
        for row, other in partners.items():
            for light, label in ((row, 1), (other, 0)):
                pairs.append((rows[row].heavy, rows[light].light))
                ids.append(rows[row].id if label else f"{rows[row].id} + {rows[other].id}")
                labels.append(label)
                own_groups.append(groups[row])
                fold_of.append(number)
    of_fold = np.array(fold_of)
    folds = tuple((np.flatnonzero(of_fold != n), np.flatnonzero(of_fold == n)) for n in range(options.folds))
    return Task(
        name=f"pairing-{name}",
        title=f"Native pair or exchanged light chain ({name})",
        kind="pairing",
        pairs=tuple(pairs),
        ids=tuple(ids),
        labels=np.array(labels, np.int64),
        label_names=LABELS,
        groups=tuple(own_groups),
        folds=folds,
        metric="auroc",
        notes=(
            *notes,
            f"{len(labels) // 2:,} native pairs with a {name} chain, and as many with that of another clone; "
            "what genes alone tell is the baseline of pairs of V genes",
        ),
    )


def _exchanged(members: list[int], groups: Sequence[str], random: np.random.Generator) -> dict[int, int]:
    """A partner of another group for each row that has one; each row is partner once."""
    by_group: dict[str, list[int]] = {}
    for row in random.permutation(members).tolist():
        by_group.setdefault(groups[row], []).append(row)
    largest = max(by_group.values(), key=len)
    del largest[len(members) - len(largest) :]  # more than all others together find no partner
    ordered = [row for kin in by_group.values() for row in kin]
    return dict(zip(ordered, np.roll(ordered, -len(largest)).tolist(), strict=True))


def read_loss(files: Sequence[Path], options: TaskOptions) -> tuple[Task, ...]:
    """Pairs with the region of each residue: models are asked for the same residues."""
    rows, notes = _unique(files)
    labels = tuple(tuple(int(code) for mask in row.regions for code in mask or "") for row in rows)
    return (
        Task(
            name=f"loss-{short_name(files[0])}",
            title="Loss on masked residues by region",
            kind="loss",
            pairs=tuple(row.pair for row in rows),
            ids=tuple(row.id for row in rows),
            labels=labels,
            groups=clone_groups([row.pair for row in rows]),
            metric="loss",
            sign=-1,
            notes=tuple(notes),
        ),
    )


def _unique(files: Sequence[Path]) -> tuple[list[Row], list[str]]:
    """The pairs of all files, each once."""
    rows, notes = list[Row](), list[str]()
    for path in files:
        own, more = read_rows(path, _COLUMNS, annotate=True)
        rows += own
        notes += more
    firsts = {row.pair: row for row in reversed(rows)}
    if repeats := len(rows) - len(firsts):
        notes.append(f"rows that repeat an earlier pair, which counts once: {repeats:,}")
    return list(with_own_names(row for row in rows if firsts[row.pair] is row)), notes


def _locus(light: str) -> str:
    return next((domain.chain for domain in find_domains(light) if domain.chain in "KL"), "")
