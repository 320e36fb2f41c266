"""What crosses splits is counted as a comparison of all rows counts it, whatever the files know."""

from __future__ import annotations

import random
import re
from operator import itemgetter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curr_ab.data.preparing.checks import check_splits
from curr_ab.data.schema import PAIR_SCHEMA


def relatives(corpus, draws: random.Random, known: str) -> list[dict]:
    """Rows of few families, of which the files know genes and CDRH3, the CDRH3 alone, or the region mask."""
    rows = []
    for number in range(400):
        row = dict(draws.choice(corpus[:40]))
        heavy, cdr3 = list(row["heavy"]), row["cdr3_heavy"]
        begin = row["heavy"].rindex(cdr3)
        for place in draws.sample(range(begin, begin + len(cdr3)), draws.choice((0, 1, 1, 2))):
            heavy[place] = draws.choice("ADGSY")
        for place in draws.sample(range(begin), draws.choice((0, begin // 10, begin // 3))):
            heavy[place] = draws.choice("ADGSY")
        row |= {"heavy": "".join(heavy), "donor": f"d{draws.randrange(150)}", "cluster": number // 2}
        row["cdr3_heavy"] = row["heavy"][begin : begin + len(cdr3)].lower()
        if known != "genes":
            row["v_call_heavy"] = None if draws.random() < 0.9 else "Homsap IGHV1-2*01 F"
        if known == "mask":
            row["cdr3_heavy"] = draws.choice((None, "", "TGTGCG"))  # nucleotides are in no chain
        rows.append(row)
    return rows


def cdr3_of(row: dict) -> str:
    if row["cdr3_heavy"] and row["cdr3_heavy"].upper() in row["heavy"]:
        return row["cdr3_heavy"].upper()
    residues = zip(row["heavy"], row["region_mask_heavy"], strict=True)
    return "".join(letter for letter, region in residues if region == "6")


def are_mates(one: dict, other: dict) -> bool:
    genes = [
        [re.sub(r"^Homsap |\*.*", "", row[f"{gene}_call_heavy"] or "") for gene in "vj"]
        for row in (one, other)
    ]
    cdr3s = [cdr3_of(row) for row in (one, other)]
    if genes[0] != genes[1] or len(cdr3s[0]) != len(cdr3s[1]) or sum(map(str.__ne__, *cdr3s)) > 1:
        return False
    ends = [row["heavy"][: row["heavy"].rindex(cdr3)] for row, cdr3 in zip((one, other), cdr3s, strict=True)]
    length = min(96, *map(len, ends))
    return bool(genes[0][0]) or sum(map(str.__eq__, *(end[-length:] for end in ends))) > 0.8 * length


@pytest.mark.parametrize("known", ["genes", "cdr3", "mask"])
def test_counts_are_those_of_all_rows(corpus, tmp_path, known) -> None:
    draws = random.Random(5)
    folder = tmp_path / "cluster=1" / "[a]*'b?"  # not a pattern of names, and no column
    folder.mkdir(parents=True)
    of_split = {name: [] for name in ("train", "validation", "test")}
    for row in relatives(corpus, draws, known):
        of_split[draws.choices(tuple(of_split), (60, 20, 20))[0]].append({**row, "split": "unread"})
    schema = pa.schema([*PAIR_SCHEMA, ("cluster", pa.int64())])
    shards = {}
    for split, rows in of_split.items():
        shards[split] = [f"{split}-{index:05d}" for index in range(2)]
        for name, half in zip(shards[split], (rows[::2], rows[1::2]), strict=True):
            pq.write_table(pa.Table.from_pylist(half, schema), folder / f"{name}.parquet")
    found = check_splits(folder, shards, scratch=tmp_path / "scratch")
    for unit, column in (("clusters", "cluster"), ("donors", "donor"), ("heavy_chains", "heavy")):
        sides = [set(map(itemgetter(column), rows)) for rows in of_split.values()]
        several = set.union(*(a & b for a in sides for b in sides if a is not b))
        assert found[f"{unit}_in_several_splits"] == len(several) > 2
    ids = [row["id"] for rows in of_split.values() for row in rows]
    assert found["repeated_ids"] == len(ids) - len(set(ids)) > 2
    mates = [any(are_mates(row, other) for other in of_split["train"]) for row in of_split["test"]]
    assert found["test_pairs_compared"] == len(mates)
    assert found["test_pairs_with_clone_mates_in_training"] == sum(mates)
    assert 10 < sum(mates) < len(mates) - 10


def test_splits_without_pairs(corpus, tmp_path) -> None:
    schema = pa.schema([*PAIR_SCHEMA, ("cluster", pa.int64())])
    rows = [{**row, "cluster": number} for number, row in enumerate(corpus[:20])]
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "train-00000.parquet")
    shards = {"train": ["train-00000"], "validation": [], "test": []}
    assert set(check_splits(tmp_path, shards, scratch=tmp_path / "scratch").values()) == {0}
