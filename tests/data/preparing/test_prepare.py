"""Preparation gives the same bytes whatever the processes and the interruptions, and loses nothing."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.kills import curr_ab, kill_one
from support.pair_files import oas_text, pairs_of, plain_text

from curr_ab.data import PreparationPlan, TokenDataset, decode_pair, prepare
from curr_ab.data.preparing import components, parts
from curr_ab.data.preparing import order as ordering

EXACT = PreparationPlan(cluster="exact", pairs_per_shard=100)


@pytest.fixture
def sources(corpus, write) -> list[str]:
    """Files of several formats that overlap."""
    return [
        write("a.csv.gz", oas_text(corpus[:300])),
        write("b.csv", plain_text(corpus[250:600])),
        write("c.tsv", plain_text(corpus[500:900]).replace(",", "\t")),
    ]


def content(folder: Path) -> dict[str, bytes]:
    """Every file under its name; there are no other files, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_lost(corpus, sources, tmp_path) -> None:
    index = prepare(sources, tmp_path / "out", EXACT)
    stored = []
    for split in ("train", "validation", "test"):
        data = TokenDataset(tmp_path / "out", split)
        stored += [decode_pair(data[pair], data.heavy_length(pair)) for pair in range(len(data))]
    assert sorted(stored) == sorted(pairs_of(corpus[:900]))
    assert index["report"]["dropped"] == {"duplicate": 150}
    assert index["report"]["read"] == 1_050


@pytest.mark.heavy
def test_same_bytes_for_any_number_of_processes(sources, tmp_path) -> None:
    for name, processes in (("one", 1), ("three", 3)):
        prepare(sources, tmp_path / name, EXACT, processes=processes, keep_dropped=True)
    assert content(tmp_path / "one") == content(tmp_path / "three")


@pytest.mark.heavy
def test_same_shards_for_any_order_of_the_sources(corpus, sources, tmp_path) -> None:
    prepare(sources, tmp_path / "forward", EXACT)
    prepare(sources[::-1], tmp_path / "backward", EXACT)
    arrays = [
        {name: data for name, data in content(tmp_path / folder).items() if name.endswith("tokens.npy")}
        for folder in ("forward", "backward")
    ]
    assert arrays[0] == arrays[1]


@pytest.mark.heavy
def test_seed_draws_splits_and_subsets(sources, tmp_path) -> None:
    drawn = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        prepare(sources, tmp_path / name, replace(EXACT, seed=seed))
        quarter, test = TokenDataset(tmp_path / name, "train", "Q"), TokenDataset(tmp_path / name, "test")
        drawn[name] = [{part[pair].tobytes() for pair in range(len(part))} for part in (quarter, test)]
    assert drawn["again"] == drawn["first"]
    for one, other in zip(drawn["first"], drawn["other"], strict=True):
        assert len(one & other) < len(one) / 2


@pytest.mark.heavy
@pytest.mark.parametrize("rows_per_partition", [90, 5])  # fewer partitions than a part has buckets, and more
def test_same_bytes_whatever_fits_into_memory(sources, tmp_path, monkeypatch, rows_per_partition) -> None:
    prepare(sources, tmp_path / "roomy", EXACT)
    monkeypatch.setattr(parts, "_BLOCK_ROWS", 50)
    monkeypatch.setattr(ordering, "ROWS_PER_PARTITION", rows_per_partition)
    monkeypatch.setattr(components, "BLOCK", 64)
    largest = 0

    def spy(task):
        nonlocal largest
        table = read_partition(task)
        largest = max(largest, len(table))
        return table

    read_partition = ordering.read_partition
    monkeypatch.setattr(
        "curr_ab.data.preparing.splits.read_partition", lambda task, columns: spy(task).select(columns)
    )
    prepare(sources, tmp_path / "cramped", EXACT)
    assert content(tmp_path / "roomy") == content(tmp_path / "cramped")
    assert 0 < largest < 200


KILLED = """
import os, signal, sys
from curr_ab.data import PreparationPlan, prepare
real, calls = os.replace, 0
def replace(source, target):
    global calls
    calls += 1
    if calls == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
plan = PreparationPlan(cluster="exact", pairs_per_shard=300)
prepare(sys.argv[3:], sys.argv[2], plan, keep_dropped=True)
"""


def killed_runs(step: int, out: Path, sources: list[str]) -> int:
    """Start again until a run ends; each is killed at its `step`-th file. How many were killed."""
    for run in range(20):
        done = subprocess.run([sys.executable, "-c", KILLED, str(step), str(out), *sources], check=False)
        if done.returncode == 0:
            return run
        assert done.returncode == -signal.SIGKILL
    raise AssertionError("the runs make no progress")


def uninterrupted(out: Path, sources: list[str]) -> dict[str, bytes]:
    prepare(sources, out, replace(EXACT, pairs_per_shard=300), keep_dropped=True)
    return content(out)


def test_kill_and_rerun_give_the_same(sources, tmp_path) -> None:
    """Killed at every twelfth file that it finishes, over and over, a run still ends with the same bytes."""
    assert killed_runs(12, tmp_path / "killed", sources) >= 3
    assert content(tmp_path / "killed") == uninterrupted(tmp_path / "whole", sources)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 46))
def test_kill_anywhere(sources, tmp_path, step) -> None:
    """Killed once, before the `step`-th file appears."""
    command = [sys.executable, "-c", KILLED, str(step), str(tmp_path / "killed"), *sources]
    done = subprocess.run(command, check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    expected = uninterrupted(tmp_path / "whole", sources)
    uninterrupted(tmp_path / "killed", sources)
    assert content(tmp_path / "killed") == expected


@pytest.mark.slow
def test_kill_at_any_moment_with_workers(sources, tmp_path) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from curr_ab.cli.main import main; sys.exit(main())",
        "data",
        "prepare",
        *sources,
        "--cluster",
        "exact",
        "--quiet",
    ]
    command += [
        "--processes",
        "2",
        "--keep-dropped",
        "--pairs-per-shard",
        "300",
        "--out",
        str(tmp_path / "killed"),
    ]
    moments, started = random.Random(0), 0
    for _ in range(6):
        process = subprocess.Popen(command)
        time.sleep(moments.uniform(0.4, 2.0))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        started += len(children)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while any(map(is_running, children)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(is_running, children))
    assert started
    subprocess.run(command, check=True)
    assert content(tmp_path / "killed") == uninterrupted(tmp_path / "whole", sources)


def is_running(pid: str) -> bool:
    """Whether a process is there and not merely waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("victim", ["worker", "parent"])
def test_a_killed_process_leaves_no_other(sources, tmp_path, victim) -> None:
    options = ["--cluster", "exact", "--quiet", "--pairs-per-shard", 300, "--keep-dropped"]
    command = curr_ab("data", "prepare", *sources, *options, "--processes", 2, "--out", tmp_path / "killed")
    ended = kill_one(command, victim)
    assert ended.left == []
    if victim == "worker":
        assert ended.status == 2
        assert ended.message == (
            "a worker process was killed (signal 9; out of memory?); run the same command again, it goes on; "
            "or fewer processes with --processes"
        )
    subprocess.run(command, check=True)
    assert content(tmp_path / "killed") == uninterrupted(tmp_path / "whole", sources)


def test_finished_and_foreign_folders(sources, tmp_path) -> None:
    first = prepare(sources, tmp_path / "out", EXACT)
    stamp = (tmp_path / "out" / "train-00000.tokens.npy").stat().st_mtime_ns
    assert prepare(sources, tmp_path / "out", EXACT) == first
    assert (tmp_path / "out" / "train-00000.tokens.npy").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="other sources or settings"):
        prepare(sources, tmp_path / "out", replace(EXACT, seed=1))
    with pytest.raises(ValueError, match="other sources or settings"):
        prepare(sources[:1], tmp_path / "out", EXACT)


def test_source_that_changed_after_an_interruption_is_read_again(corpus, sources, tmp_path) -> None:
    Path(sources[2]).write_text("id,heavy,light\n1,EVQL\n")
    with pytest.raises(ValueError, match=r"c\.tsv, line 2"):
        prepare(sources, tmp_path / "out", EXACT)
    Path(sources[2]).write_text(plain_text(corpus[500:900]))
    Path(sources[1]).write_text(plain_text(corpus[250:400]))  # was read without an error
    report = prepare(sources, tmp_path / "out", EXACT)["report"]
    assert (report["read"], report["kept"]) == (300 + 150 + 400, 400 + 400)


def test_source_that_broke_after_an_interruption_leaves_nothing(corpus, sources, tmp_path) -> None:
    Path(sources[2]).write_text("id,heavy,light\n1,EVQL\n")
    with pytest.raises(ValueError, match=r"c\.tsv, line 2"):
        prepare(sources, tmp_path / "out", EXACT)
    Path(sources[1]).write_text("")  # was read without an error
    report = prepare(sources, tmp_path / "out", EXACT, keep_going=True)["report"]
    assert (report["kept"], len(report["set_aside"])) == (300, 2)


@pytest.mark.heavy
def test_fingerprint_is_of_content_and_settings(corpus, sources, tmp_path, write) -> None:
    def mark(name, files=tuple(sources), plan=EXACT):
        return prepare(list(files), tmp_path / name, plan)["fingerprint"]

    marks = [
        mark("same"),
        mark("other seed", plan=replace(EXACT, seed=7)),
        mark("other shares", plan=replace(EXACT, test=0.1)),
        mark("other subsets", plan=replace(EXACT, subsets={"F": 1.0})),
        mark("less content", files=sources[:2]),
    ]
    assert len(set(marks)) == len(marks)
    copy = write("copy", Path(sources[0]).read_bytes())
    assert mark("renamed", files=[copy, *sources[1:]]) == marks[0]


def test_unpaired_chains(corpus, write, tmp_path) -> None:
    lines = ["sequence_id,sequence_alignment_aa,v_call"]
    lines += [f"{row['id']}h,{row['heavy']},{row['v_call_heavy']}" for row in corpus[:200]]
    lines += [f"{row['id']}l,{row['light']},{row['v_call_light']}" for row in corpus[:200]]
    plan = replace(EXACT, chains="unpaired")
    prepare(write("unit.csv", "\n".join(lines) + "\n"), tmp_path / "out", plan)
    data = TokenDataset(tmp_path / "out")
    single = {decode_pair(data[pair], data.heavy_length(pair)) for pair in range(len(data))}
    chains = {(row["heavy"], "") for row in corpus[:200]} | {("", row["light"]) for row in corpus[:200]}
    assert single < chains
    assert len(single) > 300
    assert all(data[pair][0] == 0 and data[pair][-1] == 2 for pair in range(len(data)))


@pytest.mark.heavy
def test_annotation_and_provenance_are_kept(corpus, tmp_path) -> None:
    prepare("builtin", tmp_path / "out", PreparationPlan(cluster="source"))
    stored = pq.read_table(tmp_path / "out" / "train-00000.parquet").to_pylist()
    originals = {(row["heavy"], row["light"]): row for row in corpus}
    compared = 0
    for row in stored:
        original = originals.get((row["heavy"], row["light"]))
        if original is not None and original["id"] == row["id"]:
            compared += 1
            assert {name: row[name] for name in original} == pytest.approx(original)
    assert compared > 2_000
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["report"]["read"] == 20_000
