"""Plan of a preparation: all that decides about its result."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from curr_ab.data.reading.column_names import Chains, ColumnNames
from curr_ab.files import file_digest
from curr_ab.options import OptionError, check_types, option

Clustering = Literal["clonotype", "mmseqs", "exact", "source"]


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
    """All that decides about the result. Shares are floats and numbers of pairs are integers.

    Only `mmseqs_memory` decides nothing: it may change when a preparation goes on.
    """

    names: ColumnNames = field(default_factory=ColumnNames)
    chains: Chains = "paired"
    annotate: bool = option(False, "Number every chain that has no region mask, so that it gets one")
    limits: CleaningLimits = field(default_factory=CleaningLimits)
    cluster: Clustering = option(
        "clonotype",
        "Units that splits hold apart: heavy chains of one V gene, J gene and CDRH3 length with like CDRH3s "
        "(clonotype), clusters of similar pairs (mmseqs), equal heavy chains (exact), or those of the "
        "source's own splits (source)",
    )
    cdr3_identity: float = option(
        0.8,
        "Share of equal residues from which CDRH3s are of one clonotype; one residue may always differ",
        above=0,
        most=1,
    )
    v_genes: Path | None = option(
        None,
        "FASTA of germline V genes, as residues or nucleotides, of which a heavy chain without a V gene gets "
        "the nearest, for clonotypes",
        metavar="FILE",
    )
    identity: float = option(
        0.9, "Share of equal residues from which MMseqs2 puts pairs into a cluster", above=0, most=1
    )
    coverage: float = option(0.8, "Share of a pair that MMseqs2 must align for a cluster", above=0, most=1)
    mmseqs_memory: int | None = option(
        None,
        "Memory that MMseqs2 may take for its tables, in bytes, such as 8G",
        shown="all that the machine has",
        least=10**8,  # with a few megabytes it fails without a word
        execution=True,
    )
    allow_cut_clusters: bool = option(
        False, "Take the source's own splits even if they cut its clusters, and count these"
    )
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
        if self.v_genes is not None and self.cluster != "clonotype":
            raise OptionError(
                f"v_genes must be none for the cluster {self.cluster}, which takes no genes",
                *("v_genes", "cluster"),
            )
        for split in ("validation", "test"):
            size = getattr(self, split)
            if size < 0 or (isinstance(size, float) and size >= 1):
                raise OptionError(
                    f"{split} must be a share from 0.0 to below 1.0, or a number of pairs; got {size}",
                    split,
                )
        shares = [size for size in (self.validation, self.test) if isinstance(size, float)]
        if sum(shares) >= 1:
            raise OptionError(
                f"validation and test must leave pairs for training; got {self.validation} and {self.test}",
                *("validation", "test"),
            )
        for name, size in self.subsets.items():
            if not name or not name.isprintable() or set(name) & set("/\\") or name.startswith("."):
                raise OptionError(f"the name of a subset must be letters and digits; got {name!r}", "subsets")
            is_number = isinstance(size, int | float) and not isinstance(size, bool)
            if not is_number or not 0 < size <= (1 if isinstance(size, float) else math.inf):
                raise OptionError(
                    f"subset {name} must be a share above 0.0 and at most 1.0, or a number of pairs; "
                    f"got {size!r}",
                    "subsets",
                )

    def settings(self) -> dict[str, Any]:
        """As JSON holds them; those of one clustering alone only where they decide.

        Folders that were made before these options existed are known again.
        """
        plain = asdict(self) | {"names": self.names.settings()}
        del plain["v_genes"], plain["mmseqs_memory"]
        settings: dict[str, Any] = json.loads(json.dumps(plain))
        if self.v_genes is not None:  # by its content, wherever it lies
            settings["v_genes"] = file_digest(self.v_genes)
        if self.cluster != "clonotype":
            del settings["cdr3_identity"]
        if not self.allow_cut_clusters:
            del settings["allow_cut_clusters"]
        if not self.annotate:
            del settings["annotate"]
        return settings
