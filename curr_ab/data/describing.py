"""What a prepared folder holds, as counts: lengths, genes, CDR3s, mutations, clusters, drops."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from curr_ab.data.schema import CHAINS
from curr_ab.data.shards import TokenDataset
from curr_ab.data.splitting import SPLITS

Histogram = Mapping[str, Mapping[Any, int]]  # series, such as a chain → value → records


@dataclass(frozen=True)
class Description:
    """Histograms by name, and the report of the preparation."""

    folder: Path
    index: Mapping[str, Any]
    lengths: Histogram
    cdr3_lengths: Histogram
    v_families: Histogram
    mutations: Histogram
    mutation_unit: str

    @property
    def report(self) -> Mapping[str, Any]:
        """Counts that the preparation left in `dataset.json`."""
        report: Mapping[str, Any] = self.index["report"]
        return report

    @property
    def cluster_sizes(self) -> dict[int, int]:
        """Pairs in a cluster → clusters."""
        return {int(size): count for size, count in self.report["cluster_sizes"].items()}


def _count(counter: Counter[Any], values: pa.ChunkedArray) -> None:
    for item in pc.value_counts(values.drop_null()).to_pylist():
        counter[item["values"]] += item["counts"]


def _family(calls: pa.ChunkedArray) -> pa.ChunkedArray:
    """IGHV3 of IGHV3-23*01."""
    return pc.replace_substring_regex(calls, "[-*/,S].*$", "")


def describe(folder: str | os.PathLike[str], *, progress: bool = False) -> Description:
    """Counts over all splits, read file by file."""
    from tqdm import tqdm

    path = Path(folder)
    index = TokenDataset(path).index
    counters: dict[str, dict[str, Counter[Any]]] = {
        name: {chain: Counter() for chain in CHAINS}
        for name in ("lengths", "cdr3", "v_call", "mutations", "v_identity")
    }
    shards = [entry["name"] for split in SPLITS for entry in index["splits"][split]]
    columns = [
        f"{name}_{chain}" for name in ("cdr3", "v_call", "mutations", "v_identity") for chain in CHAINS
    ]
    for shard in tqdm(shards, desc="describe", disable=not progress):
        for batch in pyarrow.parquet.ParquetFile(path / f"{shard}.parquet").iter_batches(
            columns=[*CHAINS, *columns]
        ):
            table = pa.Table.from_batches([batch])
            for chain in CHAINS:
                _count(counters["lengths"][chain], pc.binary_length(table[chain]))
                _count(counters["cdr3"][chain], pc.binary_length(table[f"cdr3_{chain}"]))
                _count(counters["v_call"][chain], _family(table[f"v_call_{chain}"]))
                _count(counters["mutations"][chain], table[f"mutations_{chain}"])
                mutated = pc.multiply(pc.subtract(1.0, table[f"v_identity_{chain}"]), 100.0)
                _count(counters["v_identity"][chain], pc.round(mutated))
    counted = any(counters["mutations"].values())
    return Description(
        folder=path,
        index=index,
        lengths=counters["lengths"],
        cdr3_lengths=counters["cdr3"],
        v_families=counters["v_call"],
        mutations=counters["mutations" if counted else "v_identity"],
        mutation_unit="mutated residues" if counted else "mutated nucleotides of the V gene, per cent",
    )


def statistics(values: Mapping[Any, int]) -> dict[str, float]:
    """Number, least, median, mean and greatest of a histogram of numbers; empty where it is."""
    ordered = sorted(values.items())
    total = sum(values.values())
    if not total:
        return {}
    seen, median = 0, ordered[0][0]
    for value, count in ordered:
        median = value
        seen += count
        if 2 * seen >= total:
            break
    mean = sum(value * count for value, count in ordered) / total
    return {"records": total, "min": ordered[0][0], "median": median, "mean": mean, "max": ordered[-1][0]}


def summary_rows(description: Description) -> list[tuple[str, str, dict[str, float]]]:
    """Measure, chain and statistics, where the data has them."""
    measures = {
        "length": description.lengths,
        "CDR3 length": description.cdr3_lengths,
        description.mutation_unit: description.mutations,
        "cluster size": {"": description.cluster_sizes},
    }
    return [
        (measure, series, found)
        for measure, histogram in measures.items()
        for series, values in histogram.items()
        if (found := statistics(values))
    ]


def table(description: Description) -> str:
    """The statistics and the drops as text."""
    lines = [f"{'':<45} {'records':>12} {'min':>6} {'median':>6} {'mean':>8} {'max':>6}"]
    for measure, series, found in summary_rows(description):
        figures = (
            f"{found['records']:>12,} {found['min']:>6.0f} {found['median']:>6.0f} {found['mean']:>8.2f}"
        )
        lines.append(f"{f'{measure} {series}':<45} {figures} {found['max']:>6.0f}")
    report = description.report
    lines += ["", f"{'split':<12} {'pairs':>12} {'clusters':>12}"]
    lines += [
        f"{split:<12} {report['pairs'][split]:>12,} {report['clusters'][split]:>12,}" for split in SPLITS
    ]
    lines += [f"clusters in more than one split: {report['clusters_in_several_splits']}", ""]
    lines += [f"{'dropped as':<20} {'records':>12}"]
    lines += [f"{reason:<20} {count:>12,}" for reason, count in report["dropped"].items()] or ["nothing"]
    return "\n".join(lines)
