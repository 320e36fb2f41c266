"""Measures tokenising, masking and batching on one core, beside the published recipe: tokens a second.

    python -m benchmarks.batches [--repetitions N]

The recipe: stock `EsmTokenizer` on each pair's text, padded to 320, and `DataCollatorForLanguageModeling` on
batches of 32. Here: `encode_pairs` once for each pair, then the batches of a step from the shards. Tokens of
pairs count, padding does not.

Then the batch of a step by the number of shards, each in a process of its own: processor time, memory, open
files, and how many bytes the disk gives for each byte that is used, if nothing is in memory yet.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import torch
from support.many_shards import write_many_shards
from transformers import DataCollatorForLanguageModeling, EsmTokenizer

from curr_ab.data import PreparationPlan, builtin_path, encode_pairs, prepare, read_pairs
from curr_ab.family import MAX_TOKENS
from curr_ab.pretraining.batches import TrainingData
from curr_ab.pretraining.plan import resolve_plan
from curr_ab.words import VOCABULARY

NUM_PAIRS = 1_024
REQUIRED = 50
SHARDS, PAIRS_PER_SHARD = (12, 120, 1_200), 2_048
SHARDS_AT_ONCE = 16


def stock_way(pairs: pa.Table, folder: Path) -> Callable[[], None]:
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY))
    tokenizer = EsmTokenizer(str(vocabulary))
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    columns = (pairs["heavy"].to_pylist(), pairs["light"].to_pylist())
    texts = [f"{heavy}<cls><cls>{light}" for heavy, light in zip(*columns, strict=True)]

    def run() -> None:
        for first in range(0, NUM_PAIRS, 32):
            collate(
                [
                    dict(tokenizer(text, padding="max_length", truncation=True, max_length=MAX_TOKENS))
                    for text in texts[first : first + 32]
                ]
            )

    return run


def our_way(pairs: pa.Table, folder: Path) -> Callable[[], None]:
    prepare("builtin", folder / "corpus", PreparationPlan(cluster="source"))
    data = TrainingData(resolve_plan({"data": str(folder / "corpus")}))
    heavy, light = (pairs[chain].combine_chunks() for chain in ("heavy", "light"))

    def run() -> None:
        encode_pairs(heavy, light)
        for step in range(NUM_PAIRS // data.plan.pairs_per_step):
            data.step(step, rank=0, num_processes=1, num_micro_batches=16)

    return run


def measure_steps(folder: Path, steps: int, shards_at_once: int | None) -> dict[str, float]:
    """What the batches of some steps take, from files that are not in memory and then from those that are."""
    plan = resolve_plan({"data": str(folder), "subset": "F", "shards_at_once": shards_at_once})
    data = TrainingData(plan)
    os.sync()
    for path in folder.glob("train-*.npy"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before, used = bytes_from_disk(), 0
    for step in range(steps):
        batches = data.step(step, rank=0, num_processes=1, num_micro_batches=16)
        used += batches.num_tokens + 16 * batches.num_records
    from_disk = bytes_from_disk() - before
    began = time.process_time()
    for step in range(steps):
        data.step(step, rank=0, num_processes=1, num_micro_batches=16)
    return {
        "milliseconds": 1e3 * (time.process_time() - began) / steps,
        "from_disk": from_disk / used,
        "open_files": len(os.listdir("/proc/self/fd")),
        "maps": Path("/proc/self/maps").read_text().count(".npy"),
        "memory": own_memory() / 1e3,
    }


def own_memory() -> int:
    """Kilobytes that the process holds; pages of files, which the system can drop, do not count."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0])


def bytes_from_disk() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"])


def measure_shards() -> None:
    """Print a line for each number of shards, and one for a few shards at once."""
    print(f"a step of 128 pairs, shards of {PAIRS_PER_SHARD:,}:")
    first = None
    with tempfile.TemporaryDirectory(dir=".") as temporary:  # a disk, which a temporary folder may not be
        for num_shards in SHARDS:
            write_many_shards(Path(temporary, str(num_shards)), num_shards, PAIRS_PER_SHARD)
        steps = SHARDS_AT_ONCE * PAIRS_PER_SHARD // 128  # one stretch
        for num_shards, at_once in [*((number, None) for number in SHARDS), (SHARDS[-1], SHARDS_AT_ONCE)]:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                folder = Path(temporary, str(num_shards))
                took = pool.submit(measure_steps, folder, steps, at_once).result()
            first = first or took["milliseconds"]
            print(
                f"  {num_shards:>5,} shards, {at_once or 'all'} at once: {took['milliseconds']:.2f} ms, "
                f"{took['milliseconds'] / first:.1f} times the first; {took['memory']:,.0f} MB; "
                f"{took['open_files']:.0f} open files, {took['maps']:.0f} maps; "
                f"{took['from_disk']:.1f} bytes from the disk for each that is used"
            )


def main() -> None:
    """Print the two speeds and their ratio, then the cost of many shards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pairs = pa.Table.from_batches(read_pairs(builtin_path())).slice(0, NUM_PAIRS)
    num_tokens = len(encode_pairs(*(pairs[chain].combine_chunks() for chain in ("heavy", "light")))[0])
    with tempfile.TemporaryDirectory() as temporary:
        ways = {
            "published recipe": stock_way(pairs, Path(temporary)),
            "here": our_way(pairs, Path(temporary)),
        }
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for repetition in range(args.repetitions + 1):
            for name, run in ways.items():
                began = time.perf_counter()
                run()
                if repetition:  # the first warms up
                    speeds[name].append(num_tokens / (time.perf_counter() - began))
    stock, ours = (statistics.median(speeds[name]) for name in ways)
    print(f"tokenise, mask, batch; one thread, median of {args.repetitions}:")
    print(f"  published recipe {stock:>12,.0f} tokens/s")
    verdict = "over" if ours / stock >= REQUIRED else "under"
    ratio = f"{ours / stock:.0f} times, {verdict} the line of {REQUIRED}"
    print(f"  here             {ours:>12,.0f} tokens/s  {ratio}")
    measure_shards()


if __name__ == "__main__":
    main()
