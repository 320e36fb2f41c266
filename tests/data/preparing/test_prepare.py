"""Preparation gives the same bytes whatever the processes and the interruptions, and loses nothing."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.kills import curr_ab, kill_one
from support.pair_files import oas_text, pairs_of, plain_text

from curr_ab.data import CleaningLimits, PreparationPlan, TokenDataset, decode_pair, prepare
from curr_ab.data.preparing import components, parts
from curr_ab.data.preparing import order as ordering
from curr_ab.data.shards import save_array
from curr_ab.files import claimed

EXACT = PreparationPlan(cluster="exact", pairs_per_shard=100)


@pytest.fixture
def sources(corpus, write) -> list[str]:
    """Files of several formats that overlap."""
    return [
        write("a.csv.gz", oas_text(corpus[:300])),
        write("b.csv", plain_text(corpus[250:600])),
        write("c.tsv", plain_text(corpus[500:900]).replace(",", "\t")),
    ]


@pytest.fixture
def annotated(corpus, write) -> list[str]:
    """Two files that know CDRH3s, one of which names V genes."""
    fields = ["cdr3_heavy", "v_call_heavy", "j_call_heavy"]
    paths = []
    for name, rows, known in (("a.csv", corpus[:400], fields), ("b.csv", corpus[350:700], fields[:1])):
        columns = ["id", "heavy", "light", "donor", *known]
        lines = [",".join(columns), *(",".join(row[column] for column in columns) for row in rows)]
        paths.append(write(name, "\n".join(lines) + "\n"))
    return paths


def content(folder: Path) -> dict[str, bytes]:
    """Every file under its name; there are no other files, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.heavy
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
@pytest.mark.parametrize("plan", [PreparationPlan(), PreparationPlan(group_by_donor=True, test=0.2)])
def test_same_clonotypes_for_any_number_of_processes(annotated, tmp_path, monkeypatch, plan) -> None:
    prepare(annotated, tmp_path / "one", plan)
    prepare(annotated, tmp_path / "three", plan, processes=3)
    monkeypatch.setattr(ordering, "ROWS_PER_PARTITION", 90)
    monkeypatch.setattr(components, "BLOCK", 64)
    prepare(annotated, tmp_path / "cramped", plan)
    assert content(tmp_path / "one") == content(tmp_path / "three") == content(tmp_path / "cramped")


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
plan = PreparationPlan(cluster=sys.argv[3], pairs_per_shard=300)
prepare(sys.argv[4:], sys.argv[2], plan, keep_dropped=True)
"""


def killed_runs(step: int, out: Path, cluster: str, sources: list[str]) -> int:
    """Start again until a run ends; each is killed at its `step`-th file. How many were killed."""
    for run in range(20):
        command = [sys.executable, "-c", KILLED, str(step), str(out), cluster, *sources]
        done = subprocess.run(command, check=False)
        if done.returncode == 0:
            return run
        assert done.returncode == -signal.SIGKILL
    raise AssertionError("the runs make no progress")


def uninterrupted(out: Path, sources: list[str], cluster: str = "exact") -> dict[str, bytes]:
    prepare(sources, out, replace(EXACT, pairs_per_shard=300, cluster=cluster), keep_dropped=True)
    return content(out)


@pytest.mark.parametrize("cluster", ["exact", "clonotype"])
def test_kill_and_rerun_give_the_same(annotated, tmp_path, cluster) -> None:
    """Killed at every twelfth file that it finishes, over and over, a run still ends with the same bytes."""
    assert killed_runs(12, tmp_path / "killed", cluster, annotated) >= 3
    assert content(tmp_path / "killed") == uninterrupted(tmp_path / "whole", annotated, cluster)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 46))
def test_kill_anywhere(annotated, tmp_path, step) -> None:
    """Killed once, before the `step`-th file appears."""
    command = [sys.executable, "-c", KILLED, str(step), str(tmp_path / "killed"), "clonotype", *annotated]
    done = subprocess.run(command, check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    expected = uninterrupted(tmp_path / "whole", annotated, "clonotype")
    uninterrupted(tmp_path / "killed", annotated, "clonotype")
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


@pytest.mark.heavy
def test_finished_and_foreign_folders(sources, tmp_path) -> None:
    first = prepare(sources, tmp_path / "out", EXACT)
    stamp = (tmp_path / "out" / "train-00000.tokens.npy").stat().st_mtime_ns
    assert prepare(sources, tmp_path / "out", EXACT) == first
    assert (tmp_path / "out" / "train-00000.tokens.npy").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="other sources or settings"):
        prepare(sources, tmp_path / "out", replace(EXACT, seed=1))
    with pytest.raises(ValueError, match="other sources or settings"):
        prepare(sources[:1], tmp_path / "out", EXACT)


@pytest.mark.heavy
def test_source_that_changed_after_an_interruption_is_read_again(corpus, sources, tmp_path) -> None:
    Path(sources[2]).write_text("id,heavy,light\n1,EVQL\n")
    with pytest.raises(ValueError, match=r"c\.tsv, line 2"):
        prepare(sources, tmp_path / "out", EXACT)
    Path(sources[2]).write_text(plain_text(corpus[500:900]))
    Path(sources[1]).write_text(plain_text(corpus[250:400]))  # was read without an error
    report = prepare(sources, tmp_path / "out", EXACT)["report"]
    assert (report["read"], report["kept"]) == (300 + 150 + 400, 400 + 400)


@pytest.mark.heavy
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


@pytest.mark.heavy
def test_a_source_that_changed_after_the_end_is_noticed(corpus, sources, tmp_path) -> None:
    index = prepare(sources, tmp_path / "out", EXACT)
    Path(sources[1]).touch()  # another time, the same content
    assert prepare(sources, tmp_path / "out", EXACT) == index
    Path(sources[1]).write_text(plain_text(corpus[250:254]))
    with pytest.raises(ValueError, match=r"b\.csv has changed since .*out was prepared from it"):
        prepare(sources, tmp_path / "out", EXACT)


def test_a_source_that_changes_while_it_is_read(sources, tmp_path, monkeypatch) -> None:
    def growing(source, *rest, **more):
        yield from read_source(source, *rest, **more)
        with open(source[0], "a") as file:
            file.write("\n")

    read_source = parts.read_source
    monkeypatch.setattr(parts, "read_source", growing)
    with pytest.raises(ValueError, match=r"b\.csv changed while it was read; run the same command again"):
        prepare(sources[1], tmp_path / "out", EXACT)


@pytest.mark.heavy
def test_a_failed_run_does_not_block_its_folder(
    corpus, sources, write, tmp_path, monkeypatch, capsys
) -> None:
    """The corrected command begins anew, and leaves nothing of the one before."""
    with pytest.raises(ValueError, match="no sequence column is known"):
        prepare(write("d.csv", "a,b\nEVQ,DIQ\n"), tmp_path / "out", EXACT)

    def broken(*arguments, **options):
        raise ValueError("a check that fails")

    with monkeypatch.context() as patch:
        patch.setattr("curr_ab.data.preparing.prepare.check_splits", broken)
        with pytest.raises(ValueError, match="a check that fails"):
            prepare(sources, tmp_path / "out", replace(EXACT, pairs_per_shard=30), keep_dropped=True)
    assert len(list((tmp_path / "out").glob("train-*.parquet"))) > 20
    capsys.readouterr()
    prepare(sources, tmp_path / "out", EXACT, progress=True)
    assert "holds unfinished work on other sources or settings; beginning anew\n" in capsys.readouterr().err
    prepare(sources, tmp_path / "whole", EXACT)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.heavy
def test_two_runs_in_one_folder(sources, tmp_path) -> None:
    with (
        claimed(tmp_path / "out" / ".work", "prepares in"),
        pytest.raises(ValueError, match=r"another process prepares in .*out/\.work; wait for it or stop it"),
    ):
        prepare(sources, tmp_path / "out", EXACT)
    prepare(sources, tmp_path / "out", EXACT)


@pytest.mark.parametrize("stage", ["labels", "splits", "order", "sequence_key"])
@pytest.mark.heavy
def test_a_full_disk_in_one_sentence(sources, tmp_path, monkeypatch, stage) -> None:
    """The room of an array is taken before it is mapped; written without room, a map kills the process."""

    def full(file, offset, length):
        if f".{stage}.npy" in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"no space is left in .*out: \d+ MB are written, .* make room"):
        prepare(sources, tmp_path / "out", EXACT)
    monkeypatch.undo()
    prepare(sources, tmp_path / "out", EXACT)


def test_arrays_of_shards_say_that_the_disk_is_full() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        save_array(Path("/dev/full"), np.zeros(100_000))
    assert caught.value.errno == errno.ENOSPC


def test_cells_are_joined_beside_the_result(corpus, write, tmp_path, monkeypatch) -> None:
    lines = ["cell_id,locus,sequence_aa"]
    for number, row in enumerate(corpus[:40]):
        lines += [f"c{number},IGH,{row['heavy']}", f"c{number},IGK,{row['light']}"]
    path = write("a.csv", "\n".join(lines) + "\n")
    left = tmp_path / "out" / ".work" / "scratch" / "curr_ab_cells_of_a_killed_run"
    left.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    read_source, gone = parts.read_source, []

    def reading(*arguments, **options):
        gone.append(not left.exists())
        return read_source(*arguments, **options)

    monkeypatch.setattr(parts, "read_source", reading)
    assert prepare(path, tmp_path / "out", EXACT)["report"]["kept"] == 40
    assert gone == [True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 99999999999999999999}, "seed must be a number of 63 bits; got one of 67"),
        ({"test": 1.0}, "test must be a share from 0.0 to below 1.0, or a number of pairs; got 1.0"),
        (
            {"validation": -1},
            "validation must be a share from 0.0 to below 1.0, or a number .* got -1",
        ),
        ({"validation": 0.5, "test": 0.5}, "validation and test must leave pairs for training"),
        ({"subsets": {"F": 1.5}}, "subset F must be a share above 0.0 and at most 1.0, or a number of pairs"),
        ({"subsets": {"F": 0}}, "subset F must be a share above 0.0 and at most 1.0, or a number of pairs"),
        ({"subsets": {"../x": 1.0}}, "the name of a subset must be letters and digits; got '../x'"),
    ],
)
def test_values_that_cannot_work_are_refused_before_reading(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        PreparationPlan(**options)


def test_limit_that_is_no_number() -> None:
    with pytest.raises(ValueError, match="max_ambiguous must be a finite number; got nan"):
        CleaningLimits(max_ambiguous=float("nan"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 900}, "test must be at least 0 and less than all"),
        ({"subsets": {"F": 5_000}}, "subset F wants"),
    ],
)
def test_sizes_are_checked_before_the_rows_are_ordered(sources, tmp_path, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(sources[0], tmp_path / "out", replace(EXACT, **options))
    assert [path.name for path in (tmp_path / "out" / ".work").iterdir() if path.is_dir()] == ["parts"]


@pytest.mark.heavy
def test_annotation_is_covered_by_digests(corpus, write, tmp_path) -> None:
    """A cut Parquet file is noticed, and other donors of the same residues are other data."""
    marks = {}
    for name, donor in (("one", "d1"), ("other", "d2"), ("again", "d1")):
        lines = ["id,heavy,light,donor"]
        lines += [f"{row['id']},{row['heavy']},{row['light']},{donor}" for row in corpus[:60]]
        path = write(f"{name}.csv", "\n".join(lines) + "\n")
        marks[name] = prepare(path, tmp_path / name, EXACT)["fingerprint"]
    assert marks["one"] == marks["again"] != marks["other"]
    parquet = tmp_path / "one" / "train-00000.parquet"
    TokenDataset(tmp_path / "one").verify()
    parquet.write_bytes(parquet.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"train-00000\.parquet has changed since it was prepared"):
        TokenDataset(tmp_path / "one").verify()


def test_impossible_identities_are_unknown(corpus, write, tmp_path) -> None:
    values = ["97.5", "0.975", "-1", "150", "100", "0", ""] * 10
    lines = ["id,heavy,light,v_identity_heavy"]
    lines += [f"{r['id']},{r['heavy']},{r['light']},{v}" for r, v in zip(corpus, values, strict=False)]
    prepare(write("a.csv", "\n".join(lines) + "\n"), tmp_path / "out", replace(EXACT, test=0, validation=0))
    stored = pq.read_table(tmp_path / "out" / "train-00000.parquet")["v_identity_heavy"].to_pylist()
    counts = Counter(value if value is None else round(value, 3) for value in stored)
    assert counts == {0.975: 20, 1.0: 10, 0.0: 10, None: 30}
