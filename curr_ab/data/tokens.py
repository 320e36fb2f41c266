"""Pairs as token ids and back: `<cls> H <cls> <cls> L <eos>`, a single chain as `<cls> S <eos>`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.schema import MASK_LETTERS
from curr_ab.words import CHAINS, VOCABULARY

CLS, PAD, EOS, UNK = range(4)

_CLS_MARK, _EOS_MARK, _NO_RESIDUE = "^", "$", "?"  # stand-ins while a pair is still text
_IDS = np.full(256, UNK, np.uint8)
for _token_id, _token in enumerate(VOCABULARY):
    if len(_token) == 1:
        _IDS[ord(_token)] = _token_id
_IDS[ord(_CLS_MARK)], _IDS[ord(_EOS_MARK)] = CLS, EOS
_LETTERS = np.array([ord(token) if len(token) == 1 else ord(_NO_RESIDUE) for token in VOCABULARY], np.uint8)

Tokens = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


def flat_text(column: pa.Array) -> tuple[Tokens, Offsets]:
    """Bytes of a text column end to end, without those before and behind a slice, and where its rows end."""
    if not len(column):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    _, ends, data = column.buffers()
    kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
    offsets = np.frombuffer(ends, kind)[column.offset :][: len(column) + 1].astype(np.int64)
    letters = np.frombuffer(data or b"", np.uint8)
    return letters[offsets[0] : offsets[-1]], offsets - offsets[0]


def _coded(letters: Tokens, codes: Tokens) -> Tokens:
    """The code of each letter, by the table of 256; an index takes twice the time."""
    return np.frombuffer(bytearray(letters).translate(codes.tobytes()), np.uint8)


def _as_text(heavy: pa.Array, light: pa.Array, cls: str, eos: str) -> pa.Array:
    paired = pc.and_(heavy.is_valid(), light.is_valid())
    between = pc.if_else(paired, cls + cls, "")
    return pc.binary_join_element_wise(
        cls, pc.fill_null(heavy, ""), between, pc.fill_null(light, ""), eos, ""
    )


def encode_pairs(heavy: pa.Array, light: pa.Array) -> tuple[Tokens, Offsets]:
    """Token ids of all pairs end to end, and the offsets between the pairs."""
    letters, offsets = flat_text(_as_text(heavy, light, _CLS_MARK, _EOS_MARK))
    return _coded(letters, _IDS), offsets


def encode_masks(pairs: pa.Table, mask: str) -> Tokens:
    """Mask of every token of the pairs: 0 where unknown or not a residue, else 1 + the letter's position."""
    codes = np.zeros(256, np.uint8)
    for code, letter in enumerate(MASK_LETTERS[mask], start=1):
        codes[ord(letter)] = code
    texts = []
    for chain in CHAINS:
        text = pairs[f"{mask}_{chain}"]
        if text.null_count:
            text = pc.coalesce(text, pc.binary_repeat(_NO_RESIDUE, pc.binary_length(pairs[chain])))
        texts.append(text.combine_chunks())
    letters, _ = flat_text(_as_text(texts[0], texts[1], _NO_RESIDUE, _NO_RESIDUE))
    return _coded(letters, codes)


def decode_pair(tokens: Sequence[int] | Tokens, heavy_length: int) -> tuple[str, str]:
    """Heavy and light chain of one record; a missing chain is empty."""
    text = _LETTERS[np.asarray(tokens)].tobytes().decode()
    start_of_light = 1 + heavy_length + (2 if 0 < heavy_length < len(text) - 2 else 0)
    return text[1 : 1 + heavy_length], text[start_of_light:-1]
