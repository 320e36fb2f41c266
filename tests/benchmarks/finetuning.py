"""Measures LoRA fine-tuning of the 8M against the published script's recipe, side by side in one run.

    python -m benchmarks.finetuning [--repetitions N] [--cores N]

The recipe: stock `EsmForSequenceClassification` with PEFT's LoRA, pairs padded to 320, fp32, dropout 0.1,
AdamW, 32 pairs at once, all cores in one process. Here: the steps of a fit as `curr-ab finetune` takes them,
with the same adapters, in bf16 and in fp32, on all cores in one process or with one process for each core.
A step is 32 pairs, from tokens to new weights; 63 of them are an epoch over 2,000 pairs. Weights are random:
speed does not depend on them. Ratios are of wall time; those of processor time stand beside them,
and shares of the machine's own peak of matrix products, measured first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import Step, measure, start
from benchmarks.roofline import adapter_flops, measure_peaks, share

NUM_PAIRS = 2_000
LENGTH = 234  # tokens of a pair, for the cost of attention
PAIRS_PER_STEP = 32
LINE = 3  # times the recipe that are required of the best way


@dataclass(frozen=True)
class Way:
    """A way to fine-tune; without a precision it is the published script's."""

    name: str
    precision: str | None = None
    one_process_per_core: bool = False


RECIPE = Way("published recipe: stock, PEFT, padded, fp32")
WAYS = (
    RECIPE,
    Way("fp32", "fp32"),
    Way("fp32, a process a core", "fp32", one_process_per_core=True),
    Way("bf16", "bf16"),
    Way("bf16, a process a core", "bf16", one_process_per_core=True),
)


def recipe_of(precision: str) -> Any:
    """The shipped recipe, one fold, one epoch."""
    from curr_ab.finetuning import resolve_recipe

    return resolve_recipe("specificity-binary", {"folds": 1, "epochs": 1, "precision": precision})


def published_script(folder: Path) -> Step:
    """Stock transformers and PEFT, as their manuals put them together."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, EsmForSequenceClassification

    from curr_ab.family import MAX_TOKENS
    from curr_ab.finetuning import read_examples

    recipe = recipe_of("fp32")
    examples = read_examples(recipe, [str(folder / "pairs.parquet")])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(
        [one.heavy for one in examples],
        [one.light for one in examples],
        padding="max_length",
        max_length=MAX_TOKENS,
        return_tensors="pt",
    )
    labels = torch.tensor([one.label for one in examples])
    stock = EsmForSequenceClassification.from_pretrained(folder, num_labels=2)
    lora = LoraConfig(
        task_type="SEQ_CLS",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.adapter_dropout,
        target_modules=r".*\.encoder\.layer\.\d+\.(" + "|".join(recipe.target_modules) + ")",
        modules_to_save=["classifier"],
    )
    model = get_peft_model(stock, lora).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.peak_learning_rate)

    def step(number: int) -> int:
        chosen = torch.arange(number * PAIRS_PER_STEP, (number + 1) * PAIRS_PER_STEP) % len(examples)
        inputs = {name: values[chosen] for name, values in encoded.items()}
        model(**inputs, labels=labels[chosen]).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return sum(len(examples[i].heavy) + len(examples[i].light) for i in chosen.tolist())

    return step


def our_fit(folder: Path, precision: str) -> Step:
    """The steps of a fit on all pairs."""
    import numpy as np

    from curr_ab.finetuning import Fold, read_examples
    from curr_ab.finetuning.batches import TokenRows, answers_of, right_answers
    from curr_ab.finetuning.fit import Fit
    from curr_ab.finetuning.model import build_model, set_training
    from curr_ab.finetuning.run_folder import FitFolder
    from curr_ab.training.costs import default_micro_batch
    from curr_ab.training.processes import start_processes

    recipe = recipe_of(precision)
    accelerator = start_processes(folder, precision)
    examples = read_examples(recipe, [str(folder / "pairs.parquet")])
    everything = np.arange(len(examples))
    rows = TokenRows(examples.items, recipe)
    right = right_answers(examples, recipe, answers_of(everything, rows.answer_ends))
    fold = Fold(1, everything, everything[:0], everything[:0])
    fit = Fit(
        recipe,
        accelerator,
        model=build_model(recipe, str(folder)),
        rows=rows,
        right=right,
        fold=fold,
        folder=FitFolder(folder / precision, folder / "adapter"),
        most_at_once=default_micro_batch(accelerator.device),
    )
    set_training(fit.model, recipe)

    def step(number: int) -> int:
        chosen = np.arange(number * PAIRS_PER_STEP, (number + 1) * PAIRS_PER_STEP) % len(examples)
        fit.step(chosen)
        return sum(len(examples[i].heavy) + len(examples[i].light) for i in chosen.tolist())

    return step


def make_step(way: Way, folder: Path) -> Step:
    """In the process that is to take the steps."""
    return published_script(folder) if way.precision is None else our_fit(folder, way.precision)


def prepare(folder: Path) -> None:
    """Random weights of the 8M, and labelled pairs."""
    import pyarrow.parquet as pq

    from curr_ab import CurrAbConfig, CurrAbForMaskedLM, CurrAbTokenizer
    from curr_ab.family import member
    from curr_ab.finetuning import plant

    CurrAbForMaskedLM(CurrAbConfig(**member("8M-F").config())).save_pretrained(folder)
    CurrAbTokenizer().save_pretrained(folder)
    pq.write_table(plant("specificity-binary", NUM_PAIRS), folder / "pairs.parquet")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    # Read when torch is loaded, so by the processes that follow. Without it threads wait by spinning, which
    # takes from each other what they wait for wherever something else runs too.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        peaks = measure_peaks(args.cores, args.repetitions)
        print(
            f"LoRA on the 8M: residues per second, {args.cores} cores, median of {args.repetitions}; ", end=""
        )
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
        pipes = {
            way: start(
                partial(make_step, way, folder), args.cores, args.cores if way.one_process_per_core else 1
            )
            for way in WAYS
        }
        speeds = measure(pipes, args.repetitions)
    from curr_ab import CurrAbConfig
    from curr_ab.family import member

    flops = adapter_flops(CurrAbConfig(**member("8M-F").config()), LENGTH)
    residues = NUM_PAIRS * 230
    recipe_wall, recipe_processor = speeds[RECIPE]
    for way, (wall, processor) in speeds.items():
        ratio, ratio_processor = wall / recipe_wall, processor / recipe_processor
        print(
            f"  {way.name:<46} {wall:>7,.0f} {ratio:6.2f} times ({ratio_processor:.2f} in processor time)",
            end="",
        )
        processes = args.cores if way.one_process_per_core else 1
        print(f", {share(peaks, way.precision or 'fp32', processes, processor * flops)}", end="")
        print(f", {residues / wall / 60:.1f} minutes for an epoch of {NUM_PAIRS:,} pairs")
    best = max(wall for wall, _ in speeds.values()) / recipe_wall
    print(f"  best: {best:.2f} times, {'over' if best >= LINE else 'under'} the line of {LINE}")


if __name__ == "__main__":
    main()
