"""Family of the 15 members: one table of differences, from which names, widths, plans and cards derive."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from curr_ab.published import PublishedFigure, figures_of

NAMESPACE = "brineylab"
REPO_PREFIX = "CurrAb-"  # of the members' repositories, in front of the member's name
DATASET = "CurrAb-pairs"  # the repository of the prepared data, beside those of the models
CAUSAL_PREFIX = "CLM-"  # of the causal twins' names, such as CLM-8M-F
# The small models in the package, to try things with: a masked one and a causal one, none of the 15.
DEMO, CAUSAL_DEMO = "demo", f"{CAUSAL_PREFIX}demo"
DEMOS: Mapping[str, str] = MappingProxyType({DEMO: "demo", CAUSAL_DEMO: "demo_clm"})  # their folders
NUM_HEADS = 20
VOCAB_SIZE = 33
MAX_TOKENS = 320

# The keys of a configuration that decide which weights fit.
SHAPE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
# What every member shares and a bare config would not have. Dropout 0.1, no token dropout and a layer-norm
# epsilon of 1e-12 are the published training's: its configuration was not copied from facebook's ESM-2.
SHARED_CONFIG: Mapping[str, Any] = MappingProxyType(
    {
        "vocab_size": VOCAB_SIZE,
        "num_attention_heads": NUM_HEADS,
        "max_position_embeddings": MAX_TOKENS,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12,
        "token_dropout": False,
        "position_embedding_type": "rotary",
        "classifier_pooling": "mean",
    }
)


@dataclass(frozen=True)
class ModelSize:
    """One of the five shapes; the name is the nominal size that the paper's fit uses."""

    name: str
    nominal_parameters: int
    num_layers: int
    hidden_size: int
    # GPUs that train it: as few H200 as finish the published plan within nine hours if they reach what is
    # expected of them. More would divide a step of 128 pairs into shares that keep none of them busy.
    num_gpus: int

    @property
    def intermediate_size(self) -> int:
        return 4 * self.hidden_size

    @property
    def head_dim(self) -> int:
        return self.hidden_size // NUM_HEADS

    @property
    def num_parameters(self) -> int:
        """Parameters of the masked language model; the output embedding is tied and counted once."""
        width = self.hidden_size
        attention = 4 * (width * width + width)
        feed_forward = 2 * width * self.intermediate_size + self.intermediate_size + width
        layer_norm = 2 * width
        layer = attention + feed_forward + 2 * layer_norm
        embedding = VOCAB_SIZE * width
        lm_head = width * width + width + layer_norm + VOCAB_SIZE
        contact_head = self.num_layers * NUM_HEADS + 1
        return embedding + self.num_layers * layer + layer_norm + lm_head + contact_head


@dataclass(frozen=True)
class DataSize:
    """One of the three nested training sets."""

    letter: str
    name: str
    num_pairs: int


@dataclass(frozen=True)
class TrainingPlan:
    """Published training, equal for all members except for the resulting number of epochs."""

    steps: int = 500_000
    warmup_steps: int = 30_000
    schedule: str = "linear"
    pairs_per_step: int = 128  # 32 on each of 4 devices
    peak_learning_rate: float = 1e-4
    optimizer: str = "adamw"
    adam_beta1: float = 0.9
    adam_beta2: float = 0.98
    adam_epsilon: float = 1e-6
    weight_decay: float = 0.01
    mask_fraction: float = 0.15
    precision: str = "fp16"
    seed: int = 42
    checkpoint_every: int = 5_000

    def epochs(self, num_pairs: int) -> float:
        return self.steps * self.pairs_per_step / num_pairs


@dataclass(frozen=True)
class Member:
    """One of the 15 checkpoints, or its causal twin: of the same shape and data, trained to generate."""

    size: ModelSize
    data: DataSize
    plan: TrainingPlan = TrainingPlan()
    causal: bool = False

    @property
    def name(self) -> str:
        return f"{CAUSAL_PREFIX if self.causal else ''}{self.size.name}-{self.data.letter}"

    @property
    def epochs(self) -> float:
        return self.plan.epochs(self.data.num_pairs)

    @property
    def published(self) -> tuple[PublishedFigure, ...]:
        """Figures that the paper reports of this member; never measured by this package."""
        return figures_of(self.name)

    @property
    def repo_name(self) -> str:
        """The repository without its owner, such as `CurrAb-350M-F`."""
        return f"{REPO_PREFIX}{self.name}"

    def repo_id(self, namespace: str = NAMESPACE) -> str:
        return f"{namespace}/{self.repo_name}"

    def config(self) -> dict[str, Any]:
        """Keyword arguments of `CurrAbConfig` for this member."""
        return {
            **SHARED_CONFIG,
            **({"is_decoder": True} if self.causal else {}),
            "num_hidden_layers": self.size.num_layers,
            "hidden_size": self.size.hidden_size,
            "intermediate_size": self.size.intermediate_size,
        }


SIZES = (
    ModelSize("8M", 8_000_000, num_layers=6, hidden_size=320, num_gpus=1),
    ModelSize("35M", 35_000_000, num_layers=12, hidden_size=480, num_gpus=1),
    ModelSize("150M", 150_000_000, num_layers=30, hidden_size=640, num_gpus=2),
    ModelSize("350M", 350_000_000, num_layers=32, hidden_size=960, num_gpus=4),
    ModelSize("650M", 650_000_000, num_layers=33, hidden_size=1280, num_gpus=4),
)
DATA_SIZES = (
    DataSize("F", "full", 1_648_726),
    DataSize("H", "half", 824_363),
    DataSize("Q", "quarter", 412_182),
)
MEMBERS: Mapping[str, Member] = MappingProxyType(
    {member.name: member for member in (Member(size, data) for size in SIZES for data in DATA_SIZES)}
)
CAUSAL_MEMBERS: Mapping[str, Member] = MappingProxyType(
    {twin.name: twin for twin in (replace(member, causal=True) for member in MEMBERS.values())}
)


def num_gpus(num_parameters: int) -> int:
    """GPUs that train a model of so many parameters: those of the smallest member that has as many."""
    return next(
        (size.num_gpus for size in SIZES if num_parameters <= size.num_parameters), SIZES[-1].num_gpus
    )


def members() -> Iterator[Member]:
    """Iterate over all 15, small to large, full to quarter."""
    return iter(MEMBERS.values())


def _key(name: str) -> str:
    """The name as tables have it: in capitals, without the repository's prefix."""
    return name.upper().removeprefix(REPO_PREFIX.upper())


def find_member(name: str) -> Member | None:
    """The member or causal twin called `name`, as `member` reads names; None where there is none."""
    return MEMBERS.get(_key(name)) or CAUSAL_MEMBERS.get(_key(name))


def find_demo(name: str) -> str | None:
    """The one of DEMOS called `name`, as `member` reads names; None where there is none."""
    return next((demo for demo in DEMOS if demo.upper() == _key(name)), None)


def member(name: str) -> Member:
    """The member called `name`: `350M-F`, in any case, with or without the repository's `CurrAb-`.

    `CLM-350M-F` is its causal twin.
    """
    if find_demo(name) is not None:
        raise ValueError(
            f"the model must be a member, one of {', '.join(MEMBERS)}; got {name!r}, which is none"
        )
    if (found := find_member(name)) is None:
        raise ValueError(f"no member is called {name!r}; {nearest_members(name)}")
    return found


def nearest_members(name: str) -> str:
    """The end of an error on an unknown name: the members of a size or with a similar name, else all."""
    key = _key(name)
    if key.removeprefix(CAUSAL_PREFIX) in {size.name for size in SIZES}:
        sets = [f"{key}-{data.letter} ({data.name}, {data.num_pairs:,} pairs)" for data in DATA_SIZES]
        return (
            f"{key} comes in three, by the data it was trained on: name {', '.join(sets[:-1])} or {sets[-1]}"
        )
    # Lower than difflib's 0.6: names this short differ in two letters by a slip of one finger.
    known = CAUSAL_MEMBERS if key.startswith(CAUSAL_PREFIX) else MEMBERS
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"the members are {', '.join(MEMBERS)}"
