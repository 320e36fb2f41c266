"""The ladder of sizes: what size and data gain together is found, and nothing where they do not."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from curr_ab.benchmark.ladder import Rung, judge
from curr_ab.benchmark.ladder_figures import ladder_figures
from curr_ab.benchmark.statistics import Estimate
from curr_ab.family import DATA_SIZES, SIZES

GRID = [(size.num_parameters, data.num_pairs) for size, data in product(SIZES, DATA_SIZES)]
LOG_SIZES, LOG_DATA = (np.log2([cell[place] for cell in GRID]) for place in (0, 1))
PRODUCT = (LOG_SIZES - LOG_SIZES.mean()) * (LOG_DATA - LOG_DATA.mean())
# Gains by size and by data that level off, and have nothing to do with each other.
ADDITIVE = 0.9 - 0.3 * np.exp(-(LOG_SIZES - 22) / 2) - 0.1 * np.exp(-(LOG_DATA - 18))


def rungs(scores):
    return [
        Rung(name=f"{size}-{data}", parameters=size, pairs=data, score=float(score))
        for (size, data), score in zip(GRID, scores, strict=True)
    ]


def estimates(scores, without, strata=None, spread=1.0):
    strata = np.zeros(without.shape[1], int) if strata is None else strata
    values = [np.full(strata.max() + 1, score) for score in scores]
    return [
        Estimate(*one, spread) for one in zip(scores, without, [strata] * len(values), values, strict=True)
    ]


def test_the_error_of_the_units_is_that_of_their_strata():
    """Folds whose scores differ, in every model by another amount, are no noise; a larger error counts."""
    random = np.random.default_rng(7)
    strata = np.arange(40) % 4
    without = ADDITIVE[:, None] + 0.01 * PRODUCT[:, None] * random.normal(size=40)
    even = without - np.stack([without[:, strata == one].mean(axis=1) for one in range(4)], axis=1)[:, strata]
    by_fold = 0.5 * PRODUCT[:, None] * strata
    widths = []
    for shifted, spread in ((even, 1.0), (even + by_fold, 1.0), (even, 2.0)):
        found = judge(rungs(ADDITIVE), estimates(ADDITIVE, ADDITIVE[:, None] + shifted, strata, spread))
        assert found.by_examples
        widths.append(found.interaction.high - found.interaction.low)
    assert widths == pytest.approx([widths[0], widths[0], 2 * widths[0]])


@pytest.mark.heavy
def test_a_gain_by_both_together_is_found():
    random = np.random.default_rng(0)
    found = [judge(rungs(ADDITIVE + 0.01 * PRODUCT + 0.005 * random.normal(size=15))) for _ in range(200)]
    clear = [one for one in found if one.interaction.is_clear and one.interaction.value > 0]
    assert len(clear) >= 180
    inside = [one.interaction.low < 0.01 < one.interaction.high for one in found]
    assert 180 <= sum(inside) <= 199


@pytest.mark.heavy
def test_gains_by_each_alone_are_no_gain_together():
    """Whatever their shapes; of tests at the level 5 % at most 6 % are wrong."""
    random = np.random.default_rng(1)
    found = [judge(rungs(ADDITIVE + 0.005 * random.normal(size=15))) for _ in range(1_500)]
    assert sum(one.interaction.is_clear for one in found) <= 0.06 * 1_500


@pytest.mark.heavy
def test_what_is_peculiar_to_the_examples_is_no_gain_together():
    """Examples differ in what a large model with much data gains on them; on average it gains nothing."""
    random = np.random.default_rng(2)
    units, wrong, blind = 40, 0, 0
    for _ in range(600):
        of_unit = ADDITIVE[:, None] + 0.02 * PRODUCT[:, None] * random.normal(size=units)
        of_unit += 0.01 * random.normal(size=(15, units))
        scores = of_unit.mean(axis=1)
        without = (units * scores[:, None] - of_unit) / (units - 1)
        found = judge(rungs(scores), estimates(scores, without))
        wrong += found.interaction.is_clear
        blind += judge(rungs(scores)).interaction.is_clear
        assert found.by_examples or found.interaction == judge(rungs(scores)).interaction
    assert wrong <= 0.06 * 600
    assert blind > 0.8 * 600  # the scatter of the models alone would mislead


def test_slopes_tell_whether_either_helps_alone():
    data_gain = np.where(LOG_SIZES > 27, LOG_DATA - LOG_DATA.min(), 0) * 0.05
    size_gain = np.where(LOG_DATA.max() - 0.1 < LOG_DATA, LOG_SIZES - LOG_SIZES.min(), 0) * 0.02
    noise = 0.002 * np.random.default_rng(3).normal(size=15)
    found = judge(rungs(0.5 + data_gain + size_gain + noise))
    assert found.size_with_most_data.value > 0.02
    assert found.size_with_most_data.is_clear
    assert abs(found.data_with_smallest_size.value) < 0.01
    assert found.interaction.value > 0


def judged(scores):
    """With examples that move no score."""
    return judge(rungs(scores), estimates(scores, np.repeat(np.asarray(scores)[:, None], 2, axis=1)))


def test_the_scatter_of_the_models_alone_is_said_to_be_that():
    noise = 0.001 * np.random.default_rng(4).normal(size=15)
    for sign, word in ((1, "help"), (-1, "replace")):
        said = judge(rungs(0.5 + sign * 0.02 * PRODUCT + noise)).sentence
        assert said.startswith(f"Size and data {word} each other, by the scatter of the models alone; other ")


def test_the_sentence_says_what_was_found():
    noise = 0.001 * np.random.default_rng(4).normal(size=15)
    flat = judged(0.5 + noise).sentence
    assert flat.startswith("Whether size and data help more together than each alone is not shown: ")
    corner = (LOG_SIZES - LOG_SIZES.min()) * (LOG_DATA - LOG_DATA.min())
    both = judged(0.5 + 0.02 * corner + noise)
    assert both.sentence.startswith("Gains appear with size and data together: each doubling of the data")
    assert f"p = {both.interaction.p:.2g}, 15 models" in both.sentence
    assert both.sentence.endswith("neither alone is shown to help.")
    slope = judged(0.5 + 0.02 * corner + 0.05 * LOG_SIZES + noise).sentence
    assert slope.startswith("Size and data help more together, but the size with the least data helps, too:")
    assert judged(0.5 - 0.02 * corner + noise).sentence.startswith("Size and data replace each other:")


def test_too_few_models_are_refused_with_what_is_enough():
    few = rungs(ADDITIVE)
    with pytest.raises(ValueError, match=r"such as 3 sizes with 3 data sets each, or .*; got 4 models"):
        judge([few[0], few[1], few[3], few[4]])
    seeds = [replace(one, score=one.score + 0.001) for one in (few[0], few[1], few[3], few[4])]
    assert judge([few[0], few[1], few[3], few[4], *seeds]).freedom == 4
    with pytest.raises(ValueError, match=r"two numbers of pairs at least; got \[412182\]"):
        judge(few[2::3])
    with pytest.raises(ValueError, match=f"the score of {few[1].name} must be a number"):
        judge([few[0], replace(few[1], score=math.nan), *few[2:]])


def test_figures_show_every_model():
    ladder = [replace(one, loss=2 - one.score, error=0.01) for one in rungs(ADDITIVE)]
    drawings = ladder_figures(ladder, "AUROC")
    assert [one.name for one in drawings] == ["ladder-loss", "ladder-parameters", "ladder-pairs"]
    for drawing in drawings:
        for one in ladder:
            assert f"{one.name}: AUROC {one.score:.3f}" in drawing.marks
    assert len(drawings[1].keys) == 3
    assert len(drawings[2].keys) == 5
    without_losses = ladder_figures(rungs(ADDITIVE), "AUROC")
    assert [one.name for one in without_losses] == ["ladder-parameters", "ladder-pairs"]
