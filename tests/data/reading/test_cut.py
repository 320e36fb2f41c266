"""Chains cut to their variable domains: whole where they are bare, with their masks, for a named outcome."""

import random
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pair_files import oas_text, pairs_of, plain_text
from support.whole_chains import CONSTANT, RECEPTOR, single_chain, whole_chain

from curr_ab.data import builtin_path, read_pairs, simulate_pairs
from curr_ab.data.preparing.clean import drop_reasons
from curr_ab.data.preparing.plan import CleaningLimits
from curr_ab.data.reading import cut
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.cut import chain_kinds, split_domains
from curr_ab.data.reading.objects import tables_of
from curr_ab.data.reading.pairs import read_source
from curr_ab.words import CHAINS


def read(path, **options):
    return pa.Table.from_batches(list(read_source(path, ColumnNames(), "paired", **options))).to_pylist()


def longer(row, draw):
    kind = {"K": "kappa", "L": "lambda"}[row["v_call_light"][2]]
    chains = {
        "heavy": whole_chain(row["heavy"], "heavy", draw),
        "light": whole_chain(row["light"], kind, draw),
    }
    return row | chains


def recognised_of(path, **options):
    recognised = []
    rows = [row for batch in read_source(path, ColumnNames(), "paired", recognised=recognised, **options)
            for row in batch.to_pylist()]  # fmt: skip
    return rows, recognised[0]


def test_bare_domains_are_not_aligned(corpus, write, monkeypatch):
    monkeypatch.setattr(cut, "judge", lambda text, chain: cut.Judged(cut.UNCHANGED))
    rows, recognised = recognised_of(write("a.csv", plain_text(corpus[:50])))
    assert [(row["heavy"], row["light"]) for row in rows] == pairs_of(corpus[:50])
    assert {row["domain_heavy"] for row in rows} == {None}
    assert (recognised.chains, recognised.aligned) == (100, {})
    [_, line] = recognised.lines()
    assert line == "none of 100 chains was cut: a sample of them is of variable domains alone"


@pytest.mark.parametrize("chain", CHAINS)
def test_a_long_chain_that_no_sample_sees(corpus, write, chain):
    rows = [dict(corpus[number % len(corpus)]) for number in range(5_000)]
    bare = next(row for row in corpus if len(row[chain]) + 22 > cut._LONG[chain])
    rows[3_333] = bare | {chain: "MDMRVPAQLLGLLLLWLRGARC" + bare[chain]}
    read_rows, recognised = recognised_of(write("a.csv", plain_text(rows)))
    assert read_rows[3_333][chain] == bare[chain]
    assert read_rows[3_333][f"domain_{chain}"] == "cut"
    assert recognised.chains == 10_000 and recognised.aligned["cut"] == 1
    assert sum(recognised.aligned.values()) < 50  # nearly none of the others is aligned in vain


def test_a_chain_long_by_its_cdr3_is_aligned_where_no_regions_of_the_source_say_so(
    corpus, write, monkeypatch
):
    asked = []
    monkeypatch.setattr(cut, "judge", lambda text, chain: asked.append(text))
    row, mask = corpus[0]["heavy"], corpus[0]["region_mask_heavy"]
    place, end = mask.index("6") + 3, mask.index("7")
    long, mask = row[:place] + "Y" * 30 + row[place:], mask[:place] + "6" * 30 + mask[place:]
    endless = long[: end + 30] + "A" * (len(row) - end)  # it shows its beginning alone

    def aligned(heavy, region_mask, writer):
        asked.clear()
        rows = [*corpus[1:20], corpus[0] | {"heavy": heavy, "region_mask_heavy": region_mask}]
        assert read(write("a.csv", writer(rows)))[-1]["heavy"] == heavy
        return heavy in asked

    assert not aligned(endless, mask, oas_text)
    assert aligned(endless, mask, plain_text)
    assert aligned("L" * 22 + long, "1" * 22 + mask, oas_text)  # a leader among the regions
    assert aligned(long + "S" * 9, mask + "7" * 9, oas_text)  # a constant part


def test_what_was_cut_is_counted(corpus, write):
    draw = random.Random(4)
    rows = [longer(row, draw) for row in corpus[:20]]
    rows[3]["light"], rows[5]["light"] = RECEPTOR, rows[5]["light"][:60]
    recognised = recognised_of(write("a.csv", plain_text(rows)))[1]
    assert recognised.aligned == {"cut": 38, "t_cell_receptor": 1, "truncated_domain": 1}
    assert recognised.lines()[1:] == [
        "cut to the variable domain: 38 of 40 chains",
        "not one whole variable domain of its kind: t_cell_receptor 1, truncated_domain 1",
    ]


def test_leaders_constant_parts_and_tags_go(corpus, write):
    draw = random.Random(0)
    rows = read(write("a.csv", plain_text([longer(row, draw) for row in corpus[:60]] + corpus[60:80])))
    assert [(row["heavy"], row["light"]) for row in rows] == pairs_of(corpus[:80])
    assert {row["domain_heavy"] for row in rows[:60]} == {"cut"}
    assert {row["domain_light"] for row in rows[60:]} <= {None, "unchanged"}
    for row, truth in zip(rows[:60], corpus, strict=False):
        assert row["domain_end_heavy"] - row["domain_start_heavy"] + 1 == len(truth["heavy"])
        assert len(row["region_mask_heavy"]) == len(truth["heavy"])
        assert row["cdr3_light"] == truth["cdr3_light"]


@pytest.mark.parametrize("prefix", ["M", "MA", "GS", "AYG", "GSHM"])
@pytest.mark.heavy
def test_a_prefix_of_few_residues_goes(corpus, write, prefix):
    rows = [row | {chain: prefix + row[chain] for chain in CHAINS} for row in corpus[:100]]
    cut_rows = read(write("a.csv", plain_text(rows)))
    same = [
        cut_row[chain] == row[chain]
        for cut_row, row in zip(cut_rows, corpus, strict=False)
        for chain in CHAINS
    ]
    assert sum(same) >= 199, [row["heavy"] for row in cut_rows]


def test_one_row_in_a_hundred_is_found_by_the_sample(corpus, write):
    rows = [dict(row) for row in corpus[:400]]
    for row in rows[7::100]:
        row["light"] += CONSTANT["kappa"]
    found = read(write("a.csv", plain_text(rows)))
    assert [row["light"] for row in found] == [row["light"] for row in corpus[:400]]


def test_masks_are_cut_with_their_chain(corpus, write):
    row = corpus[0]
    lines = ["heavy,light,mutation_mask_heavy,region_mask_heavy"]
    heavy, mask = "MKT" + row["heavy"] + CONSTANT["heavy"], row["mutation_mask_heavy"]
    whole = "111" + row["region_mask_heavy"] + "7" * len(CONSTANT["heavy"])
    lines += [f"{heavy},{row['light']},{'0' * 3 + mask + '0' * len(CONSTANT['heavy'])},{whole}"]
    [read_row] = read(write("a.csv", "\n".join(lines) + "\n"))
    assert read_row["heavy"] == row["heavy"]
    assert read_row["mutation_mask_heavy"] == mask
    assert read_row["region_mask_heavy"] == row["region_mask_heavy"]


@pytest.mark.parametrize(
    ("chain", "text", "outcome"),
    [
        ("heavy", lambda row: row["light"], "wrong_chain"),
        ("light", lambda row: RECEPTOR, "t_cell_receptor"),
        ("light", lambda row: row["heavy"], "wrong_chain"),
        ("heavy", lambda row: CONSTANT["heavy"], "not_a_variable_domain"),
        ("heavy", lambda row: row["heavy"][30:], "truncated_domain"),
        ("heavy", lambda row: row["heavy"] + "GGGGS" * 3 + row["heavy"], "several_domains"),
        ("heavy", lambda row: "GAGGTGCAGCTG" * 25, None),
    ],
)
def test_outcomes(corpus, write, chain, text, outcome):
    row = corpus[0] | {chain: text(corpus[0])}
    [found] = read(write("a.csv", plain_text([row])))
    assert found[f"domain_{chain}"] == outcome
    assert found[chain] == row[chain]


def test_annotation_of_every_row(corpus, write):
    rows = read(write("a.csv", plain_text(corpus[:30])), annotate=True)
    same = [
        row["region_mask_heavy"] == truth["region_mask_heavy"]
        for row, truth in zip(rows, corpus, strict=False)
    ]
    assert sum(same) >= 29
    source = write("unit.csv.gz", oas_text(corpus[:5]))
    assert [row["domain_heavy"] for row in read(source, annotate=True)] == [None] * 5  # it has its own masks


def test_read_pairs_gives_domains(corpus, write):
    path = write("a.csv", plain_text([longer(row, random.Random(1)) for row in corpus[:5]]))
    batches = list(read_pairs(path, annotate=True))
    assert batches[0]["heavy"].to_pylist() == [row["heavy"] for row in corpus[:5]]
    assert "domain_heavy" not in batches[0].schema.names


def test_both_chains_in_one_column(corpus):
    draw = random.Random(3)
    made = [single_chain(row["heavy"], row["light"], draw) for row in corpus[:30]]
    column = pa.array([one.text for one in made] + [None, corpus[0]["heavy"], "MKTAYIAKQR"])
    heavy, light = split_domains(column)
    assert heavy.to_pylist() == [one.heavy for one in made] + [None, corpus[0]["heavy"], None]
    assert light.to_pylist() == [one.light for one in made] + [None] * 3


def test_chains_are_told_by_content(corpus):
    heavy, light = ([row[chain] for row in corpus[:40]] for chain in ("heavy", "light"))
    kinds = chain_kinds(pa.array([*heavy, *light, RECEPTOR, None, heavy[0] + light[0]]))
    assert kinds.to_pylist() == ["heavy"] * 40 + ["light"] * 40 + [None] * 3


@pytest.mark.heavy
@pytest.mark.parametrize("share", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_no_chain_of_the_corpus_is_taken_for_another_thing(monkeypatch, share):
    """None of 40,000, those that are not bare aligned; nor of 4,000 that are all aligned; or of a tenth."""
    monkeypatch.setattr(cut.DomainCutter, "_sample_shows_more", lambda cutter, texts: True)
    bare = simulate_pairs(2_000 // share, seed=11).select(["id", "heavy", "light"])
    corpus = pq.read_table(builtin_path())
    corpus = corpus.slice(0, corpus.num_rows // share)
    for annotate, source in ((False, corpus), (True, bare)):
        reasons = Counter()
        recognised = []
        for table in tables_of(source):
            for batch in read_source(
                table, ColumnNames(), "paired", annotate=annotate, recognised=recognised
            ):
                reasons.update(drop_reasons(batch, CleaningLimits(), paired=True).to_pylist())
        alarms = Counter(reasons) - Counter({None: reasons[None]})
        assert alarms.total() <= reasons.total() // 1000, alarms
        assert recognised[0].aligned["unchanged"] > 1_000 // share
        assert recognised[0].aligned.get("cut", 0) <= recognised[0].chains // 1000
