"""Records as tokens: one by one, or a window of them end to end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from curr_ab.data.tokens import encode_pairs
from curr_ab.inference.records import REGION, Record, number_one
from curr_ab.inference.token_batches import TokenSequences
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.tokenization.tokenization_curr_ab import SEPARATOR
from curr_ab.words import CHAINS, REGIONS, STANDARD_RESIDUES, VOCABULARY

# By token id: residues, and those that no sequence of nucleotides has.
_RESIDUE_IDS, _TELLING_IDS = (
    np.array([token in letters for token in VOCABULARY]) for letters in ([*STANDARD_RESIDUES], [*"EPQ"])
)


class TokenRecord(NamedTuple):
    """A record as tokens, and the positions of its residues among them."""

    record: Record
    input_ids: Tensor  # [S]
    positions: Tensor  # [R] of the residues, heavy chain first
    num_heavy: int  # so many of them are the heavy chain's

    def __repr__(self) -> str:
        return f"TokenRecord(id={self.record.id!r}, {len(self.input_ids)} tokens: {self.lengths})"

    @property
    def lengths(self) -> str:
        """The numbers of residues in words."""
        return f"{self.num_heavy} heavy and {len(self.positions) - self.num_heavy} light residues"

    def residues(self, chain: str) -> slice:
        """The range of a chain's residues among all residues."""
        return slice(0, self.num_heavy) if chain == "heavy" else slice(self.num_heavy, len(self.positions))

    def site(self, index: int) -> tuple[str, int]:
        """The chain of a residue, and its position there from 1."""
        heavy = self.num_heavy
        return ("heavy", index + 1) if index < heavy else ("light", index + 1 - heavy)


class TokenWindow(Sequence[TokenRecord]):
    """Records that are batched together, their tokens end to end; as a sequence, each by itself."""

    def __init__(
        self,
        records: Sequence[Record],
        input_ids: npt.NDArray[Any],
        lengths: npt.NDArray[np.int64],
        num_heavy: npt.NDArray[np.int64],
        special: Sequence[int],
    ) -> None:
        self.records, self.num_heavy = records, num_heavy
        self.tokens = TokenSequences(input_ids, lengths)
        self.is_residue = ~np.isin(input_ids, special)  # [T], of all tokens
        self.num_residues = self.tokens.sums(self.is_residue)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        start, stop = self.tokens.offsets[index], self.tokens.offsets[index] + self.tokens.lengths[index]
        positions = torch.from_numpy(np.flatnonzero(self.is_residue[start:stop]))
        ids = torch.from_numpy(self.tokens.input_ids[start:stop].astype(np.int64))
        return TokenRecord(self.records[index], ids, positions, int(self.num_heavy[index]))

    def in_part(self, part: str) -> npt.NDArray[np.bool_]:
        """Whether each token [T] is a residue of the part; a record without any is an error that names it."""
        if part == "pair":
            inside = self.is_residue
        elif part in CHAINS:
            for record in self.records:
                if record.chain(part) is None:
                    raise ValueError(f"{record.name} has no {part} chain")
            number = np.cumsum(self.is_residue)  # of each residue in the window, from 1
            before = np.cumsum(self.num_residues) - self.num_residues
            of_heavy = number <= np.repeat(before + self.num_heavy, self.tokens.lengths)
            inside = self.is_residue & (of_heavy if part == "heavy" else ~of_heavy)
        else:
            inside = np.zeros_like(self.is_residue)
            for one, start in zip(self, self.tokens.offsets, strict=True):
                inside[start + one.positions[residues_of(part, one)].numpy()] = True
        for record, count in zip(self.records, self.tokens.sums(inside), strict=True):
            if not count:
                raise ValueError(f"{record.name} has no residue in {part}")
        return inside


def tokenize(tokenizer: CurrAbTokenizer, records: Iterable[Record]) -> TokenWindow:
    """Token ids as the model was trained on them; the error names the record."""
    records = list(records)
    special = (tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    encoded = _encode(tokenizer, records)
    if encoded is None or not _is_of_the_family(tokenizer):
        ids = [_token_ids(tokenizer, record) for record in records]
    elif encoded.is_ordinary.all():
        return TokenWindow(records, encoded.input_ids, encoded.lengths, encoded.num_heavy, special)
    else:
        ids = [
            own if ordinary else _token_ids(tokenizer, record)
            for record, own, ordinary in zip(records, encoded.each(), encoded.is_ordinary, strict=True)
        ]
    lights = ((record.light or "").replace("<mask>", "X") for record in records)
    num_residues = [int((~np.isin(one, special)).sum()) for one in ids]
    num_heavy = [count - len(light) for count, light in zip(num_residues, lights, strict=True)]
    lengths = np.array([len(one) for one in ids], np.int64)
    return TokenWindow(
        records,
        np.concatenate([np.zeros(0, np.int64), *ids]),
        lengths,
        np.array(num_heavy, np.int64),
        special,
    )


def tokenize_one(tokenizer: CurrAbTokenizer, record: Record) -> TokenRecord:
    """The same for one record."""
    [tokens] = tokenize(tokenizer, [record])
    return tokens


def are_ordinary(tokenizer: CurrAbTokenizer, records: Sequence[Record]) -> npt.NDArray[np.bool_]:
    """Which records the tokenizer surely takes; of the others it must be asked."""
    encoded = _encode(tokenizer, records)
    return np.zeros(len(records), bool) if encoded is None else encoded.is_ordinary


class _Encoded(NamedTuple):
    """Ids of records end to end as the family writes them; right for those that are ordinary."""

    input_ids: npt.NDArray[Any]
    lengths: npt.NDArray[np.int64]
    num_heavy: npt.NDArray[np.int64]
    is_ordinary: npt.NDArray[np.bool_]

    def each(self) -> list[npt.NDArray[Any]]:
        return np.split(self.input_ids, np.cumsum(self.lengths)[:-1])


def _is_of_the_family(tokenizer: CurrAbTokenizer) -> bool:
    """True where it writes pairs as `encode_pairs` does."""
    return (
        tokenizer.separator == SEPARATOR
        and len(tokenizer) == len(VOCABULARY)
        and tokenizer.convert_tokens_to_ids(list(VOCABULARY)) == list(range(len(VOCABULARY)))
    )


def _encode(tokenizer: CurrAbTokenizer, records: Sequence[Record]) -> _Encoded | None:
    """Ids of all records without the tokenizer, a hundred times as fast; None where a chain is no text.

    Ordinary are chains in the letters of the twenty residues, not too long, and none that may be nucleotides:
    their letters are letters of residues, too, but none of them is an E, a P or a Q.
    """
    try:
        heavy, light = (pa.array([record.chain(name) for record in records], pa.string()) for name in CHAINS)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a chain is no text
        return None
    encoded, offsets = encode_pairs(heavy, light)
    lengths = np.diff(offsets)
    num_heavy, num_light = (
        pc.fill_null(pc.binary_length(chain), 0).to_numpy().astype(np.int64) for chain in (heavy, light)
    )
    chains = (num_heavy > 0).astype(np.int64) + (num_light > 0)
    starts = np.stack([offsets[:-1], offsets[:-1] + 1 + num_heavy], axis=1)  # of what the two chains are in
    is_told = np.logical_or.reduceat(_TELLING_IDS[encoded], starts.ravel()).reshape(-1, 2)
    is_ordinary = (
        (chains > 0)
        & (chains == 2 - heavy.is_null().to_numpy(False) - light.is_null().to_numpy(False))
        & (lengths <= tokenizer.model_max_length)
        & (TokenSequences(encoded, lengths).sums(_RESIDUE_IDS[encoded]) == num_heavy + num_light)
        & (is_told[:, 0] | (num_heavy == 0))
        & (is_told[:, 1] | (num_light == 0))
    )
    return _Encoded(encoded, lengths, num_heavy, is_ordinary)


def _token_ids(tokenizer: CurrAbTokenizer, record: Record) -> npt.NDArray[np.int64]:
    for chain in CHAINS:
        text = record.chain(chain)
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{record.name}, {chain} chain: {text!r} is not a sequence")
    try:
        return np.array(tokenizer(heavy=record.heavy, light=record.light)["input_ids"], np.int64)
    except ValueError as error:
        raise ValueError(str(error).replace("record 1", record.name, 1)) from error


def residues_of(part: str, tokens: TokenRecord) -> Tensor:
    """Indices of the residues that belong to the part; a chain without a region mask is numbered."""
    if part == "pair":
        return torch.arange(len(tokens.positions))
    record = tokens.record
    if part in CHAINS:
        chosen = tokens.residues(part)
        if record.chain(part) is None:
            raise ValueError(f"{record.name} has no {part} chain")
        return torch.arange(chosen.start, chosen.stop)
    match = REGION.fullmatch(part)
    assert match is not None, part
    chain = "heavy" if match[2] == "H" else "light"
    mask = record.region_mask(chain)
    if mask is None:
        mask = number_one(record, chain, record.chain(chain) or "", "imgt").region_mask
    chosen = tokens.residues(chain)
    if len(mask) != chosen.stop - chosen.start:
        raise ValueError(f"{record.name}: the region mask of the {chain} chain is not as long as the chain")
    digit = str(1 + REGIONS.index(match[1] + match[3]))
    indices = [chosen.start + index for index, letter in enumerate(mask) if letter == digit]
    return torch.tensor(indices, dtype=torch.long)
