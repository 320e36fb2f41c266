"""What decides about the result of a preparation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from curr_ab.data.preparing.clean import CleaningLimits
from curr_ab.data.reading.columns import ColumnNames
from curr_ab.data.reading.pairs import Chains

CLUSTERINGS = ("mmseqs", "exact", "source")


@dataclass(frozen=True)
class PreparationPlan:
    """What decides about the result. Shares are floats and numbers of pairs are integers."""

    names: ColumnNames = field(default_factory=ColumnNames)
    chains: Chains = "paired"
    limits: CleaningLimits = field(default_factory=CleaningLimits)
    cluster: str = "mmseqs"
    identity: float = 0.9
    coverage: float = 0.8
    group_by_donor: bool = False
    validation: float = 0.05
    test: float = 0.05
    subsets: Mapping[str, float] = field(default_factory=lambda: {"F": 1.0, "H": 0.5, "Q": 0.25})
    seed: int = 42
    pairs_per_shard: int = 1 << 17
    masks: bool = True

    def __post_init__(self) -> None:
        if self.cluster not in CLUSTERINGS:
            raise ValueError(f"cluster is {self.cluster!r}; it may be {', '.join(CLUSTERINGS)}")
        if not 0 < self.identity <= 1 or not 0 < self.coverage <= 1:
            raise ValueError("identity and coverage are shares between 0 and 1")
        if self.group_by_donor and self.cluster == "source":
            raise ValueError("a source's own split cannot be grouped by donor as well")
        if self.pairs_per_shard < 1:
            raise ValueError("a shard holds at least one pair")

    def settings(self) -> dict[str, Any]:
        """As JSON holds them."""
        settings: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return settings
