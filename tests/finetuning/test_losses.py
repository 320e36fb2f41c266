"""Losses of numbers with gaps, bounds and weights, of ranks, and of classes in order: what they learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from curr_ab.finetuning import Example, resolve_recipe
from curr_ab.finetuning.batches import right_answers
from curr_ab.finetuning.losses import fit_thresholds, ordinal_scores
from curr_ab.measures.metrics import concordance, measure_column, measure_order
from curr_ab.measures.modules.regression.core import spearman
from curr_ab.words import UNKNOWN_LABEL

NUM = 200
EVERYTHING = np.arange(NUM)
FEATURES = torch.randn(NUM, 3, generator=torch.Generator().manual_seed(0))
NOISE = np.random.default_rng(0).normal(0, 0.1, NUM)


def examples_of(labels, bounds=None, weights=None):
    """Examples of which nothing matters but their labels."""
    bounds = [()] * len(labels) if bounds is None else bounds
    weights = [1.0] * len(labels) if weights is None else weights
    given = zip(labels, bounds, weights, strict=True)
    return [
        Example(str(n), "EVQ", "DIQ", label, None, n + 1, bounds=bound, weight=weight)
        for n, (label, bound, weight) in enumerate(given)
    ]


def learnt(right, features=FEATURES):
    """A linear head [features, outputs] at the least loss, and its bias."""
    head = torch.nn.Linear(features.shape[1], right.num_outputs)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = right.loss_sum(head(features), np.arange(len(features))) / len(features)
        loss.backward()
        return loss

    optimizer.step(closure)
    return head


def slopes(right, features=FEATURES):
    """Slopes of the answers in the units of the data."""
    head = learnt(right, features)
    with torch.no_grad():
        steps = torch.cat([torch.zeros(1, 3), torch.eye(3)])
        meanings = right.meaning(head(steps))
    return meanings[1:] - meanings[0]


def number_recipe(**changes):
    return resolve_recipe("affinity", {"method": "lora", **changes})


def test_two_numbers_with_half_of_each_unknown_are_both_learnt():
    true = np.array([[2.0, 0.0, -1.0], [0.0, -30.0, 10.0]])
    numbers = FEATURES.numpy() @ true.T + NOISE[:, None] + [5, 100]
    gaps = np.random.default_rng(1).random(numbers.shape) < 0.5
    labels = [
        tuple(None if gap else float(value) for value, gap in zip(row, of_row, strict=True))
        for row, of_row in zip(numbers, gaps, strict=True)
    ]
    recipe = number_recipe(label_columns=["kd", "tm"])
    right = right_answers(examples_of(labels), recipe, EVERYTHING)
    assert right.num_outputs == 2 and right.weight(EVERYTHING) == (~gaps).sum()
    assert pytest.approx(true, abs=0.2) == slopes(right).T
    logits = torch.randn(NUM, 2)
    before = right.loss_sum(logits, EVERYTHING)
    logits[torch.from_numpy(gaps)] += 100
    assert right.loss_sum(logits, EVERYTHING) == before


def test_two_labels_with_gaps_are_both_learnt():
    scores = FEATURES[:, :2].numpy()
    gaps = np.random.default_rng(1).random(scores.shape) < 0.5
    classes = np.where(gaps, UNKNOWN_LABEL, scores > 0)
    recipe = resolve_recipe(
        "specificity-binary", {"labels": ["no", "yes"], "label_columns": ["binds", "aggregates"]}
    )
    right = right_answers(examples_of([tuple(map(int, row)) for row in classes]), recipe, EVERYTHING)
    with torch.no_grad():
        chosen = right.meaning(learnt(right)(FEATURES)) > 0.5
    assert ((chosen == (scores > 0)).mean(axis=0) > 0.97).all()
    balanced = right_answers(
        examples_of([tuple(map(int, row)) for row in classes]),
        replace(recipe, class_weights="balanced"),
        EVERYTHING,
    )
    for column in range(2):
        weights = balanced.weights[:, column]
        yes = torch.from_numpy(classes[:, column] == 1)
        no = torch.from_numpy(classes[:, column] == 0)
        assert float(weights[yes].sum()) == pytest.approx(float(weights[no].sum()), rel=1e-5)


@pytest.mark.parametrize(("side", "limit"), [(1, 0.3), (-1, -0.3)])
def test_bounds_leave_the_slope_that_plain_numbers_bend(side, limit):
    true = np.array([2.0, 0.0, -1.0])
    numbers = FEATURES.numpy() @ true + NOISE
    beyond = numbers > limit if side > 0 else numbers < limit
    labels = np.where(beyond, limit, numbers).tolist()
    assert 0.3 < beyond.mean() < 0.6
    plain = right_answers(examples_of(labels), number_recipe(), EVERYTHING)
    bounds = [(side,) if one else () for one in beyond]
    bounded = right_answers(examples_of(labels, bounds), number_recipe(), EVERYTHING)
    assert slopes(bounded) == pytest.approx(true, abs=0.1)
    assert abs(slopes(plain)[0]) < 1.5


def test_a_weight_counts_as_so_many_rows():
    numbers = (FEATURES[:, 0].numpy() + 5 * NOISE).tolist()
    weights = np.where(FEATURES[:, 1].numpy() > 0, 3.0, 1.0)
    weighted = right_answers(examples_of(numbers, weights=weights.tolist()), number_recipe(), EVERYTHING)
    rows = np.repeat(EVERYTHING, weights.astype(int))
    copied = right_answers(examples_of([numbers[row] for row in rows]), number_recipe(), np.arange(len(rows)))
    assert slopes(weighted) == pytest.approx(slopes(copied, FEATURES[rows]), abs=1e-3)
    plain = right_answers(examples_of(numbers), number_recipe(), EVERYTHING)
    assert abs(slopes(plain) - slopes(weighted)).max() > 5e-3


def test_outliers_pull_the_slope_of_squares_alone():
    true = np.array([2.0, 0.0, -1.0])
    numbers = FEATURES.numpy() @ true + NOISE
    numbers[:10] += 40 * np.sign(FEATURES[:10, 1].numpy())
    errors = {}
    for loss in ("mse", "huber"):
        right = right_answers(examples_of(numbers.tolist()), number_recipe(loss=loss), EVERYTHING)
        errors[loss] = abs(slopes(right) - true).max()
    assert errors["huber"] < 0.7 * errors["mse"]


def test_ranking_learns_the_order_of_distorted_numbers():
    """One number in a hundred holds nearly all of the squares."""
    true = FEATURES.numpy() @ np.array([2.0, 0.0, -1.0])
    numbers = np.exp(6 * true)
    orders = {}
    for loss in ("mse", "ranking"):
        right = right_answers(examples_of(numbers.tolist()), number_recipe(loss=loss), EVERYTHING)
        with torch.no_grad():
            orders[loss] = float(spearman(true, learnt(right)(FEATURES)[:, 0].numpy()))
    assert orders["ranking"] > 0.999 and orders["mse"] < 0.99


def test_a_ranking_answers_in_the_units_of_the_data():
    numbers = FEATURES[:, 0].numpy() * 20 + 300 + NOISE
    right = right_answers(examples_of(numbers.tolist()), number_recipe(loss="ranking"), EVERYTHING)
    scores = 0.01 * torch.from_numpy(numbers - 290).float()[:, None]
    assert abs(right.meaning(scores) - numbers).max() > 10
    assert right.in_units(scores, EVERYTHING).meaning(scores) == pytest.approx(numbers, abs=1e-3)
    backwards = right.in_units(-scores, EVERYTHING).meaning(-scores)
    assert spearman(numbers, backwards) == pytest.approx(-1)  # a line that turned it round would hide it


def test_a_ranking_compares_a_bound_with_what_lies_beyond_it():
    labels, bounds = [1.0, 2.0, 2.0, 3.0], [(), (1,), (), ()]
    right = right_answers(examples_of(labels, bounds), number_recipe(loss="ranking"), np.arange(4))
    scores = torch.zeros(4, 1, requires_grad=True)
    right.loss_sum(scores[[1, 3]], np.array([1, 3])).backward()
    assert not scores.grad.any()  # above 2, and 3: nobody knows
    right.loss_sum(scores[[1, 2]], np.array([1, 2])).backward()
    assert scores.grad[1] < 0 < scores.grad[2]
    known = concordance(np.array(labels), np.array([1.0, 5.0, 2.0, 3.0]), np.array([0, 1, 0, 0]))
    assert known == 1
    turned = concordance(np.array(labels), np.array([1.0, 0.0, 2.0, 3.0]), np.array([0, 1, 0, 0]))
    assert turned == 3 / 5
    assert measure_column(
        "number", np.array([1.0, 2.0, 9.0]), np.array([1.0, 2.0, 0.0]), np.array([0, 0, 1])
    ) == (2, pytest.approx({"spearman": 1, "pearson": 1, "rmse": 0, "concordance": 1 / 3}))


def test_classes_in_order_are_missed_by_less():
    """Of five levels of one property, of which sixty examples with noise are known."""
    level = FEATURES.numpy() @ np.array([1.0, 0.0, -0.5]) + 8 * NOISE
    labels = np.digitize(level, np.quantile(level, [0.2, 0.4, 0.6, 0.8]))
    names = ["none", "low", "medium", "high", "top"]
    train, test = FEATURES[:60], FEATURES[60:]
    distance = {}
    for loss in ("cross_entropy", "ordinal"):
        recipe = resolve_recipe("specificity-binary", {"labels": names, "loss": loss, "method": "lora"})
        right = right_answers(examples_of(labels[:60].tolist()), recipe, np.arange(60))
        with torch.no_grad():
            head = learnt(right, train)
            right = right.finished(head(train), np.arange(60))
            probabilities = right.meaning(head(test))
        assert probabilities.sum(1) == pytest.approx(1)
        distance[loss] = measure_order(labels[60:], probabilities)["class-distance"]
    assert distance["ordinal"] < distance["cross_entropy"]


def test_thresholds_are_those_of_the_classes_on_the_line():
    """Rare classes need a larger score, and a map of the logits says the same as the scores."""
    logits = torch.randn(NUM, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = ordinal_scores(logits)
    labels = (scores > 0.1).long() + (scores > 1)
    found = fit_thresholds(scores, labels, torch.ones(NUM), 3)
    shown = found.slope * scores[:, None] * torch.tensor([-1.0, 0.0, 1.0]) + found.biases
    assert (shown.argmax(1) == labels).double().mean() > 0.95
    assert (logits @ found.matrix.T + found.biases).numpy() == pytest.approx(shown.numpy())
    again = fit_thresholds(scores, labels, torch.where(labels == 2, 1e-9, 1.0), 3)
    assert again.biases[2] < found.biases[2]
