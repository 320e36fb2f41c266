"""Residues that are predicted of each record, and what the model sees in their place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curr_ab.data.tokens import Tokens
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.training.tasks import (
    Task,
    is_residue,
    mask_residues,
    predict_next,
)
from curr_ab.words import CDR3_CODE


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
