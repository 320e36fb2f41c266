"""A head that starts at a probe's solution answers as the probe does, and a fit may return to it."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from curr_ab import load
from curr_ab.finetuning import Fold, cross_validate, read_examples, split_folds
from curr_ab.finetuning.batches import TokenRows, answers_of, right_answers
from curr_ab.finetuning.contenders import inner_families
from curr_ab.finetuning.features import pooled_features
from curr_ab.finetuning.fit import Fit
from curr_ab.finetuning.model import build_model, set_training
from curr_ab.finetuning.run_folder import FitFolder
from curr_ab.finetuning.start import probe_solution
from curr_ab.options import OptionError
from curr_ab.probes.member_features import member_features
from curr_ab.probes.regression import fit_regression
from curr_ab.training.processes import ALONE
from curr_ab.training.state import read_log
from curr_ab.training.stop import StopRequest

NUM_PAIRS, NUM_VALIDATION = 30, 6


@pytest.fixture
def accelerator():
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


class Started:
    """A model at the start, its rows and the features that its head saw."""

    def __init__(self, recipe, source, examples, accelerator, folder):
        self.recipe, self.accelerator, self.folder = recipe, accelerator, folder
        self.rows = TokenRows(examples.items, recipe)
        everything = np.arange(len(examples))
        self.fold = Fold(1, everything[NUM_VALIDATION:], everything[:NUM_VALIDATION], everything[:0])
        self.right = right_answers(examples, recipe, answers_of(self.fold.train, self.rows.answer_ends))
        self.model = build_model(recipe, str(source))
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        self.features = pooled_features(base, self.rows, accelerator, ALONE, 4)
        self.answers = self.right.labels[self.fold.train].numpy()
        solution = probe_solution(self.model, recipe, self.features[self.fold.train], self.answers)
        self.model.load_state_dict(solution, strict=False)

    def fit(self):
        return Fit(
            self.recipe,
            self.accelerator,
            model=self.model,
            rows=self.rows,
            right=self.right,
            fold=self.fold,
            folder=FitFolder(self.folder, self.folder / "adapter"),
            most_at_once=4,
        )


@pytest.fixture
def start(make_recipe, planted, make_member, accelerator, tmp_path):
    def started(task="specificity-multiclass", dropout=0.0, **changes):
        recipe = make_recipe(task, **{"start": "probe", "early_stopping": 2, **changes})
        examples = read_examples(recipe, [str(planted(task, NUM_PAIRS))])
        source = make_member(hidden_dropout_prob=dropout)
        return Started(recipe, source, examples, accelerator, tmp_path)

    return started


@pytest.mark.heavy
def test_weights_count_at_the_start(start):
    started = start("affinity")
    features, weights = started.features[started.fold.train], np.ones(len(started.answers))
    weights[:12] = 0
    plain, weighted = (
        probe_solution(started.model, started.recipe, features, started.answers, weights=given)
        for given in (None, weights)
    )
    [bias] = [name for name in plain if name.endswith("out_proj.bias")]
    assert abs(plain[bias].item() - weighted[bias].item()) > 1e-3


@pytest.mark.parametrize("pooling", ["cls", "mean", "mean_per_chain"])
@pytest.mark.parametrize("task", ["specificity-binary", "specificity-multiclass", "affinity"])
@pytest.mark.heavy
def test_the_head_answers_as_the_probe(start, task, pooling):
    started = start(task, pooling=pooling)
    values = started.features.double().numpy()
    target, num_classes = started.recipe.target, len(started.recipe.labels)
    probe = fit_regression(
        values[NUM_VALIDATION:], started.answers, target=target, num_classes=num_classes, seed=42
    )
    logits = started.fit().predict(np.arange(NUM_PAIRS))
    ours = logits.squeeze(-1).numpy() if target == "number" else logits.softmax(-1).numpy()
    theirs = probe.predict(values)
    assert np.abs(ours - theirs).max() < 0.05 * max(1, np.abs(theirs).max())
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.heavy
def test_a_fit_that_makes_it_worse_returns_to_the_start(start, method):
    fit = start("affinity", method=method, learning_rate=0.3, epochs=4).fit()
    before = fit.predict(np.arange(NUM_PAIRS))
    fit.run(StopRequest(), "test")
    assert [entry["epoch"] for entry in fit.log] == [0, 1, 2]  # and no more: two did not improve on the start
    assert fit.best_epoch == 0
    assert all(entry["validation_loss"] > fit.log[0]["validation_loss"] for entry in fit.log[1:])
    assert torch.equal(fit.predict(np.arange(NUM_PAIRS)), before)


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.heavy
def test_a_fit_that_does_not_improve_leaves_the_probe_of_the_whole_training_part(
    layers, make_recipe, planted, make_member, tmp_path
):
    recipe = make_recipe("affinity", start="probe", early_stopping=1, learning_rate=0.3, layers=layers)
    data, member = str(planted("affinity", NUM_PAIRS)), make_member()
    cross_validate(recipe, member, [data], tmp_path / "run")
    examples = read_examples(recipe, [data])
    pairs = [(one.heavy, one.light) for one in examples]
    features = member_features(*load(member), pairs, ["cls"])["cls"]
    numbers = np.array([one.label for one in examples])
    families = inner_families(recipe, examples)

    def probe_of(part):
        return fit_regression(
            features[part], numbers[part], target="number", groups=families[part].tolist(), seed=42
        )

    for number, fold in enumerate(split_folds(examples, recipe), start=1):
        log = read_log(tmp_path / "run" / f"fold-{number}")
        assert log[0]["validation_loss"] == min(entry["validation_loss"] for entry in log)
        table = pq.read_table(tmp_path / "run" / f"fold-{number}" / "predictions.parquet")
        whole = np.union1d(fold.train, fold.validation)
        expected = probe_of(whole).predict(features[fold.test])
        assert np.abs(table["prediction"].to_numpy() - expected).max() < 0.05 * np.abs(numbers).max()
        of_less = probe_of(fold.train).predict(features[fold.test])
        assert np.abs(of_less - expected).max() > 0.01


@pytest.mark.heavy
def test_training_goes_on_from_the_start(start):
    fit = start("affinity", learning_rate=1e-3, epochs=6, early_stopping=0).fit()
    fit.run(StopRequest(), "test")
    losses = [entry["loss"] for entry in fit.log if "loss" in entry]
    assert len(losses) == 6 and losses[-1] < losses[0]


@pytest.mark.heavy
def test_the_head_drops_nothing_while_it_trains_from_a_probe(start):
    """Pooled features are far from zero: one that drops out would throw the probe's solution over."""
    started = start(dropout=0.5, method="full")
    head = started.model.classifier
    features = started.features[:4]
    set_training(started.model, started.recipe)
    assert started.model.esm.training
    assert torch.equal(head(features), head(features))
    started.model.train()
    assert not torch.equal(head(features), head(features))


def test_residues_have_no_probe_to_start_at(make_recipe):
    assert make_recipe("paratope", start=None).start == "random"
    with pytest.raises(OptionError, match="start must be random for residues"):
        make_recipe("paratope", start="probe")
