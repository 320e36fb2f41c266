"""Masked and causal language modelling: what the model sees and what it is to answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curr_ab.data.tokens import CLS, Tokens
from curr_ab.words import VOCABULARY

Flags = npt.NDArray[np.bool_]
MASK = VOCABULARY.index("<mask>")
FIRST_RESIDUE, LAST_RESIDUE = VOCABULARY.index("L"), VOCABULARY.index("O")
# A replacement is one of the 20 amino acids. The published recipe drew from the whole vocabulary, and so put
# `<pad>` and separators in the middle of chains.
NUM_REPLACEMENTS = 20


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
