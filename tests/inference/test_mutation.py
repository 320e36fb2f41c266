"""Mutations: log-odds by their definition, whole sequences, mutants as text."""

import pytest
import torch
from support.tiny_models import PAIRS, stock_twin

from curr_ab.inference import records_of, saturate, score, score_mutants
from curr_ab.inference.heat_maps import write_heat_maps
from curr_ab.inference.mutation import apply_mutant, parse_mutant
from curr_ab.inference.tasks import MutateTask
from curr_ab.options import OptionError
from curr_ab.words import STANDARD_RESIDUES

HEAVY, LIGHT = PAIRS[0][0][:40], PAIRS[0][1][:36]


@pytest.fixture(scope="module")
def reference(deep, tokenizer):
    """log p(mutant) - log p(wild type) with one mask at a position of the heavy chain, in stock ESM."""

    def log_odds(position, mutant):
        ids = tokenizer(HEAVY, LIGHT, return_tensors="pt")["input_ids"]
        wild_type = ids[0, position].item()
        ids[0, position] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = stock_twin(deep)(input_ids=ids).logits[0, position].log_softmax(-1)
        return float(logits[tokenizer.convert_tokens_to_ids(mutant)] - logits[wild_type])

    return log_odds


def test_log_odds_by_definition(deep, tokenizer, reference):
    table = next(saturate(deep, tokenizer, [(HEAVY, LIGHT)]))
    assert len(table.sites) == len(HEAVY) + len(LIGHT)
    rows = {(site.chain, site.position, mutant): value for site, mutant, value in table.rows()}
    assert len(rows) == 19 * len(table.sites)
    for position, mutant in ((1, "A"), (32, "W"), (40, "C")):
        assert rows["heavy", position, mutant] == pytest.approx(reference(position, mutant), abs=2e-5)
    assert table.sites[len(HEAVY)][:3] == ("light", 1, LIGHT[0])


def test_the_best_come_first(deep, tokenizer):
    """Also from the command's table, which has those of each pair, and not beside given mutants."""
    table = next(saturate(deep, tokenizer, [(HEAVY, LIGHT)], mode="unmasked"))
    ranked = sorted(table.rows(), key=lambda row: -row[2])
    assert table.best(7) == ranked[:7] and len(table.best(10**6)) == len(ranked)
    records = list(records_of([(HEAVY, LIGHT), (HEAVY[1:], LIGHT)]))
    every, best = (MutateTask(mode="unmasked", top=top).table(deep, tokenizer, records) for top in (None, 2))
    assert every.num_rows == 19 * (2 * len(table.sites) - 1)
    assert best["id"].to_pylist() == [record.id for record in records for _ in range(2)]
    assert best["log_odds"].to_pylist()[:2] == pytest.approx([row[2] for row in ranked[:2]], abs=2e-5)
    with pytest.raises(OptionError, match="top must be left out where mutants are given"):
        MutateTask(mutants=("H:E1Q",), top=2)


def test_wild_type_marginals_are_one_pass(deep, tokenizer):
    table = next(saturate(deep, tokenizer, [(HEAVY, LIGHT)], mode="unmasked"))
    with torch.no_grad():
        logits = stock_twin(deep)(**tokenizer(HEAVY, LIGHT, return_tensors="pt")).logits[0]
    ids = tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES))
    expected = logits[5, ids] - logits[5, tokenizer.convert_tokens_to_ids(HEAVY[4])]
    assert (table.log_odds[4] - expected).abs().max() <= 2e-5


def test_a_part_alone(deep, tokenizer, simulated):
    whole = next(saturate(deep, tokenizer, simulated[:1], mode="unmasked"))
    part = next(saturate(deep, tokenizer, simulated[:1], mode="unmasked", part="CDRH3"))
    mask = simulated[0].region_mask_heavy
    assert [site.position for site in part.sites] == [
        place + 1 for place, digit in enumerate(mask) if digit == "6"
    ]
    first = whole.sites.index(part.sites[0])
    assert (part.log_odds - whole.log_odds[first : first + len(part.sites)]).abs().max() <= 2e-5


def test_multi_mutants_add_up(deep, tokenizer, reference):
    first, second = f"H:{HEAVY[4]}5A", f"H:{HEAVY[31]}32W"
    found = score_mutants(deep, tokenizer, (HEAVY, LIGHT), [first, f"{first};{second}"])
    assert found[0] == pytest.approx(reference(5, "A"), abs=2e-5)
    assert found[1] == pytest.approx(reference(5, "A") + reference(32, "W"), abs=4e-5)


@pytest.mark.heavy
def test_whole_sequences(deep, tokenizer):
    mutants = [f"H:{HEAVY[4]}5A", f"H:{HEAVY[4]}5del", f"L:{LIGHT[9]}10insAG"]
    found = score_mutants(deep, tokenizer, (HEAVY, LIGHT), mutants, by="sequence")
    changed = [
        (HEAVY[:4] + "A" + HEAVY[5:], LIGHT),
        (HEAVY[:4] + HEAVY[5:], LIGHT),
        (HEAVY, LIGHT[:10] + "AG" + LIGHT[10:]),
    ]
    wild_type, *scores = [one.pll() for one in score(deep, tokenizer, [(HEAVY, LIGHT), *changed])]
    assert found == pytest.approx([one - wild_type for one in scores], abs=1e-4)
    with pytest.raises(ValueError, match="changes the length"):
        score_mutants(deep, tokenizer, (HEAVY, LIGHT), mutants)


@pytest.mark.parametrize(
    ("mutant", "message"),
    [
        ("H:A5L", f"position 5 of the heavy chain of record 1 .* is {HEAVY[4]}, not A"),
        ("L:D99A", "the position must be from 1 to 36, the end of the light chain .*; got 99"),
        ("L:D0A", "the position must be from 1 to .*; got 0"),
        ("Y32A", "a mutation must be written as H:Y32A, .*; got"),
        ("H:E1B", "a mutation must be written as H:Y32A, .*; got"),
        ("H:E1A;H:E1L", "each position once"),
    ],
)
def test_wrong_mutants(mutant, message, deep, tokenizer):
    with pytest.raises(ValueError, match=message):
        score_mutants(deep, tokenizer, (HEAVY, LIGHT), [mutant])


def test_mutants_applied():
    record = next(records_of([("EVQL", "DIQM")]))
    changed = apply_mutant(record, parse_mutant("H:V2del;H:Q3insWW; L:D1S"))
    assert (changed.heavy, changed.light) == ("EQWWL", "SIQM")


def test_unknown_residues_have_no_mutants(deep, tokenizer):
    table = next(saturate(deep, tokenizer, [("X" + HEAVY[1:], LIGHT)], mode="unmasked"))
    assert table.sites[0].position == 2


def test_heat_maps(deep, tokenizer, tmp_path):
    table = next(
        saturate(deep, tokenizer, [{"id": "a/<b>", "heavy": HEAVY, "light": LIGHT}], mode="unmasked")
    )
    write_heat_maps(table, tmp_path, {})
    ([picture], [page]) = (list(tmp_path.glob(f"a__b_-????????{suffix}")) for suffix in (".png", ".html"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    page = page.read_text()
    assert "a/&lt;b&gt;" in page and "<b>" not in page
    assert "{{" not in page and "http:" not in page and "https:" not in page
    assert f'"wt": "{HEAVY[0]}"' in page


def test_every_id_has_heat_maps_of_its_own(deep, tokenizer, tmp_path):
    """Also ids that differ in what cannot stand in a file's name, of many letters, and of formulas."""
    ids = ["a/b", "a_b", "x" * 300, "$\\foo$"]
    records = [{"id": one, "heavy": HEAVY, "light": LIGHT} for one in ids]
    for table in saturate(deep, tokenizer, records, mode="unmasked"):
        write_heat_maps(table, tmp_path, {})
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 2 * len(ids) and {"a_b.png", "a_b.html"} < set(names)
