"""The batch of a step: a function of seed, step and rank, whatever the number of processes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curr_ab.data.shards import TokenDataset
from curr_ab.data.tokens import CLS, Tokens
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.randomness import random_stream, sampled, sampled_in_stretches
from curr_ab.training.packed_rows import TokenBatch, pack
from curr_ab.training.tasks import Task, is_residue, mask_residues, predict_next
from curr_ab.words import CDR3_CODE


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
        self.paired = TokenDataset(plan.data, "train", plan.training_subset, plan.draw)
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
            **({"draw": self.plan.draw} if self.plan.draw else {}),
            "num_pairs": len(self.paired),
            "num_tokens": self.paired.num_tokens,
            "num_unpaired": 0 if self.unpaired is None else len(self.unpaired),
        }

    def step(self, step: int, rank: int, num_processes: int, num_micro_batches: int) -> StepBatches:
        """The part of step `step` (from 0) that process `rank` computes.

        Every process draws the whole step, which takes a millisecond or two, and keeps its share: so masks do
        not depend on the number of processes, and each knows by how many targets to divide the loss.
        """
        plan = self.plan
        numbers = np.arange(step * plan.pairs_per_step, (step + 1) * plan.pairs_per_step)
        fraction = unpaired_fraction(plan, step)
        unpaired = random_stream(plan.seed, "curriculum", step).random(len(numbers)) < fraction
        parts = []
        for source, dataset, chosen in (
            ("paired", self.paired, ~unpaired),
            ("unpaired", self.unpaired, unpaired),
        ):
            if dataset is not None and chosen.any():
                # A record has one number for both streams: what the draws were before does not matter.
                items = drawn(plan, source, dataset, numbers[chosen])
                parts.append(dataset.gather(items, self.masks if source == "paired" else ()))
        tokens = np.concatenate([part.tokens for part in parts])
        ends = np.cumsum(np.concatenate([part.lengths for part in parts]))
        if plan.light_first:
            # A stream of its own, so that the other draws are those of a run that has none light first.
            first = random_stream(plan.seed, "light-first", step).random(len(numbers)) < plan.light_first
            tokens = light_chains_first(tokens, ends, np.flatnonzero(first[~unpaired]))
        codes = None
        if self.masks:
            # Single chains, which follow the pairs, have no masks.
            codes = np.zeros(len(tokens), np.uint8)
            if parts[0].masks:
                codes[: len(parts[0].masks[0])] = parts[0].masks[0]
        task = task_of(plan, tokens, ends, random_stream(plan.seed, "masking", step), codes)
        mine = np.arange(rank, len(numbers), num_processes)
        if plan.tokens_per_micro_batch:
            # By the longest record of the step, so that every process has as many: they meet in each.
            at_once = max(1, plan.tokens_per_micro_batch // int(np.diff(ends, prepend=0).max()))
            num_micro_batches = -(-len(numbers) // num_processes // at_once)
        return StepBatches(
            micro_batches=list(pack(task, ends, mine, num_micro_batches, self.pad)),
            num_targets=int(task.predicted.sum()),
            num_records=len(numbers),
            num_tokens=len(tokens),
            num_unpaired=int(unpaired.sum()),
        )


def drawn(
    plan: PretrainingPlan, source: str, dataset: TokenDataset, places: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The record at each of these places of the run."""
    if plan.shards_at_once is None:
        return sampled(plan.seed, source, places, len(dataset))
    return sampled_in_stretches(plan.seed, source, places, dataset.shard_bounds, plan.shards_at_once)


def light_chains_first(tokens: Tokens, ends: npt.NDArray[np.int64], records: npt.NDArray[np.intp]) -> Tokens:
    """The tokens with these records as `<cls> L <cls> <cls> H <eos>`: each is as long as before."""
    turned = tokens.copy()
    for record in records:
        start, end = (0 if record == 0 else ends[record - 1]) + 1, ends[record] - 1
        separator = start + np.flatnonzero(tokens[start:end] == CLS)[:1]
        for at in separator:  # a single chain has none
            heavy, light = tokens[start:at], tokens[at + 2 : end]
            turned[start:end] = np.concatenate([light, tokens[at : at + 2], heavy])
    return turned


def unpaired_fraction(plan: PretrainingPlan, step: int) -> float:
    """Probability that a record in the batch of this step is a single chain (CurrAb, pcbi.1013473)."""
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


def task_of(
    plan: PretrainingPlan,
    tokens: Tokens,
    ends: npt.NDArray[np.int64],
    randomness: np.random.Generator,
    region_codes: Tokens | None = None,
) -> Task:
    """The plan's objective on these records, which end at `ends`; `region_codes` where CDR3 is preferred."""
    if plan.objective == "clm":
        return predict_next(tokens, ends)
    rates: float | npt.NDArray[np.float32] = plan.mask_fraction
    if region_codes is not None and plan.cdr3_mask_fraction is not None:
        rates = cdr3_rates(tokens, region_codes, ends, plan.mask_fraction, plan.cdr3_mask_fraction)
    return mask_residues(tokens, randomness, rates, plan.mask_token_share, plan.random_token_share)


def cdr3_rates(
    tokens: Tokens,
    region_codes: Tokens,
    ends: npt.NDArray[np.int64],
    mask_fraction: float,
    cdr3_fraction: float,
) -> npt.NDArray[np.float32]:
    """Masking rate of every token: higher in CDR3, lower elsewhere, with the same mean in each record."""
    starts = np.concatenate([[0], ends[:-1]])
    in_cdr3 = region_codes == CDR3_CODE
    num_cdr3 = np.add.reduceat(in_cdr3, starts, dtype=np.int64)
    num_residues = np.add.reduceat(is_residue(tokens), starts, dtype=np.int64)
    elsewhere = mask_fraction * num_residues - cdr3_fraction * num_cdr3
    elsewhere = (elsewhere / np.maximum(num_residues - num_cdr3, 1)).clip(0, 1)
    rates = np.repeat(elsewhere, ends - starts)
    return np.where(in_cdr3, cdr3_fraction, rates).astype(np.float32)
