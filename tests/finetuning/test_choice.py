"""The choice among regressions and dearer methods: by what a training part shows, and by nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from curr_ab.finetuning import Example, Examples, resolve_recipe
from curr_ab.finetuning.auto import Auto
from curr_ab.finetuning.choice import Choice, blended, features_to_blend, is_better, losses_of
from curr_ab.finetuning.contenders import Answers, Contenders, answers_for
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.folds_beside import curve_of
from curr_ab.probes.regression import Regression, fit_regression

ROWS, WIDTH = 120, 6


class Alone:
    """An accelerator of one process."""

    is_main_process = True

    def wait_for_everyone(self):
        pass


def answers_of_numbers(labels, seed=0):
    count = len(labels)
    return Answers(
        np.asarray(labels, float), np.arange(count), np.arange(1, count + 1), "number", 0, False, seed
    )


@pytest.fixture
def signal():
    """Features of which one set explains the labels, another half of them, and a third nothing."""
    random = np.random.default_rng(0)
    good, noise = random.normal(size=(ROWS, WIDTH)), random.normal(size=(ROWS, WIDTH))
    half = np.concatenate([good[:, :3], noise[:, :3]], axis=1)
    labels = good.sum(axis=1) + 0.3 * random.normal(size=ROWS)
    return Contenders(answers_of_numbers(labels), {"good": good, "half": half}, {"noise": noise})


def auto(contenders, trained=(), predict=None):
    return Auto(lambda: contenders, contenders.answers, trained, predict, Alone())


def test_what_explains_most_is_chosen_and_kept(signal, tmp_path):
    part = np.arange(80)
    choice = auto(signal).choose(part, tmp_path)
    assert choice.method == "probe" and choice.features == ("good",)
    assert [one.name for one in choice.tried] == ["good", "half", "noise"]
    assert Choice.read(tmp_path) == choice
    (tmp_path / "choice.json").write_text((tmp_path / "choice.json").read_text().replace("good", "half"))
    assert auto(signal).choose(part, tmp_path).features == ("half",)  # made once


def test_near_equals_are_averaged_and_what_hurts_is_not():
    assert features_to_blend({"a": 0.50, "b": 0.49, "c": 0.48, "d": 0.47}) == ("a", "b", "c")
    assert features_to_blend({"a": 0.9, "b": 0.8}) == ("a",)
    assert features_to_blend({"a": -0.01, "b": -0.3}) == ("a",)


def test_a_blend_is_one_regression_on_features_side_by_side():
    random = np.random.default_rng(1)
    values = [random.normal(size=(ROWS, width)) for width in (3, 5)]
    classes = (values[0].sum(axis=1) + values[1].sum(axis=1) > 0).astype(int)
    parts = [fit_regression(one, classes, target="classes", num_classes=2) for one in values]
    found = blended(parts).predict(np.concatenate(values, axis=1))
    odds = [
        np.log(part.predict(one)[:, 1] / part.predict(one)[:, 0])
        for part, one in zip(parts, values, strict=True)
    ]
    assert found[:, 1] == pytest.approx(1 / (1 + np.exp(-np.mean(odds, axis=0))))


@pytest.mark.parametrize(("error", "method"), [(0.1, "lora"), (0.45, "probe"), (1.0, "probe")])
def test_a_dearer_method_must_be_better_where_neither_was_fitted(signal, tmp_path, error, method):
    """The regression errs by 0.3 or so: a trial that errs by less is followed, one that does not is not."""
    seen = []

    def predict(name, train, test, folder):
        assert not set(train.tolist()) & set(test.tolist()) and max(*train, *test) < 80
        seen.append(name)
        random = np.random.default_rng(2)
        clean = signal.member["good"][test].sum(axis=1)
        return clean * 0 + signal.answers.labels[test] + error * random.normal(size=len(test))

    choice = auto(signal, ("lora", "dora"), predict).choose(np.arange(80), tmp_path)
    assert choice.method == method and bool(choice.features) == (method == "probe")
    assert seen == (["lora", "dora"] if method == "lora" else ["lora"])
    seen.clear()
    (tmp_path / "choice.json").unlink()  # as a run that was killed between trial and choice
    assert auto(signal, ("lora", "dora"), predict).choose(np.arange(80), tmp_path).method == method
    assert seen == []


def test_ties_go_to_the_cheaper():
    losses = np.random.default_rng(3).normal(size=50)
    assert not is_better(losses, losses, np.arange(50))[0]
    assert is_better(losses, losses - 0.1, np.arange(50))[0]
    assert not is_better(losses, losses - 0.1, np.zeros(50))[0]  # a single group says nothing


def zipf_groups(num_groups, rows=400):
    sizes = np.maximum(1, rows / np.arange(1, num_groups + 1) / sum(1 / np.arange(1, num_groups + 1)))
    return np.repeat(np.arange(num_groups), sizes.astype(int))


def grouped_auto(groups):
    """Numbers in groups of these sizes, on which a regression explains nothing."""
    random = np.random.default_rng(5)
    answers = replace(answers_of_numbers(random.normal(size=len(groups))), groups=groups)
    return auto(Contenders(answers, {"noise": random.normal(size=(len(groups), WIDTH))}, {}))


@pytest.mark.parametrize(("num_groups", "fewest"), [(40, 5), (12, 5), (3, 1), (1, 1)])
def test_a_trial_is_measured_on_several_groups(num_groups, fewest):
    """However uneven their sizes are, and of one group or two the pairs are counted."""
    groups = zipf_groups(num_groups)
    one, part = grouped_auto(groups), np.arange(len(groups))
    train, test = one.inner_parts(part)
    assert len(np.unique(groups[test])) >= fewest
    assert 0.1 < len(test) / len(part) <= 0.5
    assert num_groups == 1 or not set(groups[train]) & set(groups[test])
    assert sorted([*train, *test]) == part.tolist()
    labels = one.answers.labels[test]
    good = one.judged(labels + 0.1, part, train, test, {})
    assert good["better"] and ("over pairs" in good["reason"]) == (len(np.unique(groups[test])) < 5)
    assert not one.judged(labels + 3, part, train, test, {})["better"]


@pytest.fixture
def bounded(signal):
    """The signal, a third of whose numbers are bounds far from what was there."""
    exact = np.arange(ROWS) % 3 > 0
    labels = np.where(exact, signal.answers.labels, 50.0)
    weights = np.where(exact, 1.0, 1e-6)  # so that regressions learn the signal
    return replace(signal, answers=replace(signal.answers, labels=labels, weights=weights, exact=exact))


def test_bounds_do_not_judge_a_method(bounded):
    """A prediction above a bound is not off by their distance."""
    one, part = auto(bounded), np.arange(80)
    train, test = one.inner_parts(part)
    exact, labels = bounded.answers.exact[test], bounded.answers.labels[test]
    assert one.judged(np.where(exact, labels, 1_000.0), part, train, test, {})["better"]
    assert not one.judged(np.where(exact, labels + 9, labels), part, train, test, {})["better"]
    nothing = replace(one, answers=replace(bounded.answers, exact=np.zeros(ROWS, bool)))
    assert not nothing.judged(labels, part, train, test, {})["better"]


def test_bounds_have_no_place_in_the_learning_curve(bounded):
    recipe = resolve_recipe("developability", {"fold_scheme": "rows", "group_by": None})
    everything = np.arange(ROWS)
    folds = [
        Fold(number, everything[everything % 2 != number % 2], everything[:0], everything[number % 2 :: 2])
        for number in (1, 2)
    ]
    points = curve_of(recipe, bounded, folds).points
    assert max(point.score for point in points) > 0.95


def test_bounds_of_a_table_are_not_exact():
    recipe = resolve_recipe("developability")
    pairs = [Example(str(n), "EVQ", None, 1.0, None, n, bounds=(n % 2,)) for n in range(4)]
    answers = answers_for(recipe, Examples(tuple(pairs), ()), np.arange(1, 5))
    assert answers.exact.tolist() == answers.measured.tolist() == [True, False, True, False]
    plain = Examples(tuple(replace(one, bounds=()) for one in pairs), ())
    assert answers_for(recipe, plain, np.arange(1, 5)).exact is None


def test_classes_stay_in_what_a_trial_is_fitted_on():
    groups = zipf_groups(9)
    one = grouped_auto(groups)
    classes = (groups >= 7).astype(float)
    one = replace(one, answers=replace(one.answers, labels=classes, target="classes", num_classes=2))
    train, test = one.inner_parts(np.arange(len(groups)))
    assert set(classes[train]) == {0, 1} and len(test)


def test_losses_are_of_the_right_class_or_the_square():
    assert losses_of(np.array([1, 0]), np.array([[0.5, 0.5], [0.25, 0.75]])) == pytest.approx(
        [np.log(2), np.log(4)]
    )
    assert losses_of(np.array([1.0, 2.0]), np.array([3.0, 2.0])) == pytest.approx([4, 0])


def one_split(seed):
    """Labels by chance, four sets of features: the outer score of the choice, and the best outer score."""
    random = np.random.default_rng(seed)
    features = {name: random.normal(size=(ROWS, WIDTH)) for name in "abcd"}
    labels = random.normal(size=ROWS)
    contenders = Contenders(answers_of_numbers(labels, seed), features, {})
    train, test = np.arange(60), np.arange(60, ROWS)
    chosen, _ = auto(contenders).regressions(train)

    def score(names):
        regressions = [
            fit_regression(features[name][train], labels[train], target="number", strength=1.0)
            for name in names
        ]
        values = np.concatenate([features[name][test] for name in names], axis=1)
        return float(np.corrcoef(blended(regressions).predict(values), labels[test])[0, 1])

    return score(chosen), max(score((name,)) for name in features)


@pytest.mark.heavy
def test_labels_by_chance_are_not_learnt_by_choosing():
    """Chance is in the 99 % interval of 95 repetitions in 100, and the best of the outer scores is above."""
    honest, naive = np.array([one_split(seed) for seed in range(100)]).T
    interval = 2.576 / np.sqrt(ROWS - 60 - 1)
    assert (np.abs(honest) < interval).sum() >= 95
    error = honest.std(ddof=1) / 10
    assert abs(honest.mean()) < 2.5 * error
    assert naive.mean() > 5 * error


def test_regressions_of_one_output_blend_to_one_output():
    one = Regression(np.ones((2, 1)), np.zeros(1), 0)
    assert blended([one, one]).predict(np.ones((3, 4))).shape == (3,)
