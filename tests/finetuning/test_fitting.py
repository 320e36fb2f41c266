"""One fit: packed rows, features computed once, the loss and schedule of the recipe, its best epoch."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import get_linear_schedule_with_warmup

from curr_ab.finetuning import Fold, read_examples
from curr_ab.finetuning.batches import (
    TokenRows,
    answers_of,
    epoch_order,
    right_answers,
    share_of,
    shares_of,
)
from curr_ab.finetuning.features import FeatureRows, pooled_features
from curr_ab.finetuning.fit import Fit, learning_rate
from curr_ab.finetuning.model import build_model
from curr_ab.finetuning.run_folder import FitFolder
from curr_ab.training.processes import ALONE, Group
from curr_ab.training.step import Diverged
from curr_ab.training.stop import StopRequest


@pytest.fixture
def accelerator():
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def examples_of(planted, make_recipe):
    def read(task="specificity-binary", num_pairs=24):
        return read_examples(make_recipe(task), [str(planted(task, num_pairs))])

    return read


def fold_of(examples, num_validation=0):
    everything = np.arange(len(examples))
    return Fold(1, everything[num_validation:], everything[:num_validation], everything[:0])


def fit(recipe, accelerator, member, examples, folder, fold=None, rows=None, most_at_once=4):
    fold = fold or fold_of(examples)
    if rows is None:
        rows = TokenRows(examples.items, recipe)
        if recipe.method == "frozen":
            base = build_model(recipe, str(member)).get_base_model()
            rows = FeatureRows(pooled_features(base, rows, accelerator, ALONE, 4))
    right = right_answers(examples, recipe, answers_of(fold.train, rows.answer_ends))
    model = build_model(recipe, str(member))
    fit = Fit(
        recipe,
        accelerator,
        model=model,
        rows=rows,
        right=right,
        fold=fold,
        folder=FitFolder(folder, folder / "adapter"),
        most_at_once=most_at_once,
    )
    fit.run(StopRequest(), "test")
    return fit


@pytest.mark.parametrize("task", ["specificity-binary", "paratope"])
@pytest.mark.heavy
def test_packed_answers_are_those_of_each_example_alone(task, make_recipe, examples_of, member, tokenizer):
    recipe, examples = make_recipe(task), examples_of(task)
    rows = TokenRows(examples.items, recipe)
    model = build_model(recipe, str(member)).eval()
    together = torch.zeros(int(rows.answer_ends[-1]), 2)
    chosen = np.array([5, 0, 17, 3, 11, 2])
    with torch.no_grad():
        for part in rows.parts(chosen, 2):
            together[torch.from_numpy(part.answers)] = model(**part.inputs).logits.flatten(0, -2)
        for one in chosen:
            ids = tokenizer(examples[one].heavy, examples[one].light, return_tensors="pt")
            alone = model(**ids).logits.flatten(0, -2)
            if task == "paratope":
                alone = alone[~torch.isin(ids["input_ids"][0], torch.tensor([0, 2]))]
                assert len(alone) == len(examples[one].label)
            answers = answers_of(np.array([one]), rows.answer_ends)
            assert (together[torch.from_numpy(answers)] - alone).abs().max() < 1e-5


def test_an_epoch_has_everything_once_and_its_order_follows_from_seed_fold_and_epoch(make_recipe):
    everything = np.arange(100, 150)
    orders = {
        key: tuple(epoch_order(make_recipe(seed=key[0]), key[1], key[2], everything))
        for key in [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)]
    }
    assert len(set(orders.values())) == 4
    assert all(sorted(order) == list(everything) for order in orders.values())
    assert orders[0, 1, 0] == tuple(epoch_order(make_recipe(seed=0), 1, 0, everything))


@pytest.mark.parametrize("num_examples", [1, 2, 9, 16, 33])
@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_shares_are_everything_once_in_as_many_parts(num_examples, num_processes):
    everything = np.arange(num_examples)
    groups = [Group(rank, num_processes) for rank in range(num_processes)]
    shares = [share_of(everything, 4, group) for group in groups]
    counted = np.concatenate([share.examples for share in shares if share.counts])
    assert sorted(counted) == list(everything)
    assert len({share.num_parts for share in shares}) == 1
    assert all(0 < share.num_parts <= len(share.examples) <= 4 * share.num_parts for share in shares)
    many = [list(shares_of(np.arange(1_000), 2, group)) for group in groups]
    assert len({len(shares) for shares in many}) == 1


@pytest.mark.heavy
@pytest.mark.parametrize("pooling", ["cls", "mean_per_chain"])
def test_features_computed_once_train_the_same_head(
    pooling, make_recipe, make_member, examples_of, accelerator, tmp_path
):
    """The base has a dropout, which must not act: what is computed once cannot drop anew in every epoch."""
    member = make_member(attention_probs_dropout_prob=0.5)
    recipe = make_recipe(method="frozen", epochs=3, learning_rate=1e-2, pooling=pooling)
    examples, fits = examples_of(), []
    rows = TokenRows(examples.items, recipe)
    base = build_model(recipe, str(member)).get_base_model()
    features = FeatureRows(pooled_features(base, rows, accelerator, ALONE, 4))
    for name, source in (("tokens", rows), ("features", features)):
        fold = fold_of(examples, num_validation=5)
        fits.append(fit(recipe, accelerator, member, examples, tmp_path / name, fold, source))
    for ours, theirs in zip(*(each.log for each in fits), strict=True):
        for key in ("loss", "validation_loss"):
            assert ours[key] == pytest.approx(theirs[key], abs=1e-5)
    assert fits[0].log[0]["loss"] != pytest.approx(fits[0].log[2]["loss"], abs=1e-3)
    predictions = [each.predict(np.arange(24)) for each in fits]
    assert (predictions[0] - predictions[1]).abs().max() < 1e-4


def test_the_loss_is_the_mean_over_all_answers_weighted_by_class(make_recipe, examples_of):
    recipe, examples = make_recipe(class_weights="balanced"), examples_of()
    labels = torch.tensor([one.label for one in examples])
    training = np.arange(4, 24)
    right = right_answers(examples, recipe, training)
    counts = labels[4:].bincount()
    assert counts[0] != counts[1]
    logits = torch.randn(24, 2, generator=torch.Generator().manual_seed(0))
    everything = np.arange(24)
    ours = right.loss_sum(logits, everything) / right.weight(everything)
    theirs = torch.nn.functional.cross_entropy(logits, labels, weight=20 / (2 * counts))
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_residues_of_which_nothing_is_known_do_not_count(make_recipe, examples_of):
    recipe, examples = make_recipe("paratope", class_weights="none"), examples_of("paratope")
    right = right_answers(examples, recipe, np.arange(24))
    known = right.weights.clone()
    known[:50] = 0
    hidden = type(right)(right.labels, known, 2)
    logits = torch.randn(len(known), 2)
    answers = np.arange(len(known))
    before = hidden.loss_sum(logits, answers) / hidden.weight(answers)
    logits[:50] = 100 * torch.randn(50, 2)
    assert hidden.loss_sum(logits, answers) / hidden.weight(answers) == before


def test_numbers_are_learnt_in_units_of_the_training_part(make_recipe, examples_of):
    recipe, examples = make_recipe("affinity"), examples_of("affinity")
    numbers = np.array([one.label for one in examples])
    right = right_answers(examples, recipe, np.arange(10, 24))
    scaled = right.labels.double().numpy()
    assert scaled[10:].mean() == pytest.approx(0, abs=1e-6) and scaled[10:].std() == pytest.approx(
        1, abs=1e-6
    )
    assert right.meaning(right.labels[:, None]) == pytest.approx(numbers, abs=1e-5)


def test_the_schedule_is_that_of_transformers(make_recipe):
    recipe = make_recipe(learning_rate=0.3, warmup_fraction=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=3, num_training_steps=25)
    for step in range(25):
        assert learning_rate(recipe, step, 25) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_early_stopping_waits_and_returns_to_the_best_epoch(
    make_recipe, examples_of, member, accelerator, tmp_path
):
    """With so high a learning rate it soon knows the training part by heart."""
    recipe = make_recipe(epochs=30, early_stopping=2, learning_rate=3e-2, method="frozen")
    examples = examples_of()
    fold = fold_of(examples, num_validation=4)
    found = fit(recipe, accelerator, member, examples, tmp_path, fold)
    losses = [entry["validation_loss"] for entry in found.log]
    best = int(np.argmin(losses))
    assert found.best_epoch == best + 1 and len(losses) == best + 3 < 30
    assert found.validation_loss() == pytest.approx(losses[best], abs=1e-6)
    assert found.validation_loss() != pytest.approx(losses[-1], abs=1e-3)


def test_a_fit_that_diverges_says_what_helps(make_recipe, examples_of, member, accelerator, tmp_path):
    recipe = make_recipe(learning_rate=1e30, method="frozen", max_gradient_norm=1e30, epochs=3)
    with pytest.raises(Diverged, match=r"has diverged in epoch \d .*learning_rate below 1e\+30"):
        fit(recipe, accelerator, member, examples_of(), tmp_path)


def test_a_slow_process_does_not_take_the_next_line_of_the_log_for_its_own(
    make_recipe, examples_of, member, accelerator, tmp_path, monkeypatch
):
    """The main process may have trained an epoch before another one reads the log."""
    monkeypatch.setattr(Accelerator, "is_main_process", False)
    folder = FitFolder(tmp_path, tmp_path / "adapter")
    folder.log({"step": 3, "loss": 0.5})
    recipe, examples = make_recipe(), examples_of()
    rows, fold = TokenRows(examples.items, recipe), fold_of(examples)
    slow = Fit(
        recipe,
        accelerator,
        model=build_model(recipe, str(member)),
        rows=rows,
        right=right_answers(examples, recipe, answers_of(fold.train, rows.answer_ends)),
        fold=fold,
        folder=folder,
        most_at_once=4,
    )
    assert slow.log == [] and not slow.is_over
