"""Measures fine-tuning by LoRA against the published script's recipe: seconds for 2,000 pairs, in one run.

    python tests/bench_finetuning.py [--size 8M] [--repetitions N] [--cores N]

The recipe: stock `EsmForSequenceClassification` with the same adapters by PEFT, pairs padded to 320, fp32,
AdamW, gradient clipping, batches of 32 on a device, all cores in one process; and the same in parts of 8,
which suit a CPU's caches better. Here: the steps of `curr-ab finetune specificity-binary`, in all cores'
process or with one process for each core, in fp32 and in the recipe's own bf16. All have the dropout of the
published checkpoints. A step is one of the optimiser over 32 pairs and takes everything from tokens to new
weights. The ways take turns, one step each; ratios of processor time stand beside those of wall time, for
they hold on a machine that others use too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

PAIRS, PAIRS_PER_STEP = 2_000, 32
REQUIRED = 3  # times the published recipe
Step = Callable[[int], None]


@dataclass(frozen=True)
class Way:
    """A way to train; without a precision it is the published recipe."""

    name: str
    precision: str | None = None
    pairs_at_once: int = 8
    one_process_per_core: bool = False


RECIPE = Way("published recipe: stock, padded, fp32", pairs_at_once=PAIRS_PER_STEP)
WAYS = (
    RECIPE,  # what the others are compared with
    Way("the recipe in parts of 8 pairs"),
    Way("curr-ab finetune, fp32", "fp32"),
    Way("curr-ab finetune, bf16", "bf16"),
    Way("curr-ab finetune, bf16, a process a core", "bf16", one_process_per_core=True),
)


def make_inputs(size: str, folder: Path) -> None:
    """An untrained checkpoint and labelled pairs."""
    import pyarrow.parquet as pq

    from curr_ab import CurrAbConfig, CurrAbForMaskedLM, CurrAbTokenizer
    from curr_ab.family import member
    from curr_ab.finetuning import plant

    CurrAbForMaskedLM(CurrAbConfig(**member(f"{size}-F").config())).save_pretrained(folder / "base")
    CurrAbTokenizer().save_pretrained(folder / "base")
    pq.write_table(plant("specificity-binary", PAIRS), folder / "pairs.parquet")


def published_recipe(size: str, folder: Path, pairs_at_once: int) -> Step:
    """The published script's training, with adapters."""
    import pyarrow.parquet as pq
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import EsmConfig, EsmForSequenceClassification, EsmTokenizer

    from curr_ab.data.tokens import VOCABULARY
    from curr_ab.family import MAX_TOKENS, member
    from curr_ab.finetuning import resolve_recipe
    from curr_ab.finetuning.adapting import target_pattern

    recipe = resolve_recipe("specificity-binary")
    rows = pq.read_table(folder / "pairs.parquet").to_pylist()
    vocabulary = folder / "vocab.txt"
    if not vocabulary.exists():
        vocabulary.write_text("\n".join(VOCABULARY))
    tokenizer = EsmTokenizer(str(vocabulary))
    texts = [f"{row['heavy']}<cls><cls>{row['light']}" for row in rows]
    inputs = tokenizer(
        texts, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    labels = torch.tensor([recipe.labels.index(row["label"]) for row in rows])
    config = member(f"{size}-F").config()
    del config["classifier_pooling"]  # ours alone
    special = {"mask_token_id": VOCABULARY.index("<mask>"), "pad_token_id": VOCABULARY.index("<pad>")}
    adapters = LoraConfig(
        target_modules=target_pattern(recipe),
        modules_to_save=["classifier"],
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.adapter_dropout,
        task_type="SEQ_CLS",
    )
    model = get_peft_model(EsmForSequenceClassification(EsmConfig(**config, **special)), adapters).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.peak_learning_rate, weight_decay=recipe.weight_decay)

    def step(number: int) -> None:
        first = number * PAIRS_PER_STEP
        for part in range(first, first + PAIRS_PER_STEP, pairs_at_once):
            chosen = slice(part, part + pairs_at_once)
            batch = {name: values[chosen] for name, values in inputs.items()}
            loss = model(**batch, labels=labels[chosen]).loss
            (loss * pairs_at_once / PAIRS_PER_STEP).backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_step(folder: Path, way: Way) -> Step:
    """A step of the first fold, as `curr-ab finetune` and `accelerate launch` run it."""
    from curr_ab.finetuning import resolve_recipe
    from curr_ab.finetuning.cross_validation import CrossValidation
    from curr_ab.finetuning.labelled_batches import epoch_order
    from curr_ab.finetuning.run_folder import FinetuningFolder
    from curr_ab.pretraining.processes import start_processes

    out = FinetuningFolder(folder / way.name.replace(" ", "-"))
    changes = {"folds": 1, "precision": way.precision, "pairs_per_micro_batch": way.pairs_at_once}
    recipe = resolve_recipe("specificity-binary", changes)
    accelerator = start_processes(out.path, recipe.precision)
    data = [str(folder / "pairs.parquet")]
    run = CrossValidation(recipe, folder / "base", data, out, accelerator)
    (fold,) = run.folds
    fit = run.begun(fold, out.fold(fold.number), "fold 1 of 1")
    order = epoch_order(recipe, fold.number, 0, fold.train)

    def step(number: int) -> None:
        chosen = order[number * PAIRS_PER_STEP : (number + 1) * PAIRS_PER_STEP]
        fit.step(chosen)
        fit.progress = fit.progress.after(len(chosen), 0)

    return step


def serve(size: str, way: Way, folder: Path, threads: int, rank: dict[str, str], pipe: Connection) -> None:
    """In a process of its own: wall and processor time of each step that is asked for."""
    os.environ.update({"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(threads), **rank})
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    published = way.precision is None
    step = published_recipe(size, folder, way.pairs_at_once) if published else our_step(folder, way)
    while (number := pipe.recv()) is not None:
        wall, processor = time.perf_counter(), time.process_time()
        step(number)
        pipe.send((time.perf_counter() - wall, time.process_time() - processor))


def start(size: str, way: Way, folder: Path, cores: int) -> list[Connection]:
    """The processes of a way; each answers on its pipe."""
    import socket

    spawn = multiprocessing.get_context("spawn")
    count = cores if way.one_process_per_core else 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    pipes = []
    for rank in range(count):
        group = {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        group |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        mine, theirs = spawn.Pipe()
        arguments = (size, way, folder, cores // count, group if count > 1 else {}, theirs)
        spawn.Process(target=serve, args=arguments, daemon=True).start()
        pipes.append(mine)
    return pipes


def measure(size: str, folder: Path, repetitions: int, cores: int) -> dict[Way, tuple[float, float]]:
    """Seconds of a step, of wall and of processor time: medians over steps that the ways take in turn."""
    pipes = {way: start(size, way, folder, cores) for way in WAYS}
    seconds: dict[Way, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for number in range(repetitions + 1):
        for way in WAYS:
            for pipe in pipes[way]:
                pipe.send(number)
            wall, processor = zip(*(pipe.recv() for pipe in pipes[way]), strict=True)
            if number:  # the first warms up
                seconds[way].append((max(wall), sum(processor)))
    for pipe in (pipe for way in WAYS for pipe in pipes[way]):
        pipe.send(None)
    return {
        way: (statistics.median(wall for wall, _ in found), statistics.median(used for _, used in found))
        for way, found in seconds.items()
    }


def report(seconds: dict[Way, tuple[float, float]]) -> None:
    """The table, and whether the line holds."""
    recipe_wall, recipe_processor = seconds[RECIPE]
    for way, (wall, processor) in seconds.items():
        ratio, ratio_processor = recipe_wall / wall, recipe_processor / processor
        print(f"  {way.name:<42} {wall * PAIRS / PAIRS_PER_STEP:>7,.0f} s {ratio:6.2f} times", end="")
        print(f" ({ratio_processor:.2f} in processor time)")
    best = recipe_wall / min(wall for way, (wall, _) in seconds.items() if way.precision)
    print(f"  {best:.2f} times, {'over' if best >= REQUIRED else 'under'} the line of {REQUIRED}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="8M")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # as in bench_pretraining.py
    with tempfile.TemporaryDirectory() as temporary:
        make_inputs(args.size, Path(temporary))
        print(f"{args.size}: LoRA over {PAIRS:,} pairs once, {args.cores} cores, ", end="")
        print(f"median of {args.repetitions} steps; load of the machine before: {os.getloadavg()[0]:.1f}")
        report(measure(args.size, Path(temporary), args.repetitions, args.cores))


if __name__ == "__main__":
    main()
