"""`--method auto` as a run: what it leaves, what stands beside it, its budget, and that it goes on."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from benchmarks.finetuning_methods import table

from curr_ab.files import read_object
from curr_ab.finetuning import cross_validate, load_finetuned, predict, read_examples
from curr_ab.finetuning.beside import compare_beside, read_comparisons
from curr_ab.finetuning.contenders import Contenders
from curr_ab.finetuning.plan import (
    FEWEST_LABELS,
    FEWEST_TRIAL_STEPS,
    Plan,
    TrialCosts,
    make_plan,
    trial_part,
)
from curr_ab.finetuning.preview import preview
from curr_ab.finetuning.report import write_report
from curr_ab.measures.fold_predictions import read_run
from curr_ab.measures.metrics import measure

pytestmark = pytest.mark.heavy  # two runs of two folds

SECONDS = {"probe": (0.0, 10.0), "lora": (20.0, 100.0), "dora": (30.0, 150.0), "full": (60.0, 300.0)}


@pytest.fixture(scope="module")
def data(planted):
    return planted("affinity", 60)


@pytest.fixture(scope="module")
def run(make_recipe, member, data, tmp_path_factory):
    """A finished run with its learning curve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        out = tmp_path_factory.mktemp("auto")
        recipe = make_recipe("affinity", method="auto", final=True, learning_curve=True)
        cross_validate(recipe, member, [data], out)
    return recipe, out


def test_the_adapter_predicts_as_the_choice_of_its_fold(run, data):
    """A mean of regressions on features of the member and of residues alone is one model that loads."""
    recipe, out = run
    table = pq.read_table(out / "fold-1" / "predictions.parquet").to_pydict()
    examples = {one.number: one for one in read_examples(recipe, [str(data)])}
    pairs = [(examples[number].heavy, examples[number].light) for number in table["number"]]
    model, tokenizer = load_finetuned(out / "fold-1" / "adapter", device="cpu")
    assert model.features == "+".join(read_object(out / "fold-1" / "choice.json")["features"])
    found = np.concatenate(list(predict(model, tokenizer, pairs)))
    assert found == pytest.approx(table["prediction"], abs=1e-5)
    assert read_object(out / "adapter" / "finetuning.json")["name"].endswith("affinity")


def test_all_that_was_tried_stands_beside_it(run):
    _, out = run
    [comparison] = read_comparisons(out)
    names = {row.name: row for row in comparison.rows}
    kinds = {"auto": "run", "probe": "probe", "mean": "baseline"}
    assert {name: names[name].kind for name in kinds} == kinds
    assert {"v-gene", "cdr3", "k-mers", "one-hot"} <= names.keys()
    for name, row in names.items():
        of_folds = []
        for fold in read_run(out, beside="" if name == "auto" else name).folds:
            of_folds.append(measure("number", fold.labels, fold.predictions)["spearman"])
        assert row.value == pytest.approx(np.mean(of_folds)) and row.seconds >= 0
    baselines = [row for row in comparison.rows if row.kind == "baseline"]
    assert comparison.best_baseline == max(baselines, key=lambda row: row.value).name
    assert comparison.best_baseline in comparison.sentence and "auto" in comparison.sentence
    assert names["mean"].difference == pytest.approx(names["mean"].value - baselines[0].value)


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_the_report_is_made_of_the_files_of_the_folder(run, name, tmp_path):
    _, out = run
    copy = shutil.copytree(out, tmp_path / "run")
    shown = (out / name).read_text()
    content = json.loads((copy / "comparison.json").read_text())
    content["sentence"] = "auto beats everything."
    content["rows"][0]["value"] = 0.1234
    (copy / "comparison.json").write_text(json.dumps(content))
    write_report(copy)
    changed = (copy / name).read_text()
    assert "auto beats everything." in changed and "0.1234" in changed and "0.1234" not in shown
    for words in ("What was chosen", "everything", "Learning curve", "k-mers"):
        assert words in shown


def test_a_sentence_says_which_is_better(run, tmp_path):
    """The run's own predictions replaced by the truth, and by nothing."""
    _, out = run
    for better, word in ((True, "beats"), (False, "is worse than")):
        copy = shutil.copytree(out, tmp_path / word)
        for fold in (1, 2):
            path = copy / f"fold-{fold}" / "predictions.parquet"
            table = pq.read_table(path)
            label = table["label"].to_numpy()
            shown = label if better else -label
            place = table.column_names.index("prediction")
            pq.write_table(table.set_column(place, "prediction", [shown]), path)
        row = next(row for row in compare_beside(copy, "auto").rows if row.kind == "run")
        assert row.value == pytest.approx(1 if better else -1)
        assert (row.difference > 0) == better and row.p_predictions < 0.05


def test_the_benchmark_of_methods_reads_what_a_run_leaves(run, tmp_path):
    (tmp_path / "auto").symlink_to(run[1])
    header, _, auto, best, *_ = table(tmp_path)
    [comparison] = read_comparisons(run[1])
    assert header.startswith("| method | spearman |") and auto.startswith("| auto | ")
    assert best.startswith(f"| best baseline, {comparison.best_baseline} | ")


def test_a_run_that_was_killed_computes_nothing_twice(run, member, data, tmp_path, monkeypatch):
    """Killed in its second fold, whose features and baselines are there: the rest is equal to the bit.

    A baseline of the first fold is missing, too, as in a run from before it was one.
    """
    recipe, out = run
    copy = shutil.copytree(out, tmp_path / "run")
    for path in ("adapter", "final", "fold-2"):
        shutil.rmtree(copy / path)
    for name in ("comparison.json", "learning_curve.json", "report.md", "report.html", "results.json"):
        (copy / name).unlink()
    shutil.rmtree(copy / "beside" / "one-hot" / "fold-2")
    shutil.rmtree(copy / "beside" / "k-mers" / "fold-1")
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    fitted = []
    scored = Contenders.scored

    def watched(self, name, train):
        fitted.append((name, train.tobytes()))
        return scored(self, name, train)

    monkeypatch.setattr(Contenders, "scored", watched)
    cross_validate(recipe, member, [data], copy)
    rewritten = {"data.json", "folds.json", "recipe.yaml"}
    kept = [path for path in before if path.name not in rewritten]
    assert [path for path in kept if path.stat().st_mtime_ns != before[path]] == []
    timed = {"seconds.json", "choice.json", "comparison.json", "report.md", "report.html"}
    for path in out.rglob("*"):
        if path.is_file() and path.name not in timed:
            assert path.read_bytes() == (copy / path.relative_to(out)).read_bytes(), path


def test_a_method_is_tried_where_labels_and_budget_allow(make_recipe):
    recipe = make_recipe("affinity", method="auto", budget=3.0)
    few = make_plan(recipe, FEWEST_LABELS - 1, 5, SECONDS, 500)
    assert few.trained == [] and "fewer than 1,000" in few.candidates[1].reason
    many = make_plan(recipe, FEWEST_LABELS, 5, SECONDS, 500)
    assert many.trained == ["lora", "dora"]  # everything would take six minutes
    assert "budget of 3 minutes" in many.candidates[-1].reason
    assert many.seconds[0] < many.seconds[1]
    assert [many.trial_steps(method) for method in ("lora", "dora", "full")] == [500, 500, None]
    dear = make_plan(recipe, FEWEST_LABELS, 5, SECONDS, FEWEST_TRIAL_STEPS - 1)
    assert (
        dear.trained == []
        and dear.candidates[-1].reason == "lora is not"
        and "19 steps in twice the time of the features" in dear.candidates[1].reason
    )


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("layers", [1, 4, 24])
def test_trials_cost_no_more_than_twice_the_features(layers, kept):
    """In passes of an example through the model, of which the features take one each."""
    costs = TrialCosts(2_000, layers, 6, 16, kept)
    assert costs.steps == 0 or costs.passes(costs.steps) <= 2 * 2_000 < costs.passes(costs.steps + 1)
    assert (costs.steps >= FEWEST_TRIAL_STEPS) == (layers == 24 and kept)


def test_a_trial_trains_on_what_its_steps_reach(make_recipe):
    recipe, train = make_recipe(pairs_per_step=8), np.arange(100, 200)
    for most, num_examples, epochs in ((None, 100, 2), (26, 100, 2), (25, 100, 1), (13, 100, 1), (5, 40, 1)):
        part, found = trial_part(train, recipe, most)
        assert (len(part), found) == (num_examples, epochs) and set(part) <= set(train)
        assert most is None or found * -(-len(part) // 8) <= most


def test_the_work_of_a_choice_is_bounded(make_recipe, make_member, data, tmp_path, monkeypatch):
    """Passes through layers, counted, where every trial fails."""
    monkeypatch.setattr("curr_ab.finetuning.plan.FEWEST_LABELS", 1)
    monkeypatch.setattr("curr_ab.finetuning.plan.FEWEST_TRIAL_STEPS", 1)
    monkeypatch.setattr("curr_ab.finetuning.plan.TRIAL_EPOCHS", 8)  # more than the bound allows
    monkeypatch.setattr("curr_ab.finetuning.auto.is_better", lambda *_: (False, "-1"))
    deep, spent = make_member(num_hidden_layers=6), {}
    for method in ("probe", "auto"):
        with layer_tokens() as counted:
            changes = {
                "pooling": "mean_per_chain",
                "start": "probe",
                "pairs_per_step": 2,
                "epochs": 8,
                "budget": 1e6,
            }
            cross_validate(make_recipe("affinity", method=method, **changes), deep, [data], tmp_path / method)
        spent[method] = sum(counted)
    for fold in (1, 2):
        steps = len((tmp_path / "auto" / f"fold-{fold}" / "trial-lora" / "log.jsonl").read_text().split())
        assert steps and read_object(tmp_path / "auto" / f"fold-{fold}" / "choice.json")["method"] == "probe"
    assert spent["probe"] < spent["auto"] <= 3 * spent["probe"]


@contextmanager
def layer_tokens():
    """Tokens that went through a layer, three times where a gradient comes back."""
    counted = []

    def count(module, _, output):
        if type(module).__name__.endswith("Layer") and hasattr(module, "attention"):
            counted.append(output[0].shape[:-1].numel() * (3 if torch.is_grad_enabled() else 1))

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        yield counted
    finally:
        hook.remove()


def test_the_plan_of_a_run_is_kept(run, tmp_path):
    _, out = run
    plan = Plan.read(out)
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan and plan.trained == []


def test_a_dry_run_says_what_is_tried(make_recipe, member, data):
    text = preview(make_recipe("affinity", method="auto"), member, [data])
    assert "methods          probe    tried, always" in text
    assert "lora     not tried, 30 labels in a training part, fewer than 1,000" in text
    assert "budget 60 min" in text


def test_a_trial_that_pays_is_followed(make_recipe, member, planted, tmp_path, monkeypatch):
    """The choice of every fold is an adapter where its trial is made to be better; it loads as any other."""
    monkeypatch.setattr("curr_ab.finetuning.plan.FEWEST_LABELS", 1)
    monkeypatch.setattr("curr_ab.finetuning.plan.TrialCosts.steps", FEWEST_TRIAL_STEPS)
    monkeypatch.setattr("curr_ab.finetuning.auto.is_better", lambda *_: (True, "+1"))
    recipe = make_recipe(method="auto", epochs=1, final=True, budget=1e6)
    cross_validate(recipe, member, [planted("specificity-binary", 36)], tmp_path)
    for place in ("fold-1", "fold-2", "final"):
        assert read_object(tmp_path / place / "choice.json")["method"] == "full"
        assert {path.name for path in (tmp_path / place).glob("trial-*.json")} == {
            f"trial-{method}.json" for method in ("lora", "dora", "full")
        }
    model, _ = load_finetuned(tmp_path / "adapter", device="cpu")
    assert model.config.num_labels == 2
