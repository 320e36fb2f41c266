"""`training.json`: the record of a training beside its weights, for results, cards and scaling laws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curr_ab.family import CAUSAL_PREFIX
from curr_ab.files import read_object, write_json

FORMAT = "curr-ab training 1"
TRAINING = "training.json"


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """The origin of weights. Checkpoints of other programs may record a part of it; the rest is None."""

    member: str | None = None  # None for a model of another shape, too
    step: int | None = None
    objective: str | None = None
    plan: Mapping[str, Any] | None = None  # without the folders of the machine that trained
    data: Mapping[str, Any] | None = None  # name, fingerprint and size of the training set
    seen: Mapping[str, int] | None = None  # pairs, residue_tokens; clm_tokens before this run
    training_flops: float | None = None
    hours: float | None = None
    devices: str | None = None
    code: Mapping[str, str | None] | None = None  # version and revision of this package
    versions: Mapping[str, str] | None = None  # of the libraries

    def write(self, folder: Path) -> None:
        write_json(folder / TRAINING, {"format": FORMAT, **asdict(self)})

    @property
    def name(self) -> str | None:
        """The member or the causal twin that was trained."""
        return f"{CAUSAL_PREFIX}{self.member}" if self.member and self.objective == "clm" else self.member

    def quantities(self) -> dict[str, int | float | str]:
        """The variables of a scaling law that are recorded, by the names that results and laws use."""
        data, seen, plan = self.data or {}, self.seen or {}, self.plan or {}
        quantities = {
            "sequences": data.get("num_pairs"),
            "unique_tokens": data.get("num_tokens"),
            "seen_tokens": seen.get("residue_tokens"),
            "clm_tokens": seen.get("clm_tokens"),
            "flops": self.training_flops,
            "training_seed": plan.get("seed"),
            "training_draw": data.get("draw"),  # where it is numbered
        }
        return {name: value for name, value in quantities.items() if value is not None}


_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("member", "objective", "devices"), (str,)),
    **dict.fromkeys(("plan", "data", "seen", "code", "versions"), (dict,)),
    **dict.fromkeys(("training_flops", "hours"), (int, float)),
    "step": (int,),
}


def read_training(path: Path) -> TrainingRecord:
    """The record in a file called `training.json`.

    Such a file of another program (with another `format`, or none) is read as far as its values have the
    types of ours; in a file of our own another type is an error.
    """
    content = read_object(path)
    values: dict[str, Any] = {}
    for name, types in _TYPES.items():
        value = content.get(name)
        if isinstance(value, types):
            values[name] = value
        elif value is not None and content.get("format") == FORMAT:
            expected = " or ".join(one.__name__ for one in types)
            raise ValueError(f"{path}: {name} must be of type {expected}; got {value!r}")
    return TrainingRecord(**values)
