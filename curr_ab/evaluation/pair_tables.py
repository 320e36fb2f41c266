"""Pairs with their annotations, from a prepared folder or any table of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.schema import PAIR_SCHEMA
from curr_ab.data.shards import INDEX_NAME, TokenDataset
from curr_ab.options import OptionError
from curr_ab.randomness import random_stream, shuffled
from curr_ab.words import CHAINS


@dataclass(frozen=True)
class PairTable:
    """Pairs in the annotation schema."""

    name: str  # what results call the data
    split: str
    fingerprint: str
    pairs: pa.Table

    def drawn(self, count: int, seed: int) -> pa.Table:
        """`count` random pairs in their order, or all where there are fewer."""
        size = len(self.pairs)
        rows = shuffled(np.arange(min(count, size)), size, random_stream(seed, "evaluated pairs"))
        return self.pairs.take(pa.array(np.sort(rows)))


def read_pair_table(sources: Sequence[str], split: str, names: ColumnNames) -> PairTable:
    """A split of a prepared folder; of a table the rows of that split, or all where it has no splits."""
    if len(sources) == 1 and Path(sources[0]).is_dir():
        dataset = prepared_split(sources, split)
        paths = [dataset.folder / f"{entry['name']}.parquet" for entry in dataset.index["splits"][split]]
        title = f"{dataset.folder.name} {dataset.fingerprint[:12]}"
        pairs = pa.concat_tables([pq.read_table(path) for path in paths])
        return PairTable(title, split, dataset.fingerprint, pairs)
    from curr_ab.data.reading.pairs import read_sources

    batches = read_sources(list(sources), names, "paired")
    pairs = pa.Table.from_batches([batch.select(PAIR_SCHEMA.names) for batch in batches], schema=PAIR_SCHEMA)
    if pairs["split"].null_count < len(pairs):
        pairs = pairs.filter(pc.equal(pairs["split"], split))
        if not len(pairs):
            raise OptionError(
                f"{', '.join(sources)} must have pairs in the split {split!r}; got none: choose another",
                "split",
            )
    else:
        split = "all"
    digest = sha256()
    for name in pairs.schema.names:
        if name != "source":  # where the file lies does not matter
            digest.update(repr(pairs[name].to_pylist()).encode())
    # An address on the Hub says what the data are; a folder of this machine tells a reader nothing.
    title = " ".join(source if source.startswith("hf://") else Path(source).name for source in sources)
    return PairTable(f"{title} {digest.hexdigest()[:12]}", split, digest.hexdigest(), pairs)


def mutation_status(pairs: pa.Table) -> dict[str, list[bool | None]]:
    """For each chain whether it differs from its germline; None where nothing is known of it."""
    status: dict[str, list[bool | None]] = {}
    for chain in CHAINS:
        counts = pairs[f"mutations_{chain}"].to_pylist()
        masks = pairs[f"mutation_mask_{chain}"].to_pylist()
        identities = pairs[f"v_identity_{chain}"].to_pylist()
        status[chain] = [_is_mutated(*known) for known in zip(counts, masks, identities, strict=True)]
    return status


def _is_mutated(count: int | None, mask: str | None, identity: float | None) -> bool | None:
    if count is not None:
        return count > 0
    if mask is not None:
        return "1" in mask
    return None if identity is None else identity < 1


def prepared_split(sources: Sequence[str], split: str) -> TokenDataset:
    """The split; anything but one folder of `curr-ab data prepare` is refused, with the way there."""
    if len(sources) != 1:
        raise ValueError(
            f"data must be one prepared folder; got {len(sources)}: {', '.join(sources)}; name one"
        )
    [source] = sources
    if not Path(source).is_dir():
        problem = "is a file" if Path(source).exists() else "does not exist"
        raise ValueError(
            f"{source} must be a prepared folder, with {INDEX_NAME}, but {problem}; make one with "
            f"`curr-ab data prepare {source} --out FOLDER`"
        )
    dataset = TokenDataset(source, split)
    if not len(dataset):
        raise ValueError(f"{source} must have pairs in the split {split!r}; got none; choose another split")
    return dataset
