"""Measures tokenising, masking and batching on one core, beside the published recipe: tokens a second.

    python -m benchmarks.batches [--repetitions N]

The recipe: stock `EsmTokenizer` on each pair's text, padded to 320, and `DataCollatorForLanguageModeling` on
batches of 32. Here: `encode_pairs` once for each pair, then the batches of a step from the shards. Tokens of
pairs count, padding does not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import torch
from transformers import DataCollatorForLanguageModeling, EsmTokenizer

from curr_ab.data import PreparationPlan, builtin_path, encode_pairs, prepare, read_pairs
from curr_ab.family import MAX_TOKENS
from curr_ab.pretraining.batches import TrainingData
from curr_ab.pretraining.plan import resolve_plan
from curr_ab.words import VOCABULARY

NUM_PAIRS = 1_024
REQUIRED = 50


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


def main() -> None:
    """Print the two speeds and their ratio."""
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


if __name__ == "__main__":
    main()
