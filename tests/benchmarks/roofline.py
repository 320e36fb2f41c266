"""Measures the peaks of this machine's matrix products, of which other benchmarks state their shares.

    python -m benchmarks.roofline [--repetitions N] [--cores N]

In fp32 and bf16, by one process with all cores and by a process for each core. A number type that the machine
does not multiply is named and left out. A share counts only the operations that the task needs: those of
residues, not of padding. It is of processor time, which suffers less from other programs; dispatch,
elementwise operations and copies are what keeps it below 100 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.processes import Step, measure, start

ANSWERED = 0.15  # share of the tokens whose output a masked training reads


@dataclass(frozen=True)
class Peak:
    """Matrix products in one number type."""

    precision: str
    processes: int

    @property
    def name(self) -> str:
        return f"{self.precision}, {self.processes} process{'es' if self.processes > 1 else ''}"


Peaks = dict[Peak, tuple[float, float]]  # operations per second of wall and of processor time


def products(precision: str, processes: int, size: int = 1024, repeats: int = 10) -> Step:
    """In each process; what all of them compute together is what a step returns."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))

    def step(number: int) -> int:
        for _ in range(repeats):
            left @ right
        return processes * repeats * 2 * size**3

    return step


def measure_peaks(cores: int, repetitions: int) -> Peaks:
    """Medians, after a line for each; bf16 where the machine multiplies it."""
    import torch

    from curr_ab.number_types import fast_type

    fast = fast_type(torch.device("cpu"))
    precisions = ["fp32"]
    if fast.name == "bf16":
        precisions.append("bf16")
    else:
        print(f"peak of matrix products: bf16 left out, {fast.reason}")
    wanted = [Peak(precision, count) for precision in precisions for count in sorted({1, cores})]
    pipes = {
        one: start(partial(products, one.precision, one.processes), cores, one.processes) for one in wanted
    }
    peaks = measure(pipes, repetitions)
    for peak, (wall, processor) in peaks.items():
        speed = f"{wall / 1e9:,.0f} GFLOP/s, {processor / 1e9:,.0f} a second of one core"
        print(f"peak of matrix products, {peak.name} on {cores} core(s): {speed}", flush=True)
    return peaks


def share(peaks: Peaks, precision: str, processes: int, flops_per_processor_second: float) -> str:
    """Of the peak in this number type with as many processes; why there is none, else."""
    peak = peaks.get(Peak(precision, processes))
    if peak is None:
        return f"no peak in {precision}"
    return f"{flops_per_processor_second / peak[1]:.0%} of the {precision} peak"


def forward_flops(config: Any, length: float) -> float:
    """For one token of a sequence of this length, all layers; norms and the like do not count."""
    d, ffn = config.hidden_size, config.intermediate_size
    return float(config.num_hidden_layers * (2 * (4 * d * d + 2 * d * ffn) + 4 * length * d))


def pretraining_flops(config: Any, length: float) -> float:
    """Forward and backward for one token; what follows the last attention only where an answer is read."""
    d, ffn = config.hidden_size, config.intermediate_size
    after, head = 2 * d * d + 4 * d * ffn, 2 * (d * d + d * config.vocab_size)
    return 3 * (forward_flops(config, length) - (1 - ANSWERED) * after + ANSWERED * head)


def adapter_flops(config: Any, length: float) -> float:
    """Forward and backward for one token where the weights are frozen; adapters do not count."""
    attention = 4 * length * config.hidden_size * config.num_hidden_layers
    return 2 * forward_flops(config, length) + attention


def exact_score_flops(config: Any, length: int, masked: int) -> float:
    """A copy for each masked residue; the last layer needs keys and values, and one row of the rest."""
    d, ffn = config.hidden_size, config.intermediate_size
    layer = forward_flops(config, length) / config.num_hidden_layers
    all_rows = forward_flops(config, length) - layer + 4 * d * d
    one_row = 2 * (2 * d * d + 2 * d * ffn) + 4 * length * d
    return masked * (length * all_rows + one_row)


def length_of(lengths: Iterable[int]) -> float:
    """The length that stands for all of them in the cost of attention."""
    lengths = list(lengths)
    return sum(length**2 for length in lengths) / sum(lengths)


def main() -> None:
    """Print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    measure_peaks(args.cores, args.repetitions)


if __name__ == "__main__":
    main()
