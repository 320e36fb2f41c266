"""One schema of measured numbers: what is written is read again, and nothing else is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from curr_ab.results import (
    Result,
    add_results,
    checkpoint_digest,
    is_headline,
    read_results,
    write_results,
)
from curr_ab.training_record import TrainingRecord, read_training

LOSS = Result(
    model="350M-F",
    task="loss",
    metric="cross-entropy",
    value=0.25,
    standard_error=0.001,
    num_items=1000,
    dataset="builtin",
    split="test",
    checkpoint="a" * 64,
    source="a test",
    code_version="0.1.0",
    step=5000,
    details={"region": "CDRH3"},
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.json"


def change(path, **changes):
    content = json.loads(path.read_text())
    content["results"][0].update(changes)
    path.write_text(json.dumps(content))


def test_what_is_written_is_read(path):
    other = replace(LOSS, details={}, standard_error=None, step=None)
    write_results(path, [LOSS, other])
    assert set(map(repr, read_results(path))) == {repr(LOSS), repr(other)}
    first = path.read_bytes()
    write_results(path, [other, LOSS])
    assert path.read_bytes() == first


def test_adding_replaces_what_was_measured_again(path):
    add_results(path, [LOSS])
    path.with_name(f".{path.name}.77.0123abcd.tmp").write_text("of a killed process")
    add_results(path, [replace(LOSS, value=0.5), replace(LOSS, checkpoint="b" * 64)])
    assert sorted((row.checkpoint[0], row.value) for row in read_results(path)) == [("a", 0.5), ("b", 0.25)]
    assert not list(path.parent.glob(".*.tmp"))


def test_two_values_of_one_number_are_refused(path):
    with pytest.raises(ValueError, match=r"350M-F loss cross-entropy .*CDRH3.* occurs twice"):
        write_results(path, [LOSS, replace(LOSS, value=0.5)])
    assert not path.exists()


@pytest.mark.parametrize(
    ("change_of", "complaint"),
    [
        ({"value": float("nan")}, "value must be a finite number"),
        ({"value": "0.25"}, "value must be a finite number"),
        ({"value": None}, "value must be a finite number"),
        ({"standard_error": -1.0}, "standard_error is negative"),
        ({"standard_error": float("inf")}, "standard_error must be a finite number"),
        ({"num_items": 1.5}, "num_items must be a count"),
        ({"num_items": None}, "num_items must be a count"),
        ({"step": -1}, "step must be a count"),
        ({"task": ""}, "task must be text"),
        ({"checkpoint": None}, "checkpoint must be text"),
        ({"details": {"region": ["CDR3"]}}, "details hold text and finite numbers"),
        ({"details": {"share": float("nan")}}, "details hold text and finite numbers"),
    ],
)
def test_bad_values_are_refused_where_they_are_made_and_where_they_are_read(path, change_of, complaint):
    with pytest.raises(ValueError, match=complaint):
        replace(LOSS, **change_of)
    write_results(path, [LOSS])
    change(path, **change_of)
    with pytest.raises(ValueError, match=rf"results\.json, result 1: .*{complaint}"):
        read_results(path)


def test_unknown_and_missing_keys_are_refused(path):
    write_results(path, [LOSS])
    change(path, accuracy=1)
    with pytest.raises(ValueError, match="result 1: unknown key 'accuracy'"):
        read_results(path)
    content = {"format": "curr-ab results 1", "results": [{"model": "350M-F"}]}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"result 1: .*missing.*'task'"):
        read_results(path)
    for wrong in ({**content, "more": 1}, {"results": []}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="results file"):
            read_results(path)
    for text, problem in (("[]", "must hold a JSON object"), ("[" * 100_000, "must be valid JSON")):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"results\.json {problem}"):
            read_results(path)


def test_what_is_shown_of_generated_pairs_says_something_of_them():
    """Beside real pairs; not what a generator says of itself, nor what is true of the chains it was given."""
    shown = {
        ("given nothing, temperature 1", "heavy: numbered as this chain"),
        ("given heavy, temperature 1", "light: numbered as this chain"),
        ("given heavy, temperature 1", "light: CDR3 length, Wasserstein"),
        ("held-out pairs", "light: numbered as this chain"),
    }
    others = {
        ("given nothing, temperature 1", "bits over a random partner"),
        ("given heavy, temperature 1", "heavy: numbered as this chain"),
        ("given nothing, temperature 0.5", "heavy: numbered as this chain"),
        ("shuffled within V gene", "light: numbered as this chain"),
        ("held-out pairs", "bits over a random partner"),
    }
    rows = {
        (sample, metric): replace(LOSS, task="generation", metric=metric, details={"sample": sample})
        for sample, metric in shown | others
    }
    assert {key for key, row in rows.items() if is_headline(row)} == shown


def test_the_digest_is_that_of_the_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = checkpoint_digest(tmp_path)
    assert len(first) == 64
    (tmp_path / "config.json").write_text("{}")
    assert checkpoint_digest(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert checkpoint_digest(tmp_path) != first


def test_digests_are_what_results_files_hold(tmp_path):
    """Results of earlier versions are matched with checkpoints by these very numbers."""
    weights, adapter = tmp_path / "model.safetensors", tmp_path / "adapter_model.safetensors"
    weights.write_bytes(b"weights")
    adapter.write_bytes(b"adapter")
    alone = hashlib.sha256(b"weights").hexdigest()
    assert checkpoint_digest(tmp_path) == checkpoint_digest(weights) == alone
    both = f"{hashlib.sha256(b'adapter').hexdigest()} {alone}"
    assert checkpoint_digest(adapter, weights) == hashlib.sha256(both.encode()).hexdigest()


GOLDEN = Path(__file__).parent / "golden" / "training_record.json"  # written by version 1436bde


def test_a_training_record_is_written_as_it_was_read(tmp_path):
    record = read_training(GOLDEN)
    assert (record.member, record.step, record.objective) == (None, 2, "mlm")
    assert record.seen == {"pairs": 8, "residue_tokens": 1911} and record.plan["steps"] == 4
    assert record.quantities() == {
        "sequences": 180,
        "unique_tokens": 43215,
        "seen_tokens": 1911,
        "flops": 2055411137.8438046,
        "training_seed": 42,
    }
    record.write(tmp_path)
    assert (tmp_path / "training.json").read_bytes() == GOLDEN.read_bytes()


def test_a_training_record_may_lack_what_other_programs_do_not_write(tmp_path):
    path = tmp_path / "training.json"
    path.write_text('{"member": "35M-Q", "step": 5, "data": "somewhere", "more": 1}')
    record = read_training(path)
    assert record == TrainingRecord(member="35M-Q", step=5)
    assert record.quantities() == {}
    path.write_text(json.dumps({**json.loads(GOLDEN.read_text()), "step": "2"}))
    with pytest.raises(ValueError, match=r"training\.json: step must be of type int; got '2'"):
        read_training(path)
    for text, problem in (("{", "must be valid JSON"), ("[1]", "must hold a JSON object; got a list")):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"training\.json {problem}"):
            read_training(path)
