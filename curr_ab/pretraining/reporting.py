"""What a run shows while it goes: throughput of the last steps, bar, log, trackers."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from curr_ab.pretraining.batches import StepBatches
from curr_ab.pretraining.run_folder import RunFolder

GIB = 2**30


@dataclass
class Window:
    """Sums over the steps since the last line of the log; the loss stays on its device until then."""

    loss_sum: torch.Tensor
    gradient_norm: torch.Tensor
    began: float
    targets: int = 0
    pairs: int = 0
    unpaired: int = 0
    tokens: int = 0

    @classmethod
    def empty(cls, device: torch.device) -> Window:
        zero = torch.zeros((), device=device)
        return cls(zero, zero, time.perf_counter())

    def add(self, batches: StepBatches, loss_sum: torch.Tensor, gradient_norm: torch.Tensor) -> None:
        """Count one step; a gradient that is no number stays one."""
        self.loss_sum = self.loss_sum + loss_sum
        self.gradient_norm = torch.maximum(self.gradient_norm, gradient_norm)
        self.targets += batches.num_targets
        self.pairs += batches.num_records
        self.unpaired += batches.num_unpaired
        self.tokens += batches.num_tokens


class Reporter:
    """Writes for the main process; the others are silent."""

    def __init__(self, run: RunFolder, accelerator: Accelerator, first_step: int, steps: int) -> None:
        self._run = run
        self._accelerator = accelerator
        self._steps = steps
        self._bar = tqdm(
            total=steps,
            initial=first_step,
            unit="step",
            disable=None if accelerator.is_main_process else True,
        )

    def advance(self) -> None:
        self._bar.update()

    def write(self, entry: dict[str, Any], shown: dict[str, str] | None = None) -> None:
        """One line of the log, the same to the trackers, and a summary at the bar."""
        if self._accelerator.is_main_process:
            self._run.log(entry)
            if shown is not None and self._bar.disable:  # no terminal: a line instead
                told = ", ".join(f"{name} {value}" for name, value in shown.items())
                print(f"step {entry['step']:,} of {self._steps:,}: {told}", file=sys.stderr, flush=True)
            elif shown is not None:
                self._bar.set_postfix({name: value for name, value in shown.items() if name != "left"})
        numbers = {key: value for key, value in entry.items() if isinstance(value, (int, float))}
        self._accelerator.log(numbers, step=entry["step"])

    def say(self, text: str) -> None:
        if self._accelerator.is_main_process:
            self._bar.write(text)

    def close(self) -> None:
        self._bar.close()


def peak_memory(device: torch.device) -> float:
    """GiB that this process has held at most: of the GPU, or of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset / GIB)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (GIB if sys.platform == "darwin" else 2**20)
