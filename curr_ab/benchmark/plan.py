"""The plan of a benchmark: one task or a suite of several, what all share, and how the suite's file reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from curr_ab.benchmark.peers.options import PeerOptions
from curr_ab.benchmark.tasks.catalogue import TASKS
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.options import OptionError, check_names, check_types, option, read_yaml

SUITE_KEYS = ("models", "tasks")
TASK_KEYS = ("task", "data")


@dataclass(frozen=True, kw_only=True)
class BenchmarkPlan:
    """Options that all models and tasks share."""

    pairs: int | None = option(
        None, "Number of pairs that are drawn from each task, for a first look", shown="all", least=20
    )
    baselines: bool = option(True, "Measure the baselines beside the models")
    shots: tuple[int, ...] = option(
        (8, 32, 128), "Numbers of measured pairs that a model is shown of a task whose pairs it ranks"
    )
    repeats: int = option(10, "Number of few-shot training sets of each size", least=1)
    jobs: int = option(1, "Number of processes that measure side by side", least=1, execution=True)
    peer: PeerOptions = field(default_factory=lambda: PeerOptions(dtype="float32"))

    def __post_init__(self) -> None:
        check_types(self)
        if len(set(self.shots)) < len(self.shots) or min(self.shots, default=2) < 2:
            got = " ".join(map(str, self.shots))
            raise OptionError(f"shots must be different numbers of at least 2; got {got}", "shots")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers, as JSON has it; the files of a checkpoint count by its digest."""
        shared = {name: getattr(self, name) for name in ("pairs", "shots", "repeats")}
        peer = {
            one.name: getattr(self.peer, one.name)
            for one in fields(self.peer)
            if not one.metadata["execution"]
        }
        return {**shared, "shots": list(self.shots), **peer}


@dataclass(frozen=True)
class TaskRequest:
    """One entry of a suite: a task of the catalogue, its files, and its own options."""

    task: str
    data: tuple[str, ...]
    options: TaskOptions = field(default_factory=TaskOptions)


@dataclass(frozen=True)
class Suite:
    """The tasks of a benchmark, and the models that its file names."""

    tasks: tuple[TaskRequest, ...]
    models: tuple[str, ...] = ()


def read_suite(name: str, data: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Suite:
    """One task with its files, or the suite of a YAML file; `options` are those of every task."""
    shared = dict(options or {})
    if name in TASKS:
        return Suite((TaskRequest(name, tuple(data), TaskOptions(**shared)),))
    if not name.endswith((".yaml", ".yml")):
        raise OptionError(
            f"SUITE must be one of {', '.join(TASKS)}, or a YAML file that lists several; got {name!r}"
        )
    if data:
        raise OptionError("data must stand in the suite's file, for each task; leave the option out", "data")
    content = read_yaml(name)
    if unknown := sorted(set(content) - set(SUITE_KEYS)):
        raise ValueError(f"{name} must hold {' and '.join(SUITE_KEYS)}; got {unknown[0]!r}; remove it")
    entries = content.get("tasks")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{name}: tasks must be a list of entries with task and data; got {entries!r}")
    where = Path(name).parent
    requests = tuple(_request(f"{name}, task {n}", one, where, shared) for n, one in enumerate(entries, 1))
    models = content.get("models") or []
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise ValueError(f"{name}: models must be a list of names; got {models!r}")
    return Suite(requests, tuple(models))


def _request(where: str, entry: Any, folder: Path, options: Mapping[str, Any]) -> TaskRequest:
    """One entry; its files lie beside the suite's file unless their address is whole."""
    if not isinstance(entry, dict) or not set(TASK_KEYS) <= set(entry):
        raise ValueError(f"{where}: an entry must have {' and '.join(TASK_KEYS)}; got {entry!r}")
    own = {key: value for key, value in entry.items() if key not in TASK_KEYS}
    check_names(own, TaskOptions, "task", where)
    files = entry["data"] if isinstance(entry["data"], list) else [entry["data"]]
    data = tuple(str(folder / str(file)) for file in files)
    return TaskRequest(str(entry["task"]), data, TaskOptions(**{**options, **own}))
