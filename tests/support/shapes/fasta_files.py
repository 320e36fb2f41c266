"""FASTA files, whose headers name the chain in one of many ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.shapes.drawing import Draw, Pair, Shape, shape, single
from support.shapes.molecules import Chain, contig_of, nucleotides, whole_chain, with_gaps
from support.shapes.writing import fasta_text, write

Header = Callable[[str, Chain], str]


def _named(draw: Draw, number: int = 8) -> list[tuple[str, Chain, Chain]]:
    """Pairs with a name without blanks, which end a name."""
    return [(name.replace(" ", ""), *chains) for name, *chains in draw.named(number)]


def _pairs(draw: Draw, path: Path, header: Header, text: Callable[[Chain], str] | None = None) -> Shape:
    """Both chains of a pair after one another, the heavy one first or in the second variant any."""
    records, pairs = [], []
    for name, heavy, light in _named(draw):
        chains = [heavy, light]
        if draw.variant:
            draw.rng.shuffle(chains)
        records += [(header(name, chain), text(chain) if text else chain.residues) for chain in chains]
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    return Shape(write(path, fasta_text(records, 60 + 20 * draw.variant)), pairs)


def _by_kind(name: str, chain: Chain) -> str:
    return f"{name}_{chain.kind}"


@shape
def fasta_suffix(draw: Draw, folder: Path) -> Shape:
    return _pairs(draw, folder / "pairs.fasta", _by_kind)


@shape
def fasta_suffix_of_locus(draw: Draw, folder: Path) -> Shape:
    words = {"IGH": "heavy", "IGK": "kappa", "IGL": "lambda"}
    return _pairs(draw, folder / "pairs.fa", lambda name, chain: f"{name}_{words[chain.locus]}")


@shape
def fasta_short_suffix(draw: Draw, folder: Path) -> Shape:
    letter, joint = {"heavy": "VH", "light": "VL"}, draw.rng.choice("_-.")
    return _pairs(draw, folder / "pairs.fa", lambda name, chain: f"{name}{joint}{letter[chain.kind]}")


@shape
def fasta_prefix(draw: Draw, folder: Path) -> Shape:
    return _pairs(draw, folder / "pairs.fasta.gz", lambda name, chain: f"{chain.kind}_chain_{name}")


@shape
def fasta_words(draw: Draw, folder: Path) -> Shape:
    return _pairs(draw, folder / "pairs.fasta", lambda name, chain: f"{name} {chain.kind} chain, human")


@shape
def fasta_field(draw: Draw, folder: Path) -> Shape:
    letter = {"heavy": "VH", "light": "VL"}
    return _pairs(draw, folder / "pairs.fasta", lambda name, chain: f"{name}|{letter[chain.kind]}|human")


@shape
def fasta_all_heavy_then_all_light(draw: Draw, folder: Path) -> Shape:
    records, pairs = [], []
    chains = {name: pair for name, *pair in _named(draw, 7)}
    for index, kind in enumerate(("heavy", "light")):
        names = list(chains)
        if draw.variant:
            draw.rng.shuffle(names)
        records += [(f"{name}_{kind}", chains[name][index].residues) for name in names]
    pairs = [Pair(heavy.residues, light.residues, (name,)) for name, (heavy, light) in chains.items()]
    return Shape(write(folder / "all.fasta", fasta_text(records)), pairs)


@shape
def fasta_protein_data_bank(draw: Draw, folder: Path) -> Shape:
    """Entries of structures, with whole chains and the antigen between them."""
    records, pairs = [], []
    antigen = "MKTIIALSYIFCLVFADYKDDDDKNITNLCPFGEVFNATRFASVYAWNRKRISNCVADYSVLYNSASFSTFKCYGVSPTKLNDLCFTNVY"
    for number, (heavy, light) in enumerate(draw.pairs(6)):
        entry = f"{draw.rng.randrange(1, 9)}{''.join(draw.rng.choices('ABCDEFGHKLMNPQRSTUVWXYZ', k=3))}"
        human = "Homo sapiens (9606)"
        chains = [
            (
                f"{entry}_1|Chain H|Fab heavy chain|{human}",
                heavy.residues + "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEP",
            ),
            (f"{entry}_2|Chain L|Fab light chain|{human}", light.residues),
        ]
        if draw.variant and number == 2:
            chains.insert(1, (f"{entry}_3|Chain A|Spike protein S1|SARS-CoV-2 (2697049)", antigen))
        records += chains
        pairs.append(Pair(heavy.residues, light.residues, (entry,)))
    return Shape(write(folder / "rcsb.fasta", fasta_text(records, 80)), pairs)


@shape
def fasta_nucleotides(draw: Draw, folder: Path) -> Shape:
    return _pairs(draw, folder / "vdj.fasta", _by_kind, lambda chain: nucleotides(chain.residues, draw.rng))


@shape
def fasta_whole_chains(draw: Draw, folder: Path) -> Shape:
    return _pairs(
        draw, folder / "chains.fasta", lambda name, chain: f"{name}_{chain.kind[0].upper()}C", whole_chain
    )


@shape
def fasta_with_gaps(draw: Draw, folder: Path) -> Shape:
    return _pairs(draw, folder / "aligned.fasta", _by_kind, lambda chain: with_gaps(chain.regions, "-"))


@shape
def fasta_joined(draw: Draw, folder: Path) -> Shape:
    records, pairs = [], []
    for name, heavy, light in _named(draw):
        records.append((name, f"{heavy.residues}{':' if draw.variant else '/'}{light.residues}"))
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    return Shape(write(folder / "pairs.fasta", fasta_text(records)), pairs)


@shape
def fasta_scfv(draw: Draw, folder: Path) -> Shape:
    records, pairs = [], []
    for name, heavy, light in _named(draw):
        chains = [heavy.residues, light.residues]
        if draw.rng.random() < 0.5:
            chains.reverse()
        records.append((name, "GGGGSGGGGSGGGGS".join(chains)))
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    return Shape(write(folder / "scfv.fasta", fasta_text(records)), pairs)


@shape
def fasta_single_chains(draw: Draw, folder: Path) -> Shape:
    records, pairs = [], []
    for number, (name, *chains) in enumerate(_named(draw)):
        chain = chains[number % 2]
        records.append((name, chain.residues))
        pairs.append(single(chain, name))
    return Shape(write(folder / "single.fasta", fasta_text(records)), pairs, {"chains": "unpaired"})


@shape
def fasta_single_contigs(draw: Draw, folder: Path) -> Shape:
    """Nucleotides of single contigs, in an unknown frame."""
    records, pairs = [], []
    for number, (name, *chains) in enumerate(_named(draw)):
        chain = chains[number % 2]
        records.append((name, contig_of(chain, draw.rng).sequence))
        pairs.append(single(chain, name))
    return Shape(write(folder / "contigs.fasta", fasta_text(records)), pairs, {"chains": "unpaired"})


HEADERS: tuple[Header, ...] = (
    lambda name, chain: f"{'VH' if chain.kind == 'heavy' else 'VL'} {name}",
    lambda name, chain: f"{name}_{chain.kind}_chain_variable_region",
    lambda name, chain: f"{name}_{'VH' if chain.kind == 'heavy' else 'VL'}_aa",
    lambda name, chain: f"{name} chain={chain.kind[0].upper()}",
    lambda name, chain: f"{name}|{chain.v_call}|human",
    lambda name, chain: f"{name}, {'HC' if chain.kind == 'heavy' else 'LC'}",
    lambda name, chain: f"{name} {chain.v_call} {chain.j_call}",
)


@shape
def fasta_further_headers(draw: Draw, folder: Path) -> Shape:
    """Each pair in a form of its own."""
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(_named(draw, 2 * len(HEADERS))):
        header = HEADERS[number % len(HEADERS)]
        records += [(header(name, chain), chain.residues) for chain in (heavy, light)]
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    return Shape(write(folder / "pairs.fasta", fasta_text(records)), pairs)


@shape
def fasta_letters_alone(draw: Draw, folder: Path) -> Shape:
    """H and L and no name, as programs for structures read them."""
    records, pairs = [], []
    for heavy, light in draw.pairs(1 + 2 * draw.variant):
        records += [("H", heavy.residues), ("L", light.residues)]
        pairs.append(Pair(heavy.residues, light.residues))
    return Shape(write(folder / "model.fasta", fasta_text(records)), pairs)


@shape
def fasta_file_per_chain(draw: Draw, folder: Path) -> Shape:
    """Heavy chains in one file, light ones under the same names in another, in another order."""
    named = _named(draw)
    names = ("VL.fasta", "VH.fasta") if draw.variant else ("set1_heavy.fa", "set1_light.fa")
    of_file = {name: "heavy" if "heavy" in name or "VH" in name else "light" for name in names}
    sources = []
    for name, kind in of_file.items():
        records = [(id, heavy.residues if kind == "heavy" else light.residues) for id, heavy, light in named]
        draw.rng.shuffle(records)
        sources.append(write(folder / name, fasta_text(records)))
    return Shape(sources, [Pair(heavy.residues, light.residues, (id,)) for id, heavy, light in named])


@shape
def fasta_of_databases(draw: Draw, folder: Path) -> Shape:
    """Single chains under accessions, with words of UniProt or GenBank behind them."""
    records, pairs = [], []
    for number, chain in enumerate(chain for pair in draw.pairs(6) for chain in pair):
        words = f"immunoglobulin {chain.kind} chain variable region, partial [Homo sapiens]"
        name = f"AAK{number}71{number}.1"
        if draw.variant:
            name = f"sp|P{number}DOX5|IG{number}_HUMAN"
            words = f"Immunoglobulin {chain.kind} variable OS=Homo sapiens OX=9606 PE=1 SV=2"
        records.append((f"{name} {words}", chain.residues))
        pairs.append(single(chain, name))
    return Shape(write(folder / "sequence.fasta", fasta_text(records, 70)), pairs, {"chains": "unpaired"})
