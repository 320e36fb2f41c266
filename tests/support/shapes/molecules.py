"""Antibody chains of the corpus, and the contigs, full chains and fragments that hold them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

V_ENDS = {"heavy": re.compile("VSS$"), "light": re.compile("(IK|VL)$")}
REGIONS = ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4")
LEADERS = {
    "IGH": ("MDWTWRILFLVAAATGAHS", "MEFGLSWLFLVAILKGVQC", "MKHLWFFLLLVAAPRWVLS", "MDTLCYTLLLLTIPSWVLS"),
    "IGK": ("MDMRVPAQLLGLLLLWLRGARC", "METPAQLLFLLLLWLPDTTG", "MRLPAQLLGLLMLWVSGSSG"),
    "IGL": ("MAWSPLLLTLLAHCTGSWA", "MAWTPLLLPLLTFCTVSEA", "MAWIPLFLGVLAYCTGSVA"),
}
CONSTANT = {
    "IGHG1": (
        "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEPVTVSWNSGALTSGVHTFPAVLQSSGLYSLSSVVTVPSSSLGTQTYICNVNHKPSNTKVD"
        "KKVEPKSCDKTHTCPPCPAPELLGGPSVFLFPPKPKDTLMISRTPEVTCVVVDVSHEDPEVKFNWYVDGVEVHNAKTKPREEQYNSTYRVVSVLT"
        "VLHQDWLNGKEYKCKVSNKALPAPIEKTISKAKGQPREPQVYTLPPSRDELTKNQVSLTCLVKGFYPSDIAVEWESNGQPENNYKTTPPVLDSDG"
        "SFFLYSKLTVDKSRWQQGNVFSCSVMHEALHNHYTQKSLSLSPGK"
    ),
    "IGHG2": "ASTKGPSVFPLAPCSRSTSESTAALGCLVKDYFPEPVTVSWNSGALTSGVHTFPAVLQSSGLYSLSSVVTVPSSNFGTQTYTCNVDHKPSNTKV",
    "IGHM": "GSASAPTLFPLVSCENSPSDTSSVAVGCLAQDFLPDSITFSWKYKNNSDISSTRGFPSVLRGGKYAATSQVLLPSKDVMQGTDEHVVCKVQHPNG",
    "IGHA1": "ASPTSPKVFPLSLCSTQPDGNVVIACLVQGFFPQEPLSVTWSESGQGVTARNFPPSQDASGDLYTTSSQLTLPATQCLAGKSVTCHVKHY",
    "IGKC": (
        "RTVAAPSVFIFPPSDEQLKSGTASVVCLLNNFYPREAKVQWKVDNALQSGNSQESVTEQDSKDSTYSLSSTLTLSKADYEKHKVYACEVTHQGLS"
        "SPVTKSFNRGEC"
    ),
    "IGLC2": (
        "GQPKAAPSVTLFPPSSEELQANKATLVCLISDFYPGAVTVAWKADSSPVKAGVETTTPSKQSNNKYAASSYLSLTPEQWKSHRSYSCQVTHEGST"
        "VEKTVAPTECS"
    ),
}
LINKERS = ("GGGGSGGGGSGGGGS", "GSTSGSGKPGSGEGSTKG", "GGGGSGGGGSGGGGSGGGGS", "SSGGGGSGGGGSGGGGS")
T_CELL_RECEPTORS = {
    "TRB": (
        "NAGVTQTPKFQVLKTGQSMTLQCAQDMNHEYMSWYRQDPGMGLRLIHYSVGAGITDQGEVPNGYNVSRSTTEDFPLRLLSAAPSQTSVYFCASSYVG"
        "NTGELFFGEGSRLTVL"
    ),
    "TRA": (
        "KQEVTQIPAALSVPEGENLVLNCSFTDSAIYNLQWFRQDPGKGLTSLLLIQSSQREQTSGRLNASLDKSSGRSTLYIAASQPGDSATYLCAVRPTSG"
        "GSYIPTFGRGTSLIVHP"
    ),
}
_CODONS: dict[str, list[str]] = {}
for _residue, _codon in zip(
    "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    (a + b + c for a in "TCAG" for b in "TCAG" for c in "TCAG"),
    strict=True,
):
    _CODONS.setdefault(_residue, []).append(_codon)


@dataclass(frozen=True)
class Chain:
    """A V domain of the corpus with its regions and genes."""

    kind: str  # heavy or light
    locus: str
    residues: str
    regions: Mapping[str, str]
    v_call: str
    d_call: str
    j_call: str
    c_call: str

    @property
    def junction(self) -> str:
        """CDR3 with its anchors."""
        return f"{self.regions['fwr3'][-1]}{self.regions['cdr3']}{self.regions['fwr4'][0]}"

    def anchored_regions(self) -> dict[str, str]:
        """Regions with the anchors in the CDR3, as Cell Ranger and MiXCR cut them."""
        regions = dict(self.regions)
        return regions | {"fwr3": regions["fwr3"][:-1], "cdr3": self.junction, "fwr4": regions["fwr4"][1:]}

    def annotation(self, *names: str) -> dict[str, str]:
        """Values of the schema's fields of this chain."""
        values = {"v_call": self.v_call, "j_call": self.j_call, "cdr3": self.regions["cdr3"]}
        return {f"{name}_{self.kind}": values[name] for name in names}


def chain_of(row: Mapping[str, Any], kind: str) -> Chain:
    """A chain of a row of the corpus."""
    residues, mask = row[kind], row[f"region_mask_{kind}"]
    starts = [mask.index(code) for code in "1234567"] + [len(mask)]
    regions = {name: residues[a:b] for name, a, b in zip(REGIONS, starts, starts[1:], strict=False)}
    locus = row[f"v_call_{kind}"][:3]
    constant = {"IGH": row["isotype"], "IGK": "IGKC", "IGL": "IGLC2"}[locus]
    d_call = row["d_call_heavy"] if kind == "heavy" else ""
    return Chain(
        kind, locus, residues, regions, row[f"v_call_{kind}"], d_call, row[f"j_call_{kind}"], constant
    )


def t_cell_receptor(locus: str) -> Chain:
    residues = T_CELL_RECEPTORS[locus]
    cdr3 = residues[residues.rindex("YFC" if locus == "TRB" else "YLC") + 3 :][:12]
    regions = dict.fromkeys(REGIONS, "") | {"fwr3": "C", "cdr3": cdr3, "fwr4": "F"}
    genes = ("TRBV6-5", "TRBD1", "TRBJ2-2", "TRBC2") if locus == "TRB" else ("TRAV21", "", "TRAJ6", "TRAC")
    return Chain("heavy" if locus == "TRB" else "light", locus, residues, regions, *genes)


def nucleotides(residues: str, rng: random.Random) -> str:
    """Codons of the residues, any of those that mean them."""
    return "".join(rng.choice(_CODONS[residue]) for residue in residues)


def with_stop(chain: Chain, rng: random.Random) -> str:
    """Residues of a chain with a stop codon in its framework."""
    place = rng.randrange(30, 60)
    return f"{chain.residues[:place]}*{chain.residues[place + 1 :]}"


@dataclass(frozen=True)
class Contig:
    """An assembled transcript: untranslated stretch, leader, V domain, beginning of the constant region."""

    untranslated: str
    leader: str  # residues
    residues: str
    constant: str  # residues
    coding: Mapping[str, str]  # codons of leader, regions of the V domain and constant
    tail: str  # bases that are no whole codon

    @property
    def sequence(self) -> str:
        return self.untranslated + "".join(self.coding.values()) + self.tail

    @property
    def sequence_aa(self) -> str:
        return self.leader + self.residues + self.constant

    @property
    def v_domain(self) -> str:
        return "".join(self.coding[name] for name in REGIONS)

    @property
    def start(self) -> int:
        """First base of the V domain, from 1."""
        return len(self.untranslated) + len(self.coding["leader"]) + 1


def contig_of(chain: Chain, rng: random.Random, residues: str | None = None) -> Contig:
    """A contig of a chain, with other residues of the same length where they are given."""
    leader = rng.choice(LEADERS.get(chain.locus, LEADERS["IGH"]))
    constant = CONSTANT.get(chain.c_call, CONSTANT["IGHG2"])[: rng.randrange(16, 60)]
    residues = residues or chain.residues
    coding, place = {"leader": nucleotides(leader, rng)}, 0
    for name in REGIONS:
        coding[name] = nucleotides(residues[place : place + len(chain.regions[name])], rng)
        place += len(chain.regions[name])
    if place != len(residues):  # a receptor without regions
        coding["fwr1"], coding["fwr3"], coding["cdr3"], coding["fwr4"] = (
            nucleotides(residues, rng),
            "",
            "",
            "",
        )
    coding["constant"] = nucleotides(constant, rng)
    untranslated = "".join(rng.choices("ACGT", k=rng.randrange(20, 90))).replace("ATG", "ACG")
    tail = "".join(rng.choices("ACGT", k=rng.randrange(3)))
    return Contig(untranslated, leader, residues, constant, coding, tail)


def _spread(text: str, width: int, gap: str) -> str:
    """A CDR in its IMGT positions: the gaps lie in its middle."""
    unit = len(gap)
    left = (len(text) // unit + 1) // 2 * unit
    return text[:left] + gap * (width - len(text) // unit) + text[left:]


def with_gaps(regions: Mapping[str, str], gap: str) -> str:
    """Regions in their IMGT positions up to 104; a gap (of a residue or codon) where nothing stands."""
    unit = len(gap)
    fwr1, fwr3 = regions["fwr1"], regions["fwr3"]
    fwr1 = fwr1[: 9 * unit] + gap * (26 - len(fwr1) // unit) + fwr1[9 * unit :]
    missing = 39 - len(fwr3) // unit
    fwr3 = fwr3[: 7 * unit] + gap * min(missing, 1) + fwr3[7 * unit :]
    fwr3 = fwr3[: 15 * unit] + gap * max(missing - 1, 0) + fwr3[15 * unit :]
    cdr1, cdr2 = _spread(regions["cdr1"], 12, gap), _spread(regions["cdr2"], 10, gap)
    return "".join([fwr1, cdr1, regions["fwr2"], cdr2, fwr3, regions["cdr3"], regions["fwr4"]])


def whole_chain(chain: Chain) -> str:
    """The whole chain of an antibody as it is made in a laboratory: leader, V domain, constant region."""
    constant = CONSTANT["IGHG1"] if chain.kind == "heavy" else CONSTANT[chain.c_call]
    return LEADERS[chain.locus][0] + chain.residues + constant
