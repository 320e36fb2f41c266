"""Small files in the form of the published ones, with the chains of the built-in corpus."""

import csv
import gzip
import io
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab.data.reading.formats import builtin_path

FOLD = "hierarchical_cluster_IgG_isotype_stratified_fold"
ASSAYS = ("AC-SINS_pH7.4", "HIC", "PR_CHO", "Titer", "Tm2")
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


@cache
def corpus():
    """Pairs of the built-in corpus, one of each clone, so that none is another's relative."""
    table = pq.read_table(builtin_path(), columns=["heavy", "light", "clone", "donor"])
    return tuple({row["clone"]: row for row in table.to_pylist()}.values())


def pairs(count, first=0):
    """`count` unrelated pairs."""
    return [(row["heavy"], row["light"]) for row in corpus()[first : first + count]]


def write_table(path, rows, *, columns=None, bom=False):
    """CSV of rows as mappings, compressed where the name says so."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    content = ("\ufeff" * bom + text.getvalue()).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def gdpa1_rows(count=40):
    """Antibodies in the columns of GDPa1; every seventh has no HIC."""
    return [
        {
            "antibody_id": f"GDPa1-{number:03d}",
            "antibody_name": f"mab{number}",
            "Titer": 100.0 + number,
            "HIC": "" if number % 7 == 3 else 2 + number / 10,
            "PR_CHO": 0.1 + number % 5,
            "AC-SINS_pH7.4": (heavy.count("Y") + light.count("S")) / 2,
            "Tm2": 80.0 - number / 10,
            "vh_protein_sequence": heavy,
            "vl_protein_sequence": light,
            FOLD: number % 5,
            "heavy_aligned_aho": heavy.ljust(150, "-"),
            "light_aligned_aho": light.ljust(150, "-"),
        }
        for number, (heavy, light) in enumerate(pairs(count))
    ]


def boughter_rows(count=60):
    """Antibodies in the columns of Boughter's file, a third of them with no label."""
    labels = ("0.0", "1.0", "")
    return [
        {
            "id": f"flu_{number:06d}",
            "subset": "flu",
            "heavy_seq": heavy,
            "light_seq": light,
            "num_flags": (0, 5, 2)[number % 3],
            "label": labels[number % 3],
            "include_in_training": number % 3 < 2,
            "source": "boughter2020",
        }
        for number, (heavy, light) in enumerate(pairs(count))
    ]


def shehata_rows(count=20, first=100):
    """Antibodies of another set, in the same columns as far as it has them."""
    return [
        {"id": f"ADI-{number}", "heavy_seq": heavy, "light_seq": light, "label": number % 2, "psr_score": 0.1}
        for number, (heavy, light) in enumerate(pairs(count, first))
    ]


def write_paratope(folder, counts=(12, 6, 6)):
    """Training, validation and test part of single chains; each tyrosine is of the paratope."""
    files, first = [], 0
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        chains = [pair[number % 2] for number, pair in enumerate(pairs(count, first))]
        table = {
            "sequence": chains,
            "paratope_labels": [["P" if residue == "Y" else "N" for residue in chain] for chain in chains],
            "pdb": [f"{number + (first > 0):04d}" for number in range(count)],
        }
        files.append(folder / f"sabdab_{part}.parquet")
        pq.write_table(pa.table(table), files[-1])
        first += count
    return files


def epitope_rows(count=60):
    """Antibodies in the columns of CoV-AbDab, with a nanobody and epitopes that say nothing."""
    epitopes = ("S; RBD", "S; NTD", "S; S2", "S; Unk", "S; RBD", "S; Possibly RBD")
    rows = [
        {
            "Name": f"ab{number}",
            "Ab or Nb": "Ab",
            "Protein + Epitope": epitopes[number % len(epitopes)],
            "VH or VHH": heavy,
            "VL": light,
            "Sources": f"Author {number % 7} et al., 2021",
        }
        for number, (heavy, light) in enumerate(pairs(count))
    ]
    rows[0] |= {"Ab or Nb": "Nb", "VL": "ND"}
    return rows


def variants(count, parent=0):
    """Heavy chains with one residue of framework 1 exchanged, and the light chain of their parent."""
    heavy, light = pairs(1, parent)[0]
    places = [(place, residue) for place in range(5, 20) for residue in RESIDUES if heavy[place] != residue]
    return [(heavy[:place] + residue + heavy[place + 1 :], light) for place, residue in places[:count]]
