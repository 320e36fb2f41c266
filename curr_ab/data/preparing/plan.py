"""Plan of a preparation: all that decides about its result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from curr_ab.data.reading.column_names import Chains, ColumnNames
from curr_ab.options import OptionError, check_types, option

Clustering = Literal["mmseqs", "exact", "source"]


@dataclass(frozen=True)
class CleaningLimits:
    """The limits of a usable chain, in residues and as a share."""

    min_length: int = option(70, "Smallest number of residues of a chain", least=0)
    max_length: int = option(160, "Largest number of residues of a chain", least=1)
    max_ambiguous: float = option(
        0.02, "Largest share of X, B, Z, U and O among a chain's residues", least=0, most=1
    )

    def __post_init__(self) -> None:
        check_types(self)
        if self.min_length > self.max_length:
            raise OptionError(
                f"min_length must be at most max_length, {self.max_length}; got {self.min_length}",
                *("min_length", "max_length"),
            )


@dataclass(frozen=True)
class PreparationPlan:
    """All that decides about the result. Shares are floats and numbers of pairs are integers."""

    names: ColumnNames = field(default_factory=ColumnNames)
    chains: Chains = "paired"
    annotate: bool = option(False, "Number every chain that has no region mask, so that it gets one")
    limits: CleaningLimits = field(default_factory=CleaningLimits)
    cluster: Clustering = option(
        "mmseqs",
        "Units that splits hold apart: clusters of similar pairs (mmseqs), equal heavy chains (exact), or "
        "those of the source's own splits (source)",
    )
    identity: float = option(
        0.9, "Share of equal residues from which MMseqs2 puts pairs into a cluster", above=0, most=1
    )
    coverage: float = option(0.8, "Share of a pair that MMseqs2 must align for a cluster", above=0, most=1)
    group_by_donor: bool = option(False, "Hold the donors of the splits apart as well")
    validation: int | float = option(
        0.05, "Size of the validation split: a share (with a point) or a number of pairs", metavar="SIZE"
    )
    test: int | float = option(
        0.05, "Size of the test split: a share (with a point) or a number of pairs", metavar="SIZE"
    )
    subsets: Mapping[str, int | float] = option(
        {"F": 1.0, "H": 0.5, "Q": 0.25},
        "Nested training sets: shares (with a point) or numbers of pairs; `paper` alone is the paper's three",
        metavar="NAME=SIZE",
    )
    seed: int = option(42, "Seed of order, splits and subsets")
    pairs_per_shard: int = option(1 << 17, "Number of pairs in a shard", least=1)
    masks: bool = option(True, "Keep region, segment and mutation masks")

    def __post_init__(self) -> None:
        check_types(self)
        if self.group_by_donor and self.cluster == "source":
            raise OptionError(
                "group_by_donor must be no for the cluster source: a source's own split cannot be grouped by "
                "donor as well",
                *("group_by_donor", "cluster"),
            )

    def settings(self) -> dict[str, Any]:
        """As JSON holds them."""
        settings: dict[str, Any] = json.loads(json.dumps(asdict(self) | {"names": self.names.settings()}))
        if not self.annotate:  # data prepared before this option keep their settings and fingerprint
            del settings["annotate"]
        return settings
