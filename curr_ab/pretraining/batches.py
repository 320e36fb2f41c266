"""The batch of a step: a function of seed, step and rank, whatever the number of processes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from curr_ab.data.shards import TokenDataset
from curr_ab.pretraining.masking import task_of
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.randomness import random_stream, sampled
from curr_ab.training.packing import TokenBatch, pack


@dataclass(frozen=True)
class StepBatches:
    """One process's share of a step."""

    micro_batches: list[TokenBatch]
    num_targets: int  # of all processes: the loss is the mean over these
    num_records: int  # of all processes, as the next two
    num_tokens: int
    num_unpaired: int


class TrainingData:
    """The training set, and the single chains of a curriculum; `pad` where attention takes no packed rows."""

    def __init__(self, plan: PretrainingPlan, pad: bool = False) -> None:
        self.plan = plan
        self.pad = pad
        self.paired = TokenDataset(plan.data, "train", plan.training_subset)
        self.unpaired = TokenDataset(plan.unpaired_data, "train") if plan.unpaired_data else None
        self.masks: tuple[str, ...] = ()
        if plan.cdr3_mask_fraction is not None and plan.objective == "mlm":
            self.masks = ("region_mask",)
            if "region_mask" not in self.paired.mask_names:
                raise ValueError(f"cdr3_mask_fraction needs region masks, which {plan.data} does not carry")

    @property
    def identity(self) -> dict[str, Any]:
        """Fingerprints, which must be the same when a run goes on; the name of the folder may change."""
        unpaired = self.unpaired.fingerprint if self.unpaired is not None else None
        return {"fingerprint": self.paired.fingerprint, "unpaired_fingerprint": unpaired}

    @property
    def description(self) -> dict[str, Any]:
        """Description of the data that is recorded with a checkpoint."""
        return {
            **self.identity,
            "folder": self.paired.folder.name,
            "split": "train",
            "subset": self.plan.training_subset,
            "num_pairs": len(self.paired),
            "num_tokens": int(self.paired.lengths().sum(dtype=np.int64)),
            "num_unpaired": 0 if self.unpaired is None else len(self.unpaired),
        }

    @property
    def squared_length(self) -> float:
        """Sum of squared lengths over sum of lengths of the pairs: what attention costs by the token."""
        lengths = self.paired.lengths().astype(np.float64)
        return float(np.square(lengths).sum() / lengths.sum())

    def step(self, step: int, rank: int, num_processes: int, num_micro_batches: int) -> StepBatches:
        """The part of step `step` (from 0) that process `rank` computes.

        Every process draws the whole step, which takes a millisecond or two, and keeps its share: so masks do
        not depend on the number of processes, and each knows by how many targets to divide the loss.
        """
        plan = self.plan
        places = np.arange(step * plan.pairs_per_step, (step + 1) * plan.pairs_per_step)
        fraction = unpaired_fraction(plan, step)
        unpaired = random_stream(plan.seed, "curriculum", step).random(len(places)) < fraction
        parts = []
        for source, dataset, chosen in (
            ("paired", self.paired, ~unpaired),
            ("unpaired", self.unpaired, unpaired),
        ):
            if dataset is not None and chosen.any():
                # A place keeps its number in both streams: what the draws were before does not matter.
                items = sampled(plan.seed, source, places[chosen], len(dataset))
                parts.append(dataset.gather(items, self.masks if source == "paired" else ()))
        tokens = np.concatenate([part.tokens for part in parts])
        ends = np.cumsum(np.concatenate([part.lengths for part in parts]))
        codes = None
        if self.masks:
            unknown = np.zeros(len(tokens), np.uint8)
            known = np.concatenate([part.masks[0] for part in parts if part.masks] or [unknown[:0]])
            codes = np.concatenate([known, unknown[len(known) :]])
        task = task_of(plan, tokens, ends, random_stream(plan.seed, "masking", step), codes)
        mine = np.arange(rank, len(places), num_processes)
        return StepBatches(
            micro_batches=list(pack(task, ends, mine, num_micro_batches, self.pad)),
            num_targets=int(task.predicted.sum()),
            num_records=len(places),
            num_tokens=len(tokens),
            num_unpaired=int(unpaired.sum()),
        )


def unpaired_fraction(plan: PretrainingPlan, step: int) -> float:
    """Probability that a place in the batch of this step goes to a single chain (CurrAb, pcbi.1013473)."""
    progress = step / plan.steps
    match plan.curriculum:
        case "paired-only":
            return 0.0
        case "constant":
            return plan.unpaired_fraction
        case "unpaired-then-paired":
            return 1.0 if progress < plan.curriculum_midpoint else 0.0
        case "sigmoid":
            exponent = plan.curriculum_steepness * (progress - plan.curriculum_midpoint)
            drop = plan.unpaired_fraction_start - plan.unpaired_fraction_end
            return plan.unpaired_fraction_start - drop / (1 + math.exp(-exponent))
