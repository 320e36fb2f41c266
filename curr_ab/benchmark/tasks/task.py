"""A task: pairs with labels and folds, read from a public file, on which every model is measured alike."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Pair = tuple[str | None, str | None]  # heavy, light; either may be None
Indices = npt.NDArray[np.int64]
Fold = tuple[Indices, Indices]  # training and test part
Kind = Literal["classes", "number", "residues", "ranking", "loss", "pairing"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One data set read: its labels are what every model is to predict, or to rank by its scores.

    Labels are class numbers, numbers, or for `residues` a class for each residue of heavy then light, -100
    where it is unknown. Of `ranking` they are as measured: `sign` is -1 where lower is better. Of `loss` they
    are the regions of the residues, 1-7 for FWR1 ... FWR4 and 0 unknown.
    """

    name: str
    title: str
    kind: Kind
    pairs: tuple[Pair, ...]
    ids: tuple[str, ...]
    labels: Any
    label_names: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    folds: tuple[Fold, ...] | None = None
    metric: str
    average: Literal["pooled", "folds"] = "pooled"  # the metric over all test parts, or its mean over folds
    sign: Literal[1, -1] = 1
    notes: tuple[str, ...] = ()  # what a report must say of the data
    leaks: tuple[str, ...] = ()  # what folds share that were kept nevertheless

    def __post_init__(self) -> None:
        lengths = {len(self.pairs), len(self.ids), len(self.labels)}
        assert len(lengths) == 1, f"{self.name}: pairs, ids and labels differ in length: {lengths}"
        assert self.groups is None or len(self.groups) == len(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of pairs, labels, groups and folds: equal tasks have the same on every machine."""
        digest = hashlib.sha256(json.dumps([self.name, self.kind, self.metric, self.label_names]).encode())
        for item in zip(self.ids, self.pairs, self.labels, self.groups or self.ids, strict=True):
            digest.update(json.dumps(_plain(item)).encode())
        digest.update(json.dumps(_plain(self.folds)).encode())
        return digest.hexdigest()


def _plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value
