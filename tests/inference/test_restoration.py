"""Restoration: known residues stay, unknown ones follow the plan."""

import pytest
import torch
from support.tiny_models import PAIRS, stock_twin

from curr_ab.inference import RestorationPlan, restore
from curr_ab.words import STANDARD_RESIDUES

HEAVY, LIGHT = PAIRS[0]
# One of each way to write an unknown residue, a run of them, and both ends.
UNKNOWN = "X" + HEAVY[1:30] + "X*_<mask>x" + HEAVY[35:-1] + "_"
OPEN = [1, 31, 32, 33, 34, 35, len(HEAVY)]


def one(deep, tokenizer, heavy=UNKNOWN, **options):
    return list(restore(deep, tokenizer, [(heavy, LIGHT)], RestorationPlan(**options)))


@pytest.mark.parametrize("method", ["greedy", "confident", "sample"])
def test_known_residues_stay(method, deep, tokenizer):
    (found,) = one(deep, tokenizer, method=method)
    assert [filled.position for filled in found.filled] == OPEN
    assert found.record.light == LIGHT
    for position, (before, after) in enumerate(zip(HEAVY, found.record.heavy, strict=True), start=1):
        assert before == after or position in OPEN
    for filled in found.filled:
        assert found.record.heavy[filled.position - 1] == filled.residue in STANDARD_RESIDUES


def test_greedy_is_the_best_of_one_pass(deep, tokenizer):
    (found,) = one(deep, tokenizer, method="greedy")
    masked = UNKNOWN
    for letter in ("X", "*", "_", "x"):
        masked = masked.replace(letter, "<mask>")
    with torch.no_grad():
        logits = stock_twin(deep)(**tokenizer(masked, LIGHT, return_tensors="pt")).logits[0]
    standard = tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES))
    for filled in found.filled:
        shares = logits[filled.position, standard].softmax(0)
        assert filled.residue == STANDARD_RESIDUES[int(shares.argmax())]
        assert filled.top[0] == (filled.residue, pytest.approx(float(shares.max()), abs=1e-5))
        assert [share for _, share in filled.top] == sorted((s for _, s in filled.top), reverse=True)


def test_surest_first_looks_again(deep, tokenizer):
    """By hand: fill the surest position, run again."""
    masked = UNKNOWN
    for letter in ("X", "*", "_", "x"):
        masked = masked.replace(letter, "<mask>")
    ids = tokenizer(masked, LIGHT, return_tensors="pt")["input_ids"]
    standard = torch.tensor(tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES)))
    stock = stock_twin(deep)
    while (left := (ids[0] == 32).nonzero().flatten()).numel():
        with torch.no_grad():
            shares = stock(input_ids=ids).logits[0][left][:, standard].softmax(-1)
        place = int(shares.amax(1).argmax())
        ids[0, left[place]] = standard[int(shares[place].argmax())]
    (found,) = one(deep, tokenizer, method="confident")
    assert (found.record.heavy, found.record.light) == tokenizer.decode_pair(ids[0])


@pytest.mark.heavy
def test_samples_follow_their_seed(deep, tokenizer):
    first = one(deep, tokenizer, method="sample", variants=4, seed=3)
    assert [found.variant for found in first] == [1, 2, 3, 4]
    texts = [found.record.heavy for found in first]
    assert texts == [
        found.record.heavy for found in one(deep, tokenizer, method="sample", variants=4, seed=3)
    ]
    assert len(set(texts)) == 4
    assert texts != [
        found.record.heavy for found in one(deep, tokenizer, method="sample", variants=4, seed=4)
    ]
    # Company and place change nothing: a variant depends on its record's id.
    pairs = [{"id": "2", "heavy": HEAVY[:50] + "XX" + HEAVY[52:], "light": LIGHT}]
    pairs.append({"id": "1", "heavy": UNKNOWN, "light": LIGHT})
    plan = RestorationPlan(method="sample", variants=4, seed=3)
    assert [found.record.heavy for found in restore(deep, tokenizer, pairs, plan)][4:] == texts


@pytest.mark.heavy
def test_samples_follow_the_probabilities(deep, tokenizer):
    heavy = HEAVY[:40] + "X" + HEAVY[41:]
    found = one(deep, tokenizer, heavy, method="sample", variants=300, top_k=20)
    expected = dict(found[0].filled[0].top)
    counts = {letter: sum(one.filled[0].residue == letter for one in found) for letter in expected}
    chi_square = sum(
        (counts[letter] - 300 * share) ** 2 / (300 * share) for letter, share in expected.items()
    )
    assert chi_square < 50, counts  # 19 degrees of freedom: above 43.8 once in a thousand
    cold = one(deep, tokenizer, heavy, method="sample", variants=20, temperature=0.01)
    assert {one.filled[0].residue for one in cold} == {max(expected, key=expected.get)}


def test_only_what_is_allowed(deep, tokenizer):
    (found,) = one(deep, tokenizer, allowed="AV", allowed_at=(("heavy", 32, "W"),))
    assert {filled.residue for filled in found.filled if filled.position != 32} <= {"A", "V"}
    assert found.record.heavy[31] == "W"
    assert dict(found.filled[2].top) == {"W": pytest.approx(1)}
    with pytest.raises(ValueError, match="position 3 of the heavy chain is not unknown"):
        one(deep, tokenizer, allowed_at=(("heavy", 3, "W"),))


def test_nothing_unknown(deep, tokenizer):
    (found,) = one(deep, tokenizer, HEAVY)
    assert (found.record.heavy, found.filled) == (HEAVY, ())


@pytest.mark.parametrize(
    "options",
    [
        {"method": "beam"},
        {"variants": 0},
        {"variants": 2},
        {"temperature": 0.0},
        {"top_k": 21},
        {"allowed": "AJ"},
        {"allowed_at": (("heavy", 0, "A"),)},
    ],
)
def test_plans_that_make_no_sense(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must "):
        RestorationPlan(**options)
