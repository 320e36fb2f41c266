"""The plan of a pretraining run: the member's published plan, and every way to depart from it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from curr_ab.family import TrainingPlan, member

PUBLISHED = TrainingPlan()

Objective = Literal["mlm", "clm"]
Schedule = Literal["linear", "cosine", "constant"]
Optimizer = Literal["adamw", "muon"]
Precision = Literal["bf16", "fp16", "fp32"]
CurriculumKind = Literal["paired-only", "sigmoid", "constant", "unpaired-then-paired"]


def _option(default: Any, help: str, *, execution: bool = False) -> Any:
    """A field with its line in `--help`; one of `execution` may change when a run goes on."""
    return field(default=default, metadata={"help": help, "execution": execution})


@dataclass(frozen=True)
class PretrainingPlan:
    """All that decides a run's result, and how it is carried out; the defaults are the published plan."""

    member: str = _option("8M-F", "the member whose shape and training set these are")
    # Where the data lie may change; their fingerprint is compared.
    data: str = _option("", "folder made by `curr-ab data prepare`", execution=True)
    subset: str | None = _option(None, "nested subset of the training set; the member's letter by default")
    unpaired_data: str | None = _option(
        None, "prepared folder of single chains, for a curriculum", execution=True
    )
    config: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"help": "changes of the model's configuration", "execution": False},
    )
    init_from: str | None = _option(None, "start from the weights of this member, folder or repository")

    objective: Objective = _option("mlm", "masked or causal language modelling")
    mask_fraction: float = _option(PUBLISHED.mask_fraction, "share of residues that is predicted")
    mask_token_share: float = _option(0.8, "share of these that is replaced by <mask>")
    random_token_share: float = _option(0.1, "share of these that is replaced by a random residue")
    cdr3_mask_fraction: float | None = _option(
        None, "share of CDR3 that is predicted; elsewhere it falls so that a sequence keeps its mean"
    )

    curriculum: CurriculumKind = _option("paired-only", "how single chains give way to pairs")
    unpaired_fraction_start: float = _option(0.7, "sigmoid: share of single chains at the beginning")
    unpaired_fraction_end: float = _option(0.3, "sigmoid: share of single chains that it falls towards")
    unpaired_fraction: float = _option(0.625, "constant: share of single chains")
    curriculum_steepness: float = _option(15.0, "sigmoid: how fast it falls")
    curriculum_midpoint: float = _option(
        0.8166, "sigmoid: share of the run at which it is half-way; unpaired-then-paired: where pairs begin"
    )

    steps: int = _option(PUBLISHED.steps, "optimiser steps")
    pairs_per_step: int = _option(PUBLISHED.pairs_per_step, "pairs of one step on all processes together")
    warmup_steps: int = _option(PUBLISHED.warmup_steps, "steps in which the learning rate rises")
    schedule: Schedule = _option("linear", "how the learning rate falls afterwards")
    peak_learning_rate: float = _option(PUBLISHED.peak_learning_rate, "learning rate after the warm-up")
    optimizer: Optimizer = _option("adamw", "muon orthogonalises the updates of the layers' matrices")
    adam_beta1: float = _option(PUBLISHED.adam_beta1, "decay of the mean of gradients")
    adam_beta2: float = _option(PUBLISHED.adam_beta2, "decay of the mean of squared gradients")
    adam_epsilon: float = _option(PUBLISHED.adam_epsilon, "added to the root of the squared mean")
    weight_decay: float = _option(PUBLISHED.weight_decay, "of matrices; biases and norms have none")
    max_gradient_norm: float = _option(1.0, "longer gradients are shortened to this")
    # The published runs used fp16; bf16 needs no loss scaling and is what today's devices are made for.
    precision: Precision = _option("bf16", "of the matrix products; weights are kept in fp32")
    seed: int = _option(PUBLISHED.seed, "of weights, batches, masks and dropout")

    evaluation_seed: int = _option(0, "of the masks of evaluation: equal for all members that are compared")
    evaluation_draws: int = _option(2, "maskings of every evaluated pair")
    evaluation_pairs: int = _option(2048, "pairs of the validation set that are evaluated on the way")

    pairs_per_micro_batch: int = _option(
        0, "pairs at once on a device; 0: 8 on a CPU, else 32", execution=True
    )
    attention: str = _option("auto", "attention implementation", execution=True)
    compile: bool = _option(False, "compile the layers", execution=True)
    activation_checkpointing: bool = _option(
        False, "compute activations twice rather than keep them", execution=True
    )
    log_every: int = _option(10, "steps between lines of the log", execution=True)
    evaluate_every: int = _option(5_000, "steps between evaluations", execution=True)
    save_every: int = _option(1_000, "steps between saved states, from which a run goes on", execution=True)
    keep_last: int = _option(2, "saved states that are kept", execution=True)
    checkpoint_every: int = _option(
        PUBLISHED.checkpoint_every, "steps between checkpoint folders; 0: the last alone", execution=True
    )
    checkpoint_steps: tuple[int, ...] = _option((), "further steps with a checkpoint folder", execution=True)
    trackers: tuple[str, ...] = _option((), "wandb, tensorboard, … beside log.jsonl", execution=True)

    def __post_init__(self) -> None:
        member(self.member)
        for name, kind in _types().items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind))
        self._check_ranges()

    def _check_ranges(self) -> None:
        shares = [name for name in _types() if "fraction" in name or name.endswith(("share", "midpoint"))]
        for name in shares:
            if (value := getattr(self, name)) is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it is a share, between 0 and 1")
        if self.mask_token_share + self.random_token_share > 1:
            raise ValueError("mask_token_share and random_token_share together exceed 1")
        if self.mask_fraction == 0:
            raise ValueError("mask_fraction is 0: nothing would be learnt")
        positive = ("steps", "pairs_per_step", "log_every", "evaluate_every", "save_every", "keep_last")
        for name in (*positive, "evaluation_draws", "evaluation_pairs", "peak_learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0")
        for name in ("warmup_steps", "weight_decay", "pairs_per_micro_batch", "checkpoint_every", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps:,} exceed steps {self.steps:,}; give warmup_steps too"
            )
        if self.optimizer == "muon" and self.precision == "fp16":
            raise ValueError("muon with fp16: one loss scaler does not serve two optimisers; choose bf16")
        if self.unpaired_data is None and self.curriculum != "paired-only":
            raise ValueError(f"the curriculum {self.curriculum!r} needs unpaired_data")
        if self.unpaired_data is not None and self.curriculum == "paired-only":
            raise ValueError("unpaired_data is given, but the curriculum is 'paired-only'; choose another")

    @property
    def training_subset(self) -> str:
        """Nested subset of the prepared data: the one asked for, else the member's."""
        return self.subset or member(self.member).data.letter

    @property
    def model_config(self) -> dict[str, Any]:
        """Keyword arguments of `CurrAbConfig`."""
        return {**member(self.member).config(), **self.config, "is_decoder": self.objective == "clm"}

    @property
    def checkpoint_at(self) -> frozenset[int]:
        """Steps after which a checkpoint folder is written; the last is always one."""
        every = (
            range(self.checkpoint_every, self.steps, self.checkpoint_every) if self.checkpoint_every else ()
        )
        return frozenset({*every, *self.checkpoint_steps, self.steps})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are written to YAML and JSON."""
        plain = {key: value for key, value in vars(self).items() if key != "config"}
        plain |= {key: list(value) for key, value in plain.items() if isinstance(value, tuple)}
        return {**plain, "config": dict(self.config)}

    def differences(self, other: PretrainingPlan) -> list[str]:
        """What would change the result, in words; how a run is carried out may differ."""
        mine, theirs = self.to_dict(), other.to_dict()
        decisive = [option.name for option in fields(self) if not option.metadata["execution"]]
        return [f"{n} {theirs[n]!r} → {mine[n]!r}" for n in decisive if mine[n] != theirs[n]]


def options() -> Iterator[tuple[str, Any, str]]:
    """Name, type and explanation of every field."""
    kinds = _types()
    for option in fields(PretrainingPlan):
        yield option.name, kinds[option.name], option.metadata["help"]


def resolve_plan(overrides: Mapping[str, Any], files: typing.Sequence[str | Path] = ()) -> PretrainingPlan:
    """The member's plan, changed by YAML files in their order, then by `overrides`."""
    values: dict[str, Any] = {}
    for source, given in [*((str(path), _read_yaml(path)) for path in files), ("", overrides)]:
        if unknown := sorted(given.keys() - _types().keys()):
            where = f"{source}: " if source else ""
            raise ValueError(f"{where}no plan has {', '.join(unknown)}; it has {', '.join(_types())}")
        config = {**values.get("config", {}), **given.get("config", {})}
        values = {**values, **given, "config": config}
    return PretrainingPlan(**values)


def _read_yaml(path: str | Path) -> Mapping[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not isinstance(found.get("config", {}), dict):
        raise ValueError(f"{path} must hold `name: value` lines, and those of `config` indented below it")
    return found


def _types() -> dict[str, Any]:
    return typing.get_type_hints(PretrainingPlan)


def _checked(name: str, value: Any, kind: Any) -> Any:
    """The value in the field's type; YAML reads 1e-4 as text and lists for tuples."""
    origin, choices = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _checked(name, value, choices[0])
    if origin is Literal:
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_checked(name, item, choices[0]) for item in value)
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    expected = origin or kind
    if not isinstance(value, expected) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is {value!r}; it must be of type {getattr(kind, '__name__', kind)}")
    return value
