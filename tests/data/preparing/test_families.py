"""Simulated families with known truth: nothing of a family, a donor or a heavy chain is on both sides.

The comparison of all rows with all others below shares nothing with what splits, nor with what checks.
"""

from __future__ import annotations

import random

import pyarrow.parquet as pq
import pytest

from curr_ab.data import PreparationPlan, prepare

GENES = ("cdr3_heavy", "v_call_heavy", "j_call_heavy")


def units_on_both_sides(sides, unit) -> int:
    """The number of units, such as donors, of which pairs are in more than one split."""
    split_of, crossing = {}, set()
    for side, row in sides:
        for one in unit(row):
            if split_of.setdefault(one, side) != side:
                crossing.add(one)
    return len(crossing)


def pairs_with_mates(sides) -> int:
    """Test pairs of which training has a mate: the same true genes, and one other residue in the CDRH3."""
    of_genes: dict[tuple[str, ...], list[str]] = {}
    for side, row in sides:
        if side == "train":
            genes = tuple(row[name].partition("*")[0] for name in GENES[1:])
            of_genes.setdefault(genes, []).append(row["cdr3_heavy"])
    count = 0
    for side, row in sides:
        if side == "test":
            mine = row["cdr3_heavy"]
            others = of_genes.get(tuple(row[name].partition("*")[0] for name in GENES[1:]), [])
            near = (
                sum(a != b for a, b in zip(mine, one, strict=True)) < 2
                for one in others
                if len(one) == len(mine)
            )
            count += any(near)
    return count


@pytest.fixture(scope="module")
def families(corpus) -> list[dict]:
    """The corpus, and heavy chains with the light chain of another cell of their donor."""
    rows, draws = list(corpus), random.Random(0)
    for number in range(200):
        row = draws.choice(corpus)
        light = draws.choice([other["light"] for other in corpus if other["donor"] == row["donor"]])
        rows.append({**row, "id": f"other{number}", "light": light})
    return list({(row["heavy"], row["light"]): row for row in rows}.values())


@pytest.mark.heavy
@pytest.mark.parametrize("by_donor", [False, True])
@pytest.mark.parametrize("known", [GENES, GENES[:1], ()])
def test_families_are_held_apart(families, write, tmp_path, known, by_donor) -> None:
    """Two sources: one that knows no donors comes first, and repeats some pairs of the other."""
    draws = random.Random(1)
    truth = {(row["heavy"], row["light"]): row for row in families}
    names = ["id", "heavy", "light", *known, "subject"]
    sources = []
    for name, rows in (("a.csv", draws.sample(families, 400)), ("b.csv", families)):
        given = [{**row, "subject": row["donor"] if name == "b.csv" else ""} for row in rows]
        lines = [",".join(names), *(",".join(row[column] for column in names) for row in given)]
        sources.append(write(name, "\n".join(lines) + "\n"))
    plan = PreparationPlan(group_by_donor=by_donor, validation=0.1, test=0.1)
    report = prepare(sources, tmp_path / "out", plan)["report"]
    sides = [
        (path.name.partition("-")[0], truth[row["heavy"], row["light"]])
        for path in (tmp_path / "out").glob("*-*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    assert len(sides) == len(families)
    assert {side for side, _ in sides} == {"train", "validation", "test"}

    assert units_on_both_sides(sides, lambda row: [row["heavy"]]) == 0
    assert report["heavy_chains_in_several_splits"] == 0
    assert pairs_with_mates(sides) == 0
    assert report["test_pairs_with_clone_mates_in_training"] == 0
    assert (report["test_pairs_compared"] > 0) == bool(known)
    donors = units_on_both_sides(sides, lambda row: [row["donor"]])
    assert donors == 0 if by_donor else donors > 10
    if by_donor:
        assert report["donors_in_several_splits"] == report["pairs_without_donor"] == 0
    # A split by chance of the same sizes is not so clean.
    by_chance = list(zip(draws.sample([side for side, _ in sides], len(sides)), families, strict=True))
    assert units_on_both_sides(by_chance, lambda row: [row["heavy"]]) > 50
    assert pairs_with_mates(by_chance) > 50
