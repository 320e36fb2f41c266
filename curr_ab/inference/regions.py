"""Parts of a pair by name: the pair, a chain, or a region such as CDRH3."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from curr_ab.inference.records import CHAINS, TokenRecord

_REGION = re.compile(r"(CDR|FWR)([HL])([1-4])")
# The order in which masks number the regions from 1, as `curr_ab.data.schema.REGIONS` has it.
_ORDER = ("FWR1", "CDR1", "FWR2", "CDR2", "FWR3", "CDR3", "FWR4")
REGIONS = tuple(f"{name[:3]}{chain}{name[3]}" for chain in "HL" for name in _ORDER)
PARTS = ("pair", *CHAINS, *REGIONS)


def check_part(part: str) -> str:
    """The part's name, or the error that lists the names."""
    if part not in PARTS:
        raise ValueError(f"{part!r} is no part of a pair; choose of {', '.join(PARTS)}")
    return part


def residues_of(part: str, tokens: TokenRecord) -> Tensor:
    """Which of the residues belong to the part, as indices; an error where the record cannot tell."""
    if part == "pair":
        return torch.arange(len(tokens.positions))
    record = tokens.record
    if part in CHAINS:
        chosen = tokens.residues(part)
        if record.chain(part) is None:
            raise ValueError(f"{record.name} has no {part} chain")
        return torch.arange(chosen.start, chosen.stop)
    match = _REGION.fullmatch(part)
    assert match is not None, part
    chain = "heavy" if match[2] == "H" else "light"
    mask = record.region_mask(chain)
    if mask is None:
        raise ValueError(
            f"{record.name} does not say where its regions are; bring a region mask, or number it (--number)"
        )
    chosen = tokens.residues(chain)
    if len(mask) != chosen.stop - chosen.start:
        raise ValueError(f"{record.name}: the region mask of the {chain} chain is not as long as the chain")
    digit = str(1 + _ORDER.index(match[1] + match[3]))
    found = [chosen.start + place for place, letter in enumerate(mask) if letter == digit]
    return torch.tensor(found, dtype=torch.long)
