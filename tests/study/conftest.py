"""A study of seconds: two sizes, two nested sets of the built-in corpus, a handful of steps."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.study.cells import CellFolder
from curr_ab.study.preset import make_preset
from curr_ab.study.study import run_study

SHAPE = {"num_hidden_layers": 1, "intermediate_size": 32, "num_attention_heads": 2}
MICRO = {
    "name": "micro",
    "title": "A study of seconds",
    "data": {"sources": ["PAIRS"], "cluster": "source", "subsets": {"F": 40, "Q": 8}},
    "sizes": {"8M": {**SHAPE, "hidden_size": 16}, "35M": {**SHAPE, "hidden_size": 32}},
    "plan": {
        "steps": 12,
        "warmup_steps": 2,
        "pairs_per_step": 4,
        "peak_learning_rate": 0.01,
        "precision": "fp32",
        "evaluation_pairs": 8,
        "evaluate_every": 6,
        "save_every": 4,
        "checkpoint_every": 0,
        "log_every": 2,
    },
    "evaluation": {"loss": {"pairs": 16, "draws": 1}},
    "launch": {"max_parallel": 2},
}


@pytest.fixture(scope="session")
def pairs(made_once):
    """Pairs of all three splits, so that preparing them takes no time."""

    def make(path):
        table = pq.read_table(builtin_path())
        rows = [row for row in table.to_pylist() if row["split"] != "train"][::12]
        rows += [row for row in table.to_pylist()[:4_000] if row["split"] == "train"][:100]
        pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)

    return made_once("study-pairs.parquet", make)


@pytest.fixture(scope="session")
def make(pairs):
    """The micro preset, with whatever is to differ."""

    def make(**changes):
        values = json.loads(json.dumps(MICRO | changes))
        values["data"]["sources"] = [str(pairs)] if values["data"].get("sources") else []
        return make_preset(values, "micro")

    return make


@pytest.fixture(scope="session")
def finished(made_once, make):
    """A finished study with exports; nobody changes it."""
    return made_once("study", lambda path: run_study(make(), path, say=lambda line: None)), make()


@pytest.fixture
def study(finished, tmp_path):
    """A copy that a test may change."""
    path, preset = finished
    shutil.copytree(path, tmp_path / "study")
    return tmp_path / "study", preset


@pytest.fixture(scope="session")
def prepared(made_once, pairs):
    """A prepared folder with the paper's three nested sets, for a preset without sources."""
    plan = PreparationPlan(cluster="source", subsets={"F": 40, "H": 20, "Q": 8})
    return made_once("study-prepared", lambda path: prepare([str(pairs)], path, plan))


def cell(path, name) -> CellFolder:
    return CellFolder(Path(path) / "cells" / name)


def tables(path):
    """What a study found, without what depends on the clock."""
    cells = {p.parent.name: json.loads(p.read_text()) for p in sorted(path.glob("cells/*/results.json"))}
    report = json.loads((path / "report.json").read_text())
    for one in report["cells"]:
        del one["tokens_per_second"], one["seconds"]
    for clock in ("started", "seconds"):
        del report[clock]
    return cells, json.loads((path / "law.json").read_text()), report
