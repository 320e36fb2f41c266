"""Records with a value that is missing, of another kind or of any size: one line, where a traceback was."""

import json
import re
from pathlib import Path

import pytest
import yaml
from fuzz.readers import READERS
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from curr_ab.training.state import read_log

pytestmark = pytest.mark.filterwarnings("ignore")
LOST = object()


def edited(path: Path, changes):
    """The file with values changed by their place, as in `results.0.details`; a text is the whole file."""
    if isinstance(changes, str):
        path.write_text(changes)
        return
    is_yaml = path.suffix == ".yaml"
    content = yaml.safe_load(path.read_text()) if is_yaml else json.loads(path.read_text())
    for place, value in changes.items():
        *parents, key = place.split(".")
        inside = content
        for parent in parents:
            inside = inside[int(parent) if isinstance(inside, list) else parent]
        if value is LOST:
            del inside[key]
        else:
            inside[key] = value
    path.write_text(yaml.safe_dump(content) if is_yaml else json.dumps(content))


# By what is wrong: the reader, the file, the changes, and the beginning of what is said.
CASES = {
    "a map of shards": ("shards of weights", "index.json", {"weight_map": LOST}, "in which"),
    "a shard above": ("shards of weights", "index.json", {"weight_map.a": ".."}, "name files beside it"),
    "pad outside of the words": ("checkpoint", "config.json", {"pad_token_id": 33}, "of its weights"),
    "no heads": ("checkpoint", "config.json", {"num_attention_heads": 0}, "describe a model of this family"),
    "a negative size": ("checkpoint", "config.json", {"hidden_size": -80}, "of its weights"),
    "a size of any machine": (
        "checkpoint", "config.json", {"hidden_size": 2**16, "num_attention_heads": 1}, "of its weights",
    ),
    "layers too few": ("checkpoint", "config.json", {"num_hidden_layers": 1}, "those of its config"),
    "text for a number": ("checkpoint", "config.json", {"mask_token_id": "x"}, "a model of this family"),
    "a class for text": ("checkpoint", "config.json", {"__class__": "x"}, "a model of this family"),
    "depth of a tokenizer": ("checkpoint", "tokenizer.json", "[" * 9_000, "the tokenizer of"),
    "contigs that are text": (
        "tables", "all_contig_annotations.json", {"0.annotations": ["x"]}, "as Cell Ranger writes it",
    ),
    "words of a tokenizer": ("checkpoint", "tokenizer.json", {"added_tokens": None}, "the tokenizer of"),
    "a token that is a number": ("checkpoint", "tokenizer_config.json", {"pad_token": 1}, "the tokenizer of"),
    "a member that is a number": ("manifest", "manifest.json", {"member": 0.5}, "member must be"),
    "labels that are a number": ("adapter", "config.json", {"id2label": 3}, "as curr-ab writes it"),
    "a base that is a number": ("adapter", "finetuning.json", {"base_model": 0.5}, "base_model must be"),
    "a recipe that is a list": ("adapter", "recipe.yaml", "- a", "lines"),
    "a recipe without a name": ("adapter", "recipe.yaml", {"name": LOST}, "it lacks 'name'"),
    "weights of an adapter": ("adapter", "adapter_model.safetensors", "damage", "must be a whole adapter"),
    "a setting of an adapter": ("adapter", "adapter_config.json", {"r": "x"}, "must be a whole adapter"),
    "a recipe of a run": ("cross-validation", "first/recipe.yaml", {"labels": LOST}, "it lacks 'labels'"),
    "folds that are a number": ("cross-validation", "first/folds.json", "3", "as curr-ab writes it"),
    "a fold of nothing": ("cross-validation", "first/folds.json", {"0.train": []}, "was fitted to"),
    "data of a run": ("cross-validation", "first/data.json", {"model": LOST}, "it lacks 'model'"),
    "folds of endless depth": ("cross-validation", "first/folds.json", "[" * 9_000, "as curr-ab writes it"),
    "a run's YAML": ("cross-validation", "first/recipe.yaml", "a: [", "must be YAML"),
    "a step that is a list": ("state of a training", "complete.json", {"step": []}, "not what was written"),
    "files that are text": (
        "state of a training", "complete.json", {"files": "x", "sha256": LOST}, "not what was written",
    ),
    "a file of a state above": (
        "state of a training", "complete.json", {"files": {"../x": "0"}, "sha256": LOST}, "not what",
    ),
    "a member that is no text": ("plan", "plan.yaml", {"member": 0.5}, "member must be"),
    "a number too large": ("plan", "plan.yaml", {"steps": 10**400}, "steps must"),
    "a number too large for decimals": ("plan", "plan.yaml", {"peak_learning_rate": 10**400}, "rate must"),
    "details of a result": ("results", "results.json", {"results.0.details": 0.5}, "details must be"),
    "a training that is not recorded": (
        "results", "results.json", {"results.0.details.objective": LOST}, "is not recorded",
    ),
    "CSV that ends in a quote": ("runs of a law", "runs.csv", 'parameters,loss\n8M,"2', "whole CSV"),
    "a field of any length": (
        "submission", "predictions.csv", "antibody_name,HIC\n" + "x" * 200_000 + ",1\n", "whole CSV",
    ),
    "a billion parts": ("parts of results", "plan.json", {"parts": 10**9}, "must be a count"),
    "parts that are text": ("parts of results", "plan.json", {"parts": "x"}, "must be a count"),
    "a plan of no shares": ("parts of results", "plan.json", {"shares": 0}, "must be a count"),
    "no shares": ("parts of results", "plan.json", {"shares": {}}, "must be a count"),
    "a reference of no model": ("reference of the app", "reference.json", {"model": LOST}, "as curr-ab"),
    "no perplexities": ("reference of the app", "reference.json", {"perplexities.pair": []}, "must have a"),
    "perplexities of nothing": (
        "reference of the app", "reference.json", {"perplexities.pair": None}, "as curr-ab",
    ),
    "a study without cells": ("study", "report.json", {"cells": LOST}, "it lacks 'cells'"),
    "a cell that is a number": ("study", "report.json", {"cells": [1]}, "as curr-ab writes it"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_value_is_refused_in_one_line(tmp_path, case):
    name, file, changes, said = CASES[case]
    paths = [path for path in READERS[name].make(tmp_path) if re.search(f"[/.]{file}$", path.as_posix())]
    edited(paths[0], changes)
    with pytest.raises((ValueError, OSError), match=said):
        READERS[name].read(paths[0])


def test_a_probe_whose_facts_are_a_list_is_refused(tmp_path):
    [path] = READERS["probe"].make(tmp_path)
    with safe_open(path, framework="np") as file:
        assert "probe" in file.metadata()
    save_file(load_file(path), path, {"probe": "[]"})
    with pytest.raises(ValueError, match="must be of the format"):
        READERS["probe"].read(path)


def test_a_column_without_a_name_that_holds_no_text_is_none_of_the_chains(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([{"heavy": "EVQL", "light": "DIQM", "": {}}]))
    READERS["tables"].read(path)


def test_a_log_ends_where_its_depth_does(tmp_path):
    [path] = READERS["log of a training"].make(tmp_path)
    path.write_text('{"step": 1}\n' + "[" * 9_000)
    assert read_log(tmp_path) == [{"step": 1}]
