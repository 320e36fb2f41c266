"""Tables as spreadsheets export them: titles, groups of columns, empty columns, text over several lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.shapes.drawing import Draw, Pair, Record, Shape, shape
from support.shapes.molecules import Chain, nucleotides
from support.shapes.writing import table_text, write

Make = Callable[[int, str, Chain, Chain], Record]


def _sheet(draw: Draw, path: Path, make: Make, needs: tuple[str, ...], delimiter: str = ",") -> Shape:
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(draw.named(8)):
        records.append(make(number, name, heavy, light))
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    text = table_text(draw.columns(records, needs), records, delimiter=delimiter)
    return Shape(write(path, text), pairs)


def _write_again(shape: Shape, change: Callable[[str], str]) -> Shape:
    shape.sources.write_bytes(change(shape.sources.read_text()).encode())
    return shape


@shape
def sheet_with_a_title(draw: Draw, folder: Path) -> Shape:
    """A title in the first column, rows of nothing but delimiters, and a footnote."""

    def record(number: int, name: str, heavy: Chain, light: Chain) -> Record:
        return {"Antibody": name, "VH": heavy.residues, "VL": light.residues, "IC50": number}

    def titled(text: str) -> str:
        commas = "," * text.partition("\n")[0].count(",")
        title = '"Table S1. Antibodies, of donor 1"' if draw.variant else "Table S1"
        return f"{title}{commas}\n{commas}\n{text}{commas}\n* below the limit{commas}\n"

    return _write_again(_sheet(draw, folder / "s1.csv", record, ("Antibody", "VH", "VL")), titled)


@shape
def sheet_with_groups(draw: Draw, folder: Path) -> Shape:
    """Names of columns that stand twice, below a row that says of which chain they are."""
    lines, pairs = [], []
    for name, heavy, light in draw.named(8):
        fields = [name]
        for chain in (heavy, light):
            fields += [chain.v_call, chain.regions["cdr3"], chain.residues]
        lines.append(",".join(fields))
        annotation = heavy.annotation("v_call") | light.annotation("v_call")
        pairs.append(Pair(heavy.residues, light.residues, (name,), annotation))
    groups = ["Antibody", *["Heavy chain"] * 3, *["Light chain"] * 3]
    if not draw.variant:
        groups = ["", "Heavy chain", "", "", "Light chain", "", ""]
    header = ["Name", *["V gene", "CDR3", "Sequence"] * 2]
    text = "\n".join([",".join(groups), ",".join(header), *lines])
    return Shape(write(folder / "s2.csv", text + "\n"), pairs)


@shape
def sheet_with_empty_columns(draw: Draw, folder: Path) -> Shape:
    def record(number: int, name: str, heavy: Chain, light: Chain) -> Record:
        return {"Name": name, "VH": heavy.residues, "VL": light.residues, "Notes": ""}

    def widened(text: str) -> str:
        lines = text.splitlines()
        return "\r\n".join(f"{line},,," for line in [*lines, lines[0].count(",") * ","])

    return _write_again(_sheet(draw, folder / "Sheet1.csv", record, ("Name", "VH", "VL")), widened)


@shape
def sheet_with_decimal_commas(draw: Draw, folder: Path) -> Shape:
    def record(number: int, name: str, heavy: Chain, light: Chain) -> Record:
        labels = {"KD (nM)": f"{number},5", "Tm, °C": f"7{number},25"}
        return {"Name": name, "VH": heavy.residues, "VL": light.residues, **labels}

    return _sheet(draw, folder / "export.csv", record, ("Name", "VH", "VL", "KD (nM)"), delimiter=";")


@shape
def sheet_with_wrapped_text(draw: Draw, folder: Path) -> Shape:
    """Newlines within names of columns and residues, and blanks of a word processor around these."""
    width = draw.rng.randrange(30, 70)

    def wrapped(chain: Chain) -> str:
        text = chain.residues
        lines = [text[place : place + width] for place in range(0, len(text), width)]
        return "\u200b" + "\n".join(lines) + "\u00a0"

    def record(number: int, name: str, heavy: Chain, light: Chain) -> Record:
        columns = ("Antibody\nname", "Heavy chain\nsequence", "Light chain\nsequence")
        return dict(zip(columns, (name, wrapped(heavy), wrapped(light)), strict=True))

    needs = ("Antibody\nname", "Heavy chain\nsequence", "Light chain\nsequence")
    return _sheet(draw, folder / "s3.csv", record, needs)


@shape
def sheet_of_a_patent(draw: Draw, folder: Path) -> Shape:
    """Numbers of sequences beside them, and no other name than that of the clone."""

    def record(number: int, name: str, heavy: Chain, light: Chain) -> Record:
        record: Record = {"Clone": name}
        for word, chain in (("VH", heavy), ("VL", light)):
            record |= {f"{word} SEQ ID NO": number, f"{word} DNA": nucleotides(chain.residues, draw.rng)}
            record |= {f"{word} Protein": chain.residues, f"{word} CDR3": chain.regions["cdr3"]}
        return record

    return _sheet(draw, folder / "table_3.tsv", record, ("Clone", "VH Protein", "VL Protein"), delimiter="\t")


@shape
def sheet_with_lists_of_two(draw: Draw, folder: Path) -> Shape:
    def record(number: int, name: str, heavy: Chain, light: Chain) -> Record:
        return {"Antibody_ID": name, "Antibody": f"['{heavy.residues}', '{light.residues}']", "Y": number % 2}

    return _sheet(draw, folder / "dataset.csv", record, ("Antibody_ID", "Antibody"))
