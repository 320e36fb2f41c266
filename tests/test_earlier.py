"""What an earlier commit computed is computed again, and what it left is read and gone on with."""

import json
import os
from pathlib import Path

import pytest
from golden.earlier import FACTS, HALF_PREPARED, MADE_AT, RECIPE, log_of, metrics_of, unpack
from golden.facts import PREPARATIONS, all_facts, file_digests, prepared
from safetensors.torch import load_file

from curr_ab.data import TokenDataset, decode_pair
from curr_ab.finetuning import cross_validate, resolve_recipe
from curr_ab.measures.held_out import HeldOut
from curr_ab.pretraining import pretrain, resolve_plan
from curr_ab.pretraining.batches import TrainingData
from curr_ab.study import read_preset, run_study

EARLIER = json.loads(FACTS.read_text())
# Of fine-tuning; those of today are better on small data.
DEFAULTS_THEN = {"pooling": "cls", "start": "random", "fewest_steps": 0, "early_stopping": 0}
TOLERANCE = 2e-3  # other machines sum in another order; a wrong mask or rate shows at once


@pytest.fixture(scope="module")
def now(tmp_path_factory):
    """The same facts, by the code as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("facts"))
        return json.loads(json.dumps(all_facts(TrainingData, HeldOut)))


@pytest.fixture
def left(tmp_path, monkeypatch):
    """The folders that the earlier code left, in the folder where we are."""
    unpack(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return tmp_path


@pytest.mark.parametrize("name", PREPARATIONS)
@pytest.mark.heavy
def test_prepared_files_are_the_same(now, name):
    assert now["prepared files"][name] == EARLIER["prepared files"][name]


@pytest.mark.parametrize("kind", ["batches", "held-out masks", "folds", "tokenizer files"])
@pytest.mark.heavy
def test_what_the_seeds_decide_is_the_same(now, kind):
    assert now[kind] == EARLIER[kind]


def unreadable(source):
    """Another content of the same size and time, so that only who reads it again notices."""
    path = Path(source)
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, (MADE_AT, MADE_AT))


def test_a_finished_preparation_is_left_as_it_is(left):
    pairs = json.loads(Path("annotated/dataset.json").read_text())["report"]["pairs"]
    unreadable("pairs.parquet")
    before = {path: path.stat().st_mtime_ns for path in Path("annotated").iterdir()}
    prepared("annotated")
    assert {path: path.stat().st_mtime_ns for path in Path("annotated").iterdir()} == before
    assert file_digests(Path("annotated")) == EARLIER["prepared files"]["annotated"]
    for split, number in pairs.items():
        data = TokenDataset("annotated", split)
        data.verify()
        assert len(data) == number
        assert all(len("".join(decode_pair(data[i], data.heavy_length(i)))) > 200 for i in range(number))


def test_a_preparation_that_was_killed_goes_on(left):
    folder = Path(HALF_PREPARED.replace(" ", "-"))
    done = {path: path.stat().st_mtime_ns for path in folder.glob("train-0000[01].*")}
    assert len(done) == 14 and not (folder / "dataset.json").exists()
    unreadable("pairs.parquet")
    prepared(HALF_PREPARED)
    assert file_digests(folder) == EARLIER["prepared files"][HALF_PREPARED]
    assert {path: path.stat().st_mtime_ns for path in done} == done


def continued(out):
    pretrain(resolve_plan({}, [Path(out) / "plan.yaml"]), out)
    return log_of(Path(out))


def assert_like(log, earlier):
    assert [line.keys() for line in log] == [line.keys() for line in earlier]
    for line, other in zip(log, earlier, strict=True):
        for key, value in other.items():
            if key == "held_out":
                assert line[key].keys() == value.keys()
                value = {place: one["loss"] for place, one in value.items()}
                assert {place: one["loss"] for place, one in line[key].items()} == pytest.approx(
                    value, abs=TOLERANCE
                )
            elif isinstance(value, int):
                assert line[key] == value
            else:
                assert line[key] == pytest.approx(value, abs=TOLERANCE), key


def test_a_stopped_pretraining_goes_on_to_the_same_end(left):
    """The same as that of the code as it is, too, when it begins at the beginning."""
    log = log_of(Path("pretraining-stopped"))
    assert 0 < log[-1]["step"] < EARLIER["pretraining"][-1]["step"]
    resumed = continued("pretraining-stopped")
    assert resumed[: len(log)] == log
    assert_like(resumed, EARLIER["pretraining"])
    pretrain(resolve_plan({}, [Path("pretraining-stopped/plan.yaml")]), "again")
    assert_like(resumed, log_of(Path("again")))


def test_weights_are_restored_to_the_bit(left):
    """The last checkpoint is lost; the last state holds what was in it."""
    continued("pretraining-whole")
    (checkpoint,) = Path("pretraining-whole/checkpoints").iterdir()
    ours, earlier = (load_file(folder / "model.safetensors") for folder in (checkpoint, Path("member")))
    assert ours.keys() == earlier.keys()
    assert all(ours[name].equal(earlier[name]) for name in ours)
    assert log_of(Path("pretraining-whole")) == EARLIER["pretraining"]


def test_a_stopped_fine_tuning_goes_on_to_the_same_end(left):
    out = Path("finetuning-stopped")
    assert len(log_of(out / "fold-1")) == 3 and len(log_of(out / "fold-2")) == 2
    finished = {path: path.stat().st_mtime_ns for path in (out / "fold-1").rglob("*")}
    recipe = resolve_recipe("specificity-binary", {**RECIPE, **DEFAULTS_THEN})
    cross_validate(recipe, "member", ["labelled.parquet"], out)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for name, log in EARLIER["fine-tuning"].items():
        assert_like(log_of(out / name), log)
    # Ranks of pairs whose scores nearly tie may change places from machine to machine.
    assert metrics_of(out / "results.json").keys() == EARLIER["fine-tuning results"].keys()


def test_a_study_that_was_begun_goes_on(left):
    out = Path("study-begun")
    before = {path: path.stat().st_mtime_ns for path in (out / "cells" / "8M-F").rglob("*") if path.is_file()}
    outcome = run_study(read_preset("micro.yaml"), out, say=lambda line: None)
    assert not outcome.problems and len(outcome.states) == 2
    after = {path: path.stat().st_mtime_ns for path in before if path.exists()}
    assert {path for path in before if after.get(path) != before[path]} <= {
        out / "cells" / "8M-F" / name for name in (".lock", "plan.yaml", "state.json")
    }
    for cell, results in EARLIER["study"].items():
        ours = metrics_of(out / "cells" / cell / "results.json")
        assert ours == pytest.approx(results, abs=TOLERANCE)
    assert {path.name for path in (out / "exports").iterdir()} >= {"CurrAb-8M-F", "CurrAb-8M-Q"}
