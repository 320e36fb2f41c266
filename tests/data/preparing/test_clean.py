"""Every unusable record is dropped for the right reason, and none disappears without one."""

from __future__ import annotations

from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from support.pair_files import plain_text
from support.whole_chains import CONSTANT, RECEPTOR

from curr_ab.data import PreparationPlan, TokenDataset, prepare
from curr_ab.data.preparing.clean import REASONS

EXACT = PreparationPlan(cluster="exact")


def broken(row, reason):
    """A record that must be dropped for the reason."""
    heavy, light = row["heavy"], row["light"]
    return {
        "missing_chain": (heavy, ""),
        "nucleotides": ("GAGGTGCAGCTG" * 25, light),
        "stop_codon": (heavy, light[:50] + "*" + light[51:]),
        "unknown_letter": (heavy[:50] + "J" + heavy[51:], light),
        "ambiguous": (heavy, "XXX" + light[3:]),
        "wrong_chain": (light, heavy),
        "impossible_length": (heavy[-60:], light),
        "t_cell_receptor": (heavy, RECEPTOR),
        "several_domains": (f"{heavy}GGGGSGGGGSGGGGS{heavy}", light),
        "truncated_domain": (heavy[30:], light),
        "not_a_variable_domain": (CONSTANT["heavy"], light),
    }[reason]


@pytest.mark.parametrize(
    "reason",
    [reason for reason in REASONS if reason not in ("several_chains", "non_productive", "duplicate")],
)
def test_reason(corpus, write, tmp_path, reason) -> None:
    rows = [dict(row) for row in corpus[:40]]
    for row in rows[5:15]:
        row["heavy"], row["light"] = broken(row, reason)
    path = write("pairs.csv", plain_text(rows))
    index = prepare(path, tmp_path / "out", EXACT, keep_dropped=True)
    assert index["report"]["dropped"] == {reason: 10}
    assert (index["report"]["read"], index["report"]["kept"]) == (40, 30)
    dropped = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    assert [row["record"] for row in dropped] == list(range(6, 16))
    assert {row["reason"] for row in dropped} == {reason}
    assert [row["id"] for row in dropped] == [row["id"] for row in rows[5:15]]


def test_non_productive(corpus, write, tmp_path) -> None:
    lines = ["heavy,light,productive_heavy,productive_light"]
    flags = [("T", "T"), ("TRUE", "true"), ("F", "T"), ("T", "False"), ("", "")] * 8
    lines += [f"{r['heavy']},{r['light']},{a},{b}" for r, (a, b) in zip(corpus, flags, strict=False)]
    index = prepare(write("a.csv", "\n".join(lines) + "\n"), tmp_path / "out", EXACT)
    assert index["report"]["dropped"] == {"non_productive": 16}


def test_several_chains_in_a_cell(corpus, write, tmp_path) -> None:
    lines = ["cell_id,locus,sequence_aa"]
    for number, row in enumerate(corpus[:40]):
        lines += [f"c{number},IGH,{row['heavy']}", f"c{number},IGK,{row['light']}"]
    lines += [f"c3,IGH,{corpus[50]['heavy']}"]
    index = prepare(write("a.csv", "\n".join(lines) + "\n"), tmp_path / "out", EXACT)
    assert index["report"]["dropped"] == {"several_chains": 3}
    assert index["report"]["kept"] == 39


@pytest.mark.heavy
def test_duplicates_in_and_across_files(corpus, write, tmp_path) -> None:
    first, second = corpus[:40], [{**row, "id": f"again{row['id']}"} for row in corpus[20:60]]
    paths = [write("a.csv", plain_text(first + first[:3])), write("b.csv", plain_text(second))]
    index = prepare(paths, tmp_path / "out", EXACT, keep_dropped=True)
    assert index["report"]["dropped"] == {"duplicate": 23}
    assert index["report"]["kept"] == 60
    dropped = pq.read_table(tmp_path / "out" / "dropped.parquet")
    assert sorted(dropped["id"].to_pylist()) == sorted([row["id"] for row in first[:3] + second[:20]])
    # Where chains are the same and their combination is not, nothing is a duplicate.
    crossed = [{**a, "light": b["light"]} for a, b in pairwise(corpus[:41])]
    index = prepare(write("c.csv", plain_text(first + crossed)), tmp_path / "out2", EXACT)
    assert index["report"]["kept"] == len({(r["heavy"], r["light"]) for r in first + crossed})


def test_duplicate_ids_are_kept_and_reported(corpus, write, tmp_path) -> None:
    rows = [{**row, "id": "same" if number < 7 else row["id"]} for number, row in enumerate(corpus[:40])]
    index = prepare(write("a.csv", plain_text(rows)), tmp_path / "out", EXACT)
    assert index["report"]["repeated_ids"] == 6
    assert index["report"]["kept"] == 40
    stored = pq.read_table(tmp_path / "out" / "train-00000.parquet")
    assert len(set(stored["record"].to_pylist())) == len(stored) == len(TokenDataset(tmp_path / "out"))


@pytest.mark.heavy
def test_good_pairs_are_never_dropped(tmp_path) -> None:
    report = prepare("builtin", tmp_path / "out", EXACT)["report"]
    assert set(report["dropped"]) <= {"duplicate"}
    assert report["kept"] + sum(report["dropped"].values()) == 20_000
