"""Measures a training step against the published recipe: residues per second, side by side in one run.

    python tests/bench_pretraining.py [--sizes 8M 35M] [--repetitions N] [--threads N]

The recipe: stock `EsmForMaskedLM`, pairs padded to 320, `DataCollatorForLanguageModeling`, fp32, dropout 0.1,
AdamW, gradient clipping. A step is one optimiser step over 16 pairs of the built-in corpus, everywhere in
micro-batches of 8 (stock is slower with 32), and takes everything from token ids to new weights. Each
way to train has a process of its own, and they take turns, one step each. Ratios are of wall time; those of
processor time stand beside them, because they hold on a machine that others use too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor
from transformers import DataCollatorForLanguageModeling, EsmConfig, EsmForMaskedLM, EsmTokenizer

from curr_ab import CurrAbConfig, CurrAbForMaskedLM
from curr_ab.data import builtin_path, read_pairs
from curr_ab.data.tokens import VOCABULARY
from curr_ab.family import MAX_TOKENS, SHARED_CONFIG, SIZES, ModelSize
from curr_ab.memory import keep_freed_memory

PAIRS_PER_STEP, PAIRS_PER_MICRO_BATCH = 16, 8
MICRO_BATCHES = PAIRS_PER_STEP // PAIRS_PER_MICRO_BATCH
CLS, PAD, EOS, MASK = 0, 1, 2, 32
RESIDUES = (4, 24)  # ids of the twenty amino acids
OPTIMIZER = {"lr": 1e-4, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.01}

Pairs = Sequence[tuple[str, str]]
Step = Callable[[Sequence[Sequence[int]]], None]  # of the numbers of the pairs in each micro-batch


def published_recipe(size: ModelSize, pairs: Pairs) -> Step:
    """The training that the published models had, in one process."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join(VOCABULARY))
        tokenizer = EsmTokenizer(str(vocabulary))
    texts = [f"{heavy}<cls><cls>{light}" for heavy, light in pairs]
    examples = [
        dict(tokenizer(text, padding="max_length", truncation=True, max_length=MAX_TOKENS)) for text in texts
    ]
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    config = EsmConfig(
        hidden_size=size.hidden_size,
        num_hidden_layers=size.num_layers,
        intermediate_size=size.intermediate_size,
        mask_token_id=MASK,
        pad_token_id=PAD,
        **{key: value for key, value in SHARED_CONFIG.items() if key != "classifier_pooling"},
    )
    model = EsmForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), **OPTIMIZER)

    def step(chosen: Sequence[Sequence[int]]) -> None:
        for numbers in chosen:
            batch = collate([examples[number] for number in numbers])
            (model(**batch).loss / MICRO_BATCHES).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def masked_row(pairs_of_ids: Sequence[Tensor]) -> dict[str, Tensor | int]:
    """One packed row: 15 % of the residues selected, of them 80 % masked, 10 % random, 10 % kept."""
    lengths = torch.tensor([0, *map(len, pairs_of_ids)])
    input_ids = torch.cat(list(pairs_of_ids))
    residue = (input_ids != CLS) & (input_ids != EOS)
    selected = (residue & (torch.rand(len(input_ids)) < 0.15)).nonzero().flatten()
    labels = torch.full_like(input_ids, -100)
    labels[selected] = input_ids[selected]
    fate = torch.rand(len(selected))
    replaced = torch.where(fate < 0.8, MASK, torch.randint(*RESIDUES, (len(selected),)))
    input_ids[selected] = torch.where(fate < 0.9, replaced, input_ids[selected])
    boundaries = lengths.cumsum(0).to(torch.int32)
    longest = int(lengths.max())
    return {
        "input_ids": input_ids[None],
        "position_ids": torch.cat([torch.arange(len(ids)) for ids in pairs_of_ids])[None],
        "labels": labels[None],
        "output_positions": selected,
        **{f"cu_seq_lens_{side}": boundaries for side in "qk"},
        **{f"max_length_{side}": longest for side in "qk"},
    }


def ours(size: ModelSize, pairs: Pairs, dropout: float, bfloat16: bool) -> Step:
    """Packed rows, pairwise attention, the head at masked positions alone."""
    keep_freed_memory()
    place = {token: number for number, token in enumerate(VOCABULARY)}
    rows = [
        torch.tensor([CLS, *map(place.get, heavy), CLS, CLS, *map(place.get, light), EOS])
        for heavy, light in pairs
    ]
    config = CurrAbConfig(
        hidden_size=size.hidden_size,
        num_hidden_layers=size.num_layers,
        **{
            **SHARED_CONFIG,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        },
    )
    model = CurrAbForMaskedLM(config).train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, fused=True, **OPTIMIZER)

    def step(chosen: Sequence[Sequence[int]]) -> None:
        for numbers in chosen:
            batch = masked_row([rows[number] for number in numbers])
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = model(**batch).loss
            (loss / MICRO_BATCHES).backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


@dataclass(frozen=True)
class Way:
    """A way to train, and how many times the recipe's speed it must reach and aims at, by size."""

    name: str
    make: Callable[..., Step]
    options: Mapping[str, object] = field(default_factory=dict)
    lines: Mapping[str, tuple[float, float]] = field(default_factory=dict)


LIKE_FOR_LIKE = {"8M": (4.0, 6.0), "35M": (3.0, 3.0)}
FASTEST = {"8M": (8.0, 12.0), "35M": (5.0, 5.0)}
RECIPE = Way("published recipe: stock, padded, dropout 0.1, fp32", published_recipe)
WAYS = (
    RECIPE,
    Way("like for like: dropout 0.1, fp32", ours, {"dropout": 0.1, "bfloat16": False}, LIKE_FOR_LIKE),
    Way("like for like: dropout 0.1, bf16", ours, {"dropout": 0.1, "bfloat16": True}, LIKE_FOR_LIKE),
    Way("dropout 0, fp32", ours, {"dropout": 0.0, "bfloat16": False}),
    Way("fastest plan: dropout 0, bf16", ours, {"dropout": 0.0, "bfloat16": True}, FASTEST),
)


def serve(way: Way, size: ModelSize, pairs: Pairs, threads: int, pipe: Connection) -> None:
    """In a process of its own: the seconds that each step asked for takes, and those of processors."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    step = way.make(size, pairs, **way.options)
    while chosen := pipe.recv():
        start, used = time.perf_counter(), time.process_time()
        step(chosen)
        pipe.send((time.perf_counter() - start, time.process_time() - used))


def steps_of(num_pairs: int) -> Iterator[list[range]]:
    """Numbers of the pairs of each micro-batch, for one step after the other."""
    first = 0
    while True:
        starts = range(first, first + PAIRS_PER_STEP, PAIRS_PER_MICRO_BATCH)
        yield [range(start, start + PAIRS_PER_MICRO_BATCH) for start in starts]
        first = first + PAIRS_PER_STEP if first + 2 * PAIRS_PER_STEP <= num_pairs else 0


def measure(size: ModelSize, pairs: Pairs, repetitions: int, threads: int) -> dict[str, tuple[float, float]]:
    """Residues per second and per processor second of each way: medians over steps that they take in turn."""
    # Read when a process loads OpenMP. Threads that wait by spinning measure who else is on the machine.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for way in WAYS:
        pipes[way.name], theirs = spawn.Pipe()
        processes.append(spawn.Process(target=serve, args=(way, size, pairs, threads, theirs), daemon=True))
        processes[-1].start()
    speeds: dict[str, list[tuple[float, float]]] = {way.name: [] for way in WAYS}
    for number, chosen in zip(range(repetitions + 1), steps_of(len(pairs)), strict=False):
        residues = sum(
            len(heavy) + len(light) for part in chosen for heavy, light in (pairs[i] for i in part)
        )
        for way in WAYS:
            pipes[way.name].send(chosen)
            seconds, used = pipes[way.name].recv()
            if number:  # the first warms up
                speeds[way.name].append((residues / seconds, residues / used))
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()
    return {
        name: (statistics.median(wall for wall, _ in steps), statistics.median(used for _, used in steps))
        for name, steps in speeds.items()
    }


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["8M", "35M"], choices=[size.name for size in SIZES])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    pairs = [
        (heavy, light)
        for batch in read_pairs(builtin_path())
        for heavy, light in zip(batch["heavy"].to_pylist(), batch["light"].to_pylist(), strict=True)
    ]
    for size in SIZES:
        if size.name not in args.sizes:
            continue
        load = os.getloadavg()[0]
        speeds = measure(size, pairs, args.repetitions, args.threads)
        print(f"{size.name}: residues per second of a training step, {args.threads} threads, ", end="")
        print(f"median of {args.repetitions}; load of the machine before: {load:.1f}")
        for way in WAYS:
            (speed, per_used), (stock, stock_per_used) = speeds[way.name], speeds[RECIPE.name]
            ratio = speed / stock
            print(f"  {way.name:<52} {speed:>7,.0f}  {ratio:5.2f} times", end="")
            print(f"  ({per_used / stock_per_used:5.2f} in processor time)", end="")
            if size.name in way.lines:
                required, aim = way.lines[size.name]
                verdict = "under" if ratio < required else "over"
                print(f"  {verdict} the line of {required:g}, aim {aim:g}", end="")
            print(flush=True)


if __name__ == "__main__":
    main()
