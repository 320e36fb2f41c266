"""The GPU benchmark on a machine without one: all its code on tiny shapes, and no document."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from benchmarks import gpu, gpu_row
from support.warm import run_warm

from curr_ab.family import SIZES

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, and would be measured")
NO_GPU = "no GPU here: a rehearsal on tiny shapes, whose figures are no GPU's and reach no document"
FOUND = {"unit": "token", "memory_gib": 1.25, "attention": "flex", "share": 0.2134}


@pytest.fixture
def warm(monkeypatch):
    """The module that measures a row in a process that is forked from one that has torch."""
    program = f"import sys; sys.path[:] = {sys.path}; from benchmarks.gpu_row import main; main()"

    def run(words, minutes):
        assert words[:2] == ["-m", "benchmarks.gpu_row"]
        environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
        done = run_warm(program, words[2:], environment=environment)
        return done.stderr.strip().splitlines()[-1] if done.returncode else ""

    monkeypatch.setattr(gpu, "run_processes", run)


@pytest.mark.slow
def test_a_rehearsal_measures_every_kind_of_row_and_reaches_no_document(warm, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu.subprocess, "run", None)  # with which the document would be made anew
    results = tmp_path / "results.json"
    gpu.main(["--sizes", "150M", "--results", str(results)])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == NO_GPU
    written = json.loads(results.read_text())
    assert written["machine"]["driver"] == "" and written["machine"]["peak_flops"] is None
    assert written["machine"]["packages"]["torch"] == torch.__version__
    rows = written["rows"].values()
    problems = {row["what"]: row["problem"] for row in rows if row.get("problem")}
    assert problems == {
        "dropout 0, compiled": "left out: a compiler takes minutes for it",
        "published plan, FSDP2": "left out: needs GPUs",
    }
    measured = [row for row in rows if not row.get("problem")]
    assert {row["what"]: row["unit"] for row in measured} == {
        "published plan": "token",
        "dropout 0": "token",
        "the recipe as published": "token",
        "embedding": "record",
        "exact score": "record",
    }
    for row in measured:
        assert len(row["speeds"]) == gpu.TINY.blocks and min(row["speeds"]) > 0
        assert row["share"] is None and row["memory_gib"] > 0 and row["attention"]
    # The same lines as were shown when they were measured, in the order of the table.
    assert gpu.table(written).splitlines()[4:] == lines and len(lines) == 7


@pytest.fixture
def no_corpus(monkeypatch):
    monkeypatch.setattr("curr_ab.data.prepare", lambda *_: None)


def test_a_killed_command_loses_nothing_and_a_row_that_failed_is_tried_again(
    no_corpus, tmp_path, monkeypatch
):
    path, asked = tmp_path / "results.json", []
    machine = {"devices": ["NVIDIA H200"], "driver": "1", "peak_flops": 989e12, "packages": {"torch": "2"}}
    wanted = list(gpu.rows(["8M"], ["train", "embed"], 1))

    def measure(row, *_):
        asked.append(row.what)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {"problem": "out of memory"} if len(asked) == 1 else {**FOUND, "speeds": [1.0, 3e6, 2e6]}

    monkeypatch.setattr(gpu, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        gpu.run(wanted, gpu.FULL, path, machine, 1)
    assert gpu.table(json.loads(path.read_text())).splitlines()[4:] == [
        "| 8M | published plan | 1 | out of memory | | | |",
        "| 8M | dropout 0 | 1 | 2,000,000 tokens/s | 21.3% | 1.2 | flex |",
    ]
    gpu.run(wanted, gpu.FULL, path, machine, 1)
    assert asked[2:] == ["dropout 0, compiled", "published plan", "dropout 0, compiled", "embedding"]
    with pytest.raises(SystemExit, match=r"must be of one machine.*'H100'.*--results"):
        gpu.run(wanted, gpu.FULL, path, machine | {"devices": ["H100"]}, 1)


def test_a_gpu_fills_the_document_with_the_published_amount_of_work(no_corpus, tmp_path, monkeypatch):
    """As on a machine with two H200, whose rows are made up: none reaches the repository's own document."""
    results, generated = tmp_path / "gpu.json", []
    machine = {"devices": ["NVIDIA H200"] * 2, "driver": "570", "peak_flops": 989e12, "packages": {}}
    monkeypatch.setattr(gpu_row, "describe_machine", lambda: machine)
    monkeypatch.setattr(gpu, "RESULTS", results)
    scales = []
    monkeypatch.setattr(
        gpu, "measure", lambda row, scale, *_: scales.append(scale) or FOUND | {"speeds": [9]}
    )
    monkeypatch.setattr(gpu.subprocess, "run", lambda words, check: generated.append(words[1]))
    assert gpu.document_table() == gpu.UNMEASURED
    gpu.main([])
    assert set(map(id, scales)) == {id(gpu.FULL)} and gpu.FULL.pairs_per_step == 128
    assert generated == [str(gpu.ROOT / "docs" / "generate.py")]
    sentence, _, _, _, *lines = gpu.document_table().splitlines()
    assert sentence.startswith("NVIDIA H200 and NVIDIA H200; driver 570;") and "989 TFLOP/s" in sentence
    # Six for every size; DDP on two GPUs and FSDP2 on one and two where several train.
    assert len(lines) == len(scales) == 6 * len(SIZES) + 3 * 3
    gpu.main(["--results", str(tmp_path / "other.json"), "--sizes", "8M"])
    assert len(generated) == 1


def test_without_a_gpu_the_documents_results_are_refused():
    with pytest.raises(SystemExit, match="results must be another file without a GPU"):
        gpu.main(["--results", str(gpu.RESULTS)])


def test_rows_are_launched_as_the_documents_say():
    rows = {row.key: row.launch() for row in gpu.rows(["650M"], gpu.KINDS, 4)}
    assert rows["650M, published plan, 1 GPU"] == []
    assert "--multi_gpu" in rows["650M, published plan, DDP, 4 GPUs"]
    sharded = rows["650M, published plan, FSDP2, 1 GPU"]
    assert str(gpu.FSDP2) in sharded and gpu.FSDP2.is_file()
    assert sharded[sharded.index("--num_processes") + 1] == "1"
    assert not list(gpu.rows(["8M"], ["ddp", "fsdp2"], 8))


@pytest.mark.heavy
def test_the_end_of_a_row_is_said_in_one_line(tmp_path):
    assert gpu.run_processes(["-c", "print('done')"], 1) == ""
    chained = "try:\n 1 / 0\nexcept Exception as e:\n raise ValueError('the launcher gave up') from e"
    assert gpu.run_processes(["-c", chained], 1) == "ZeroDivisionError: division by zero"
    assert gpu.run_processes(["-c", "raise SystemExit('out of memory')"], 1) == "out of memory"
    assert gpu.run_processes(["-c", "import time; time.sleep(60)"], 0.005) == "ended after 0.005 minutes"


def test_out_of_memory_is_a_rows_result(tmp_path, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu_row, "inference", exhausted)
    (row,) = gpu.rows(["8M"], ["embed"], 1)
    task = {"row": vars(row), "scale": vars(gpu.TINY), "corpus": "", "folder": ""}
    monkeypatch.setattr(sys, "argv", ["gpu_row", json.dumps(task), str(tmp_path / "found.json")])
    with pytest.raises(SystemExit, match="out of memory"):
        gpu_row.main()
    assert json.loads((tmp_path / "found.json").read_text()) == {"problem": "out of memory"}


def test_a_block_counts_its_own_steps_and_the_first_is_left_out(monkeypatch):
    clock, numbers = iter([0, 100, 200, 204, 300, 302]), []
    monkeypatch.setattr(gpu_row.time, "perf_counter", lambda: next(clock))
    assert gpu_row.blocks_of(lambda number: numbers.append(number) or 6, 2, 2) == [3.0, 6.0]
    assert numbers == list(range(6))


def test_a_share_is_of_the_peak_in_half_precision(monkeypatch):
    monkeypatch.setattr(gpu_row, "peak_flops", lambda device, precision: 1000.0)
    found = gpu_row.found([1.0, 4.0, 2.0], "record", 250.0, "flex")
    assert found["share"] == 0.5 and found["speeds"] == [1.0, 4.0, 2.0]
    assert replace(next(gpu.rows(["8M"], ["train"], 1)), num_gpus=2).key == "8M, published plan, 2 GPUs"
