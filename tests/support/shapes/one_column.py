"""Tables with one column of sequences: both chains joined, single-chain fragments, single chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from support.shapes.drawing import Draw, Pair, Shape, shape, single
from support.shapes.molecules import LINKERS
from support.shapes.writing import table_text, write


def _joined(draw: Draw, path: Path, column: str, joints: Sequence[str], header: bool = True) -> Shape:
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(draw.named(8)):
        joint = joints[number % len(joints)]
        records.append(
            {"name": name, column: f"{heavy.residues}{joint}{light.residues}", "label": number % 2}
        )
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    return Shape(write(path, table_text(draw.columns(records, ("name", column)), records)), pairs)


@shape
def joined_by_pipe(draw: Draw, folder: Path) -> Shape:
    return _joined(draw, folder / "joined.csv", "sequence", ["|"])


@shape
def joined_by_colon(draw: Draw, folder: Path) -> Shape:
    return _joined(draw, folder / "joined.csv", "VH:VL" if draw.variant else "sequence", [":"])


@shape
def joined_by_slash(draw: Draw, folder: Path) -> Shape:
    return _joined(draw, folder / "joined.csv", "antibody_sequence", ["/"])


@shape
def blanks_and_separator(draw: Draw, folder: Path) -> Shape:
    """Lines of a language model's training text, without a header."""
    lines, pairs = [], []
    for heavy, light in draw.pairs(8):
        blank = "" if draw.variant else " "
        lines.append(f"{blank.join(heavy.residues)} [SEP] {blank.join(light.residues)}")
        pairs.append(Pair(heavy.residues, light.residues))
    return Shape(write(folder / "valid.txt", "\n".join(lines) + "\n"), pairs)


def _single_chain_fragment(draw: Draw, path: Path, column: str, order: Mapping[int, str]) -> Shape:
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(draw.named(10)):
        linker = draw.rng.choice(LINKERS)
        first, second = (heavy, light) if order[number % 2] == "HL" else (light, heavy)
        text = f"{first.residues}{linker}{second.residues}"
        if number % 3 == 2:
            text += "HHHHHH" if draw.variant else "AAAGGGSHHHHHH"
        records.append({"name": name, column: text, "binding": draw.rng.random()})
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    return Shape(write(path, table_text(draw.columns(records, ("name", column)), records)), pairs)


@shape
def scfv_heavy_first(draw: Draw, folder: Path) -> Shape:
    return _single_chain_fragment(draw, folder / "scfv.csv", "sequence", {0: "HL", 1: "HL"})


@shape
def scfv_any_order(draw: Draw, folder: Path) -> Shape:
    return _single_chain_fragment(draw, folder / "scfv.csv", "scFv_sequence", {0: "LH", 1: "HL"})


# Single chains


@shape
def nanobodies(draw: Draw, folder: Path) -> Shape:
    records, pairs = [], []
    for name, heavy, _ in draw.named(8):
        records.append({"Name": name, "VHH": heavy.residues, "Antigen": "RBD"})
        pairs.append(Pair(heavy.residues, None, (name,)))
    text = table_text(draw.columns(records, ("Name", "VHH")), records)
    return Shape(write(folder / "nanobodies.csv", text), pairs, {"chains": "unpaired"})


@shape
def chains_told_by_content(draw: Draw, folder: Path) -> Shape:
    """Heavy and light chains mixed in one column, and nothing that says which."""
    records, pairs = [], []
    for number, (name, *chains) in enumerate(draw.named(8)):
        chain = chains[number % 2]
        records.append({"name": name, "sequence": chain.residues, "pdb": "1abc"})
        pairs.append(single(chain, name))
    text = table_text(draw.columns(records, ("name", "sequence")), records)
    return Shape(write(folder / "chains.csv", text), pairs, {"chains": "unpaired"})


@shape
def bare_lines_of_single_chains(draw: Draw, folder: Path) -> Shape:
    chains = [pair[number % 2] for number, pair in enumerate(draw.pairs(8))]
    pairs = [
        Pair(
            chain.residues if chain.kind == "heavy" else None,
            chain.residues if chain.kind == "light" else None,
        )
        for chain in chains
    ]
    text = "\n".join(chain.residues for chain in chains) + "\n"
    return Shape(write(folder / "chains.txt", text), pairs, {"chains": "unpaired"})


@shape
def joined_light_first(draw: Draw, folder: Path) -> Shape:
    """Light chains that end with the W of a heavy chain's framework 4 among them: every fifth does."""
    records, pairs = [], []
    for name, heavy, light in draw.named(40):
        records.append({"name": name, "sequence": f"{light.residues}|{heavy.residues}"})
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    text = table_text(draw.columns(records, ("name", "sequence")), records)
    return Shape(write(folder / "joined.csv", text), pairs)
