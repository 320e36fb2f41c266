"""A split of a prepared folder: its tokens, and its pairs with all that is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab.data.shards import INDEX_NAME, TokenDataset


@dataclass(frozen=True)
class PreparedSplit:
    """One split, opened."""

    dataset: TokenDataset

    @property
    def fingerprint(self) -> str:
        """Of the whole folder; the split is an option of the suite."""
        return self.dataset.fingerprint

    @property
    def name(self) -> str:
        """What results call the data."""
        return f"{self.dataset.folder.name} {self.fingerprint[:12]}"

    def table(self) -> pa.Table:
        """All pairs of the split in their order, in the annotation schema."""
        entries = self.dataset.index["splits"][self.dataset.split]
        paths = [self.dataset.folder / f"{entry['name']}.parquet" for entry in entries]
        return pa.concat_tables([pq.read_table(path) for path in paths])


def prepared_split(sources: Sequence[str], split: str) -> PreparedSplit:
    """The split; anything but one folder of `curr-ab data prepare` is refused, with the way there."""
    if len(sources) != 1:
        raise ValueError(f"name one prepared folder, not {len(sources)}: {', '.join(sources)}")
    [source] = sources
    if not Path(source).is_dir():
        known = "does not exist" if not Path(source).exists() else "is a file"
        raise ValueError(
            f"{source} {known}; this suite takes a folder with {INDEX_NAME}: make one with "
            f"`curr-ab data prepare {source} --out FOLDER`"
        )
    dataset = TokenDataset(source, split)
    if not len(dataset):
        raise ValueError(f"the split {split!r} of {source} is empty")
    return PreparedSplit(dataset)
