"""Loss on held-out pairs under fixed masks, so that members compare: overall, by region, by segment."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from curr_ab.data.schema import MASK_LETTERS
from curr_ab.data.shards import TokenDataset
from curr_ab.data.tokens import CLS, Tokens
from curr_ab.family import TrainingPlan
from curr_ab.measures.metrics import Flags, Floats
from curr_ab.measures.statistics import mean_over_pairs
from curr_ab.randomness import random_stream, shuffled
from curr_ab.results import Detail, Result
from curr_ab.training.packed_rows import TokenBatch, pack
from curr_ab.training.tasks import Task, is_residue, mask_residues, predict_next
from curr_ab.words import CDR3_CODE, MASK_TOKEN_SHARE, RANDOM_TOKEN_SHARE, REGIONS, VOCABULARY

# Masks are drawn for blocks of this many pairs, so that they depend neither on batch size nor on processes.
PAIRS_PER_BLOCK = 64
# Always the published masking, whatever a member was trained with.
MASK_FRACTION = TrainingPlan().mask_fraction
_SEGMENTS = MASK_LETTERS["segment_mask"]
# Regions of both chains, then the segments of CDRH3: the names of parts of the loss, in the order of columns.
LOSS_REGIONS = (
    *(f"heavy {region}" for region in REGIONS),
    *(f"light {region}" for region in REGIONS),
    *(f"CDRH3 {segment}" for segment in _SEGMENTS),
)
SAMPLED_PAIRS = 20_000
_LONGEST_CHAIN = 512
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LossEstimate:
    """Mean cross-entropy in nats; the standard error takes pairs, not residues, as independent."""

    loss: float
    standard_error: float
    num_targets: int
    num_pairs: int


@dataclass(frozen=True)
class Block:
    """Some held-out pairs with one drawing of masks."""

    first_pair: int
    tokens: Tokens
    task: Task
    ends: Codes
    regions: Codes  # index in LOSS_REGIONS of each token's region, -1 where unknown
    segments: Codes  # the same of its segment in CDRH3, V, D, J or N, else -1

    @property
    def pair_of_token(self) -> Codes:
        return np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0))


@dataclass(frozen=True)
class HeldOut:
    """The first `num_pairs` of a split, each masked `draws` times."""

    dataset: TokenDataset
    _: KW_ONLY
    num_pairs: int
    draws: int
    seed: int
    objective: str = "mlm"
    pad: bool = False

    def __post_init__(self) -> None:
        if min(self.num_pairs, len(self.dataset)) < 2:
            raise ValueError(
                f"at least 2 held-out pairs must be measured; got {len(self)} "
                f"({self.dataset.folder} has {len(self.dataset)})"
            )

    def __len__(self) -> int:
        return min(self.num_pairs, len(self.dataset))

    @property
    def block_numbers(self) -> list[tuple[int, int]]:
        """(draw, first pair) of every block; a causal model has nothing to draw."""
        draws = self.draws if self.objective == "mlm" else 1
        return [(draw, first) for draw in range(draws) for first in range(0, len(self), PAIRS_PER_BLOCK)]

    def block(self, draw: int, first: int) -> Block:
        pairs = range(first, min(first + PAIRS_PER_BLOCK, len(self)))
        has = self.dataset.mask_names
        masks: list[str] = [name for name in ("region_mask", "segment_mask") if name in has]
        gathered = self.dataset.gather(pairs, masks)
        ends = np.cumsum(gathered.lengths)
        if self.objective == "clm":
            task = predict_next(gathered.tokens, ends)
        else:
            randomness = random_stream(self.seed, "evaluation", draw, first)
            task = mask_residues(
                gathered.tokens, randomness, MASK_FRACTION, MASK_TOKEN_SHARE, RANDOM_TOKEN_SHARE
            )
        codes = dict(zip(masks, gathered.masks, strict=True))
        heavy_lengths = self.dataset.heavy_lengths(pairs)
        heavy = np.concatenate(
            [np.arange(n) <= heavy for heavy, n in zip(heavy_lengths, gathered.lengths, strict=True)]
        )
        regions, segments = _regions(codes, heavy, len(gathered.tokens))
        if self.objective == "clm":  # a region is that of the residue that is predicted
            regions, segments = np.roll(regions, -1), np.roll(segments, -1)
        return Block(first, gathered.tokens, task, ends, regions, segments)

    def rows(self, pairs_per_batch: int) -> list[tuple[int, int, int, int]]:
        """Arguments of `batch` for everything that is evaluated."""
        rows = []
        for draw, first in self.block_numbers:
            in_block = min(PAIRS_PER_BLOCK, len(self) - first)
            num_batches = -(-in_block // pairs_per_batch)
            rows += [(draw, first, number, num_batches) for number in range(num_batches)]
        return rows

    def batch(self, draw: int, first: int, number: int, num_batches: int) -> tuple[Block, TokenBatch]:
        block = self.block(draw, first)
        batches = pack(block.task, block.ends, np.arange(len(block.ends)), num_batches, self.pad)
        return block, next(itertools.islice(batches, number, None))


def _regions(codes: Mapping[str, Tokens], heavy: Flags, num_tokens: int) -> tuple[Codes, Codes]:
    """Region and segment of each token, as indices in LOSS_REGIONS."""
    unknown = np.zeros(num_tokens, np.int64)
    region = codes["region_mask"].astype(np.int64) if "region_mask" in codes else unknown
    segment = codes["segment_mask"].astype(np.int64) if "segment_mask" in codes else unknown
    regions = np.where(region > 0, region - 1 + np.where(heavy, 0, len(REGIONS)), -1)
    in_cdrh3 = heavy & (region == CDR3_CODE) & (segment > 0)
    return regions, np.where(in_cdrh3, segment - 1 + 2 * len(REGIONS), -1)


class LossTable:
    """Summed losses and counts of every pair, in all and by region."""

    def __init__(self, num_pairs: int) -> None:
        self.sums = np.zeros((num_pairs, 1 + len(LOSS_REGIONS)))
        self.counts = np.zeros((num_pairs, 1 + len(LOSS_REGIONS)))

    def add(self, block: Block, losses: Floats, tokens: Codes) -> None:
        """`losses` of the predicted `tokens`, numbered within the block."""
        pairs = block.first_pair + block.pair_of_token[tokens]
        self._add(pairs, np.zeros(len(tokens), np.int64), losses)
        for regions in (block.regions[tokens], block.segments[tokens]):
            known = regions >= 0
            self._add(pairs[known], 1 + regions[known], losses[known])

    def _add(self, pairs: Codes, columns: Codes, losses: Floats) -> None:
        np.add.at(self.sums, (pairs, columns), losses)
        np.add.at(self.counts, (pairs, columns), 1)

    def estimates(self) -> dict[str, LossEstimate]:
        """Estimates by name: "all", then the regions in which anything was predicted."""
        estimates = {}
        for column, name in enumerate(("all", *LOSS_REGIONS)):
            sums, counts = self.sums[:, column], self.counts[:, column]
            if total := counts.sum():
                pairs = int((counts > 0).sum())
                estimates[name] = LossEstimate(*mean_over_pairs(sums, counts), int(total), pairs)
        return estimates


def evaluate(model: nn.Module, held_out: HeldOut, **options: Any) -> dict[str, LossEstimate]:
    """Estimates by region, of `loss_table`."""
    return loss_table(model, held_out, **options).estimates()


def loss_table(
    model: nn.Module,
    held_out: HeldOut,
    *,
    device: torch.device,
    pairs_per_batch: int,
    rank: int = 0,
    num_processes: int = 1,
    total: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
) -> LossTable:
    """Losses of a model in evaluation mode; `total` adds a tensor up over the processes."""
    was_training = model.training
    model.eval()
    table = LossTable(len(held_out))
    rows = held_out.rows(pairs_per_batch)
    with torch.no_grad():
        for first in range(0, len(rows), num_processes):
            # A sharded model computes with all processes or not at all: one without a row repeats the last.
            mine = first + rank
            block, batch = held_out.batch(*rows[min(mine, len(rows) - 1)])
            moved = batch.to(device)
            logits = model(**moved.model_inputs).logits
            losses = F.cross_entropy(logits.float(), moved.targets, reduction="none")
            if mine < len(rows):
                table.add(block, losses.double().cpu().numpy(), batch.answers_at)
    model.train(was_training)
    both = total(torch.from_numpy(np.stack([table.sums, table.counts])).to(device)).cpu().numpy()
    table.sums, table.counts = both[0], both[1]
    return table


def loss_results(
    estimates: Mapping[str, LossEstimate],
    held_out: HeldOut,
    *,
    quantities: Mapping[str, Detail] = MappingProxyType({}),
    **measured: Any,
) -> list[Result]:
    """Estimates as records for cards and fits; `measured` are the fields that say of which checkpoint.

    `quantities` of the training go with the overall loss, where the scaling fit looks for them.
    """
    dataset = held_out.dataset
    return [
        Result(
            task=f"{dataset.split}-loss",
            metric="loss",
            value=estimate.loss,
            standard_error=estimate.standard_error,
            num_items=estimate.num_targets,
            dataset=f"{dataset.folder.name} {dataset.fingerprint[:12]}",
            split=dataset.split,
            details={
                "place": region,
                "objective": held_out.objective,
                "mask_seed": held_out.seed,
                **(quantities if region == "all" else {}),
            },
            **measured,
        )
        for region, estimate in estimates.items()
    ]


def baseline_losses(training: TokenDataset, held_out: HeldOut) -> dict[str, float]:
    """Held-out loss of "unigram" and "position-wise" frequencies of the training set, on the same masks."""
    size = len(training)
    sample = np.arange(min(SAMPLED_PAIRS, size))
    gathered = training.gather(shuffled(sample, size, random_stream(held_out.seed, "baselines")))
    counts = np.zeros((2 * _LONGEST_CHAIN, len(VOCABULARY)))
    ends = np.cumsum(gathered.lengths)
    # What may be asked for: a causal model also predicts where chains end.
    asked = is_residue(gathered.tokens) if held_out.objective == "mlm" else gathered.tokens >= 0
    np.add.at(counts, (_positions(gathered.tokens, ends)[asked], gathered.tokens[asked]), 1)
    overall = counts.sum(axis=0)
    overall += is_residue(np.arange(len(VOCABULARY), dtype=np.uint8))  # none that is possible is at zero
    unigram = overall / overall.sum()
    # Where a position was never seen, its frequencies are the overall ones.
    smoothed = counts + unigram
    position_wise = smoothed / smoothed.sum(axis=1, keepdims=True)
    losses: dict[str, list[Floats]] = {"unigram": [], "position-wise": []}
    for number in held_out.block_numbers:
        block = held_out.block(*number)
        at = np.flatnonzero(block.task.predicted)
        targets = block.task.targets[at]
        positions = _positions(block.tokens, block.ends)
        if held_out.objective == "clm":
            positions = np.roll(positions, -1)  # of the token that is predicted
        losses["unigram"].append(-np.log(unigram[targets]))
        losses["position-wise"].append(-np.log(position_wise[positions[at], targets]))
    return {name: float(np.concatenate(of_blocks).mean()) for name, of_blocks in losses.items()}


def _positions(tokens: Tokens, ends: Codes) -> Codes:
    """Number of each token within its chain; those of the second chain follow on those of the first."""
    index = np.arange(len(tokens))
    is_cls = tokens == CLS
    within = index - np.maximum.accumulate(np.where(is_cls, index, 0))
    starts = np.concatenate([[0], ends[:-1]])
    seen = np.cumsum(is_cls)
    seen_in_record = seen - np.repeat(seen[starts] - 1, np.diff(ends, prepend=0))
    return np.minimum(within, _LONGEST_CHAIN - 1) + np.where(seen_in_record > 1, _LONGEST_CHAIN, 0)
