"""Settings that decide the result of a preparation."""

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
    """Settings that decide the result. Shares are floats and numbers of pairs are integers."""

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
            raise ValueError(f"cluster must be one of {', '.join(CLUSTERINGS)}; got {self.cluster!r}")
        if not 0 < self.identity <= 1 or not 0 < self.coverage <= 1:
            raise ValueError(
                "identity and coverage must be above 0 and at most 1; "
                f"got {self.identity} and {self.coverage}"
            )
        if self.group_by_donor and self.cluster == "source":
            raise ValueError(
                "group_by_donor and cluster 'source' exclude each other: a source's own split stays as it is"
            )
        if self.pairs_per_shard < 1:
            raise ValueError(f"pairs_per_shard must be at least 1; got {self.pairs_per_shard}")

    def settings(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        settings: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return settings
