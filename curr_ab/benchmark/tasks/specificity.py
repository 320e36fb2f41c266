"""Specificity: what an antibody binds, as classes of two or three, in folds of clones or of studies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curr_ab.benchmark.tasks.folds import clone_groups, grouped_folds
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.benchmark.tasks.rows import Columns, Row, read_rows, short_name
from curr_ab.benchmark.tasks.task import Pair, Task
from curr_ab.options import OptionError
from curr_ab.randomness import random_stream

EPITOPE = "Protein + Epitope"
# One file for each class, in this order; two files are the first and the last.
CLASSES = ("healthy", "influenza", "coronavirus")
_OF_ANY = Columns("any table of pairs, such as an OAS unit or a supplement of nicwulab")
_WITH_EPITOPES = Columns(
    "CoV-AbDab (CSV of its page), or a table with the same column of epitopes",
    heavy=("VH or VHH", "VHorVHH"),
    light=("VL",),
    id=("Name",),
    values=((EPITOPE,),),
    optional=("Sources",),
    recognised=True,
)
_UNSURE = re.compile(r"(?i)unk|possib|probab|rbd/non|^$")
_OTHER = re.compile(r"(?i)non-(rbd|s1)|ntd|s2|^(n|e|m|nsp\d+)\b")


def read_specificity(files: Sequence[Path], options: TaskOptions) -> tuple[Task, ...]:
    """Antibodies of healthy donors and of those who met a virus, each class from its own file.

    Each class is cut to the size of the smallest, so that chance is the same for all.
    """
    if len(files) not in (2, 3):
        raise OptionError(
            f"specificity must be given two or three files, one a class; got {len(files)}", "data"
        )
    names = CLASSES if len(files) == 3 else (CLASSES[0], CLASSES[-1])
    parts, notes = [], list[str]()
    for path in files:
        rows, own = read_rows(path, _OF_ANY)
        parts.append(list({row.pair: row for row in rows}.values()))
        notes += own
    shared: Counter[Pair] = Counter(row.pair for part in parts for row in part)
    parts = [[row for row in part if shared[row.pair] == 1] for part in parts]
    smallest = min(map(len, parts))
    rows, labels = list[Row](), list[int]()
    for number, part in enumerate(parts):
        chosen = random_stream(options.seed, "specificity", number).permutation(len(part))[:smallest]
        rows += [part[row] for row in np.sort(chosen)]
        labels += [number] * smallest
    notes += [
        f"each class is cut to {smallest:,} pairs, the number of the smallest: "
        + ", ".join(f"{name} has {len(part):,}" for name, part in zip(names, parts, strict=True)),
        "the class equals the study: what differs between laboratories and donors is learnt with it, and the "
        "baselines that see V genes alone say how much",
    ]
    return (_task("specificity", "Specificity", rows, labels, names, notes, options, multi_file=True),)


def read_epitopes(files: Sequence[Path], options: TaskOptions) -> tuple[Task, ...]:
    """RBD against other epitopes of coronaviruses, and RBD, NTD and S2 apart: classes within one database."""
    [path] = files
    rows, notes = read_rows(path, _WITH_EPITOPES)
    rows, repeated = _without_contradictions(rows)
    known = [(row, "RBD" in words.split()) for row in rows if (words := _binary(row)) is not None]
    notes += repeated
    notes.append(f"{len(rows) - len(known):,} of {len(rows):,} pairs have no clear epitope: left out")
    name = f"epitope-{short_name(path)}"
    two = _task(
        name,
        "RBD or another epitope",
        [row for row, _ in known],
        [int(is_rbd) for _, is_rbd in known],
        ("other", "RBD"),
        notes,
        options,
    )
    sites = ("RBD", "NTD", "S2")
    apart = [(row, sites.index(site)) for row in rows if (site := _site(row)) in sites]
    three = _task(
        f"{name}-sites",
        "RBD, NTD or S2",
        [row for row, _ in apart],
        [label for _, label in apart],
        sites,
        notes,
        options,
    )
    return two, three


def _site(row: Row) -> str | None:
    """RBD, NTD or S2; None for all else."""
    words = _words(row)
    if words is None or _UNSURE.search(words) or re.search(r"(?i)non-|/", words) or words.startswith("N"):
        return None
    return next((site for site in ("RBD", "NTD", "S2") if site in words.split()), None)


def _binary(row: Row) -> str | None:
    """The words of the epitope where they say whether it is the RBD; None where they do not."""
    words = _words(row)
    if words is None or _UNSURE.search(words):
        return None
    if words.startswith("S") and "RBD" in words.split():
        return words
    return words.replace("RBD", "") if _OTHER.search(words) else None


def _words(row: Row) -> str | None:
    """`S; RBD`, `S:RBD` and `S; RBD (...)` as `S RBD`."""
    text = row.text(EPITOPE)
    return None if text is None else " ".join(re.sub(r"[;:()]", " ", text).split())


def _without_contradictions(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Each pair once; pairs with several epitopes are left out."""
    words: dict[Pair, set[str | None]] = {}
    for row in rows:
        words.setdefault(row.pair, set()).add(_words(row))
    firsts = {row.pair: row for row in reversed(rows)}
    kept = [row for row in rows if firsts[row.pair] is row and len(words[row.pair]) == 1]
    both = sum(len(own) > 1 for own in words.values())
    repeats = len(rows) - len(firsts)
    return kept, [
        f"rows that repeat an earlier pair, which counts once: {repeats:,}",
        f"pairs with several epitopes, which are left out: {both:,}",
    ]


def _task(
    name: str,
    title: str,
    rows: Sequence[Row],
    labels: Sequence[int],
    names: tuple[str, ...],
    notes: Sequence[str],
    options: TaskOptions,
    *,
    multi_file: bool = False,
) -> Task:
    groups = _groups(rows, options)
    classes = np.array(labels, np.int64)
    folds = grouped_folds(groups, classes, options)
    counts = ", ".join(f"{count:,} {one}" for one, count in zip(names, np.bincount(classes), strict=True))
    for number, (_, test) in enumerate(folds, start=1):
        if missing := [one for label, one in enumerate(names) if label not in classes[test]]:
            raise OptionError(
                f"{name}: every class must be in each test part; fold {number} has no {missing[0]}; take "
                "fewer folds, or group by clone",
                *("folds", "group_by"),
            )
    return Task(
        name=name,
        title=title,
        kind="classes",
        pairs=tuple(row.pair for row in rows),
        ids=tuple(
            f"{Path(row.source).name.partition('.')[0]}/{row.id}" if multi_file else row.id for row in rows
        ),
        labels=classes,
        label_names=names,
        groups=groups,
        folds=folds,
        metric="auroc" if len(names) == 2 else "macro-f1",
        notes=(*notes, f"{counts}; {len(set(groups)):,} groups by {options.group_by}"),
    )


def _groups(rows: Sequence[Row], options: TaskOptions) -> tuple[str, ...]:
    """What folds hold apart; the study of a row, where asked for."""
    if options.group_by == "clone":
        return clone_groups([row.pair for row in rows])
    if any("Sources" not in row.values for row in rows):
        raise OptionError(
            f"group_by must be clone where the file has no column Sources; got source ({rows[0].source})",
            "group_by",
        )
    return tuple(row.text("Sources") or "unknown" for row in rows)
