"""Cross-validation from the table to the adapter: what is written, what is refused, what is learnt."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import curr_ab
from curr_ab.finetuning import cross_validate, load_finetuned, predict, read_examples
from curr_ab.finetuning.model import head_name
from curr_ab.finetuning.preview import preview
from curr_ab.finetuning.run_folder import FinetuningFolder
from curr_ab.measures.metrics import measure
from curr_ab.measures.statistics import mean_and_standard_error
from curr_ab.results import checkpoint_digest, read_results


def by_metric(results):
    return {row.metric: row.value for row in results if "fold" not in row.details}


@pytest.fixture(scope="module")
def small(planted):
    return {
        task: planted(task, 36)
        for task in ("specificity-binary", "specificity-multiclass", "paratope", "affinity")
    }


@pytest.fixture(scope="module")
def run(make_recipe, member, small, tmp_path_factory):
    """A finished run, its recipe and its results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        recipe = make_recipe(final=True, learning_rate=1e-2)
        out = tmp_path_factory.mktemp("run")
        results = cross_validate(recipe, member, [small["specificity-binary"]], out)
    return recipe, FinetuningFolder(out), results


def test_every_fold_is_measured_on_its_own_predictions(run, member, small):
    recipe, folder, results = run
    examples = read_examples(recipe, [str(small["specificity-binary"])])
    folds = json.loads(folder.folds_file.read_text())
    tested = [place for fold in folds for place in fold["test"]]
    assert sorted(tested) == list(range(len(examples)))
    of_folds = []
    for fold in folds:
        table = pq.read_table(folder.fold(fold["number"]).predictions_file).to_pydict()
        assert table["id"] == [examples[place].id for place in fold["test"]]
        assert table["number"] == [examples[place].number for place in fold["test"]]
        assert table["label"] == [recipe.labels[examples[place].label] for place in fold["test"]]
        probabilities = np.array([table["probability_HD"], table["probability_CoV"]]).T
        assert probabilities.sum(axis=1) == pytest.approx(1)
        labels = [recipe.labels.index(label) for label in table["label"]]
        of_folds.append(measure("classes", labels, probabilities, recipe.labels))
        found = {row.metric: row for row in results if row.details.get("fold") == fold["number"]}
        assert {name: row.value for name, row in found.items()} == of_folds[-1]
        assert {row.num_items for row in found.values()} == {len(fold["test"])}
    means = [row for row in results if "fold" not in row.details]
    for row in means:
        expected = mean_and_standard_error([values[row.metric] for values in of_folds])
        assert (row.value, row.standard_error) == expected
        assert row.task == "specificity-binary" and row.num_items == len(examples)
        assert row.details["method"] == "lora" and row.details["folds"] == 2
        assert row.checkpoint == checkpoint_digest(member)
    assert {row.identity for row in read_results(folder.results_file)} == {row.identity for row in results}


ADAPTED = [(method, task) for method in ("lora", "full", "frozen", "dora")
           for task in ("specificity-multiclass", "paratope", "affinity")]  # fmt: skip
# Each method, and each task, at least once; the other pairs are slow.
SOON = {("lora", "specificity-multiclass"), ("lora", "paratope"), ("lora", "affinity")}
SOON |= {("full", "paratope"), ("frozen", "affinity"), ("dora", "specificity-multiclass")}


@pytest.mark.parametrize(
    ("method", "task"),
    [pytest.param(*one, marks=[] if one in SOON else pytest.mark.slow) for one in ADAPTED],
)
def test_an_adapter_loads_to_the_same_predictions(task, method, make_recipe, member, small, tmp_path):
    """Of what the fold was tested on: head and matrices, merged and not, numbers in the units of the data."""
    pooling = {"specificity-multiclass": "cls", "affinity": "mean_per_chain"}.get(task, "cls")
    recipe = make_recipe(
        task, method=method, learning_rate=1e-2, folds=1, epochs=1, fold_scheme="rows", pooling=pooling
    )
    cross_validate(recipe, member, [small[task]], tmp_path)
    fold = FinetuningFolder(tmp_path).fold(1)
    table = pq.read_table(fold.predictions_file).to_pydict()
    columns = [name for name in table if name.startswith(("probability_", "prediction"))]
    assert len(columns) == max(1, len(recipe.labels))
    examples = {one.number: one for one in read_examples(recipe, [str(small[task])])}
    pairs = [(examples[number].heavy, examples[number].light) for number in table["number"]]
    spread = np.ptp(
        np.concatenate([np.ravel(table[name][0]) for name in columns] + [np.ravel(table[columns[0]][1])])
    )
    assert spread > 1e-3
    for merge in (True, False):
        model, tokenizer = load_finetuned(fold.adapter, device="cpu", merge=merge)
        for place, found in enumerate(predict(model, tokenizer, pairs)):
            expected = np.array([table[name][place] for name in columns]).T
            assert found == pytest.approx(expected, abs=2e-5, rel=2e-5)
    merged, _ = curr_ab.load(fold.adapter, head=head_name(recipe), device="cpu")
    assert not isinstance(merged, PeftModel)


def test_an_adapter_loads_on_stock_esm(run, small):
    recipe, folder, _ = run
    adapter = folder.fold(1).adapter
    config = AutoConfig.from_pretrained(adapter)
    base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    stock = AutoModelForSequenceClassification.from_pretrained(base, config=config)
    assert type(stock).__name__ == "EsmForSequenceClassification"
    model = PeftModel.from_pretrained(stock, adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    table = pq.read_table(folder.fold(1).predictions_file).to_pydict()
    examples = {one.number: one for one in read_examples(recipe, [str(small["specificity-binary"])])}
    for place, number in enumerate(table["number"][:5]):
        inputs = tokenizer(examples[number].heavy, examples[number].light, return_tensors="pt")
        with torch.no_grad():
            probability = model(**inputs).logits.softmax(-1)[0, 1]
        assert float(probability) == pytest.approx(table["probability_CoV"][place], abs=2e-5)


def test_the_last_adapter_is_another_fit_with_the_means_of_the_folds(run):
    _, folder, results = run
    weights = [
        curr_ab.load(path, head="sequence-classification", device="cpu")[0].classifier.dense.weight
        for path in (folder.adapter, folder.fold(1).adapter)
    ]
    assert not torch.equal(*weights)
    means = {row.identity for row in results if "fold" not in row.details}
    assert {row.identity for row in read_results(folder.adapter / "results.json")} == means


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs": 7}, r"epochs 2 → 7"),
        ({"method": "frozen", "rank": 4}, r"method 'lora' → 'frozen'; rank 8 → 4"),
        ({"data": 40}, r"examples '\w+' → '\w+'"),
        ({"model": {"layer_norm_eps": 1e-3}}, r"model '.*' → '.*'"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(run, change, told, make_member, planted, member, small):
    recipe, folder, _ = run
    values = dict(change)
    model = make_member(**values.pop("model")) if "model" in values else member
    size = values.pop("data", None)
    data = planted("specificity-binary", size) if size else small["specificity-binary"]
    changed = type(recipe)(**{**recipe.to_dict(), **values})
    with pytest.raises(ValueError, match=rf"must be those of the run in .*; got others \(.*{told}"):
        cross_validate(changed, model, [data], folder.path)


def test_a_run_goes_on_under_the_name_that_it_recorded_by_an_earlier_rule(
    make_recipe, random_member, planted, tmp_path
):
    base = shutil.copytree(random_member, tmp_path / "pretraining" / "checkpoints" / "step7")
    recipe = make_recipe("specificity-binary", method="probe", fold_scheme="rows")
    folder, data = FinetuningFolder(tmp_path / "run"), [planted("specificity-binary", 36)]
    first = cross_validate(recipe, base, data, folder.path)
    assert {row.model for row in first} == {"pretraining"}
    record = json.loads(folder.data_file.read_text())
    for name in ("step7", "step8"):
        folder.data_file.write_text(json.dumps({**record, "model": name}))
        for fold in folder.path.glob("fold-*"):
            (fold / "results.json").unlink()
        if name == "step8":
            with pytest.raises(ValueError, match=r"got others \(model 'step8' → 'pretraining'\)"):
                cross_validate(recipe, base, data, folder.path)
        else:
            again = cross_validate(recipe, base, data, folder.path)
            assert again == [replace(row, model="step7") for row in first]
            assert json.loads(folder.data_file.read_text()) == {**record, "model": "step7"}


def test_how_it_is_carried_out_may_change(run, member, small):
    recipe, folder, results = run
    other = type(recipe)(**{**recipe.to_dict(), "pairs_per_micro_batch": 2, "attention": "eager"})
    again = cross_validate(other, member, [small["specificity-binary"]], folder.path)
    assert [row.identity for row in again] == [row.identity for row in results]


@pytest.mark.parametrize(("task", "metric"), [("specificity-binary", "auroc"), ("affinity", "spearman")])
def test_a_probe_is_measured_and_leaves_a_model(task, metric, make_recipe, random_member, planted, tmp_path):
    recipe = make_recipe(task, method="probe", final=True, fold_scheme="rows")
    results = cross_validate(recipe, random_member, [planted(task, 200)], tmp_path)
    assert by_metric(results)[metric] > 0.6  # residues can be counted in what a random model says
    assert (FinetuningFolder(tmp_path).adapter / "probe.safetensors").exists()
    assert (tmp_path / "fold-2" / "predictions.parquet").exists()


# --- what is learnt -----------------------------------------------------------------------------


def test_the_last_fit_may_be_added_and_left_out(make_recipe, member, small, tmp_path):
    """The folds do not depend on it; their results are there before it begins."""
    recipe = make_recipe(epochs=1)
    folds = cross_validate(recipe, member, [small["specificity-binary"]], tmp_path)
    assert not (tmp_path / "adapter").exists()
    later = cross_validate(replace(recipe, final=True), member, [small["specificity-binary"]], tmp_path)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert [row.value for row in later] == [row.value for row in folds]


def test_small_numbers_are_shown_with_their_digits(make_recipe, member, planted, tmp_path, capsys):
    table = pq.read_table(planted("affinity", 30)).to_pandas()
    table["fitness"] *= 1e-9
    table.to_csv(tmp_path / "molar.csv", index=False)
    recipe = make_recipe("affinity", epochs=1, folds=1)
    cross_validate(recipe, member, [f"{tmp_path}/mol*.csv"], tmp_path / "run")
    assert re.search(r"rmse +\d\.?\d*e-09", capsys.readouterr().err)
    card = (tmp_path / "run" / "fold-1" / "adapter" / "README.md").read_text()
    assert re.search(r"rmse \| \d\.?\d*e-09", card)
    assert "molar.csv" in card and "mol*.csv" not in card


def test_a_recipe_without_a_run_is_told_apart(make_recipe, member, small, tmp_path):
    (tmp_path / "recipe.yaml").write_text("like: specificity-binary\n")
    with pytest.raises(ValueError, match=r"has a recipe\.yaml but no data\.json: choose another folder"):
        cross_validate(make_recipe(), member, [small["specificity-binary"]], tmp_path)


def test_a_preview_says_the_attention(make_recipe, member, small):
    text = preview(make_recipe(), member, [small["specificity-binary"]])
    assert "attention        sdpa, packed rows: one pair after the other, on a CPU\n" in text


def test_what_is_no_base_is_refused_before_any_work(run, small):
    recipe, folder, _ = run
    for place, problem in (
        (folder.adapter, "is an adapter; merge it first"),
        (folder.path, "has no model in it"),
    ):
        with pytest.raises(ValueError, match=problem):
            preview(recipe, place, [str(small["specificity-binary"])])
