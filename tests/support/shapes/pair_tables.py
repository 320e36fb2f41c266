"""Tables with a pair in a row: databases of antibodies, assays, supplements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.shapes.drawing import Draw, Pair, Shape, shape
from support.shapes.molecules import (
    CONSTANT,
    LEADERS,
    nucleotides,
    whole_chain,
    with_gaps,
)
from support.shapes.writing import table_text, write, write_excel

# Tables of pairs under the names in use


def _simple(draw: Draw, path: Path, columns: Sequence[str], **text: Any) -> Shape:
    """A plain table: name, heavy and light chain under these names, and a label."""
    records, pairs = [], []
    for name, heavy, light in draw.named(8):
        values = (name, heavy.residues, light.residues, f"{draw.rng.uniform(0, 9):.2f}")
        records.append(dict(zip([*columns, "KD (nM)"], values, strict=True)))
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    encoding, mark = text.pop("encoding", "utf-8"), text.pop("mark", "")
    whole = mark + table_text(draw.columns(records, columns), records, **text)
    return Shape(write(path, whole, encoding), pairs)


@shape
def csv_plain(draw: Draw, folder: Path) -> Shape:
    return _simple(draw, folder / "pairs.csv", ["id", "heavy", "light"])


@shape
def csv_byte_order_mark_and_crlf(draw: Draw, folder: Path) -> Shape:
    columns = ["Name", "VH", "VL"]
    return _simple(draw, folder / "from excel.csv", columns, encoding="utf-8-sig", newline="\r\n")


@shape
def csv_semicolon(draw: Draw, folder: Path) -> Shape:
    return _simple(draw, folder / "export.csv", ["Antibody", "VH sequence", "VL sequence"], delimiter=";")


@shape
def text_pipe(draw: Draw, folder: Path) -> Shape:
    return _simple(draw, folder / "export.txt", ["name", "VH_AA", "VL_AA"], delimiter="|")


@shape
def csv_utf_16(draw: Draw, folder: Path) -> Shape:
    encoding = "utf-16-be" if draw.variant else "utf-16-le"
    columns = ["Name", "Heavy", "Light"]
    return _simple(
        draw,
        folder / "unicode.txt",
        columns,
        delimiter="\t",
        encoding=encoding,
        mark="\ufeff",
        newline="\r\n",
    )


@shape
def csv_comment_lines(draw: Draw, folder: Path) -> Shape:
    mark = "# Table S2. Antibodies, in the order of figure 1\n#\n"
    return _simple(draw, folder / "table_s2.csv", ["antibody_id", "heavy_chain", "light_chain"], mark=mark)


@shape
def csv_with_row_names(draw: Draw, folder: Path) -> Shape:
    """Written by R or pandas: a first column without a name, every text in quotes."""
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(draw.named()):
        label = "NA" if number % 3 else "TRUE"
        records.append(f'"{number + 1}","{name}","{heavy.residues}","{light.residues}",{label}')
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    header = '"","name","VH","VL","neutralizing"'
    return Shape(write(folder / "table.csv", "\n".join([header, *records]) + "\n"), pairs)


@shape
def csv_lower_case_and_blanks(draw: Draw, folder: Path) -> Shape:
    records, pairs = [], []
    for name, heavy, light in draw.named():
        blocks = [heavy.residues[place : place + 10] for place in range(0, len(heavy.residues), 10)]
        records.append(
            {"name": name, "heavy": " ".join(blocks).lower(), "light": f" {light.residues.lower()} "}
        )
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    return Shape(write(folder / "pairs.csv", table_text(["name", "heavy", "light"], records)), pairs)


@shape
def json_list_of_pairs(draw: Draw, folder: Path) -> Shape:
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(draw.named()):
        records.append({"name": name, "heavy": heavy.residues, "light": light.residues, "label": number % 2})
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    columns = draw.columns(records, ("name", "heavy", "light"))
    rows = [{column: record[column] for column in columns} for record in records]
    return Shape(write(folder / "pairs.json", json.dumps(rows, indent=2)), pairs)


@shape
def compressed_zip(draw: Draw, folder: Path) -> Shape:
    return _simple(draw, folder / "supplement.csv.zip", ["mAb", "VH (aa)", "VL (aa)"])


@shape
def compressed_gzip(draw: Draw, folder: Path) -> Shape:
    return _simple(draw, folder / "pairs.csv.gz", ["ID", "H", "L"])


@shape
def compressed_bzip2(draw: Draw, folder: Path) -> Shape:
    return _simple(draw, folder / "pairs.tsv.bz2", ["name", "vh_seq", "vl_seq"], delimiter="\t")


@shape
def compressed_xz(draw: Draw, folder: Path) -> Shape:
    return _simple(draw, folder / "pairs.csv.xz", ["name", "heavy_sequence", "light_sequence"])


@shape
def compressed_zstandard(draw: Draw, folder: Path) -> Shape:
    return _simple(draw, folder / "pairs.csv.zst", ["name", "heavy_chain_seq", "light_chain_seq"])


@shape
def excel_title_and_two_sheets(draw: Draw, folder: Path) -> Shape:
    """A title above the header, and a first sheet that holds no sequences."""
    columns = ["mAb ID", "Heavy chain sequence", "Light chain sequence"]
    rows, pairs = [], []
    for name, heavy, light in draw.named(8):
        rows.append([name, heavy.residues, light.residues, round(draw.rng.uniform(0, 9), 2), None])
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    header = [*columns, "IC50 (ng/ml)", "Notes"]
    title = (
        [["Table S4. Sequences of monoclonal antibodies"], []] if not draw.variant else [["Table S1"], [], []]
    )
    readme = [["Sheet", "Content"], ["Antibodies", "Sequences of the antibodies of this study"]]
    sheets = {"README": readme, "Antibodies": [*title, header, *rows]}
    return Shape(write_excel(folder / "mmc4.xlsx", sheets), pairs)


@shape
def cov_abdab(draw: Draw, folder: Path) -> Shape:
    """A byte-order mark, nanobodies in the column of the VH, ND where nothing is known."""
    records, pairs, alone = [], [], 0
    for number, (name, heavy, light) in enumerate(draw.named(9)):
        nanobody = number in (2, 6)
        lacks = number == 4
        record = {
            "Name": name,
            "Ab or Nb": "Nb" if nanobody else "Ab",
            "Binds to": "SARS-CoV2_WT;SARS-CoV2_Alpha",
            "Doesn't Bind to": "SARS-CoV1;MERS-CoV",
            "Neutralising Vs": "SARS-CoV2_WT",
            "Not Neutralising Vs": "",
            "Protein + Epitope": "S; RBD",
            "Origin": "B-cells (SARS-CoV2 Human Patient)",
            "VH or VHH": "ND" if lacks else heavy.residues,
            "VL": "ND" if lacks else "" if nanobody else light.residues,
            "Heavy V Gene": f"{heavy.v_call.partition('*')[0]} (Human)",
            "Heavy J Gene": f"{heavy.j_call.partition('*')[0]} (Human)",
            "Light V Gene": f"{light.v_call.partition('*')[0]} (Human)",
            "Light J Gene": f"{light.j_call.partition('*')[0]} (Human)",
            "CDRH3": heavy.regions["cdr3"],
            "CDRL3": light.regions["cdr3"],
            "Structures": "ND",
            "Sources": "Doe et al., 2021 (https://doi.org/10.1000/1, in press)",
            "Date Added": "Mar 4, 2022",
            "Notes/Following Up?": "",
        }
        records.append(record)
        if nanobody or lacks:
            alone += 1
        else:
            annotation = heavy.annotation("cdr3") | light.annotation("cdr3")
            annotation |= {f"v_call_{c.kind}": c.v_call.partition("*")[0] for c in (heavy, light)}
            pairs.append(Pair(heavy.residues, light.residues, (name,), annotation))
    needs = ("Name", "VH or VHH", "VL", "CDRH3", "CDRL3", "Heavy V Gene", "Light V Gene")
    text = table_text(draw.columns(records, needs), records)
    return Shape(write(folder / "CoV-AbDab.csv", text, "utf-8-sig"), pairs, left_out={"missing_chain": alone})


@shape
def cov_abdab_unpaired(draw: Draw, folder: Path) -> Shape:
    """Single chains of the same table: heavy and light ones alike."""
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(draw.named(6)):
        has_light = number % 3 != 1
        records.append(
            {"Name": name, "VH or VHH": heavy.residues, "VL": light.residues if has_light else "ND"}
        )
        pairs.append(Pair(heavy.residues, None, (f"{name}_heavy" if has_light else name,)))
        if has_light:
            pairs.append(Pair(None, light.residues, (f"{name}_light",)))
    text = table_text(list(records[0]), records)
    return Shape(write(folder / "CoV-AbDab.csv", text, "utf-8-sig"), pairs, {"chains": "unpaired"})


@shape
def thera_sabdab(draw: Draw, folder: Path) -> Shape:
    records, pairs, alone = [], [], 0
    for number, (name, heavy, light) in enumerate(draw.named(8)):
        single = number == 5
        alone += single
        records.append(
            {
                "Therapeutic": name,
                "Format": "Whole mAb",
                "CH1 Isotype": "G1",
                "VD LC": "Kappa",
                "Highest_Clin_Trial (Jan '24)": "Phase-II",
                "Est. Status": "Active",
                "Heavy Sequence": heavy.residues,
                "Light Sequence": "na" if single else light.residues,
                "Heavy Sequence (if bispec)": "na",
                "Light Sequence (if bispec)": "na",
                "Year Proposed": 2012,
                "Target": "PDCD1",
            }
        )
        if not single:
            pairs.append(Pair(heavy.residues, light.residues, (name,)))
    needs = ("Therapeutic", "Heavy Sequence", "Light Sequence")
    text = table_text(draw.columns(records, needs), records)
    return Shape(
        write(folder / "TheraSAbDab_SeqStruc_OnlineDownload.csv", text),
        pairs,
        left_out={"missing_chain": alone},
    )


@shape
def developability(draw: Draw, folder: Path) -> Shape:
    """V domains beside whole chains, their genes, and aligned V domains."""
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(draw.named(8)):
        whole = [whole_chain(chain) for chain in (heavy, light)]
        records.append(
            {
                "antibody_id": f"AB-{number:03}",
                "antibody_name": name,
                "Titer": round(draw.rng.uniform(100, 250), 2),
                "SEC %Monomer": 97.01,
                "AC-SINS_pH7.4": 2.125,
                "hc_subtype": "IgG1",
                "lc_subtype": "Kappa",
                "vh_protein_sequence": heavy.residues,
                "hc_protein_sequence": whole[0] + "*",
                "hc_dna_sequence": nucleotides(whole[0], draw.rng) + "TAG",
                "vl_protein_sequence": light.residues,
                "lc_protein_sequence": whole[1] + "*",
                "lc_dna_sequence": nucleotides(whole[1], draw.rng) + "TAG",
                "random_fold": number % 5,
                "light_aligned_aho": with_gaps(light.regions, "-"),
                "heavy_aligned_aho": with_gaps(heavy.regions, "-"),
            }
        )
        pairs.append(Pair(heavy.residues, light.residues, (f"AB-{number:03}", name)))
    needs = (
        "antibody_id",
        "antibody_name",
        "vh_protein_sequence",
        "vl_protein_sequence",
        "hc_protein_sequence",
    )
    text = table_text(draw.columns(records, needs), records)
    return Shape(write(folder / "assays.csv", text), pairs)


@shape
def whole_chains(draw: Draw, folder: Path) -> Shape:
    """Whole chains of an IgG, with or without their leader."""
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(draw.named(6)):
        heavy_chain, light_chain = (
            whole_chain(chain)[len(LEADERS[chain.locus][0]) * (number % 2) :] for chain in (heavy, light)
        )
        records.append({"Antibody": name, "HC": heavy_chain, "LC": light_chain, "Yield (mg/l)": 12})
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    text = table_text(draw.columns(records, ("Antibody", "HC", "LC")), records)
    return Shape(write(folder / "order.csv", text), pairs)


@shape
def polyreactivity(draw: Draw, folder: Path) -> Shape:
    """A few rows with a leader, a part of the constant region, or both."""
    records, pairs = [], []
    for number, (heavy, light) in enumerate(draw.pairs(12)):
        name = f"flu_{number:06}"
        sequences = []
        for chain in (heavy, light):
            text = chain.residues
            if number % 4 in (1, 3):
                text = LEADERS[chain.locus][0] + text
            if number % 4 in (2, 3):
                text += CONSTANT[chain.c_call][: draw.rng.randrange(3, 40)]
            sequences.append(text)
        records.append(
            {
                "id": name,
                "subset": "flu",
                "heavy_seq": sequences[0],
                "light_seq": sequences[1],
                "num_flags": number % 3,
            }
        )
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    text = table_text(draw.columns(records, ("id", "heavy_seq", "light_seq")), records)
    return Shape(write(folder / "polyreactivity.csv", text), pairs)


@shape
def aligned_with_gaps(draw: Draw, folder: Path) -> Shape:
    records, pairs = [], []
    gap = "." if draw.variant else "-"
    for name, heavy, light in draw.named(8):
        aligned = {
            "heavy_aligned": with_gaps(heavy.regions, gap),
            "light_aligned": with_gaps(light.regions, gap),
        }
        records.append({"antibody": name, **aligned})
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    text = table_text(draw.columns(records, list(records[0])), records)
    return Shape(write(folder / "aligned.csv", text), pairs)


@shape
def residues_beside_nucleotides(draw: Draw, folder: Path) -> Shape:
    records, pairs = [], []
    for name, heavy, light in draw.named(8):
        coding = [nucleotides(chain.residues, draw.rng) for chain in (heavy, light)]
        values = (name, coding[0], heavy.residues, coding[1], light.residues)
        records.append(dict(zip(["Antibody ID", "VH_nuc", "VH_AA", "VL_nuc", "VL_AA"], values, strict=True)))
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    text = table_text(draw.columns(records, list(records[0])), records)
    return Shape(write(folder / "clones.csv", text), pairs)


@shape
def foreign_annotation(draw: Draw, folder: Path) -> Shape:
    """Columns that are called like annotation and hold something else."""
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(draw.named(8)):
        mutations = "[]" if number % 2 else "['S31T', 'A52G']"
        records.append(
            {
                "name": name,
                "heavy": heavy.residues,
                "light": light.residues,
                "heavy_mutations": mutations,
                "v_identity_heavy": "97.5%",
                "region_mask_heavy": "n/a",
            }
        )
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    return Shape(
        write(folder / "library.csv", table_text(draw.columns(records, list(records[0])), records)), pairs
    )
