"""One row of `benchmarks.gpu`, in a process of its own, or in each of those that Accelerate has launched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu import Row, Scale
from benchmarks.pretraining import published_recipe
from benchmarks.roofline import exact_score_flops, forward_flops, length_of
from curr_ab.data.shards import TokenDataset
from curr_ab.number_types import fast_type
from curr_ab.training.costs import peak_flops, peak_memory, training_flops_per_token

PACKAGES = ("torch", "transformers", "accelerate", "flash-attn", "kernels", "triton", "curr-ab")
SPECIAL_TOKENS = 4  # of a pair: <cls>, the separator of two, <eos>


def describe_machine() -> dict[str, Any]:
    """Hardware, driver and packages; without a GPU the processor, and no driver and no peak."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "none"
    if not torch.cuda.is_available():
        devices = [torch.backends.cpu.get_cpu_capability() + " processor"]
        return {"devices": devices, "driver": "", "peak_flops": None, "packages": packages}
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    asked = shutil.which(query[0]) and subprocess.run(query, capture_output=True, text=True, check=False)
    return {
        "devices": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "driver": asked.stdout.split("\n")[0].strip() if asked else "unknown",
        "peak_flops": peak_flops(torch.device("cuda"), "bf16"),
        "packages": packages | {"CUDA": torch.version.cuda or "none"},
    }


def own_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def blocks_of(step: Callable[[int], int], steps: int, blocks: int) -> list[float]:
    """What is done in a second of each block, until the device has done it; one more before warms up."""
    speeds, numbers = [], count()
    for _ in range(blocks + 1):
        began = time.perf_counter()
        done = sum(step(number) for number in islice(numbers, steps))
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        speeds.append(done / (time.perf_counter() - began))
    return speeds[1:]


def found(speeds: list[float], unit: str, flops_each: float, attention: str) -> dict[str, Any]:
    """A row's figures, where each of what is counted takes so many operations."""
    device = own_device()
    peak = peak_flops(device, fast_type(device).name)
    return {
        "speeds": speeds,
        "unit": unit,
        "share": None if peak is None else median(speeds) * flops_each / peak,
        "memory_gib": peak_memory(device),
        "attention": attention,
        "precision": fast_type(device).name,
        "load": os.getloadavg()[0],
    }


def training(row: Row, scale: Scale, corpus: Path, folder: Path) -> dict[str, Any] | None:
    """The trainer itself, with its own log, from which the figures are; None but in the first process."""
    from curr_ab.number_types import training_precision
    from curr_ab.pretraining.loop import Training
    from curr_ab.pretraining.plan import resolve_plan
    from curr_ab.pretraining.run_folder import RunFolder
    from curr_ab.training.processes import training_processes

    class Measured(Training):
        """Without what a run does before its steps and after the last."""

        def log_baselines(self) -> None:
            pass

        def take_steps(self, prepared, stop):  # a line of the log for each block
            super().take_steps(islice(prepared, (scale.blocks + 1) * scale.steps), stop)

    dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), row.dropout)
    plan = resolve_plan(
        {
            "member": f"{row.size}-F",
            "data": str(corpus),
            "config": {**scale.shape, **dropout},
            "pairs_per_step": scale.pairs_per_step,
            "compile": row.compile,
            "precision": training_precision("auto").name,
            "log_every": scale.steps,
            "save_every": 10**6,
            "evaluate_every": 10**6,
            "evaluation_pairs": 2,
            "checkpoint_every": 0,
        }
    )
    run = RunFolder(folder / "run")
    with training_processes(run.path, plan.precision) as (accelerator, stop):
        measured = Measured(plan, run, accelerator)
        measured.run_to_end(stop)
        measured.reporter.close()
        if not accelerator.is_main_process:
            return None
        attention = accelerator.unwrap_model(measured.model).config._attn_implementation
        lines = [entry for entry in run.read_log() if "residue_tokens_per_second" in entry][1:]
        speeds = [entry["residue_tokens_per_second"] for entry in lines]
        flops = measured.flops_per_token / accelerator.num_processes
        return found(speeds, "token", flops, attention)


def recipe(row: Row, scale: Scale, corpus: Path) -> dict[str, Any]:
    """The published training, on tokens that are no padding."""
    from curr_ab import CurrAbConfig
    from curr_ab.family import member

    device = own_device()
    how = {"pairs_per_step": scale.pairs_per_step, "shape": scale.shape, "autocast": fast_type(device).dtype}
    step = published_recipe(row.size, scale.pairs_at_once, device=device, **how)
    config = CurrAbConfig(**{**member(f"{row.size}-F").config(), **scale.shape})
    flops = training_flops_per_token(config, TokenDataset(corpus, "train", "F").squared_length)
    tokens = SPECIAL_TOKENS * scale.pairs_per_step
    speeds = blocks_of(lambda number: step(number) + tokens, scale.steps, scale.blocks)
    return found(speeds, "token", flops, "stock, padded")


def inference(row: Row, scale: Scale) -> dict[str, Any]:
    """Records from text to numbers on the host, by a model of random weights."""
    from curr_ab import CurrAbConfig, CurrAbForMaskedLM, CurrAbTokenizer
    from curr_ab.data import builtin_path, read_pairs
    from curr_ab.family import member
    from curr_ab.inference import embed, score

    device = own_device()
    torch.manual_seed(0)
    config = CurrAbConfig(**{**member(f"{row.size}-F").config(), **scale.shape})
    model = CurrAbForMaskedLM(config).eval().to(device, fast_type(device).dtype)
    batch, tokenizer = next(iter(read_pairs(builtin_path()))), CurrAbTokenizer()
    number = scale.embedded if row.kind == "embed" else scale.scored
    pairs = list(zip(batch["heavy"].to_pylist(), batch["light"].to_pylist(), strict=True))[:number]
    lengths = [len(heavy) + len(light) + SPECIAL_TOKENS for heavy, light in pairs]
    if row.kind == "embed":
        flops = sum(lengths) * forward_flops(config, length_of(lengths))
    else:
        flops = sum(exact_score_flops(config, length, length - SPECIAL_TOKENS) for length in lengths)
    function = embed if row.kind == "embed" else score
    speeds = blocks_of(lambda _: len(list(function(model, tokenizer, pairs))), 1, scale.blocks)
    return found(speeds, "record", flops / len(pairs), model.config._attn_implementation)


def main() -> None:
    """Write what was found, or that memory was not enough."""
    task, path = json.loads(sys.argv[1]), Path(sys.argv[2])
    row, scale = Row(**task["row"]), Scale(**task["scale"])
    corpus, folder = Path(task["corpus"]), Path(task["folder"])
    try:
        if row.kind == "recipe":
            measured = recipe(row, scale, corpus)
        elif row.kind in ("embed", "score"):
            measured = inference(row, scale)
        else:
            measured = training(row, scale, corpus, folder)
    except torch.OutOfMemoryError:
        path.write_text(json.dumps({"problem": "out of memory"}))
        raise SystemExit("out of memory") from None
    if measured is not None:
        path.write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
