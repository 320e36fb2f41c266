"""Measures of generated pairs: what is known of samples that are made so is what is measured."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.tiny_models import PAIRS

from curr_ab.data import builtin_path
from curr_ab.inference.numbering import number_chain
from curr_ab.measures.generated import (
    Reference,
    Sample,
    bootstrap_weights,
    jensen_shannon,
    mean_of,
    measure_sample,
    shuffled_within,
    wasserstein,
)
from curr_ab.measures.repertoires import nearest, read_chains

NUM = 120
NAMES = ["heavy", "light", "v_call_heavy", "v_call_light", "j_call_heavy", "j_call_light"]


@pytest.fixture(scope="module")
def rows():
    return pq.read_table(builtin_path(), columns=NAMES).slice(0, 4 * NUM).to_pydict()


def sample(rows, places, name="sample", native=False):
    heavy, light = (
        read_chains([rows[chain][place] for place in places], chain) for chain in ("heavy", "light")
    )
    return Sample(name, heavy, light, np.arange(len(places)), light if native else None)


@pytest.fixture(scope="module")
def reference(rows):
    train = range(2 * NUM, 4 * NUM)
    calls = {
        (chain, segment): [rows[f"{segment}_call_{chain}"][place].split("*")[0] for place in train]
        for chain in ("heavy", "light")
        for segment in ("v", "j")
    }
    return Reference.of(sample(rows, range(NUM)), sample(rows, train), calls)


def measured(one, reference):
    return {estimate.measure: estimate for estimate in measure_sample(one, reference)}


@pytest.mark.heavy
def test_the_target_is_like_itself(rows, reference):
    found = measured(sample(rows, range(NUM), native=True), reference)
    for measure, estimate in found.items():
        if "total variation" in measure or "Wasserstein" in measure or "Jensen-Shannon" in measure:
            assert estimate.value == pytest.approx(0, abs=1e-6), measure
        if "numbered" in measure or "identity to native" in measure or measure == "native V family":
            assert estimate.value == 1, measure
    assert found["heavy: in training"].value < 0.2
    assert found["light: identity to nearest chain of training"].value > 0.8


@pytest.mark.heavy
def test_copies_of_training_are_not_new_and_one_chain_is_not_diverse(rows, reference):
    copies = measured(sample(rows, range(2 * NUM, 3 * NUM)), reference)
    assert copies["heavy: in training"].value == copies["heavy: 95 % like one of training"].value == 1
    one = measured(sample(rows, [5] * 40), reference)
    for measure in ("light: unique", "light: clusters at 90 %, for each chain"):
        assert one[measure].value == pytest.approx(1 / 40)
    assert one["light: mean pairwise identity"].value == pytest.approx(1)


@pytest.mark.heavy
def test_real_chains_have_the_conserved_residues_and_mutants_of_them_have_not():
    for place, kind in enumerate(("heavy", "light")):
        texts = [pair[place] for pair in PAIRS]
        assert read_chains(texts, kind).conserved.all()
        numbers = [number_chain(text, kind).labels for text in texts]
        for label in ("23", "41", "104"):
            at = [labels.index(label) for labels in numbers]
            mutants = [text[:one] + "S" + text[one + 1 :] for text, one in zip(texts, at, strict=True)]
            assert not read_chains(mutants, kind).conserved.any()


def test_broken_chains_are_not_valid(rows, reference):
    broken = {**rows, "heavy": list(rows["heavy"]), "light": list(rows["light"])}
    for place in range(0, NUM, 2):
        broken["heavy"][place] = "A" * 100
        broken["light"][place] = rows["heavy"][place]
    found = measured(sample(broken, range(NUM)), reference)
    for measure in (
        "heavy: numbered as this chain",
        "light: numbered as this chain",
        "light: complete domain",
    ):
        assert found[measure].value == pytest.approx(0.5, abs=0.02), measure
    assert found["heavy: Cys23, Trp41, Cys104"].value < 0.5


@pytest.mark.heavy
def test_pairing_that_is_planted_is_seen_and_shuffling_takes_it_away(rows, reference):
    real = sample(rows, range(NUM), native=True)
    found = measured(real, reference)["preferred light V family, above chance"]
    assert found.low > 0.1
    order = np.random.default_rng(0).permutation(NUM)
    mixed = Sample("mixed", real.heavy, real.light.take(order), real.groups, real.light)
    shuffled = measured(mixed, reference)
    assert shuffled["preferred light V family, above chance"].low < 0.05
    assert abs(shuffled["native V family, above chance"].value) < 0.15
    assert shuffled["light: V usage, total variation"].value == pytest.approx(0, abs=1e-6)


def test_shuffling_within_keeps_the_codes():
    codes = np.array([0, 1, 0, 2, 1, 0, -1, 1])
    rows = shuffled_within(codes, 3)
    assert (codes[rows] == codes).all() and sorted(rows) == list(range(8))
    moved = rows != np.arange(8)
    assert moved.tolist() == [
        True,
        True,
        True,
        False,
        True,
        True,
        False,
        True,
    ]  # alone with its code: it stays


def test_distances_of_shares():
    first, second = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    assert wasserstein(first, second) == 2 and wasserstein(first, first) == 0
    assert jensen_shannon(first, second) == 1 and jensen_shannon(first, first) == 0


def test_groups_are_drawn_together():
    groups = np.array([0, 0, 0, 1, 2, 2])
    weights = bootstrap_weights(groups, 0)
    assert weights[0] == pytest.approx(1 / 6) and weights.sum(axis=1) == pytest.approx(1)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 4] == weights[:, 5]).all()
    assert (weights[1:, 0] != weights[1:, 3]).any()
    # Ten copies of a record say no more than one: the error of the mean does not fall.
    values = np.random.default_rng(0).normal(size=50)
    single = mean_of(values)(bootstrap_weights(np.arange(50), 0))[1:].std()
    copied = mean_of(np.repeat(values, 10))(bootstrap_weights(np.repeat(np.arange(50), 10), 0))[1:].std()
    assert copied == pytest.approx(single, rel=0.01)


def test_the_nearest_is_found_in_all_blocks():
    random = np.random.default_rng(0)
    second = random.integers(1, 21, (5_000, 30)).astype(np.uint8)
    rows = random.integers(0, 5_000, 20)
    first = second[rows].copy()
    first[:, 0] = 1 + first[:, 0] % 20
    found, best = nearest(first, second)
    assert (found == rows).all() and best == pytest.approx(29 / 30, abs=0.01)
