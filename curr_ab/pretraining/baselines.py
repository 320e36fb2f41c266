"""What a model must beat: residue frequencies, overall and at each position of each chain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curr_ab.data.shards import TokenDataset
from curr_ab.data.tokens import CLS, VOCABULARY, Tokens
from curr_ab.pretraining.masking import is_residue
from curr_ab.pretraining.sampling import random_stream, shuffled
from curr_ab.pretraining.validation import HeldOut

SAMPLED_PAIRS = 20_000
_LONGEST_CHAIN = 512


def baseline_losses(training: TokenDataset, held_out: HeldOut) -> dict[str, float]:
    """Held-out loss of "unigram" and "position-wise" frequencies of the training set, on the same masks."""
    size = len(training)
    places = np.arange(min(SAMPLED_PAIRS, size))
    gathered = training.gather(shuffled(places, size, random_stream(held_out.seed, "baselines")))
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
    losses: dict[str, list[npt.NDArray[np.float64]]] = {"unigram": [], "position-wise": []}
    for number in held_out.block_numbers:
        block = held_out.block(*number)
        at = np.flatnonzero(block.task.predicted)
        targets = block.task.targets[at]
        positions = _positions(block.tokens, block.ends)
        if held_out.objective == "clm":
            positions = np.roll(positions, -1)  # of the token that is predicted
        losses["unigram"].append(-np.log(unigram[targets]))
        losses["position-wise"].append(-np.log(position_wise[positions[at], targets]))
    return {name: float(np.concatenate(found).mean()) for name, found in losses.items()}


def _positions(tokens: Tokens, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number of each token within its chain; those of the second chain follow on those of the first."""
    index = np.arange(len(tokens))
    is_cls = tokens == CLS
    within = index - np.maximum.accumulate(np.where(is_cls, index, 0))
    starts = np.concatenate([[0], ends[:-1]])
    seen = np.cumsum(is_cls)
    seen_in_record = seen - np.repeat(seen[starts] - 1, np.diff(ends, prepend=0))
    return np.minimum(within, _LONGEST_CHAIN - 1) + np.where(seen_in_record > 1, _LONGEST_CHAIN, 0)
