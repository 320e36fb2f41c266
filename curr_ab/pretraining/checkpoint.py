"""Checkpoint folders on the way and at the end, ready to load, with the record of their training."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers.utils import logging as transformers_logging

from curr_ab.family import SHAPE, member
from curr_ab.files import replacing_folder
from curr_ab.modeling import CurrAbConfig, CurrAbForCausalLM, CurrAbForMaskedLM
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.training.state import Progress, num_bytes_of
from curr_ab.training_record import TRAINING, TrainingRecord, read_training


def write_checkpoint(
    folder: Path, accelerator: Accelerator, model: nn.Module, training: TrainingRecord
) -> None:
    """A folder of the checkpoint contract; it appears whole or not at all."""
    weights = accelerator.get_state_dict(model)  # gathered by all processes, kept by the main one
    if accelerator.is_main_process:
        config = CurrAbConfig.from_dict(accelerator.unwrap_model(model).config.to_dict())
        # Of the plain class: sharding changes the model's.
        exported = (CurrAbForCausalLM if config.is_decoder else CurrAbForMaskedLM)(config)
        exported.load_state_dict(weights)
        with replacing_folder(folder, size=num_bytes_of(weights.values())) as unfinished:
            with _no_bar():  # it would cut through that of the run
                exported.save_pretrained(unfinished)
            CurrAbTokenizer().save_pretrained(unfinished)
            training.write(unfinished)
    accelerator.wait_for_everyone()


@contextmanager
def _no_bar() -> Iterator[None]:
    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()


def training_record(
    plan: PretrainingPlan,
    progress: Progress,
    data: dict[str, Any],
    flops: float,
    accelerator: Accelerator,
    clm_tokens: int | None = 0,
) -> TrainingRecord:
    """The record of a checkpoint that is written now; `clm_tokens` are those of the weights it began with."""
    published = member(plan.member).config()
    own_shape = any(plan.config.get(key, published[key]) != published[key] for key in SHAPE)
    return TrainingRecord(
        member=None if own_shape else plan.member,
        step=progress.step,
        objective=plan.objective,
        plan=public_plan(plan),
        data=data,
        seen={"pairs": progress.pairs, "residue_tokens": progress.tokens}
        | ({"clm_tokens": clm_tokens} if clm_tokens else {}),
        training_flops=flops,
        hours=progress.seconds / 3600,
        devices=describe_devices(accelerator),
        code={"version": version("curr-ab"), "revision": code_revision()},
        versions={name: version(name) for name in ("torch", "transformers", "accelerate")},
    )


def public_plan(plan: PretrainingPlan) -> dict[str, Any]:
    """The plan with the last part alone of what it names by a path: it leaves this machine.

    A checkpoint of a member, to begin from, is named as such: its card can point to it.
    """
    named = {"data": plan.data, "unpaired_data": plan.unpaired_data, "init_from": plan.init_from}
    short = {key: Path(path).name for key, path in named.items() if path is not None and Path(path).exists()}
    record = Path(plan.init_from or "") / TRAINING
    if "init_from" in short and record.is_file():
        short["init_from"] = read_training(record).name or short["init_from"]
    return plan.to_dict() | short


def describe_devices(accelerator: Accelerator) -> str:
    """Text such as `8 x NVIDIA H200`."""
    if accelerator.device.type == "cuda":
        return f"{accelerator.num_processes} x {torch.cuda.get_device_name(accelerator.device)}"
    return f"{accelerator.num_processes} x CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def code_revision() -> str | None:
    """The commit of a source checkout; None for an installed package."""
    if not (Path(__file__).parents[2] / ".git").exists():
        return None
    command = ["git", "-C", str(Path(__file__).parents[2]), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
