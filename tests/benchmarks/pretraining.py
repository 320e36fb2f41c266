"""Measures a training step against the published recipe: residues per second, side by side in one run.

    python -m benchmarks.pretraining [--sizes 8M 35M] [--repetitions N] [--cores N]

The recipe: stock `EsmForMaskedLM`, pairs padded to 320, `DataCollatorForLanguageModeling`, fp32, AdamW,
gradient clipping, dropout 0.1, batches of 32 on a device, all cores in one process; and the same in parts
of 8, which suit a CPU's caches better. Here: the trainer's own step in parts of 8, on all cores in one
process or with one process for each core. A step is one optimiser step over 32 pairs of the built-in corpus
and takes everything from the data to new weights. The ways take turns, one step each. Ratios are of wall
time; those of processor time stand beside them: they hold on a machine that others use too. Shares are of the
machine's own peak of matrix products, measured first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from benchmarks.processes import Step, measure, start
from benchmarks.roofline import Peaks, measure_peaks, pretraining_flops, share

if TYPE_CHECKING:  # processes that only divide the work start without it
    import torch

LENGTH = 242  # tokens of a pair of the built-in corpus, for the cost of attention
PAIRS_PER_STEP = 32  # what each device of the published runs had at once
OPTIMIZER = {"lr": 1e-4, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.01}


@dataclass(frozen=True)
class Way:
    """A way to train; without a dropout it is the published recipe."""

    name: str
    dropout: float | None = None
    precision: str = "fp32"
    pairs_at_once: int = 8
    one_process_per_core: bool = False


RECIPE = Way("published recipe: stock, padded, dropout 0.1, fp32", pairs_at_once=PAIRS_PER_STEP)
IN_PARTS = Way("the recipe in parts of 8 pairs")
LIKE_FOR_LIKE = (
    Way("like for like: dropout 0.1, fp32", 0.1),
    Way("like for like: dropout 0.1, fp32, a process a core", 0.1, one_process_per_core=True),
)
FASTEST = (
    Way("fastest: dropout 0, bf16", 0.0, "bf16"),
    Way("fastest: dropout 0, bf16, a process a core", 0.0, "bf16", one_process_per_core=True),
)
# The first is what the others are compared with. 32 pairs at once of the 35M take more memory than is common.
WAYS = {"8M": (RECIPE, IN_PARTS, *LIKE_FOR_LIKE, *FASTEST), "35M": (IN_PARTS, *LIKE_FOR_LIKE, *FASTEST)}
# What is required, and what is aimed at.
LINES = {"8M": {LIKE_FOR_LIKE: (4, 6), FASTEST: (8, 12)}, "35M": {LIKE_FOR_LIKE: (3, 3), FASTEST: (5, 5)}}


def published_recipe(
    size: str,
    pairs_at_once: int,
    pairs_per_step: int = PAIRS_PER_STEP,
    *,
    device: str | torch.device = "cpu",
    autocast: torch.dtype | None = None,
    shape: Mapping[str, int] = MappingProxyType({}),
) -> Step:
    """The training that the published models had; `autocast` to a half precision, `shape` of another."""
    import torch
    from transformers import DataCollatorForLanguageModeling, EsmConfig, EsmForMaskedLM, EsmTokenizer

    from curr_ab.data import builtin_path, read_pairs
    from curr_ab.family import MAX_TOKENS, member
    from curr_ab.words import VOCABULARY

    batch = next(iter(read_pairs(builtin_path())))
    pairs = list(zip(batch["heavy"].to_pylist(), batch["light"].to_pylist(), strict=True))[:2_048]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join(VOCABULARY))
        tokenizer = EsmTokenizer(str(vocabulary))
    texts = [f"{heavy}<cls><cls>{light}" for heavy, light in pairs]
    examples = [
        dict(tokenizer(text, padding="max_length", truncation=True, max_length=MAX_TOKENS)) for text in texts
    ]
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    config = member(f"{size}-F").config() | dict(shape)
    del config["classifier_pooling"]  # ours alone
    special = {"mask_token_id": VOCABULARY.index("<mask>"), "pad_token_id": VOCABULARY.index("<pad>")}
    model = EsmForMaskedLM(EsmConfig(**config, **special)).train().to(device)
    half = autocast in (torch.bfloat16, torch.float16)
    optimizer = torch.optim.AdamW(model.parameters(), **OPTIMIZER)

    def step(number: int) -> int:
        first = number * pairs_per_step % len(pairs)
        chosen = range(first, first + pairs_per_step)
        for part in range(first, first + pairs_per_step, pairs_at_once):
            batch = collate(examples[part : part + pairs_at_once]).to(device)
            with torch.autocast(model.device.type, autocast, enabled=half):
                loss = model(**batch).loss
            (loss * pairs_at_once / pairs_per_step).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return sum(len(heavy) + len(light) for heavy, light in (pairs[i] for i in chosen))

    return step


def our_step(size: str, way: Way, corpus: Path) -> Step:
    """The trainer's step, as `curr-ab pretrain` and `accelerate launch` run it."""
    from curr_ab.pretraining.batches import TrainingData
    from curr_ab.pretraining.model import build_model
    from curr_ab.pretraining.plan import resolve_plan
    from curr_ab.pretraining.step import build_optimizers, training_step
    from curr_ab.training.processes import start_processes

    dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), way.dropout)
    plan = resolve_plan(
        {
            "member": f"{size}-F",
            "data": str(corpus),
            "config": dropout,
            "pairs_per_step": PAIRS_PER_STEP,
            "precision": way.precision,
        }
    )
    accelerator = start_processes(corpus, plan.precision)
    data = TrainingData(plan)
    built = build_model(plan, "sdpa")
    model, *optimizers = accelerator.prepare(built, *build_optimizers(built, plan))
    parts = PAIRS_PER_STEP // accelerator.num_processes // way.pairs_at_once

    def step(number: int) -> int:
        batches = data.step(number, accelerator.process_index, accelerator.num_processes, parts)
        training_step(accelerator, model, optimizers, plan, number, batches)
        return batches.num_tokens - 4 * PAIRS_PER_STEP  # <cls>, the separator and <eos> are no residues

    return step


def make_step(size: str, way: Way, corpus: Path) -> Step:
    """In the process that is to take the steps."""
    return published_recipe(size, way.pairs_at_once) if way.dropout is None else our_step(size, way, corpus)


def compare(size: str, corpus: Path, repetitions: int, cores: int) -> dict[Way, tuple[float, float]]:
    """Residues per second of wall and of processor time of every way."""
    pipes = {
        way: start(partial(make_step, size, way, corpus), cores, cores if way.one_process_per_core else 1)
        for way in WAYS[size]
    }
    return measure(pipes, repetitions)


def report(size: str, speeds: dict[Way, tuple[float, float]], peaks: Peaks, cores: int) -> None:
    """The table, and which lines hold."""
    from curr_ab import CurrAbConfig
    from curr_ab.family import member

    flops = pretraining_flops(CurrAbConfig(**member(f"{size}-F").config()), LENGTH)
    recipe_wall, recipe_processor = speeds[WAYS[size][0]]
    for way, (wall, processor) in speeds.items():
        ratio, ratio_processor = wall / recipe_wall, processor / recipe_processor
        times = f"{ratio:6.2f} times ({ratio_processor:.2f} in processor time)"
        processes = cores if way.one_process_per_core else 1
        of_peak = share(peaks, way.precision, processes, processor * flops)
        print(f"  {way.name:<52} {wall:>7,.0f} {times}, {of_peak}")
    for ways, (required, aim) in LINES[size].items():
        best = max(speeds[way][0] for way in ways) / recipe_wall
        verdict = "over" if best >= required else "under"
        name = ways[0].name.partition(":")[0]
        print(f"  {name}: {best:.2f} times, {verdict} the line of {required}, aim {aim}")


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=list(LINES), choices=list(LINES))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    # Read when torch is loaded, so by the processes that follow. Without it threads wait by spinning, which
    # takes from each other what they wait for wherever something else runs too.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    from curr_ab.data import PreparationPlan, prepare

    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "corpus"
        prepare("builtin", corpus, PreparationPlan(cluster="source"))
        peaks = measure_peaks(args.cores, args.repetitions)
        for size in args.sizes:
            print(f"{size}: residues per second of a training step, {args.cores} cores, ", end="")
            print(f"median of {args.repetitions}; load of the machine before: {os.getloadavg()[0]:.1f}")
            speeds = compare(size, corpus, args.repetitions, args.cores)
            report(size, speeds, peaks, args.cores)


if __name__ == "__main__":
    main()
