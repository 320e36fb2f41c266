"""The catalogue of tasks: what each is made of, who publishes it, and the reader of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curr_ab.benchmark.tasks.developability import read_developability
from curr_ab.benchmark.tasks.task import Kind, Task, TaskOptions
from curr_ab.options import OptionError, check_names


@dataclass(frozen=True, kw_only=True)
class TaskReader:
    """One entry: its reader makes one or several tasks of the files that the user has downloaded."""

    title: str
    kind: Kind
    read: Callable[[Sequence[Path], TaskOptions], tuple[Task, ...]]
    files: tuple[str, ...]  # in their order; the last with … where it may be repeated
    owner: str
    address: str
    licence: str
    rows: str
    columns: str
    folds: str
    metric: str
    notes: str = ""

    @property
    def takes_several(self) -> bool:
        return self.files[-1].endswith("…")


TASKS: Mapping[str, TaskReader] = {
    "developability": TaskReader(
        title="Developability of therapeutic antibodies (GDPa1)",
        kind="number",
        read=read_developability,
        files=("GDPa1_v1.2_20250814.csv",),
        owner="Ginkgo Datapoints",
        address="https://github.com/ginkgobioworks/abdev-benchmark",
        licence="MIT for the repository; GDPa1's own terms on its page",
        rows="246; 193 to 242 of them measured in each assay",
        columns="`antibody_name`, `vh_protein_sequence`, `vl_protein_sequence`, the five assays, the folds",
        folds="given, five",
        metric="Spearman, mean over the folds",
        notes="five tasks: AC-SINS_pH7.4, HIC, PR_CHO, Titer, Tm2",
    ),
}


def read_task(
    name: str, files: Sequence[str | Path], options: TaskOptions | None = None, **fields: Any
) -> tuple[Task, ...]:
    """The tasks of one entry of the catalogue, out of its files; `fields` are those of the options."""
    check_names(fields, TaskOptions, "option of a task")
    options = replace(options or TaskOptions(), **fields)
    if name not in TASKS:
        raise OptionError(f"task must be one of {', '.join(TASKS)}; got {name!r}", "task")
    reader, paths = TASKS[name], [Path(file) for file in files]
    enough = len(paths) >= len(reader.files) if reader.takes_several else len(paths) == len(reader.files)
    if not enough:
        raise OptionError(
            f"{name} must be given its files ({', '.join(reader.files)}); got {len(paths)}; "
            f"download them from {reader.address}",
            "data",
        )
    if missing := [path for path in paths if not path.is_file()]:
        raise OptionError(f"{missing[0]} is not there; download it from {reader.address}", "data")
    return reader.read(paths, options)
