"""All that reads a file of somebody else: the folder that it reads, the files to damage in it, the call."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from support import cross_validations, finetuned_models, studies
from support.shapes.drawing import SHAPES, draw_shape
from support.tiny_models import PAIRS
from support.v_genes import FASTA

import curr_ab
from curr_ab.benchmark.plan import read_suite
from curr_ab.benchmark.tasks.submission import read_submission
from curr_ab.benchmark.tasks.task import Task
from curr_ab.checkpoint_files import (
    DEMO_FOLDERS,
    base_of_adapter,
    find_weights,
    is_causal,
    refuse_foreign_files,
)
from curr_ab.data import PreparationPlan, TokenDataset, builtin_path, prepare, read_pairs
from curr_ab.data.preparing.genes import read_v_genes
from curr_ab.data.preparing.rebuild import find_prepared
from curr_ab.data.shards import INDEX_NAME
from curr_ab.evaluation import compare_runs
from curr_ab.evaluation.measurement import read_measurement
from curr_ab.evaluation.suites.assays import _read_directions
from curr_ab.finetuning import adapter_manifest as tuned
from curr_ab.finetuning import load_finetuned, resolve_recipe
from curr_ab.finetuning.adapter_record import read_record, render_adapter_card
from curr_ab.finetuning.examples import read_examples
from curr_ab.finetuning.probe_file import ProbeFacts, read_probe, write_probe
from curr_ab.hub import manifest as exported
from curr_ab.hub.data_card import read_card
from curr_ab.inference.checks import check_records
from curr_ab.inference.output import Output
from curr_ab.inference.records import Reader as PairReader
from curr_ab.measures.fold_predictions import read_run
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from curr_ab.probes.regression import Regression
from curr_ab.results import Result, is_headline, read_results, write_results
from curr_ab.scaling.runs import read_measured_runs, read_runs
from curr_ab.space.reference import FORMAT as REFERENCE
from curr_ab.space.reference import read_reference
from curr_ab.study.preset import FOLDER as PRESETS
from curr_ab.study.preset import read_preset
from curr_ab.study.summary import read_summary
from curr_ab.training.state import _damage, _digest, read_log
from curr_ab.training_record import read_training

DEMO = DEMO_FOLDERS["demo"]


@dataclass(frozen=True)
class Reader:
    """What makes a whole folder and says which files of it are damaged, and what reads the damaged one.

    The weights give slow readers fewer inputs.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], object]
    weight: int = 60  # share of the inputs


READERS: dict[str, Reader] = {}


def _of_file(name: str, content: bytes | Callable[[], bytes]) -> Callable[[Path], list[Path]]:
    """A folder with one file."""

    def make(folder: Path) -> list[Path]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content())
        return [path]

    return make


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _demo(*names: str) -> Callable[[Path], list[Path]]:
    """A copy of the model that comes with the package, of which these files are damaged."""

    def make(folder: Path) -> list[Path]:
        shutil.copytree(DEMO, folder / "demo", ignore=shutil.ignore_patterns("__pycache__"))
        return [folder / "demo" / name for name in names]

    return make


# Tables of pairs.


_OPTIONS: dict[Path, Any] = {}  # with which a table is read


def _tables(folder: Path) -> list[Path]:
    """A table of each shape that is one file, as programs and databases write them."""
    for name in SHAPES:
        (folder / name).mkdir()
        shape = draw_shape(name, 0, folder / name)
        if isinstance(shape.sources, str | Path) and Path(shape.sources).is_file():
            _OPTIONS[Path(shape.sources)] = shape.options
    return [path for path in _OPTIONS if path.is_relative_to(folder)]


def _read_table(path: Path) -> None:
    for batch in read_pairs(path, **_OPTIONS.get(path, {})):
        batch.validate(full=True)


READERS["tables"] = Reader(_tables, _read_table, 100)
PAIRS_CSV = "id,heavy,light,label,donor\n" + "".join(
    f"{n},{heavy},{light},{n % 2},{n // 2}\n" for n, (heavy, light) in enumerate(PAIRS * 3)
)


def _check_pairs(path: Path) -> None:
    read = PairReader((str(path),))
    check_records(read, curr_ab.CurrAbTokenizer()).require_none()


READERS["pairs to be scored"] = Reader(_of_file("pairs.csv", PAIRS_CSV.encode()), _check_pairs, 10)
READERS["labelled pairs"] = Reader(
    _of_file("pairs.csv", PAIRS_CSV.encode()),
    lambda path: read_examples(resolve_recipe("specificity-binary", {"labels": ("0", "1")}), [str(path)]),
    6,
)
READERS["germlines"] = Reader(
    _of_file("v.fasta", "".join(f">{name}\n{text}\n" for name, text in FASTA.items()).encode()),
    lambda path: list(read_v_genes(path)),
    40,
)


# Prepared data.


def _prepared(folder: Path) -> list[Path]:
    # Name and time of the source are in what is prepared, and the damage must not depend on them.
    with chdir(folder):
        pq.write_table(pq.read_table(builtin_path()).slice(0, 60), "pairs.parquet")
        os.utime("pairs.parquet", (0, 0))
        prepare(["pairs.parquet"], Path("data"), PreparationPlan(cluster="exact"))
    return [folder / "data" / INDEX_NAME, *sorted((folder / "data").glob("train-*.npy"))]


def _read_prepared(path: Path) -> None:
    find_prepared(str(path.parent))
    data = TokenDataset(path.parent, "train")
    data.verify()
    for pair in range(min(2, len(data))):
        assert len(data[pair])


READERS["prepared data"] = Reader(_prepared, _read_prepared, 25)
READERS["data card"] = Reader(
    _of_file("README.md", lambda: (DEMO / "README.md").read_bytes()), lambda path: read_card(path.parent), 30
)


# Checkpoints.


def _read_checkpoint(path: Path) -> None:
    source = str(path.parent)
    refuse_foreign_files(source)
    is_causal(source)
    curr_ab.load(source, device="cpu")


def _read_shards(path: Path) -> None:
    refuse_foreign_files(str(path.parent))
    for weights in find_weights(str(path.parent)):
        assert weights.parent == path.parent


READERS["checkpoint"] = Reader(
    _demo("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"), _read_checkpoint, 4
)


def _shards(folder: Path) -> list[Path]:
    (folder / "model-1.safetensors").write_bytes(b"")
    index = {"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}
    return _of_file("model.safetensors.index.json", _json(index))(folder)


READERS["shards of weights"] = Reader(_shards, _read_shards)
READERS["training record"] = Reader(
    _of_file("training.json", lambda: (DEMO / "training.json").read_bytes()),
    lambda path: (read_training(path).quantities(), read_training(path).name),
)
READERS["manifest"] = Reader(
    _demo("manifest.json"),
    lambda path: exported.differences(path.parent, exported.read_manifest(path.parent)),
    30,
)


# What fine-tuning leaves.


def _adapter(folder: Path) -> list[Path]:
    model = finetuned_models.tune(str(DEMO), "classes", "lora")
    finetuned_models.save_tuned(model, folder / "tuned", DEMO)
    return [path for path in sorted((folder / "tuned").rglob("*")) if path.is_file()]


def _read_adapter(path: Path) -> None:
    folder = next(parent for parent in path.parents if parent.name == "tuned")
    tuned.differences(folder, tuned.read_manifest(folder))
    read_record(folder)
    render_adapter_card(folder, "somebody")
    base_of_adapter(str(folder))
    load_finetuned(folder, device="cpu")


READERS["adapter"] = Reader(_adapter, _read_adapter, 2)


def _probe(folder: Path) -> list[Path]:
    regression = Regression(np.ones((4, 1)), np.zeros(1), 2)
    write_probe(folder / "probe.safetensors", regression, ProbeFacts("cdrs", "classes", "0" * 64))
    return [folder / "probe.safetensors"]


READERS["probe"] = Reader(_probe, read_probe)


def _run(folder: Path) -> list[Path]:
    """Two cross-validations on the same folds."""
    generator, files = np.random.default_rng(0), []
    for name in ("first", "second"):
        folds = [
            {"labels": np.arange(6) % 2, "predictions": generator.dirichlet((1, 1), 6)} for _ in range(3)
        ]
        cross_validations.write_run(folder / name, "classes", ("no", "yes"), folds)
        files += [path for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return files


def _read_run(path: Path) -> None:
    folder = next(parent for parent in path.parents if parent.name in ("first", "second"))
    read_run(folder)
    compare_runs(folder.parent / "first", folder.parent / "second", draws=3)


READERS["cross-validation"] = Reader(_run, _read_run, 6)
MARKER = {"step": 6, "pairs": 3, "files": {"a.safetensors": hashlib.sha256().hexdigest()}}


def _state(folder: Path) -> list[Path]:
    (folder / "step-00000006").mkdir()
    (folder / "step-00000006/a.safetensors").write_bytes(b"")
    return _of_file("step-00000006/complete.json", _json({**MARKER, "sha256": _digest(MARKER)}))(folder)


def _read_state(path: Path) -> None:
    if problem := _damage(path.parent):
        raise ValueError(problem)
    marker = json.loads(path.read_bytes())
    # An earlier version wrote no digest.
    assert marker.get("sha256") is None or {**marker, "sha256": 0} == {**MARKER, "sha256": 0}


READERS["state of a training"] = Reader(_state, _read_state)
READERS["log of a training"] = Reader(
    _of_file("log.jsonl", b'{"step": 1, "loss": 3.1}\n{"step": 2, "loss": 2.9}\n'),
    lambda path: read_log(path.parent),
)


# Settings.


def _yaml(plan: Any) -> bytes:
    return yaml.safe_dump(plan.to_dict()).encode()


READERS["plan"] = Reader(
    _of_file("plan.yaml", lambda: _yaml(PretrainingPlan())), lambda path: resolve_plan({}, [path]), 5
)
READERS["recipe"] = Reader(
    _of_file("recipe.yaml", lambda: _yaml(resolve_recipe("specificity-binary"))), resolve_recipe, 4
)
READERS["preset"] = Reader(
    _of_file("preset.yaml", lambda: (PRESETS / "mini.yaml").read_bytes()), read_preset, 3
)
READERS["suite of a benchmark"] = Reader(
    _of_file(
        "suite.yaml",
        b"tasks:\n- task: specificity\n  data: [a.csv, b.csv]\n  folds: 3\nmodels: [demo, 8M-F]\n",
    ),
    lambda path: read_suite(str(path)),
    20,
)
READERS["directions of assays"] = Reader(
    _of_file("directions.yaml", b"binding: higher\nkd: lower\n"), lambda path: _read_directions(str(path)), 20
)


# Results.

RESULT = Result(
    model="8M-F",
    task="test-loss",
    metric="loss",
    value=2.5,
    num_items=10,
    dataset="d",
    split="test",
    checkpoint="0" * 64,
    source="curr-ab evaluate loss",
    code_version="1",
    details={
        "place": "all",
        "parameters": 10**6,
        "sequences": 10**5,
        "unique_tokens": 10**7,
        "seen_tokens": 10**8,
        "flops": 1e15,
        "objective": "mlm",
        "training_seed": 1,
    },
)


def _results(folder: Path) -> list[Path]:
    write_results(folder / "results.json", [RESULT])
    return [folder / "results.json"]


def _read_results(path: Path) -> None:
    rows = read_results(path)
    write_results(path.with_name("again.json"), rows)
    again = read_results(path.with_name("again.json"))
    assert sorted(again, key=lambda row: str(row.identity)) == sorted(rows, key=lambda row: str(row.identity))
    for row in rows:
        is_headline(row), row.shown
    read_measured_runs([path])


READERS["results"] = Reader(_results, _read_results)
RUNS = "parameters,sequences,loss,objective,seed\n" + "".join(
    f"{n}M,100k,{2 + 1 / n},mlm,{n}\n" for n in range(1, 6)
)
READERS["runs of a law"] = Reader(_of_file("runs.csv", RUNS.encode()), read_runs)
MEASUREMENT = {
    "suite": "loss",
    "model": "x",
    "checkpoint": "0",
    "data": "1",
    "settings": {},
    "is_member": True,
}


def _read_measurement(path: Path) -> None:
    if read_measurement(path.parent) is None:
        raise ValueError("broken")


READERS["measurement"] = Reader(_of_file("measurement.json", _json(MEASUREMENT)), _read_measurement)


def _submission(folder: Path) -> list[Path]:
    rows = "".join(f"mAb{n},{n / 7},{n % 3}\n" for n in range(6))
    return _of_file("predictions.csv", f"antibody_name,HIC,fold\n{rows}".encode())(folder)


def _read_submission(path: Path) -> None:
    ids = tuple(f"mAb{n}" for n in range(6))
    task = Task.__new__(Task)
    for name, value in {"name": "developability-HIC", "ids": ids, "folds": None}.items():
        object.__setattr__(task, name, value)
    assert all(map(math.isfinite, read_submission(path, task)))


READERS["submission"] = Reader(_submission, _read_submission)
PARTS = {"task": "EmbedTask", "input": "x", "parts": 3, "shares": 1}


def _read_parts(path: Path) -> None:
    output = Output.of(f"{path.parent}/")
    output.describe_missing(), output.is_finished


READERS["parts of results"] = Reader(_of_file("plan.json", _json(PARTS)), _read_parts)
VALUES = [1.5, 2.0, 3.5]
READERS["reference of the app"] = Reader(
    _of_file(
        "reference.json",
        _json(
            {
                "format": REFERENCE,
                "model": "demo",
                "checkpoint": "0",
                "corpus": "pairs",
                "mode": "group",
                "perplexities": {"pair": VALUES, "heavy": VALUES, "light": VALUES},
            }
        ),
    ),
    lambda path: read_reference(path).percentile("pair", 2.0),
)


READERS["study"] = Reader(
    _of_file("report.json", lambda: studies.mini().to_json().encode()),
    lambda path: read_summary(path).to_json(),
    5,
)
