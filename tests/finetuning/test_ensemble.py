"""`--ensemble folds`: the mean of the folds' models and how far they are apart, as one result."""

import shutil
import weakref

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from curr_ab.checkpoints import model_digest
from curr_ab.cli.main import main
from curr_ab.finetuning import BatchPredictor, cross_validate, load_finetuned, predict
from curr_ab.finetuning.adapter_manifest import change_base, differences, read_manifest
from curr_ab.finetuning.adapter_record import TRAINING, change_record, members_of, read_record
from curr_ab.finetuning.probe_model import ProbeModel, load_probe
from curr_ab.hub.finetuned_verification import check_finetuned
from curr_ab.options import OptionError

pytestmark = pytest.mark.heavy  # runs of two folds
QUIET = ["--device", "cpu", "--dtype", "float32", "--quiet"]


@pytest.fixture(scope="module")
def data(planted):
    return planted("affinity", 40)


@pytest.fixture(scope="module")
def run(make_recipe, member, data, tmp_path_factory):
    """An ensemble of two probes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        out = tmp_path_factory.mktemp("ensemble")
        how = {"method": "probe", "features": "mean-per-chain", "final": True, "ensemble": "folds"}
        cross_validate(make_recipe("affinity", **how), member, [data], out)
    return out


@pytest.fixture
def pairs(data, tmp_path):
    table = pq.read_table(data).slice(0, 7).select(["heavy", "light"])
    table = table.append_column("id", [[f"pair-{number}" for number in range(7)]])
    pyarrow.csv.write_csv(table, tmp_path / "pairs.csv")
    return tmp_path / "pairs.csv"


def of_folds(run, pairs):
    """What the model of each fold says by itself."""
    found = []
    for number in (1, 2):
        model, tokenizer = load_finetuned(run / f"fold-{number}" / "adapter", device="cpu")
        found.append(np.stack(list(predict(model, tokenizer, pyarrow.csv.read_csv(pairs)))))
    return np.stack(found)


def test_it_says_the_mean_and_how_far_the_folds_are_apart(run, pairs, tmp_path):
    alone = of_folds(run, pairs)[:, :, 0]
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    out = tmp_path / "out.csv"
    assert main(["predict", str(run / "adapter"), str(pairs), "--out", str(out), *QUIET]) == 0
    told = pyarrow.csv.read_csv(out)
    assert told["prediction"].to_numpy() == pytest.approx(alone.mean(axis=0), abs=1e-4)
    assert told["deviation"].to_numpy() == pytest.approx(alone.std(axis=0, ddof=1), abs=1e-4)
    assert {"low", "high", "applicable"} <= set(told.column_names)
    batch = BatchPredictor(run / "adapter")(pyarrow.csv.read_csv(pairs))
    assert batch["deviation"].to_numpy() == pytest.approx(told["deviation"].to_numpy(), abs=1e-4)


def test_features_of_one_base_are_computed_once(run, pairs, monkeypatch):
    computed, seen = [], ProbeModel.seen
    monkeypatch.setattr(ProbeModel, "seen", lambda self, *given: computed.append(1) or seen(self, *given))
    model, tokenizer = load_finetuned(run / "adapter", device="cpu")
    list(predict(model, tokenizer, pyarrow.csv.read_csv(pairs)))
    assert len(computed) == 1


def test_probes_share_one_base_while_they_are_loaded(run, monkeypatch):
    """The base of one fold is gone before that of the next but one comes."""
    alive: list[weakref.ref] = []
    most, loaded = [], load_probe

    def load(*given, **how):
        most.append(sum(one() is not None for one in alive))
        model, tokenizer = loaded(*given, **how)
        alive.append(weakref.ref(model.esm))
        return model, tokenizer

    monkeypatch.setattr("curr_ab.finetuning.prediction.load_probe", load)
    folders = [run / f"fold-{number}" / "adapter" for number in (1, 2, 1)]
    monkeypatch.setattr("curr_ab.finetuning.prediction.member_folders", lambda *_: folders)
    model, _ = load_finetuned(run / "adapter", device="cpu")
    assert most == [0, 1, 1] and len({id(member.esm) for member in model.members}) == 1


def test_a_finished_run_obeys_what_is_asked_of_its_model_afterwards(run, make_recipe, member, data, tmp_path):
    out = shutil.copytree(run, tmp_path / "run")
    how = {"method": "probe", "features": "mean-per-chain", "final": True}
    before = (out / "fold-1" / "results.json").stat().st_mtime_ns
    cross_validate(make_recipe("affinity", **how, ensemble="folds"), member, [data], out)
    assert read_manifest(out / "adapter") == read_manifest(run / "adapter")  # nothing else was asked
    cross_validate(make_recipe("affinity", **how, training_sequences=False), member, [data], out)
    assert not members_of(out / "adapter") and (out / "adapter" / "probe.safetensors").exists()
    assert not (out / "adapter" / TRAINING).exists()
    assert (out / "fold-1" / "results.json").stat().st_mtime_ns == before


def test_it_is_a_result_like_any_other(run, tmp_path):
    """It is verified, gets a card, and follows another name of its base into its models."""
    copy = shutil.copytree(run / "adapter", tmp_path / "adapter")
    said = []
    assert check_finetuned(copy, None, said.append) == []
    card = (copy / "README.md").read_text()
    assert "The mean of 2 models, one of each fold," in card and "`deviation`" in card
    assert "library_name: curr-ab" in card
    change_record(copy, "other", "me/base")
    change_base(copy, read_manifest(copy), "me/base", None, "me")
    assert {read_record(place).base_model for place in (copy, *members_of(copy))} == {"me/base"}
    assert differences(copy, read_manifest(copy)) == []
    weights = copy / "members" / "fold-2" / "probe.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    [problem] = differences(copy, read_manifest(copy))
    assert "members/fold-2/probe.safetensors is not what was saved" in problem


def test_what_to_measure_next_is_chosen_by_its_models(run, pairs, tmp_path):
    """Also where the folder stands without the run."""
    copy, out = shutil.copytree(run / "adapter", tmp_path / "alone"), tmp_path / "next.csv"
    words = ["--acquire", "2", "--by", "uncertainty", "--quiet", "--keep-columns", "heavy"]
    changed = pairs.read_text().replace("EVQL", "QVQL").replace("QVQL", "EVQL", 1)
    pairs.write_text(changed.replace("SS", "SA"))  # none was measured
    assert main(["predict", str(copy), str(pairs), "--out", str(out), *words]) == 0
    apart = of_folds(run, pairs)[:, :, 0].std(axis=0, ddof=1)
    assert pyarrow.csv.read_csv(out)["deviation"].to_numpy() == pytest.approx(
        np.sort(apart)[::-1][:2], abs=1e-3
    )


def test_the_model_of_another_run_has_another_digest(run):
    model, tokenizer = load_finetuned(run / "adapter", device="cpu")
    before = model_digest(model, tokenizer)
    model.members[1].regression_bias += 1
    assert model_digest(model, tokenizer) != before


@pytest.mark.slow
def test_adapters_of_classes_are_averaged(make_recipe, member, planted, tmp_path):
    recipe = make_recipe(final=True, ensemble="folds", epochs=1, learning_rate=5e-3)
    data = planted("specificity-binary", 40)
    cross_validate(recipe, member, [data], tmp_path / "run")
    pairs = tmp_path / "pairs.csv"
    pyarrow.csv.write_csv(pq.read_table(data).slice(0, 6).select(["heavy", "light"]), pairs)
    alone = of_folds(tmp_path / "run", pairs)
    words = ["predict", str(tmp_path / "run" / "adapter"), str(pairs), "--raw", "--out"]
    assert main([*words, str(tmp_path / "out.csv"), *QUIET]) == 0
    told = pyarrow.csv.read_csv(tmp_path / "out.csv")
    mean, best = alone.mean(axis=0), alone.mean(axis=0).argmax(axis=1)
    assert told["probability_CoV"].to_numpy() == pytest.approx(mean[:, 1], abs=1e-4)
    apart = alone.std(axis=0, ddof=1)[np.arange(6), best]
    assert told["deviation"].to_numpy() == pytest.approx(apart, abs=1e-4)


def test_a_single_fold_makes_none(make_recipe):
    with pytest.raises(OptionError, match="folds must be 2 or more for an ensemble of them; got 1"):
        make_recipe(folds=1, ensemble="folds")
