"""What a study says of its data: counts of a prepared folder, small enough for a report."""

from __future__ import annotations

import os
from typing import Any

from curr_ab.data.describing import describe
from curr_ab.data.schema import CHAINS


def report_data(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """`pairs` and `clusters` by split, `subsets`, `dropped`, and histograms of lengths, as plain JSON."""
    description = describe(folder)
    report = description.report
    histograms = {"length": description.lengths, "CDR3 length": description.cdr3_lengths}
    return {
        "folder": description.folder.name,
        "fingerprint": description.index["fingerprint"],
        "read": report["read"],
        "kept": report["kept"],
        "dropped": report["dropped"],
        "pairs": report["pairs"],
        "clusters": report["clusters"],
        "clusters_in_several_splits": report["clusters_in_several_splits"],
        "subsets": description.index["subsets"],
        "histograms": {
            f"{chain} {name}": {str(value): count for value, count in sorted(histogram[chain].items())}
            for name, histogram in histograms.items()
            for chain in CHAINS
            if histogram[chain]
        },
    }
