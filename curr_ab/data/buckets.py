"""Files of runs of rows, each run cut by ranges of the hash, so that one range is read without the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

BUCKET_BITS = 6  # of the hash: a part holds each of its runs in 64 ranges
LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


def write_ranges(writer: pa.RecordBatchWriter, rows: pa.Table, bits: int, first_bit: int = 0) -> None:
    """One run, sorted by hash and equal in its first bits, as a batch for each value of the next ones."""
    places = rows["order"].to_numpy() >> np.uint64(64 - first_bit - bits)
    places &= np.uint64((1 << bits) - 1)
    cuts = np.searchsorted(places, np.arange((1 << bits) + 1, dtype=np.uint64))
    whole = rows.combine_chunks()
    for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        batches = whole.slice(start, stop - start).to_batches()
        writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=rows.schema))


def read_ranges(path: Path, bits: int, first: int, last: int) -> Iterator[pa.Table]:
    """The ranges from `first` to before `last` of every run, in the order of writing."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        for run in range(0, reader.num_record_batches, 1 << bits):
            for place in range(run + first, run + last):
                batch = reader.get_batch(place)
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])
