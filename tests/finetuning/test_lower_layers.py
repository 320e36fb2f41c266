"""Adapters at the last layers: what lies below is computed once, and nothing else changes."""

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from curr_ab.finetuning import Fold, read_examples
from curr_ab.finetuning.batches import TokenRows, answers_of, right_answers
from curr_ab.finetuning.fit import Fit
from curr_ab.finetuning.lower_layers import StateRows, go_on_from_states, lower_states
from curr_ab.finetuning.model import build_model, set_training, trained_weights
from curr_ab.finetuning.run_folder import FitFolder
from curr_ab.options import OptionError
from curr_ab.training.processes import ALONE
from curr_ab.training.stop import StopRequest


@pytest.fixture
def accelerator():
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("task", ["specificity-binary", "paratope"])
@pytest.mark.heavy
def test_states_computed_once_train_the_same_adapters(
    task, pad, make_recipe, make_member, planted, accelerator, tmp_path
):
    """The base has a dropout, which must not act where states are computed once."""
    recipe = make_recipe(task, layers=1, epochs=2, learning_rate=1e-2)
    member = make_member(hidden_dropout_prob=0.5)
    examples = read_examples(recipe, [str(planted(task, 20))])
    everything, fits = np.arange(20), []
    for name in ("tokens", "states"):
        rows, model = TokenRows(examples.items, recipe, pad=pad), build_model(recipe, str(member))
        right = right_answers(examples, recipe, answers_of(everything[5:], rows.answer_ends))
        if name == "states":
            rows = StateRows(rows, lower_states(model, rows, 1, accelerator, ALONE, 4))
            go_on_from_states(model, 1)
        fit = Fit(
            recipe,
            accelerator,
            model=model,
            rows=rows,
            right=right,
            fold=Fold(1, everything[5:], everything[:5], everything[:0]),
            folder=FitFolder(tmp_path / name, tmp_path / "adapter"),
            most_at_once=4,
        )
        fit.run(StopRequest(), "test")
        fits.append(fit)
    for ours, theirs in zip(*(fit.log for fit in fits), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
        assert ours["validation_loss"] == pytest.approx(theirs["validation_loss"], abs=1e-4)
    logits = [fit.predict(everything) for fit in fits]
    assert (logits[0] - logits[1]).abs().max() < 1e-3
    names = [set(trained_weights(fit.whole)) for fit in fits]
    assert names[0] == names[1] and all(".layer.0." not in name for name in names[0])
    passed = fits[1].whole.get_submodule("base_model.model.esm.encoder.layer.0")
    assert not list(passed.parameters())  # nothing is computed there


def test_the_last_layers_alone_have_adapters(make_recipe, member):
    model = build_model(make_recipe(layers=1), str(member))
    adapted = {name.split("layer.")[1][0] for name, _ in model.named_parameters() if "lora_A" in name}
    assert adapted == {"1"}
    set_training(model, make_recipe(layers=1))
    layers = model.get_base_model().esm.encoder.layer
    assert [layer.training for layer in layers] == [False, True]
    with pytest.raises(OptionError, match="layers must be at most 2, which the model has; got 3"):
        build_model(make_recipe(layers=3), str(member))
