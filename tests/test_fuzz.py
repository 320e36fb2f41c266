"""Damaged and hostile files for everything that reads one: an answer or one line, soon, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.shapes.drawing import SHAPES, draw_shape

from curr_ab.checkpoint_files import DEMO_FOLDERS, find_weights, is_causal, refuse_foreign_files
from curr_ab.data import PreparationPlan, TokenDataset, builtin_path, prepare, read_pairs
from curr_ab.data.preparing.genes import read_v_genes
from curr_ab.data.shards import INDEX_NAME
from curr_ab.evaluation.measurement import read_measurement
from curr_ab.finetuning import resolve_recipe
from curr_ab.finetuning.adapter_manifest import read_manifest as read_tuned_manifest
from curr_ab.finetuning.adapter_record import read_record
from curr_ab.finetuning.recipe import Recipe
from curr_ab.hub.data_card import read_card
from curr_ab.hub.manifest import differences, read_manifest
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from curr_ab.results import Result, read_results, write_results
from curr_ab.scaling.runs import read_runs
from curr_ab.study.preset import FOLDER, read_preset
from curr_ab.training.state import _damage
from curr_ab.training_record import read_training

LONGEST_S = 10
# 40 damages of each kind of file; CURR_AB_FUZZ=3600 makes 100,000 in all, and `-s` shows what became of them.
NUM = int(os.environ.get("CURR_AB_FUZZ", "40"))
MOST_MIB = 1_024  # of memory, over what the process had before
ENDINGS = (".csv", ".tsv", ".fasta", ".json", ".jsonl", ".parquet", ".xlsx", ".csv.gz", ".txt", "")
# What is put into files: marks of their syntax, and what is too large, too deep or not what it looks like.
PIECES = (
    *(
        b"",
        b"\0",
        b"\xff\xfe",
        b'"',
        b"'",
        b"\n",
        b"\r",
        b",",
        b"\t",
        b";",
        b":",
        b"{",
        b"}",
        b"[",
        b"]",
        b"- ",
    ),
    *(b"null", b"true", b"NaN", b"-1", b"1e999", b"9" * 400, b"[" * 2_000, b"../../x", b"/etc/passwd"),
    *(
        b"!!python/object/apply:os.system [ls]",
        b"&a [*a]",
        b"\x1b[31m",
        b"<script>",
        b"=cmd()",
        b"\xe2\x80\xae",
    ),
)
Edit = tuple[float, float, bytes]  # where, how much of the file goes, and what comes


def changed(content: bytes, edits: list[Edit]) -> bytes:
    for where, share, piece in edits:
        start = int(where * len(content))
        end = start + int(share**4 * (len(content) - start))  # mostly a little
        content = content[:start] + piece + content[end:]
    return content


EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from(PIECES) | st.binary(max_size=8)),
    min_size=1,
    max_size=6,
)


def table_reader(path: Path) -> None:
    for batch in read_pairs(path):
        batch.validate()


def index_reader(path: Path) -> None:
    data = TokenDataset(path.parent, "train")
    for pair in range(min(2, len(data))):
        assert len(data[pair])


def weights_reader(path: Path) -> None:
    refuse_foreign_files(str(path.parent))
    is_causal(str(path.parent))
    for weights in find_weights(str(path.parent)):
        assert weights.parent == path.parent


def manifest_reader(path: Path) -> None:
    differences(path.parent, read_manifest(path.parent))


RESULT = Result(
    model="8M-F",
    task="loss",
    metric="loss",
    value=2.5,
    num_items=10,
    dataset="d",
    split="test",
    checkpoint="0" * 64,
    source="curr-ab evaluate loss",
    code_version="1",
)
TUNED = {
    "format": "curr-ab finetuning manifest 1",
    "base_model": "demo",
    "base_revision": None,
    "base_weights": "0" * 64,
    "labels": ["a", "b"],
    "heavy": "EVQL",
    "light": "DIQM",
    "prediction": [[0.5, 0.5]],
    "files": {"a": "0"},
    "namespace": "brineylab",
}
RECORD = {
    "format": "curr-ab finetuning 1",
    "name": "x",
    "base_model": "demo",
    "data": {},
    "folds": {},
    "code_version": "1",
}
MARKER = {"step": 6, "pairs": 3, "files": {"a.safetensors": "0"}, "sha256": "0"}
RUNS = [{"parameters": 10**6 * n, "sequences": 10**5, "loss": 2.0 + 1 / n} for n in range(1, 6)]
DEMO = DEMO_FOLDERS["demo"]


@cache
def result_file() -> bytes:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"results-{os.getpid()}.json"
    write_results(path, [RESULT])
    content = path.read_bytes()
    path.unlink()
    return content


def as_json(value: object) -> Callable[[], bytes]:
    return lambda: json.dumps(value, indent=1).encode()


def as_yaml(plan: PretrainingPlan | Recipe) -> Callable[[], bytes]:
    return lambda: yaml.safe_dump(plan.to_dict()).encode()


# By name: the file, its content, and what reads it.
READERS: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], object]]] = {
    "manifest": ("manifest.json", lambda: (DEMO / "manifest.json").read_bytes(), manifest_reader),
    "configuration": ("config.json", lambda: (DEMO / "config.json").read_bytes(), weights_reader),
    "weights": (
        "model.safetensors.index.json",
        as_json({"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}),
        weights_reader,
    ),
    "training record": ("training.json", lambda: (DEMO / "training.json").read_bytes(), read_training),
    "tuned manifest": (
        "finetuning_manifest.json",
        as_json(TUNED),
        lambda path: read_tuned_manifest(path.parent),
    ),
    "tuned record": ("finetuning.json", as_json(RECORD), lambda path: read_record(path.parent)),
    "results": ("results.json", result_file, read_results),
    "state": ("complete.json", as_json(MARKER), lambda path: _damage(path.parent)),
    "plan": ("plan.yaml", as_yaml(PretrainingPlan()), lambda path: resolve_plan({}, [path])),
    "recipe": ("recipe.yaml", as_yaml(resolve_recipe("specificity-binary")), resolve_recipe),
    "preset": ("preset.yaml", lambda: (FOLDER / "mini.yaml").read_bytes(), read_preset),
    "runs": ("runs.json", as_json(RUNS), read_runs),
    "measurement": (
        "measurement.json",
        as_json({"suite": "loss", "model": "x", "settings": {}}),
        lambda path: read_measurement(path.parent),
    ),
    "card": ("README.md", lambda: (DEMO / "README.md").read_bytes(), lambda path: read_card(path.parent)),
    "germlines": (
        "v.fasta",
        lambda: b">IGHV1-2*01\nEVQLVQSGAEVKKPGASVKVSCKASGYTFTGYYMHWVRQAPGQGLEWMGWINPNSGGTNY\n" * 3,
        read_v_genes,
    ),
}


OUTCOMES: Counter[str] = Counter()
LONGEST = [0.0]


def peak_mib() -> float:
    """The most memory of this process so far; 0 where the system does not tell it."""
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@pytest.fixture(scope="module", autouse=True)
def counted() -> Iterator[None]:
    before = peak_mib()
    yield
    more = peak_mib() - before
    print(f"\n{dict(OUTCOMES)}, longest {LONGEST[0]:.2f} s, peak memory {more:.0f} MiB more than before")
    assert more < MOST_MIB


def refuses_or_reads(reader: Callable[[Path], object], path: Path) -> None:
    began = time.monotonic()
    try:
        reader(path)
        OUTCOMES["read"] += 1
    except (ValueError, OSError):  # one line of the command line
        OUTCOMES["refused"] += 1
    took = time.monotonic() - began
    LONGEST[0] = max(LONGEST[0], took)
    assert took < LONGEST_S


def fuzz(num: int) -> Callable:
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=num, deadline=None, derandomize=True, suppress_health_check=quiet, database=None
    )


@pytest.mark.parametrize("name", READERS)
@fuzz(NUM)
@given(edits=EDITS)
def test_records_are_read_or_refused(tmp_path, name, edits) -> None:
    file, content, reader = READERS[name]
    (tmp_path / file).write_bytes(changed(content(), edits))
    refuses_or_reads(reader, tmp_path / file)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Files that hold a table each, by their shape, as programs and databases write them."""
    files = {}
    for name in SHAPES:
        source = draw_shape(name, 0, tmp_path_factory.mktemp("shape")).sources
        if isinstance(source, str | Path) and Path(source).is_file():
            files[name] = Path(source)
    return files


@fuzz(10 * NUM)
@given(data=st.data(), edits=EDITS)
def test_tables_are_read_or_refused(tmp_path, tables, data, edits) -> None:
    path = tables[data.draw(st.sampled_from(sorted(tables)))]
    (tmp_path / path.name).write_bytes(changed(path.read_bytes(), edits))
    refuses_or_reads(table_reader, tmp_path / path.name)


@fuzz(2 * NUM)
@given(
    content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode), ending=st.sampled_from(ENDINGS)
)
def test_anything_under_any_name_is_read_or_refused(tmp_path, content, ending) -> None:
    (tmp_path / f"file{ending}").write_bytes(content)
    refuses_or_reads(table_reader, tmp_path / f"file{ending}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("prepared") / "data"
    source = folder.with_suffix(".parquet")
    pq.write_table(pq.read_table(builtin_path()).slice(0, 300), source)
    prepare([str(source)], folder, PreparationPlan(cluster="exact"))
    return folder


@fuzz(NUM)
@given(edits=EDITS)
def test_an_index_is_read_or_refused(tmp_path, prepared, edits) -> None:
    if not (tmp_path / "data").exists():
        shutil.copytree(prepared, tmp_path / "data")
    (tmp_path / "data" / INDEX_NAME).write_bytes(changed((prepared / INDEX_NAME).read_bytes(), edits))
    refuses_or_reads(index_reader, tmp_path / "data" / INDEX_NAME)
