"""The plan of a pretraining run: the member's published plan, and every way to depart from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from curr_ab.family import SIZES, TrainingPlan, member
from curr_ab.options import OptionError, check_names, check_types, differences, option, read_yaml, unknown
from curr_ab.words import MASK_TOKEN_SHARE, RANDOM_TOKEN_SHARE

PUBLISHED = TrainingPlan()
# A GPU's share of the published step at once, where as many train as the size needs.
_PAIRS_ON_A_GPU = ", ".join(f"{PUBLISHED.pairs_per_step // size.num_gpus} for {size.name}" for size in SIZES)

Objective = Literal["mlm", "clm"]
Schedule = Literal["linear", "cosine", "constant"]
Optimizer = Literal["adamw", "muon"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
CurriculumKind = Literal["paired-only", "sigmoid", "constant", "unpaired-then-paired"]


@dataclass(frozen=True)
class PretrainingPlan:
    """All that decides a run's result, and how it is carried out; the defaults are the published plan."""

    member: str = option("8M-F", "Member whose shape and training set the run has", metavar="MEMBER")
    # Where the data lie may change; their fingerprint is compared.
    data: str = option(
        "", "Folder of the training data, made by `curr-ab data prepare`", metavar="FOLDER", execution=True
    )
    subset: str | None = option(
        None, "Nested subset of the training set", shown="the member's letter", metavar="NAME"
    )
    draw: int = option(
        0,
        "Number of a draw of as many pairs as the subset has, which shares none with other draws; 0 is the "
        "subset itself, the beginning of the training set",
        least=0,
    )
    unpaired_data: str | None = option(
        None, "Prepared folder of single chains, for a curriculum", metavar="FOLDER", execution=True
    )
    config: Mapping[str, Any] = option({}, "Changes of the model's configuration")
    init_from: str | None = option(
        None, "Member, folder or repository whose weights the run starts from", metavar="MODEL"
    )

    objective: Objective = option("mlm", "Training objective: masked or causal language modelling")
    light_first: float = option(
        0.0,
        "Share of the pairs that a causal model is shown light chain first, so that it can also make heavy "
        "chains for light ones",
        least=0,
        most=1,
    )
    mask_fraction: float = option(
        PUBLISHED.mask_fraction, "Share of the residues that is predicted", above=0, most=1
    )
    mask_token_share: float = option(
        MASK_TOKEN_SHARE, "Share of the predicted residues that is replaced by <mask>", least=0, most=1
    )
    random_token_share: float = option(
        RANDOM_TOKEN_SHARE,
        "Share of the predicted residues that is replaced by a random residue",
        least=0,
        most=1,
    )
    cdr3_mask_fraction: float | None = option(
        None,
        "Share of CDR3 that is predicted; elsewhere the share falls so that a sequence keeps its mean",
        shown="as everywhere",
        least=0,
        most=1,
    )

    curriculum: CurriculumKind = option("paired-only", "Way in which single chains give way to pairs")
    unpaired_fraction_start: float = option(
        0.7, "Share of single chains at the beginning of the sigmoid curriculum", least=0, most=1
    )
    unpaired_fraction_end: float = option(
        0.3, "Share of single chains that the sigmoid curriculum falls towards", least=0, most=1
    )
    unpaired_fraction: float = option(
        0.625, "Share of single chains in the constant curriculum", least=0, most=1
    )
    curriculum_steepness: float = option(15.0, "Steepness of the fall of the sigmoid curriculum")
    curriculum_midpoint: float = option(
        0.8166,
        "Share of the run at which the sigmoid is half-way, or unpaired-then-paired turns to pairs",
        least=0,
        most=1,
    )

    steps: int = option(PUBLISHED.steps, "Number of optimiser steps", above=0)
    pairs_per_step: int = option(
        PUBLISHED.pairs_per_step, "Number of pairs in a step, on all processes together", above=0
    )
    warmup_steps: int = option(
        PUBLISHED.warmup_steps, "Number of steps in which the learning rate rises", least=0
    )
    schedule: Schedule = option("linear", "Fall of the learning rate after the warm-up")
    decay_steps: int = option(
        0, "Number of last steps in which a constant learning rate falls to 0 after all", least=0
    )
    peak_learning_rate: float = option(
        PUBLISHED.peak_learning_rate, "Learning rate at the end of the warm-up", above=0
    )
    optimizer: Optimizer = option(
        "adamw", "Optimiser; muon orthogonalises the updates of the layers' matrices"
    )
    adam_beta1: float = option(PUBLISHED.adam_beta1, "Decay of Adam's mean of the gradients")
    adam_beta2: float = option(PUBLISHED.adam_beta2, "Decay of Adam's mean of the squared gradients")
    adam_epsilon: float = option(
        PUBLISHED.adam_epsilon, "Number that Adam adds to the root of the squared mean"
    )
    weight_decay: float = option(
        PUBLISHED.weight_decay, "Weight decay of matrices; biases and norms have none", least=0
    )
    max_gradient_norm: float = option(1.0, "Norm to which longer gradients are shortened")
    # The published runs used fp16; bf16 needs no loss scaling and is what today's devices are made for.
    precision: Precision = option(
        "auto",
        "Number type of the matrix products, Muon's among them; weights are kept in fp32",
        shown="auto, bf16 where the hardware multiplies it, else fp32; a run keeps the type it began in",
    )
    shards_at_once: int | None = option(
        None,
        "Number of shards from which the pairs of a stretch of steps are drawn, for disks that are slow at "
        "random reads",
        shown="all",
        above=0,
    )
    seed: int = option(PUBLISHED.seed, "Seed of weights, batches, masks and dropout", least=0)

    evaluation_seed: int = option(
        0, "Seed of the masks of evaluations, equal for all members that are compared"
    )
    evaluation_draws: int = option(2, "Number of maskings of each evaluated pair", above=0)
    evaluation_pairs: int = option(
        2048, "Number of pairs of the validation set that are evaluated during the run", above=0
    )

    pairs_per_micro_batch: int = option(
        0,
        "Number of pairs that a device computes at once",
        shown=f"0, which means 8 on a CPU, and elsewhere {_PAIRS_ON_A_GPU}",
        least=0,
        execution=True,
    )
    tokens_per_micro_batch: int | None = option(
        None,
        "Number of tokens that a device computes at most at once, one record at least, in place of "
        "pairs_per_micro_batch: single chains are half as long as pairs",
        shown="by pairs_per_micro_batch",
        above=0,
        execution=True,
    )
    attention: str = option(
        "auto", "Attention implementation, a name that transformers knows", metavar="NAME", execution=True
    )
    compile: bool = option(False, "Compile the layers", execution=True)
    activation_checkpointing: bool = option(
        False, "Compute activations twice rather than keep them in memory", execution=True
    )
    log_every: int = option(10, "Number of steps between two lines of the log", above=0, execution=True)
    evaluate_every: int = option(5_000, "Number of steps between two evaluations", above=0, execution=True)
    save_every: int = option(
        1_000, "Number of steps between two saved states, from which a run goes on", above=0, execution=True
    )
    keep_last: int = option(2, "Number of saved states that are kept", above=0, execution=True)
    checkpoint_every: int = option(
        PUBLISHED.checkpoint_every,
        "Number of steps between two checkpoint folders; 0 writes the last alone",
        least=0,
        execution=True,
    )
    checkpoint_steps: tuple[int, ...] = option(
        (), "Further steps after which a checkpoint folder is written", execution=True
    )
    trackers: tuple[str, ...] = option(
        (),
        "Trackers beside log.jsonl: wandb, tensorboard or another that Accelerate knows",
        metavar="NAME",
        execution=True,
    )

    def __post_init__(self) -> None:
        check_types(self)
        if member(self.member).causal:
            raise OptionError(
                f"member must name size and data, such as 8M-F; got {self.member!r}; set objective to clm",
                "member",
            )
        if self.tokens_per_micro_batch and self.pairs_per_micro_batch:
            raise OptionError(
                "pairs_per_micro_batch must be left out where tokens_per_micro_batch is given; got "
                f"{self.pairs_per_micro_batch} and {self.tokens_per_micro_batch:,}: choose one of them",
                *("pairs_per_micro_batch", "tokens_per_micro_batch"),
            )
        if self.mask_token_share + self.random_token_share > 1:
            raise OptionError(
                "mask_token_share and random_token_share must be at most 1 together; "
                f"got {self.mask_token_share} and {self.random_token_share}",
                *("mask_token_share", "random_token_share"),
            )
        if self.light_first and self.objective != "clm":
            raise OptionError(
                f"light_first must be 0 for {self.objective}, which sees both chains at once; got "
                f"{self.light_first}: leave it out, or choose the objective clm",
                *("light_first", "objective"),
            )
        if self.warmup_steps > self.steps:
            raise OptionError(
                f"warmup_steps must be at most steps, {self.steps:,}; got {self.warmup_steps:,}",
                "warmup_steps",
            )
        if self.decay_steps and self.schedule != "constant":
            raise OptionError(
                f"decay_steps must be 0 for the schedule {self.schedule}, which falls all the way; got "
                f"{self.decay_steps:,}: leave them out, or choose the schedule constant",
                *("decay_steps", "schedule"),
            )
        if self.warmup_steps + self.decay_steps > self.steps:
            raise OptionError(
                f"decay_steps must be at most steps less warmup_steps, {self.steps - self.warmup_steps:,}; "
                f"got {self.decay_steps:,}",
                "decay_steps",
            )
        if self.optimizer == "muon" and self.precision == "fp16":
            raise OptionError(
                "precision must be bf16 or fp32 for muon, whose two optimisers one loss scaler cannot serve; "
                "got fp16",
                "precision",
            )
        if self.unpaired_data is None and self.curriculum != "paired-only":
            raise OptionError(
                f"unpaired_data must name single chains for the curriculum {self.curriculum}; got none",
                "unpaired_data",
            )
        if self.unpaired_data is not None and self.curriculum == "paired-only":
            raise OptionError(
                "curriculum must use the single chains where unpaired_data is given; got paired-only",
                "curriculum",
            )

    @property
    def training_subset(self) -> str:
        """Nested subset of the prepared data: the one asked for, else the member's."""
        return self.subset or member(self.member).data.letter

    @property
    def model_config(self) -> dict[str, Any]:
        """Keyword arguments of `CurrAbConfig`."""
        # Without what is as in every configuration: a plan's is compared with the published one.
        direction = {name: value for name, value in self.direction.items() if name == "is_decoder" or value}
        return {**member(self.member).config(), **self.config, **direction}

    @property
    def direction(self) -> dict[str, Any]:
        """What the objective makes of a model's configuration, whatever weights it starts from."""
        return {"is_decoder": self.objective == "clm", "light_first": self.light_first}

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


def resolve_plan(overrides: Mapping[str, Any], files: Sequence[str | Path] = ()) -> PretrainingPlan:
    """The member's plan, changed by YAML files in their order, then by `overrides`."""
    values: dict[str, Any] = {}
    config: dict[str, Any] = {}
    for source, given in [*((str(path), read_yaml(path)) for path in files), ("", overrides)]:
        check_names(given, PretrainingPlan, "plan", source)
        changes = given.get("config") or {}
        if not isinstance(changes, Mapping):
            raise OptionError(
                f"{source or 'config'}: config must be `name: value` lines; got {changes!r}", "config"
            )
        check_config(changes, source)
        config |= changes
        values |= given
    return PretrainingPlan(**{**values, "config": config})


def check_config(changes: Mapping[str, Any], source: str = "") -> None:
    """Refuse names that the model's configuration does not have; `source` is the file that gives them."""
    if not changes:
        return
    from curr_ab.modeling import CurrAbConfig  # loads transformers: only where there is something to check

    names = [name for name in CurrAbConfig().to_dict() if not name.startswith("_")]
    for name in changes:
        if name not in names:
            raise OptionError(
                f"{source}: " * bool(source) + unknown("name in the model's config", str(name), names),
                "config",
            )
