"""What is predicted of each record, and what the model sees instead; vectorised over a whole step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curr_ab.data.schema import REGIONS
from curr_ab.data.tokens import CLS, VOCABULARY, Tokens
from curr_ab.pretraining.plan import PretrainingPlan

Flags = npt.NDArray[np.bool_]

MASK = VOCABULARY.index("<mask>")
FIRST_RESIDUE, LAST_RESIDUE = VOCABULARY.index("L"), VOCABULARY.index("O")
# A replacement is one of the 20 amino acids. The published recipe drew from the whole vocabulary, and so put
# `<pad>` and separators in the middle of chains.
NUM_REPLACEMENTS = 20
CDR3_CODE = REGIONS.index("CDR3") + 1


@dataclass(frozen=True)
class Task:
    """Tokens end to end, as the model sees them, and what it is to answer where."""

    inputs: Tokens
    predicted: Flags  # positions whose output is scored
    targets: Tokens  # the right answer at each of all positions


def is_residue(tokens: Tokens) -> Flags:
    """False at `<cls>`, the separator, `<eos>`: these are never masked."""
    return (tokens >= FIRST_RESIDUE) & (tokens <= LAST_RESIDUE)


def mask_residues(
    tokens: Tokens,
    randomness: np.random.Generator,
    rates: float | npt.NDArray[np.float32],
    mask_token_share: float,
    random_token_share: float,
) -> Task:
    """Masked language modelling: selected residues become `<mask>`, a random residue, or stay."""
    predicted = is_residue(tokens) & (randomness.random(len(tokens), np.float32) < rates)
    selected = np.flatnonzero(predicted)
    fate = randomness.random(len(selected), np.float32)
    inputs = tokens.copy()
    inputs[selected[fate < mask_token_share]] = MASK
    replaced = selected[(fate >= mask_token_share) & (fate < mask_token_share + random_token_share)]
    inputs[replaced] = randomness.integers(
        FIRST_RESIDUE, FIRST_RESIDUE + NUM_REPLACEMENTS, len(replaced), np.uint8
    )
    return Task(inputs, predicted, tokens)


def predict_next(tokens: Tokens, ends: npt.NDArray[np.int64]) -> Task:
    """Causal language modelling: residues and the token that ends each chain, from what precedes them."""
    targets = np.roll(tokens, -1)
    predicted = np.ones(len(tokens), bool)
    predicted[ends - 1] = False  # what follows is another record
    predicted &= ~((tokens == CLS) & (targets == CLS))  # the second half of the separator is no news
    return Task(tokens, predicted, targets)


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
