"""Features of residues by their neighbours, without a model: what a member must beat residue by residue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curr_ab.domains import find_domains
from curr_ab.measures.metrics import Floats
from curr_ab.measures.repertoires import POSITIONS
from curr_ab.words import CHAINS, STANDARD_RESIDUES

RESIDUE_WINDOWS = "residue-windows"
_REACH = 2  # neighbours on either side
_CODES = {letter: code for code, letter in enumerate(STANDARD_RESIDUES)}
_COLUMNS = {label: column for column, label in enumerate(POSITIONS)}


def residue_windows(pairs: Sequence[tuple[str | None, str | None]]) -> Floats:
    """The residue, its neighbours and its IMGT position, as flags [residues of heavy and light, width]."""
    rows = [_chain(text, place) for pair in pairs for place, text in enumerate(pair) if text]
    return np.concatenate(rows) if rows else np.zeros((0, 0))


def _chain(text: str, place: int) -> Floats:
    letters = len(_CODES) + 1  # the last for what is none of the twenty, or no residue
    codes = np.full(len(text) + 2 * _REACH, letters - 1)
    codes[_REACH : _REACH + len(text)] = [_CODES.get(letter, letters - 1) for letter in text]
    windows = np.lib.stride_tricks.sliding_window_view(codes, 2 * _REACH + 1)
    flags = (windows[:, :, None] == np.arange(letters)).reshape(len(text), -1)
    at = np.zeros((len(text), len(CHAINS) * len(POSITIONS)), bool)
    for domain in find_domains(text)[:1]:
        for row, label in zip(range(domain.start, domain.end), domain.labels, strict=True):
            if label in _COLUMNS:
                at[row, place * len(POSITIONS) + _COLUMNS[label]] = True
    return np.concatenate([flags, at], axis=1).astype(np.float64)
