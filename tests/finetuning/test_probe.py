"""Probes of `finetune`: chosen inside each training part, saved whole, loaded and resumed like any result."""

import json
import os
import pickle
import shutil
import signal
import time

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file
from support.training_processes import finetune, finish, start
from transformers import AutoModelForSequenceClassification

import curr_ab
from curr_ab.cli.main import main
from curr_ab.finetuning import BatchPredictor, cross_validate, load_finetuned, predict, probe_fit
from curr_ab.finetuning.prediction import TunedCheckpoint, target_of
from curr_ab.finetuning.preview import preview
from curr_ab.finetuning.run_folder import FinetuningFolder
from curr_ab.results import read_results
from curr_ab.training.stop import Interrupted

TASKS = {"classes": "specificity-binary", "number": "affinity", "residues": "paratope"}
METRIC = {"classes": "auroc", "number": "spearman", "residues": "auroc"}

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def runs(make_recipe, random_member, planted, tmp_path_factory):
    """A finished run of each target: its folder and its table."""
    found = {}
    for target, task in TASKS.items():
        num_pairs = 12 if target == "residues" else 120
        recipe = make_recipe(task, method="probe", final=True)
        data, out = planted(task, num_pairs), tmp_path_factory.mktemp(target)
        cross_validate(recipe, random_member, [data], out)
        found[target] = FinetuningFolder(out), data
    return found


@pytest.mark.parametrize("target", TASKS)
def test_what_a_fold_predicted_its_saved_probe_predicts(runs, target):
    run, data = runs[target]
    pairs = {row["id"]: (row["heavy"], row["light"]) for row in pq.read_table(data).to_pylist()}
    fold = run.fold(1)
    table = pq.read_table(fold.predictions_file).to_pydict()
    model, tokenizer = load_finetuned(fold.adapter, device="cpu")
    assert target_of(model) == target and not model.training
    found = list(predict(model, tokenizer, [pairs[name] for name in table["id"]]))
    if target == "number":
        assert np.concatenate(found) == pytest.approx(table["prediction"], rel=1e-6, abs=1e-6)
    else:
        names = [*model.config.id2label.values()]
        for place, name in enumerate(names):
            for own, shown in zip(found, table[f"probability_{name}"], strict=True):
                assert own[..., place] == pytest.approx(np.asarray(shown), abs=1e-6)
    means = {row.metric: row for row in read_results(run.results_file) if "fold" not in row.details}
    assert means[METRIC[target]].value > 0.6  # residues can be counted in what a random model says
    assert means[METRIC[target]].details["features"] == "auto"


@pytest.mark.parametrize("target", TASKS)
def test_the_folder_is_complete(runs, target):
    run, _ = runs[target]
    names = {path.name for path in run.adapter.iterdir()}
    assert {"probe.safetensors", "config.json", "finetuning.json", "recipe.yaml", "results.json"} <= names
    assert {"tokenizer.json", "finetuning_manifest.json", "README.md"} <= names
    card = (run.adapter / "README.md").read_text()
    chosen = json.loads((run.final.path / "probe.json").read_text())
    assert f"| {chosen['features']} |" in card and "cannot load this one" in card
    assert "AutoModel" not in card and "library_name: curr-ab" in card
    assert max(chosen["scores"], key=chosen["scores"].get) == chosen["features"]
    weights = load_file(run.adapter / "probe.safetensors")
    assert set(weights) == {"weights", "bias"}


def test_a_choice_sees_the_training_part_alone(make_recipe, random_member, planted, tmp_path):
    """Other numbers in the test part change neither features nor weights, in the training part they do."""
    recipe, data = make_recipe("affinity", method="probe"), planted("affinity", 40)
    cross_validate(recipe, random_member, [data], tmp_path / "first")
    tested = pq.read_table(tmp_path / "first" / "fold-1" / "predictions.parquet")["id"].to_pylist()
    table = pq.read_table(data).to_pandas()
    table.loc[table["id"].isin(tested), "fitness"] *= -3
    table.to_parquet(tmp_path / "changed.parquet")
    cross_validate(recipe, random_member, [tmp_path / "changed.parquet"], tmp_path / "second")

    def fitted(run, fold):
        folder = tmp_path / run / f"fold-{fold}"
        return [(folder / name).read_bytes() for name in ("probe.json", "adapter/probe.safetensors")]

    (same_choice, same), (_, changed) = fitted("second", 1), fitted("second", 2)
    assert [same_choice, same] == fitted("first", 1)
    assert changed != fitted("first", 2)[1]


def test_files_and_batches_are_predicted_as_lists_are(runs, tmp_path):
    run, data = runs["classes"]
    table = pq.read_table(data).slice(0, 9)
    pairs = tmp_path / "pairs.csv"
    pyarrow.csv.write_csv(table.select(["id", "heavy", "light"]), pairs)
    out = tmp_path / "predictions.csv"
    main(["predict", str(run.adapter), str(pairs), "--out", str(out), "--raw", "--quiet"])
    written = pyarrow.csv.read_csv(out).to_pydict()
    model, tokenizer = load_finetuned(run.adapter, device="cpu")
    expected = np.stack(list(predict(model, tokenizer, table.select(["heavy", "light"]))))
    names = [*model.config.id2label.values()]
    for place, name in enumerate(names):
        assert written[f"probability_{name}"] == pytest.approx(expected[:, place], abs=1e-6)
    predictor = pickle.loads(pickle.dumps(BatchPredictor(run.adapter, raw=True)))
    batch = predictor(table.select(["id", "heavy", "light"])).to_pydict()
    assert batch[f"probability_{names[0]}"] == pytest.approx(expected[:, 0], abs=1e-6)
    # In bfloat16 the features would be others than those of the fit.
    assert TunedCheckpoint(str(run.adapter)).precision().name == "fp32"


def test_what_is_no_checkpoint_is_not_loaded_as_one(runs):
    run, _ = runs["number"]
    with pytest.raises(ValueError, match=r"got a probe, .* load it with curr_ab.finetuning.load_finetuned"):
        curr_ab.load(run.adapter)
    with pytest.raises(OSError, match="safetensors"):
        AutoModelForSequenceClassification.from_pretrained(run.adapter)


def test_another_base_and_a_broken_file_are_refused(runs, random_member, tmp_path):
    run, _ = runs["number"]
    folder = shutil.copytree(run.adapter, tmp_path / "probe")
    base = shutil.copytree(random_member, tmp_path / "base")
    record = json.loads((folder / "finetuning.json").read_text())
    (folder / "finetuning.json").write_text(json.dumps({**record, "base_model": str(base)}))
    load_finetuned(folder, device="cpu")
    weights = load_file(base / "model.safetensors")
    save_file({name: 1.01 * value for name, value in weights.items()}, base / "model.safetensors")
    with pytest.raises(ValueError, match="must have the weights that the probe was fitted on; got others in"):
        load_finetuned(folder, device="cpu")
    whole = (folder / "probe.safetensors").read_bytes()
    (folder / "probe.safetensors").write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="is no whole file of a probe"):
        load_finetuned(folder, device="cpu")
    (folder / "probe.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks probe\.safetensors"):
        load_finetuned(folder, device="cpu")


def test_features_are_computed_once(make_recipe, random_member, planted, tmp_path, monkeypatch):
    """Neither the next fold nor the next command asks the model again."""
    calls = []
    original = probe_fit.member_features
    monkeypatch.setattr(probe_fit, "member_features", lambda *a: calls.append(a) or original(*a))
    monkeypatch.setattr(probe_fit, "PAIRS_PER_PART", 25)
    recipe, data = make_recipe(method="probe", features="cdrs"), [planted("specificity-binary", 40)]
    first = cross_validate(recipe, random_member, data, tmp_path)
    assert len(calls) == 2 and len(list((tmp_path / "features").iterdir())) == 2
    for name in ("fold-1", "fold-2"):
        shutil.rmtree(tmp_path / name)
    assert cross_validate(recipe, random_member, data, tmp_path) == first and len(calls) == 2
    shutil.rmtree(tmp_path / "fold-1")
    next((tmp_path / "features").iterdir()).unlink()
    assert cross_validate(recipe, random_member, data, tmp_path) == first and len(calls) == 3
    assert json.loads((tmp_path / "fold-1" / "probe.json").read_text())["features"] == "cdrs"


def test_a_killed_run_goes_on_to_the_same_bits(make_recipe, random_member, planted, tmp_path):
    recipe, data = make_recipe(method="probe", final=True), str(planted("specificity-binary", 60))

    def outcome(out):
        run = FinetuningFolder(out)
        tables = [pq.read_table(run.fold(number).predictions_file).to_pydict() for number in (1, 2)]
        fits = (run.fold(1), run.fold(2), run.final)
        return tables, [(fit.adapter / "probe.safetensors").read_bytes() for fit in fits]

    def begin(out):
        return start(finetune, recipe.to_dict(), random_member, data, out)

    assert finish(begin(tmp_path / "whole")) == [0]
    for seen in ("features/*.safetensors", "fold-1/results.json"):
        process = begin(tmp_path / "killed")
        while process.is_alive() and not list((tmp_path / "killed").glob(seen)):
            time.sleep(0.01)
        process.kill()
        process.join()
    assert not (tmp_path / "killed" / "results.json").exists()
    assert finish(begin(tmp_path / "killed")) == [0]
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def test_a_request_to_stop_is_obeyed(make_recipe, random_member, planted, tmp_path, monkeypatch):
    original = probe_fit.member_features

    def asked(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(probe_fit, "member_features", asked)
    monkeypatch.setattr(probe_fit, "PAIRS_PER_PART", 25)
    recipe, data = make_recipe(method="probe", features="mean"), [planted("specificity-binary", 40)]
    for done in (1, 2):
        with pytest.raises(Interrupted, match="the same command goes on"):
            cross_validate(recipe, random_member, data, tmp_path)
        assert len(list((tmp_path / "features").iterdir())) == done
    assert len(cross_validate(recipe, random_member, data, tmp_path)) > 0


def test_a_preview_says_that_nothing_of_the_base_is_trained(make_recipe, random_member, planted):
    text = preview(make_recipe(method="probe"), random_member, [planted("specificity-binary", 40)])
    assert "a regression on frozen features (auto)" in text and "learning rate" not in text
