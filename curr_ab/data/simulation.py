"""Simulation of pairs with full truth: regions, segments, mutations, donors and clonal families.

GenAIRR recombines the genes of each clone's founder; hypermutation is our own, with the hotspots of AID. It
spares the anchors of CDR3 alone: 14 % of the corpus's chains lack the cysteine at IMGT's position 23 or the
tryptophan at 41. The built-in corpus comes from here: `python -m curr_ab.data.simulation` makes it anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curr_ab.data.reading.formats import builtin_path
from curr_ab.data.reading.translation import residues_of_codons
from curr_ab.data.schema import FIELDS
from curr_ab.extras import needs_extra
from curr_ab.files import write_parquet

# The built-in corpus.
NUM_PAIRS = 20_000
SEED = 20_250_902  # the day of the preprint, doi:10.1101/2025.09.02.673765

# Roughly the usage in blood; what matters is that families are unequal, as they are in nature.
HEAVY_FAMILIES = {"IGHV1": 0.20, "IGHV2": 0.04, "IGHV3": 0.42, "IGHV4": 0.24, "IGHV5": 0.06, "IGHV6": 0.04}
LIGHT_FAMILIES = {
    "IGKV1": 0.28,
    "IGKV2": 0.09,
    "IGKV3": 0.22,
    "IGKV4": 0.07,
    "IGLV1": 0.11,
    "IGLV2": 0.11,
    "IGLV3": 0.12,
}
# The signal of native pairing: a heavy family takes its preferred light family with this probability, and one
# by chance otherwise ...
PREFERENCE = 0.5
PREFERRED_LIGHT = {
    "IGHV1": "IGKV1",
    "IGHV2": "IGLV2",
    "IGHV3": "IGLV3",
    "IGHV4": "IGKV3",
    "IGHV5": "IGLV1",
    "IGHV6": "IGKV2",
}
# ... and both chains of a cell went through one germinal centre: one level per clone, light at 0.7 of it.
NAIVE_SHARE = 0.35
MEAN_MUTATION_RATE = 0.05
LIGHT_TO_HEAVY_RATE = 0.7
TRUNK_SHARE = 0.6  # of a clone's mutations, those that all its members share
MEAN_EXTRA_MEMBERS = 1.6  # of an experienced clone; naive clones are single cells
# IMGT numbering: nucleotide columns of a gapped V gene at which FWR1, CDR1, FWR2, CDR2 and FWR3 end.
_REGION_ENDS = (78, 114, 165, 195, 312)

# Motifs of AID (WRC, GYW) and of polymerase eta (WA, TW), and AID's cold spots (SYC, GRS), with the position
# of the mutated base in each. Relative rates are rounded from Yaari et al. 2013
# (doi:10.3389/fimmu.2013.00358).
_MOTIFS = (
    (re.compile(rb"(?=[AT][AG]C)"), 2, 5.0),
    (re.compile(rb"(?=G[CT][AT])"), 0, 5.0),
    (re.compile(rb"(?=[AT]A)"), 1, 3.0),
    (re.compile(rb"(?=T[AT])"), 0, 2.0),
    (re.compile(rb"(?=[CG][CT]C)"), 2, 0.3),
    (re.compile(rb"(?=G[AG][CG])"), 0, 0.3),
)
_TRANSITION = {ord(a): ord(b) for a, b in ("AG", "GA", "CT", "TC")}
_TRANSVERSIONS = {
    ord(base): [ord(other) for other in others]
    for base, others in zip("AGCT", ("CT",) * 2 + ("AG",) * 2, strict=True)
}
_TRANSITION_SHARE = 0.6
_Nucleotides = npt.NDArray[np.uint8]


def translate(nucleotides: _Nucleotides) -> str:
    """Residues of the whole codons, from the first base."""
    codons = nucleotides[: len(nucleotides) // 3 * 3].reshape(-1, 3)
    return residues_of_codons(*codons.T).tobytes().decode()


def _mutability(nucleotides: _Nucleotides) -> npt.NDArray[np.float64]:
    """Probability of each base to be the one that mutates."""
    weights = np.ones(len(nucleotides))
    text = nucleotides.tobytes()
    for motif, position, weight in _MOTIFS:
        weights[[match.start() + position for match in motif.finditer(text)]] = weight
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


def mutate(
    nucleotides: _Nucleotides, rate: float, anchors: tuple[int, int], random: np.random.Generator
) -> _Nucleotides:
    """Copy with about `rate` substitutions per base; no stop codon arises and the anchor residues stay."""
    mutated = nucleotides.copy()
    num_mutations = min(int(random.poisson(rate * len(nucleotides))), len(nucleotides) // 2)
    if num_mutations == 0:
        return mutated
    for site in random.choice(len(nucleotides), num_mutations, replace=False, p=_mutability(nucleotides)):
        base = int(mutated[site])
        if random.random() < _TRANSITION_SHARE:
            mutated[site] = _TRANSITION[base]
        else:
            mutated[site] = _TRANSVERSIONS[base][int(random.integers(2))]
        codon = site // 3
        if codon in anchors or translate(mutated[3 * codon : 3 * codon + 3]) == "*":
            mutated[site] = base
    return mutated


@dataclass(frozen=True)
class Founder:
    """Rearrangement before mutation, with the truth about every residue."""

    nucleotides: _Nucleotides
    v_call: str
    d_call: str
    j_call: str
    region_mask: str
    segment_mask: str
    anchors: tuple[int, int]  # IMGT residues 104 and 118, which no mutation changes


def _founder(record: dict[str, Any], gapped: str, v_name: str) -> Founder | None:
    """Rearrangement as residues; None where the V gene is incomplete or a stop codon remains."""
    nucleotides = np.frombuffer(record["sequence"].upper().encode(), np.uint8)
    residues = translate(nucleotides)
    ends = [sum(letter != "." for letter in gapped[:end]) for end in _REGION_ENDS]
    junction_start, junction_end = record["junction_start"], record["junction_end"]
    whole = record["v_germline_start"] == 0 and not any(end % 3 for end in (*ends, junction_end))
    if not whole or "*" in residues or ends[-1] != junction_start + 3 or "." in gapped[:3]:
        return None
    bounds = [0, *(end // 3 for end in ends), junction_end // 3 - 1, len(residues)]
    region_mask = "".join(str(code) * (bounds[code] - bounds[code - 1]) for code in range(1, 8))
    segments = np.full(len(nucleotides), "N")
    for segment in "vdj":
        start, end = record.get(f"{segment}_sequence_start"), record.get(f"{segment}_sequence_end")
        if start is not None and end is not None:
            segments[start:end] = segment.upper()
    segment_mask = "".join(segments[1::3][: len(residues)])  # a residue belongs where its codon's middle does
    return Founder(
        nucleotides[: 3 * len(residues)],
        v_name,
        str(record.get("truth_d_call") or ""),
        str(record["truth_j_call"]),
        region_mask,
        segment_mask,
        (junction_start // 3, junction_end // 3 - 1),
    )


def _founders(family: str, count: int, seed: int) -> Iterator[Founder]:
    """Generate `count` productive rearrangements of a V family, by GenAIRR with its OGRDB reference."""
    with needs_extra("simulate"):  # GPL-3, which is why it is optional
        import GenAIRR
    config = getattr(GenAIRR, f"HUMAN_{family[:3]}_OGRDB")
    # OGRDB names heavy V alleles by similarity cluster, and nobody else does.
    imgt = {row["new_allele"]: row["imgt_allele"] for row in config.asc_tables.get("V", ())}
    alleles = {allele.name: allele for gene in config.v_alleles.values() for allele in gene}
    chosen = [name for name in alleles if imgt.get(name, name).startswith(f"{family}-")]
    experiment = GenAIRR.Experiment.on(config).restrict_alleles(v=chosen).recombine().productive_only()
    while count > 0:
        for record in experiment.run_records(n=count, seed=seed, expose_provenance=True):
            name = record["truth_v_call"]
            founder = _founder(record, alleles[name].gapped_seq, imgt.get(name, name))
            if founder is not None:
                count -= 1
                yield founder
        seed += 1_000_003  # run n uses the seeds from seed to seed + n - 1


def _clones(
    num_pairs: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Number of members and mutation rate of each clone; rate 0 is a naive cell."""
    naive = random.random(num_pairs) < NAIVE_SHARE
    sizes = np.where(naive, 1, random.geometric(1 / (1 + MEAN_EXTRA_MEMBERS), num_pairs))
    rates = np.where(naive, 0.0, random.gamma(4.0, MEAN_MUTATION_RATE / 4.0, num_pairs))
    last = int(np.searchsorted(np.cumsum(sizes), num_pairs))
    sizes, rates = sizes[: last + 1], rates[: last + 1]
    sizes[-1] -= sizes.sum() - num_pairs
    return sizes, rates


def _clone_founders(families: npt.NDArray[np.str_], seed: int, progress: bool) -> list[Founder]:
    """Founder of each clone, simulated family by family because the simulator compiles once for each."""
    from tqdm import tqdm

    founder_of: dict[int, Founder] = {}
    with tqdm(total=len(families), desc="rearrange", disable=not progress) as bar:
        for index, family in enumerate(sorted(set(families))):
            clones = np.flatnonzero(families == family).tolist()
            founders = _founders(str(family), len(clones), seed + 7_919 * index)
            for clone, founder in zip(clones, founders, strict=True):
                founder_of[clone] = founder
                bar.update()
    return [founder_of[clone] for clone in range(len(families))]


def _chain_columns(chain: str, founder: Founder, nucleotides: _Nucleotides) -> dict[str, Any]:
    """Schema fields of one chain of a cell."""
    residues, germline = translate(nucleotides), translate(founder.nucleotides)
    mask = "".join("01"[residue != original] for residue, original in zip(residues, germline, strict=True))
    v_end = 3 * founder.segment_mask.count("V")
    columns: dict[str, Any] = {
        chain: residues,
        f"v_call_{chain}": founder.v_call,
        f"j_call_{chain}": founder.j_call,
        f"cdr3_{chain}": residues[founder.region_mask.index("6") : founder.region_mask.rindex("6") + 1],
        f"region_mask_{chain}": founder.region_mask,
        f"segment_mask_{chain}": founder.segment_mask,
        f"mutation_mask_{chain}": mask,
        f"mutations_{chain}": mask.count("1"),
        f"v_identity_{chain}": float(np.mean(nucleotides[:v_end] == founder.nucleotides[:v_end])),
    }
    if chain == "heavy":
        columns["d_call_heavy"] = founder.d_call
    return columns


def _members(
    founders: dict[str, Founder], size: int, rate: float, random: np.random.Generator
) -> list[dict[str, Any]]:
    """Cells of a clone: all share the mutations of the trunk, and each has its own besides."""
    rates = {"heavy": rate, "light": LIGHT_TO_HEAVY_RATE * rate}
    trunks = {
        chain: mutate(founder.nucleotides, TRUNK_SHARE * rates[chain], founder.anchors, random)
        for chain, founder in founders.items()
    }
    rows = []
    for _ in range(size):
        row: dict[str, Any] = {}
        for chain, founder in founders.items():
            nucleotides = mutate(trunks[chain], (1 - TRUNK_SHARE) * rates[chain], founder.anchors, random)
            row |= _chain_columns(chain, founder, nucleotides)
        rows.append(row)
    return rows


def simulate_pairs(
    num_pairs: int, *, seed: int = 42, num_donors: int = 40, progress: bool = False
) -> pa.Table:
    """Pairs in the annotation schema; the split holds clones apart (90 % train, 5 % validation, 5 % test).

    Native pairing carries a signal: the chains' V families are correlated, and so are their mutation levels.
    """
    if num_pairs < 1 or num_donors < 1:
        raise ValueError(f"num_pairs and num_donors must be at least 1; got {num_pairs} and {num_donors}")
    random = np.random.default_rng(seed)
    sizes, rates = _clones(num_pairs, random)
    heavy = random.choice(list(HEAVY_FAMILIES), len(sizes), p=list(HEAVY_FAMILIES.values()))
    light = random.choice(list(LIGHT_FAMILIES), len(sizes), p=list(LIGHT_FAMILIES.values()))
    preferred = np.array([PREFERRED_LIGHT[family] for family in heavy])
    light = np.where(random.random(len(sizes)) < PREFERENCE, preferred, light)
    founders = {
        "heavy": _clone_founders(heavy, seed, progress),
        "light": _clone_founders(light, seed + 500_000_003, progress),
    }
    donors = random.integers(0, num_donors, len(sizes))
    splits = random.choice(["train", "validation", "test"], len(sizes), p=[0.9, 0.05, 0.05])
    isotypes = random.choice(["IGHG1", "IGHG2", "IGHA1", "IGHM"], len(sizes), p=[0.5, 0.15, 0.2, 0.15])
    isotypes = np.where(rates == 0, "IGHM", isotypes)
    rows: list[dict[str, Any]] = []
    for clone, (size, rate) in enumerate(zip(sizes.tolist(), rates.tolist(), strict=True)):
        shared = {
            "donor": f"donor{donors[clone]:03d}",
            "disease": "simulated",
            "isotype": str(isotypes[clone]),
            "clone": f"clone{clone:06d}",
            "split": str(splits[clone]),
        }
        clone_founders = {chain: of_chain[clone] for chain, of_chain in founders.items()}
        for member in _members(clone_founders, size, rate, random):
            rows.append({"id": f"sim{len(rows):07d}", **shared, **member})
    return pa.Table.from_pylist(rows, pa.schema([(field.name, field.type) for field in FIELDS]))


def main() -> None:
    """Write the built-in corpus into this installation."""
    write_parquet(Path(builtin_path()), simulate_pairs(NUM_PAIRS, seed=SEED), level=19)


if __name__ == "__main__":
    main()
