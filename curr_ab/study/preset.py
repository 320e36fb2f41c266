"""A preset: sizes, data, training and evaluation of a study; read from YAML and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from curr_ab.data.preparing.plan import Clustering, PreparationPlan
from curr_ab.evaluation.plan import PLANS, ClassificationPlan, make_plan
from curr_ab.family import SHAPE, SIZES, num_gpus
from curr_ab.options import (
    OptionError,
    check_names,
    check_types,
    option,
    read_plain,
    read_setting,
    read_yaml,
    split_setting,
    unknown,
)
from curr_ab.pretraining.plan import PretrainingPlan

FOLDER = Path(__file__).with_name("presets")
# What a size that is none of the family's must say, and the words for it in errors.
_OWN_SHAPE = tuple(key for key in SHAPE if key != "vocab_size")

_GPUS = ", ".join(f"{size.num_gpus} for {size.name}" for size in SIZES)


@dataclass(frozen=True)
class StudyData:
    """Sources of the pairs, and the training sets; without `sources` the pairs come prepared.

    The sets are nested. With several `draws` of each they share no pair.
    """

    subsets: Mapping[str, int | float]
    sources: tuple[str, ...] = ()
    cluster: Clustering = "clonotype"
    draws: int = option(1, "Number of training sets of each size", least=1)

    def __post_init__(self) -> None:
        check_types(self)
        for name, size in self.subsets.items():
            if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < math.inf:
                raise OptionError(
                    f"subsets: {name} must be a share such as 0.5 or a number of pairs; got {size!r}",
                    "subsets",
                )
        PreparationPlan(cluster=self.cluster, subsets=self.subsets)

    def differences(self, other: StudyData) -> str:
        """The fields that are not as in `other`, in words; empty where all are."""
        pairs = [(item.name, getattr(other, item.name), getattr(self, item.name)) for item in fields(self)]
        return "; ".join(f"{name} {theirs} → {mine}" for name, theirs, mine in pairs if theirs != mine)


@dataclass(frozen=True)
class Launch:
    """Room and way of the cells' processes; nothing of it changes a result."""

    gpus_per_cell: int | None = option(
        0,
        "Number of GPUs of a cell; 0 is a part of a GPU where there is one, else processor cores; none is by "
        f"its size, {_GPUS}",
        least=0,
    )
    threads_per_cell: int = option(1, "Number of threads of a cell", least=1)
    max_parallel: int = option(
        0, "Number of cells that train at a time; 0 is what the machine has room for", least=0
    )
    slurm: Mapping[str, Any] = option({}, "Options of sbatch")

    def gpus(self, num_parameters: int) -> int:
        """GPUs of a cell with a model of so many parameters."""
        return num_gpus(num_parameters) if self.gpus_per_cell is None else self.gpus_per_cell

    def __post_init__(self) -> None:
        check_types(self)
        for key, value in self.slurm.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", str(key)) or not str(value).isprintable():
                raise OptionError(
                    f"slurm must be options of sbatch, each in one line; got {f'{key}: {value}'!r}", "slurm"
                )


@dataclass(frozen=True)
class Transfer:
    """Further cells of every size, data set and seed: causal ones, and masked ones with and without them.

    Causal members generate; what masked ones save that start from their weights is the transfer law.
    """

    clm_steps: tuple[int, ...] = option((), "Steps of causal cells, one each")
    mlm_steps: tuple[int, ...] = option((), "Steps of masked cells that start from each causal cell")
    scratch_steps: tuple[int, ...] = option((), "Steps of masked cells from scratch, one each")
    warmup_share: float = option(
        0.05, "Share of the steps of each of these cells in which the learning rate rises", least=0, most=1
    )

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("clm_steps", "mlm_steps", "scratch_steps"):
            steps = getattr(self, name)
            if len(set(steps)) < len(steps) or any(number < 1 for number in steps):
                raise OptionError(
                    f"{name} must be different numbers from 1 on; got {list(steps)}: name each once", name
                )
        if self.mlm_steps and not self.clm_steps:
            raise OptionError(
                "clm_steps must be one at least, for masked cells that start from causal ones; got none: "
                "give some, or leave mlm_steps out",
                *("clm_steps", "mlm_steps"),
            )


@dataclass(frozen=True)
class Preset:
    """A study, before anything is made of it."""

    name: str
    title: str
    data: StudyData
    sizes: Mapping[str, Mapping[str, Any]]  # changes of the model's configuration, by size
    plan: Mapping[str, Any] = field(default_factory=dict)  # what all cells have in common
    cells: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # departures, by cell or pattern
    left_out: tuple[str, ...] = ()  # of the grid, by member or pattern
    seeds: tuple[int, ...] = (42,)
    evaluation: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # options, by suite
    launch: Launch = field(default_factory=Launch)
    transfer: Transfer = field(default_factory=Transfer)
    takes: str = ""  # how long, for those who ask beforehand

    def __post_init__(self) -> None:
        check_types(self)
        if not self.title:
            raise OptionError("title must say what the study is; got none", "title")
        if not self.sizes or not self.data.subsets or not self.seeds:
            raise ValueError(
                "sizes, data subsets and seeds must be one at least each; got none of one of them"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise OptionError(f"seeds must be different; got {list(self.seeds)}", "seeds")
        for name in (*self.sizes, *self.data.subsets):
            if not re.fullmatch(r"\w[\w.-]*", name):  # they are in names of folders
                raise ValueError(f"sizes and subsets must be called by letters and digits; got {name!r}")
        known = [size.name for size in SIZES]
        for size, config in self.sizes.items():
            if size not in known and (missing := [key for key in _OWN_SHAPE if key not in config]):
                raise ValueError(
                    f"{unknown('size', size, known)}; one of your own must say {', '.join(missing)}"
                )
        for name, plan in {"plan": self.plan, **self.cells}.items():
            if not isinstance(plan.get("config", {}), Mapping):
                raise ValueError(f"{name}: config must be `name: value` lines; got {plan['config']!r}")
        self._check_evaluation()

    def _check_evaluation(self) -> None:
        from curr_ab.evaluation.suites.classification import recipe_of

        if "loss" not in self.evaluation:
            raise ValueError("evaluation must hold the suite loss, which the law is fitted to; got none")
        for suite, options in self.evaluation.items():
            given = {key: value for key, value in suite_options(options).items() if key != "data"}
            try:
                plan = make_plan(suite, given)
                if isinstance(plan, ClassificationPlan):
                    recipe_of(plan)
            except ValueError as error:
                raise ValueError(f"evaluation, {suite}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are written to YAML."""
        plain = asdict(self)
        plain["data"]["sources"] = list(self.data.sources)
        plain["transfer"] = {k: list(v) if isinstance(v, tuple) else v for k, v in plain["transfer"].items()}
        return plain | {"seeds": list(self.seeds), "left_out": list(self.left_out)}


def suite_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the suites take them: YAML has lists for tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def preset_names() -> list[str]:
    """The presets that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_preset(name_or_path: str | Path) -> Preset:
    """The preset of this name, or of a YAML file."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in preset_names():
            what = unknown("preset", str(name_or_path), preset_names())
            raise OptionError(f"{what} or name a YAML file", "preset")
        path = FOLDER / f"{name_or_path}.yaml"
    return make_preset({"name": path.stem, **read_yaml(path)}, str(path))


def make_preset(values: Mapping[str, Any], source: str) -> Preset:
    """A preset of plain values, refused where a key is unknown, missing or of the wrong kind."""
    made = _known(values, Preset, source)
    data = _known(_mapping(made, "data", source), StudyData, f"{source}, data")
    if isinstance(data.get("sources"), str):
        data["sources"] = (data["sources"],)
    launch = _known(_mapping(made, "launch", source), Launch, f"{source}, launch")
    transfer = _known(_mapping(made, "transfer", source), Transfer, f"{source}, transfer")
    transfer = {key: tuple(value) if isinstance(value, list) else value for key, value in transfer.items()}
    for name in ("plan", "sizes", "cells", "evaluation"):
        made[name] = _mapping(made, name, source)
    for name in ("sizes", "cells", "evaluation"):
        made[name] = {key: _mapping(made[name], key, f"{source}, {name}") for key in made[name]}
    try:
        parts = {"data": StudyData(**data), "launch": Launch(**launch), "transfer": Transfer(**transfer)}
        return Preset(**{**made, **parts})
    except ValueError as error:
        raise ValueError(f"preset {source}: {error}") from None


def _mapping(values: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    found = values.get(name) or {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{source}: {name} must be `name: value` lines; got {found!r}")
    return {str(key): value for key, value in found.items()}


def _known(values: Mapping[str, Any], kind: type, source: str) -> dict[str, Any]:
    check_names(values, kind, kind.__name__.removeprefix("Study").lower(), source)
    for item in fields(kind):
        if item.default is MISSING and item.default_factory is MISSING and item.name not in values:
            raise ValueError(f"{source}: {item.name} must be given; got none")
    return dict(values)


def change(preset: Preset, changes: Sequence[str]) -> Preset:
    """The preset with `CELL.key=value` (CELL may be a pattern) or `evaluation.…`, and so on."""
    values = preset.to_dict()
    for text in changes:
        path, value = split_setting(text, "CELL.key=value, such as 8M-F.steps=600", "set")
        *places, key = path.split(".")
        if not places or not key:
            raise OptionError(f"set must be CELL.key=value, such as 8M-F.steps=600; got {text!r}", "set")
        into = values
        if places[0] not in ("evaluation", "launch", "transfer"):
            into = values["cells"]
            into[places[0]] = into.pop(places[0], {})  # last, because later patterns win
        for place in places:
            into = into.setdefault(place, {})
            if not isinstance(into, dict):
                raise OptionError(f"set {text}: {place} is {into!r}, which has no {key}", "set")
        try:
            into[key] = _value(places, key, value)
        except ValueError as error:
            raise OptionError(f"set {text}: {error}", "set") from error
    return make_preset(values, preset.name)


def _value(places: Sequence[str], key: str, text: str) -> Any:
    """The value in the type of its field; other names are refused by what they belong to."""
    if places == ["launch"]:
        return read_setting(key, text, Launch, "launch")
    if places == ["transfer"]:
        return read_setting(key, text, Transfer, "transfer")
    if len(places) == 2 and places[0] == "evaluation" and places[1] in PLANS and key != "data":
        return read_setting(key, text, PLANS[places[1]], f"suite {places[1]}")
    if len(places) == 1 and places[0] != "evaluation":
        return read_setting(key, text, PretrainingPlan, "plan")
    return read_plain(text, key)
