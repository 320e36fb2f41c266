"""Costs of a study: parameters, tokens, operations, GPU-hours and disk of every cell."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from curr_ab.data.shards import TokenDataset
from curr_ab.options import OptionError
from curr_ab.pretraining.model import build_config, num_parameters
from curr_ab.quantities import format_bytes
from curr_ab.scaling.compute import TOKENS_PER_PAIR
from curr_ab.study.cells import Cell
from curr_ab.study.preset import Launch
from curr_ab.training.costs import PEAK_FLOPS, expected_utilization, peak_flops, training_flops_per_token

# Weights and AdamW's two moments in a saved state, weights alone in a checkpoint, all in fp32.
_STATE_BYTES, _CHECKPOINT_BYTES = 12, 4
GPU = "H200"  # reckoned with where this machine has none whose peak is known


@dataclass(frozen=True)
class Cost:
    """Costs of one cell; `pairs` is None before the data are prepared."""

    parameters: int
    pairs: int | None
    epochs: float | None
    tokens: float
    flops: float
    gpu_hours: float
    disk_bytes: int


def cost_of(cell: Cell) -> Cost:
    """The cost by shape, plan and data, which need not be there yet; refuses an impossible shape."""
    # What it starts from need not be trained yet; it is a cell of the same shape.
    plan = replace(cell.plan, init_from=None) if cell.after else cell.plan
    try:
        parameters = num_parameters(build_config(plan))
    except (ValueError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"cell {cell.name}: its shape must make a model; {error}") from None
    prepared = (Path(plan.data) / "dataset.json").exists()
    dataset = TokenDataset(plan.data, "train", plan.training_subset, plan.draw) if prepared else None
    length = dataset.num_tokens / len(dataset) if dataset else float(TOKENS_PER_PAIR)
    seen = plan.steps * plan.pairs_per_step
    tokens = seen * length
    squared = dataset.squared_length if dataset else length
    flops = tokens * training_flops_per_token(build_config(plan), squared)
    checkpoints = len(plan.checkpoint_at)
    # An export holds every checkpoint as a revision, and the last once more.
    copies = checkpoints + (checkpoints + (checkpoints > 1) if cell.exported else 0)
    states = plan.keep_last + 1
    return Cost(
        parameters,
        len(dataset) if dataset else None,
        seen / len(dataset) if dataset else None,
        tokens,
        flops,
        flops / (expected_utilization(parameters) * gpu_peak()[0]) / 3600,
        parameters * (_STATE_BYTES * states + _CHECKPOINT_BYTES * copies),
    )


def costs_of(cells: Sequence[Cell], subsets: Mapping[str, float]) -> dict[str, Cost]:
    """Costs of all cells, by name; refuses two at one point of the law. `subsets` are those of the preset."""
    costs = {cell.name: cost_of(cell) for cell in cells}
    points: dict[tuple[float, ...], str] = {}
    for cell in (cell for cell in cells if cell.in_law):
        parameters, pairs = costs[cell.name].parameters, costs[cell.name].pairs or subsets[cell.data]
        plan = cell.plan
        other = points.setdefault((parameters, pairs, plan.draw, plan.seed), cell.name)
        if other != cell.name:
            raise ValueError(
                f"cells {other} and {cell.name} are one point of the law ({parameters:,} parameters, "
                f"data size {pairs}, seed {plan.seed}): let them differ in shape, data or seed"
            )
    return costs


def gpu_peak() -> tuple[float, str]:
    """Peak and name of this machine's GPU, or of the one that is reckoned with."""
    if torch.cuda.is_available() and (peak := peak_flops(torch.device("cuda"), "bf16")):
        return peak, torch.cuda.get_device_name()
    return PEAK_FLOPS[GPU], GPU


def describe_costs(cells: Sequence[Cell], costs_by_name: Mapping[str, Cost], launch: Launch) -> list[str]:
    """The plan as a table, with the sums."""
    width = max(len(cell.name) for cell in cells)
    costs = [costs_by_name[cell.name] for cell in cells]
    lines = [
        f"{'cell':<{width}} {'parameters':>12} {'pairs':>10} {'steps':>8} {'epochs':>8} {'tokens':>9} "
        f"{'FLOPs':>9} {'GPUs':>4} {'GPU-hours':>9} {'disk, GB':>9}"
    ]
    for cell, cost in zip(cells, costs, strict=True):
        pairs = "" if cost.pairs is None else f"{cost.pairs:,}"
        epochs = "" if cost.epochs is None else f"{cost.epochs:,.1f}"
        lines.append(
            f"{cell.name:<{width}} {cost.parameters:>12,} {pairs:>10} {cell.plan.steps:>8,} {epochs:>8} "
            f"{cost.tokens:>9.2e} {cost.flops:>9.2e} "
            f"{launch.gpus(cost.parameters) or '':>4} {cost.gpu_hours:>9.3g} {cost.disk_bytes / 1e9:>9.3g}"
        )
    flops, hours, disk = (
        sum(getattr(c, name) for c in costs) for name in ("flops", "gpu_hours", "disk_bytes")
    )
    lines.append(
        f"{len(cells)} cells, {flops:.2e} FLOPs: {hours:,.3g} hours of one GPU ({gpu_peak()[1]}) if it "
        f"reaches the expected shares of its peak; {format_bytes(disk)} of disk"
    )
    return lines


def require_disk(folder: Path, needed: int) -> None:
    """Refuse a study for which its disk has no room, before hours of work are lost."""
    place = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OptionError(
            f"the study needs about {format_bytes(needed)}, and the disk of {folder} has "
            f"{format_bytes(free)} free: free some, choose another disk, or keep the last checkpoints alone "
            "with '*.checkpoint_every=0'",
            *("out", "set"),
        )


def used_bytes(folder: Path) -> int:
    """Bytes that lie in a folder already."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
