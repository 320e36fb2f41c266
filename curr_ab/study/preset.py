"""A preset: which sizes are trained on which data, how, and how they are evaluated; YAML, checked."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from curr_ab.data.preparing.plan import Clustering, PreparationPlan
from curr_ab.evaluation.plan import ClassificationPlan, make_plan
from curr_ab.family import SHAPE, SIZES
from curr_ab.options import check_types

FOLDER = Path(__file__).with_name("presets")
# What a size that is none of the family's must say, and the words for it in errors.
_OWN_SHAPE = tuple(key for key in SHAPE if key != "vocab_size")


@dataclass(frozen=True)
class StudyData:
    """Where the pairs come from, and the nested training sets; without `sources` they come prepared."""

    subsets: Mapping[str, float]
    sources: tuple[str, ...] = ()
    cluster: Clustering = "mmseqs"

    def __post_init__(self) -> None:
        check_types(self)
        for name, size in self.subsets.items():
            if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < math.inf:
                raise ValueError(
                    f"subset {name} is {size!r}; it must be a share such as 0.5, or a count of pairs"
                )
        PreparationPlan(cluster=self.cluster, subsets=self.subsets)

    def differences(self, other: StudyData) -> str:
        """What is not as in `other`, in words; empty where all is."""
        pairs = [(item.name, getattr(other, item.name), getattr(self, item.name)) for item in fields(self)]
        return "; ".join(f"{name} {theirs} → {mine}" for name, theirs, mine in pairs if theirs != mine)


@dataclass(frozen=True)
class Launch:
    """How cells are carried out; nothing of it changes a result."""

    gpus_per_cell: int = 0  # 0: a cell takes part of a GPU where there is one, else processor cores
    threads_per_cell: int = 1
    max_parallel: int = 0  # 0: as many as the machine has room for
    slurm: Mapping[str, Any] = field(default_factory=dict)  # options of sbatch

    def __post_init__(self) -> None:
        check_types(self)
        for name, least in (("gpus_per_cell", 0), ("threads_per_cell", 1), ("max_parallel", 0)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"launch: {name} is {value}; it must be {least} at least")


@dataclass(frozen=True)
class Preset:
    """A study, before anything is made of it."""

    name: str
    title: str
    data: StudyData
    sizes: Mapping[str, Mapping[str, Any]]  # changes of the model's configuration, by size
    plan: Mapping[str, Any] = field(default_factory=dict)  # what all cells have in common
    cells: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # departures, by cell or pattern
    seeds: tuple[int, ...] = (42,)
    evaluation: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # options, by suite
    launch: Launch = field(default_factory=Launch)
    takes: str = ""  # how long, for those who ask beforehand

    def __post_init__(self) -> None:
        check_types(self)
        if not self.title:
            raise ValueError("title is empty; say what the study is")
        if not self.sizes or not self.data.subsets or not self.seeds:
            raise ValueError("sizes, data subsets and seeds must name one at least")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"a seed occurs twice in {list(self.seeds)}")
        self._check_sizes()
        for name, plan in {"plan": self.plan, **self.cells}.items():
            if not isinstance(plan.get("config", {}), Mapping):
                raise ValueError(f"{name}: config is {plan['config']!r}; it must hold `name: value` lines")
        self._check_evaluation()

    def _check_sizes(self) -> None:
        known = [size.name for size in SIZES]
        for size, config in self.sizes.items():
            if size not in known and (missing := [key for key in _OWN_SHAPE if key not in config]):
                raise ValueError(
                    f"unknown size {size!r}; the family has {', '.join(known)}, and one of your own must say "
                    f"{', '.join(missing)}"
                )

    def _check_evaluation(self) -> None:
        from curr_ab.evaluation.suites.classification import recipe_of

        if "loss" not in self.evaluation:
            raise ValueError("evaluation needs the suite loss, which the law is fitted to")
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
        return plain | {"seeds": list(self.seeds)}


def suite_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """As the suites take them: YAML has lists for tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def preset_names() -> list[str]:
    """Those that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_preset(name_or_path: str | Path) -> Preset:
    """The preset of this name, or of a YAML file."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in preset_names():
            raise ValueError(
                f"no preset is called {str(name_or_path)!r}; there are {', '.join(preset_names())}, or name "
                "a YAML file"
            )
        path = FOLDER / f"{name_or_path}.yaml"
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold `name: value` lines")
    return make_preset({"name": path.stem, **found}, str(path))


def make_preset(values: Mapping[str, Any], source: str) -> Preset:
    """A preset of plain values, refused where a key is unknown, missing or of the wrong kind."""
    made = dict(_known(values, Preset, source))
    data = dict(_known(_mapping(made, "data", source), StudyData, f"{source}, data"))
    if isinstance(data.get("sources"), str):
        data["sources"] = (data["sources"],)
    launch = _known(_mapping(made, "launch", source), Launch, f"{source}, launch")
    for name in ("plan", "sizes", "cells", "evaluation"):
        made[name] = _mapping(made, name, source)
    for name in ("sizes", "cells", "evaluation"):
        made[name] = {key: _mapping(made[name], key, f"{source}, {name}") for key in made[name]}
    try:
        return Preset(**{**made, "data": StudyData(**data), "launch": Launch(**launch)})
    except ValueError as error:
        raise ValueError(f"preset {source}: {error}") from None


def _mapping(values: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    found = values.get(name) or {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{source}: {name} must hold `name: value` lines, not {found!r}")
    return {str(key): value for key, value in found.items()}


def _known(values: Mapping[str, Any], kind: Any, source: str) -> Mapping[str, Any]:
    names = [item.name for item in fields(kind)]
    if unknown := sorted(str(key) for key in values.keys() - set(names)):
        raise ValueError(f"{source}: unknown {', '.join(unknown)}; the keys are {', '.join(names)}")
    required = [name for name in ("title", "data", "sizes", "subsets") if name in typing.get_type_hints(kind)]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"{source}: {missing[0]} is missing")
    return values


def change(preset: Preset, changes: typing.Sequence[str]) -> Preset:
    """The preset with `CELL.key=value` (or `evaluation.…`, `launch.…`); CELL may be a pattern."""
    import yaml

    values = preset.to_dict()
    for text in changes:
        path, separator, value = text.partition("=")
        *places, key = path.split(".")
        if not separator or not places or not key:
            raise ValueError(f"--set takes CELL.key=value, such as 8M-F.steps=600, not {text!r}")
        into = values
        if places[0] not in ("evaluation", "launch"):
            into = values["cells"]
            into[places[0]] = into.pop(places[0], {})  # last, because later patterns win
        for place in places:
            into = into.setdefault(place, {})
            if not isinstance(into, dict):
                raise ValueError(f"--set {text}: {place} is {into!r}, which has no {key}")
        try:
            into[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(
                f"--set {text}: {value!r} is not YAML: {' '.join(str(error).split())}"
            ) from error
    return make_preset(values, preset.name)
