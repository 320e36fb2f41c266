"""The plan of a pretraining run: the member's published plan, and every way to depart from it."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from curr_ab.family import TrainingPlan, member
from curr_ab.options import check_names, check_types, differences, explained, option, read_yaml
from curr_ab.words import MASK_TOKEN_SHARE, RANDOM_TOKEN_SHARE

PUBLISHED = TrainingPlan()

Objective = Literal["mlm", "clm"]
Schedule = Literal["linear", "cosine", "constant"]
Optimizer = Literal["adamw", "muon"]
Precision = Literal["bf16", "fp16", "fp32"]
CurriculumKind = Literal["paired-only", "sigmoid", "constant", "unpaired-then-paired"]


@dataclass(frozen=True)
class PretrainingPlan:
    """All that decides a run's result, and how it is carried out; the defaults are the published plan."""

    member: str = option("8M-F", "the member whose shape and training set these are")
    # Where the data lie may change; their fingerprint is compared.
    data: str = option("", "folder made by `curr-ab data prepare`", execution=True)
    subset: str | None = option(None, "nested subset of the training set; the member's letter by default")
    unpaired_data: str | None = option(
        None, "prepared folder of single chains, for a curriculum", execution=True
    )
    config: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"help": "changes of the model's configuration", "execution": False},
    )
    init_from: str | None = option(None, "start from the weights of this member, folder or repository")

    objective: Objective = option("mlm", "masked or causal language modelling")
    mask_fraction: float = option(PUBLISHED.mask_fraction, "share of residues that is predicted")
    mask_token_share: float = option(MASK_TOKEN_SHARE, "share of these that is replaced by <mask>")
    random_token_share: float = option(
        RANDOM_TOKEN_SHARE, "share of these that is replaced by a random residue"
    )
    cdr3_mask_fraction: float | None = option(
        None, "share of CDR3 that is predicted; elsewhere it falls so that a sequence keeps its mean"
    )

    curriculum: CurriculumKind = option("paired-only", "how single chains give way to pairs")
    unpaired_fraction_start: float = option(0.7, "sigmoid: share of single chains at the beginning")
    unpaired_fraction_end: float = option(0.3, "sigmoid: share of single chains that it falls towards")
    unpaired_fraction: float = option(0.625, "constant: share of single chains")
    curriculum_steepness: float = option(15.0, "sigmoid: how fast it falls")
    curriculum_midpoint: float = option(
        0.8166, "sigmoid: share of the run at which it is half-way; unpaired-then-paired: where pairs begin"
    )

    steps: int = option(PUBLISHED.steps, "optimiser steps")
    pairs_per_step: int = option(PUBLISHED.pairs_per_step, "pairs of one step on all processes together")
    warmup_steps: int = option(PUBLISHED.warmup_steps, "steps in which the learning rate rises")
    schedule: Schedule = option("linear", "how the learning rate falls afterwards")
    peak_learning_rate: float = option(PUBLISHED.peak_learning_rate, "learning rate after the warm-up")
    optimizer: Optimizer = option("adamw", "muon orthogonalises the updates of the layers' matrices")
    adam_beta1: float = option(PUBLISHED.adam_beta1, "decay of the mean of gradients")
    adam_beta2: float = option(PUBLISHED.adam_beta2, "decay of the mean of squared gradients")
    adam_epsilon: float = option(PUBLISHED.adam_epsilon, "added to the root of the squared mean")
    weight_decay: float = option(PUBLISHED.weight_decay, "of matrices; biases and norms have none")
    max_gradient_norm: float = option(1.0, "longer gradients are shortened to this")
    # The published runs used fp16; bf16 needs no loss scaling and is what today's devices are made for.
    precision: Precision = option("bf16", "of the matrix products; weights are kept in fp32")
    seed: int = option(PUBLISHED.seed, "of weights, batches, masks and dropout")

    evaluation_seed: int = option(0, "of the masks of evaluation: equal for all members that are compared")
    evaluation_draws: int = option(2, "maskings of every evaluated pair")
    evaluation_pairs: int = option(2048, "pairs of the validation set that are evaluated on the way")

    pairs_per_micro_batch: int = option(
        0, "pairs at once on a device; 0: 8 on a CPU, else 32", execution=True
    )
    attention: str = option("auto", "attention implementation", execution=True)
    compile: bool = option(False, "compile the layers", execution=True)
    activation_checkpointing: bool = option(
        False, "compute activations twice rather than keep them", execution=True
    )
    log_every: int = option(10, "steps between lines of the log", execution=True)
    evaluate_every: int = option(5_000, "steps between evaluations", execution=True)
    save_every: int = option(1_000, "steps between saved states, from which a run goes on", execution=True)
    keep_last: int = option(2, "saved states that are kept", execution=True)
    checkpoint_every: int = option(
        PUBLISHED.checkpoint_every, "steps between checkpoint folders; 0: the last alone", execution=True
    )
    checkpoint_steps: tuple[int, ...] = option((), "further steps with a checkpoint folder", execution=True)
    trackers: tuple[str, ...] = option((), "wandb, tensorboard, … beside log.jsonl", execution=True)

    def __post_init__(self) -> None:
        member(self.member)
        check_types(self)
        self._check_ranges()

    def _check_ranges(self) -> None:
        shares = [name for name in vars(self) if "fraction" in name or name.endswith(("share", "midpoint"))]
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
        """Changes that change the result, in words; how a run is carried out may differ."""
        return differences(self, other)


def options() -> Iterator[tuple[str, Any, str]]:
    """Name, type and explanation of every field."""
    return explained(PretrainingPlan)


def resolve_plan(overrides: Mapping[str, Any], files: typing.Sequence[str | Path] = ()) -> PretrainingPlan:
    """The member's plan, changed by YAML files in their order, then by `overrides`."""
    values: dict[str, Any] = {}
    for source, given in [*((str(path), read_yaml(path)) for path in files), ("", overrides)]:
        check_names(given, PretrainingPlan, "plan", source)
        config = {**values.get("config", {}), **given.get("config", {})}
        values = {**values, **given, "config": config}
    return PretrainingPlan(**values)
