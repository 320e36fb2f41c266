"""IMGT positions and regions of chains, from ANARCII (the extra `number`); its weights come with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from curr_ab.extras import needs_extra
from curr_ab.inference.records import Record
from curr_ab.words import CHAINS

# Last IMGT position of FWR1, CDR1, FWR2, CDR2, FWR3, CDR3, FWR4.
_REGION_ENDS = (26, 38, 55, 65, 104, 117, 128)
# Positions at the ends that variable domains of each kind do not have, so that none is missing there.
_LAST = {"H": 128, "K": 127, "L": 127}
_BATCH = 8  # ANARCII's own advice for CPUs


class Numbering(NamedTuple):
    """A chain's IMGT positions, one for each residue: "32", "111A", or "" outside the variable domain."""

    labels: tuple[str, ...]
    chain_type: str  # H, K or L

    @property
    def region_mask(self) -> str:
        """1-7 for FWR1 ... FWR4; residues outside the domain belong to the framework next to them."""
        out, last = [], "1"
        for label in self.labels:
            if label:
                number = int(label.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
                last = str(1 + next(place for place, end in enumerate(_REGION_ENDS) if number <= end))
            out.append(last)
        return "".join(out)

    def missing_ends(self) -> tuple[int, int]:
        """The numbers of residues that are missing before the first and after the last one."""
        numbers = [int(label.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")) for label in self.labels if label]
        before = numbers[0] - 1
        if numbers[0] > 10 and self.chain_type != "K":
            before -= 1  # heavy and lambda chains have no position 10
        return before, max(0, _LAST[self.chain_type] - numbers[-1])


def number_chains(chains: Sequence[str]) -> list[Numbering]:
    """The numbering of each chain; one that is not an antibody's variable domain is an error."""
    with needs_extra("number"):
        from anarcii import Anarcii
    distinct = list(dict.fromkeys(chains))
    num_threads = torch.get_num_threads()
    try:
        runner = Anarcii(seq_type="antibody", mode="accuracy", batch_size=_BATCH, cpu=True, verbose=False)
        results = runner.number({str(index): chain for index, chain in enumerate(distinct)})
    finally:
        torch.set_num_threads(num_threads)  # it sets its own
    numbered = {}
    for index, chain in enumerate(distinct):
        result = results[str(index)]
        if result["error"] or not result["numbering"]:
            raise ValueError(f"{chain[:20]}... cannot be numbered: {result['error']}")
        labels = [
            f"{number}{insertion.strip()}"
            for (number, insertion), residue in result["numbering"]
            if residue != "-"
        ]
        start = result["query_start"]
        outside = len(chain) - start - len(labels)
        numbered[chain] = Numbering((*[""] * start, *labels, *[""] * outside), result["chain_type"])
    return [numbered[chain] for chain in chains]


def number_records(records: Iterable[Record]) -> list[tuple[Record, dict[str, Numbering]]]:
    """Each record with its region masks, and the numbering of its chains."""
    window = list(records)
    wanted = [chain for record in window for name in CHAINS if (chain := record.chain(name)) is not None]
    numbered = iter(number_chains(wanted))
    out = []
    for record in window:
        numbering = {name: next(numbered) for name in CHAINS if record.chain(name) is not None}
        masks = [numbering[name].region_mask if name in numbering else None for name in CHAINS]
        out.append((record._replace(region_mask_heavy=masks[0], region_mask_light=masks[1]), numbering))
    return out
