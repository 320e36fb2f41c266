"""The suites `specificity` and `pairing`: protocols, results, and accuracy by mutation status."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from curr_ab.cli.main import main
from curr_ab.evaluation import make_plan, run_suite, write_tables
from curr_ab.evaluation.measurement import Measurement, find_subject
from curr_ab.evaluation.suites.classification import KINDS, recipe_of, status_of_chains
from curr_ab.finetuning import plant
from curr_ab.options import OptionError

QUICK = {"method": "probe", "set": ("folds=2",)}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    path = tmp_path_factory.mktemp("labelled") / "specificity.csv"
    pyarrow.csv.write_csv(plant("specificity-binary", 60), path)
    return path


@pytest.fixture(scope="module")
def natives(tmp_path_factory):
    path = tmp_path_factory.mktemp("natives") / "pairs.parquet"
    pq.write_table(plant("pairing", 120), path)
    return path


def test_protocols():
    """Published: rows, a head on the frozen base, the recipe's epochs; else groups stay together."""
    published = recipe_of(make_plan("specificity", {"protocol": "published"}))
    assert (published.method, published.fold_scheme, published.folds) == ("frozen", "rows", 5)
    assert (published.epochs, published.pairs_per_step, published.peak_learning_rate) == (3, 32, 5e-5)
    assert (published.pooling, published.class_weights, published.early_stopping) == ("cls", "none", 0)
    several = recipe_of(
        make_plan("specificity", {"protocol": "published", "recipe": "specificity-multiclass"})
    )
    assert (several.epochs, several.pairs_per_step, len(several.labels)) == (5, 8, 3)
    pairing = recipe_of(make_plan("pairing", {"protocol": "published"}))
    assert (pairing.epochs, pairing.pairs_per_step, pairing.negatives) == (50, 32, "shuffled")
    grouped = recipe_of(make_plan("specificity", {}))
    assert (grouped.fold_scheme, grouped.group_by) == ("grouped", "donor")
    by_clone = recipe_of(make_plan("specificity", {"group_by": "clone", "set": ("epochs=1", "pooling=mean")}))
    assert (by_clone.group_by, by_clone.epochs, by_clone.pooling) == ("clone", 1, "mean")
    for changes in ({"method": "lora"}, {"group_by": "donor"}, {"set": ("epochs=1",)}):
        with pytest.raises(ValueError, match="the published one trains a head on the frozen base"):
            recipe_of(make_plan("specificity", {"protocol": "published", **changes}))
    with pytest.raises(ValueError, match=r"protocol must be grouped for the recipe own.yaml"):
        recipe_of(make_plan("specificity", {"protocol": "published", "recipe": "own.yaml"}))
    with pytest.raises(ValueError, match="KEY=VALUE"):
        recipe_of(make_plan("specificity", {"set": ("epochs",)}))


@pytest.mark.heavy
def test_specificity_gives_every_fold_and_the_means(folder, labelled, tmp_path):
    results = run_suite("specificity", folder, labelled, tmp_path, **QUICK)
    accuracy = [row for row in results if row.metric == "accuracy"]
    folds = [row for row in accuracy if "fold" in row.details]
    [mean] = [row for row in accuracy if "fold" not in row.details]
    assert sorted(row.details["fold"] for row in folds) == [1, 2]
    assert mean.value == pytest.approx(np.mean([row.value for row in folds]))
    assert mean.standard_error == pytest.approx(abs(folds[0].value - folds[1].value) / 2)
    assert (mean.model, mean.task, mean.num_items) == ("ours", "specificity-binary", 60)
    assert mean.details["protocol"] == "grouped"
    assert mean.details["changes"] == "folds=2"
    assert mean.source == "curr-ab evaluate specificity --method probe --set folds=2"
    assert {"auroc", "aupr", "mcc", "f1", "calibration-error"} <= {row.metric for row in results}
    assert write_tables(tmp_path, "specificity").count("| ours | specificity-binary") == len(results) // 3
    [figures] = tmp_path.glob("specificity/*/cross-validation/figures")
    assert {path.stem for path in figures.iterdir()} >= {"roc", "confusion"}
    again = []
    assert run_suite("specificity", folder, labelled, tmp_path, say=again.append, **QUICK) == results
    assert "measured already" in again[0]


def test_a_recipe_counts_by_what_it_says(folder, labelled, tmp_path):
    """Another file of the same content has been measured; the same file with other content has not."""
    from curr_ab.evaluation.suites.classification import open_data

    def key(path, text):
        path.write_text(text)
        plan = make_plan("specificity", {"recipe": str(path)})
        data = open_data(plan, [str(labelled)])
        subject = find_subject(folder, plan)
        return Measurement.of("specificity", subject, data=data.fingerprint, settings=plan.settings).key

    own = "like: specificity-binary\nname: own\n"
    first = key(tmp_path / "a.yaml", own)
    assert key(tmp_path / "b.yaml", own) == first
    assert key(tmp_path / "a.yaml", own + "epochs: 7\n") != first


@pytest.mark.heavy
def test_numbers_of_an_edited_recipe_stand_beside_the_earlier_ones(folder, labelled, tmp_path):
    path, found = tmp_path / "own.yaml", []
    for epochs in (1, 2):
        path.write_text(f"like: specificity-binary\nname: own\nepochs: {epochs}\n")
        found += run_suite("specificity", folder, labelled, tmp_path, recipe=str(path), **QUICK)
    assert len({row.identity for row in found}) == len(found)


@pytest.mark.heavy
def test_the_published_protocol_runs_through(folder, labelled, tmp_path):
    results = run_suite("specificity", folder, labelled, tmp_path, protocol="published")
    [recipe] = tmp_path.glob("specificity/*/cross-validation/recipe.yaml")
    written = yaml.safe_load(recipe.read_text())
    assert (written["method"], written["fold_scheme"], written["precision"]) == ("frozen", "rows", "fp32")
    assert {row.details["protocol"] for row in results} == {"published"}


@pytest.mark.heavy
def test_accuracy_by_mutation_status_is_that_of_the_predictions(folder, natives, tmp_path):
    results = run_suite("pairing", folder, natives, tmp_path, group_by="clone", **QUICK)
    source = {row["id"]: row for row in pq.read_table(natives).to_pylist()}
    right = {kind: [[], []] for kind in KINDS.values()}
    for fold in (1, 2):
        [path] = tmp_path.glob(f"pairing/*/cross-validation/fold-{fold}/predictions.parquet")
        for row in pq.read_table(path).to_pylist():
            heavy, _, light = row["id"].partition("/")  # of a negative both are named
            mutated = source[heavy]["mutations_heavy"] > 0, source[light or heavy]["mutations_light"] > 0
            kind = {2: "both mutated", 1: "only one mutated", 0: "both unmutated"}[sum(mutated)]
            chosen = "native" if row["probability_native"] > row["probability_shuffled"] else "shuffled"
            right[kind][fold - 1].append(chosen == row["label"])
    found = {row.details["pairs"]: row for row in results if "pairs" in row.details}
    assert found.keys() == right.keys()
    for kind, folds in right.items():
        assert found[kind].value == pytest.approx(np.mean([np.mean(fold) for fold in folds]))
        assert found[kind].num_items == sum(map(len, folds))
        assert found[kind].task == "pairing"


def test_pairs_that_do_not_tell_their_mutations_are_not_split(natives, tmp_path):
    recipe = recipe_of(make_plan("pairing", {}))
    assert status_of_chains(recipe, [str(natives)]) is not None
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(natives, columns=["id", "heavy", "light", "donor", "clone"]), bare)
    assert status_of_chains(recipe, [str(bare)]) is None


@pytest.mark.heavy
def test_pairs_of_unknown_status_are_left_out_and_counted(folder, natives, tmp_path):
    """One missing annotation is no reason to drop the whole analysis."""
    table = pq.read_table(natives)
    heavy = table["heavy"].to_pylist()[0]
    for name in ("mutations_heavy", "mutation_mask_heavy", "v_identity_heavy"):
        if name in table.column_names:
            kept = [
                None if one == heavy else value
                for one, value in zip(table["heavy"].to_pylist(), table[name].to_pylist(), strict=True)
            ]
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array(kept, table[name].type))
    pq.write_table(table, tmp_path / "gap.parquet")
    said = []
    results = run_suite("pairing", folder, tmp_path / "gap.parquet", tmp_path, say=said.append, **QUICK)
    [line] = [line for line in said if "mutation status" in line]
    told = re.search(r"leaves out (\d+) of (\d+) pairs, of which a chain's status is not known", line)
    unknown, all_pairs = map(int, told.groups())
    assert unknown >= 1
    by_status = [row for row in results if row.metric == "accuracy" and "pairs" in row.details]
    assert sum(row.num_items for row in by_status) == all_pairs - unknown


def test_advice_names_options_that_evaluate_has(natives, labelled, tmp_path, folder, capsys):
    with pytest.raises(OptionError, match="take fewer folds") as refused:
        run_suite("specificity", folder, labelled, tmp_path, set=("folds=50",))
    assert refused.value.fields == ("folds",)
    words = [
        "evaluate",
        "specificity",
        "--model",
        str(folder),
        "--data",
        str(labelled),
        "--out",
        str(tmp_path),
    ]
    assert main([*words, "--set", "folds=50"]) == 2
    assert capsys.readouterr().err.endswith("take fewer folds or add examples (--set folds=...)\n")
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(natives).drop_columns(["clone"]), bare)
    words = ["evaluate", "pairing", "--model", str(folder), "--data", str(bare), "--out", str(tmp_path)]
    assert main([*words, "--group-by", "clone"]) == 2
    assert capsys.readouterr().err.endswith("(--group-by, --set fold_scheme=...)\n")


def test_what_a_cross_validation_cannot_do(folder, labelled, tmp_path):
    for options in ({"device": "cpu"}, {"revision": "v1"}, {"separator": "<cls>"}):
        with pytest.raises(ValueError, match="leave out device, revision and separator"):
            run_suite("specificity", folder, labelled, tmp_path, **options)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"base_model_name_or_path": str(folder), "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="must be a whole model; got an adapter; merge it"):
        run_suite("specificity", adapter, labelled, tmp_path)
