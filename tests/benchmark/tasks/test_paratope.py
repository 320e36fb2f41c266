"""The paratope task: labels of residues, single chains, the published parts."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.benchmark_files import write_paratope

from curr_ab.benchmark.tasks.catalogue import read_task


def change(path, **columns):
    table = pq.read_table(path).to_pydict()
    for name, edit in columns.items():
        edit(table[name])
    pq.write_table(pa.table(table), path)


def test_each_residue_has_the_label_of_the_file(tmp_path):
    (task,) = read_task("paratope", write_paratope(tmp_path))
    assert len(task) == 24 and task.kind == "residues"
    for (heavy, light), labels in zip(task.pairs, task.labels, strict=True):
        assert (heavy is None) != (light is None)  # single chains
        assert list(labels) == [int(residue == "Y") for residue in heavy or light]
    assert task.pairs[0][1] is None and task.pairs[1][0] is None


def test_the_last_file_is_the_test_part(tmp_path):
    (task,) = read_task("paratope", write_paratope(tmp_path))
    ((train, test),) = task.folds
    assert (train.tolist(), test.tolist()) == (list(range(18)), list(range(18, 24)))
    assert all("sabdab_test" in task.ids[row] for row in test)


def test_labels_are_cut_with_their_chain(tmp_path):
    files = write_paratope(tmp_path)
    whole = read_task("paratope", files)[0]
    leader = "MKYLLPTAAAGLLLLAAQPAMA"
    change(
        files[0],
        sequence=lambda column: column.__setitem__(0, leader + column[0]),
        paratope_labels=lambda column: column.__setitem__(0, ["P"] * len(leader) + column[0]),
    )
    cut = read_task("paratope", files)[0]
    assert cut.pairs[0] == whole.pairs[0] and cut.labels[0] == whole.labels[0]


def test_a_label_too_few_or_unknown_is_refused_with_its_record(tmp_path):
    files = write_paratope(tmp_path)
    change(files[1], paratope_labels=lambda column: column.__setitem__(2, column[2][:-1]))
    with pytest.raises(
        ValueError, match=r"sabdab_val.parquet: record 3: each of (\d+) residues must have a label"
    ):
        read_task("paratope", files)
    change(files[1], paratope_labels=lambda column: column.__setitem__(2, ["X", *column[2][1:], "N"]))
    with pytest.raises(ValueError, match="record 3: paratope_labels must be P or N; got 'X'"):
        read_task("paratope", files)


def test_a_chain_on_both_sides_is_refused_and_shared_structures_are_said(tmp_path):
    files = write_paratope(tmp_path)
    assert any("share 6 of 6 test structures" in note for note in read_task("paratope", files)[0].notes)
    first = pq.read_table(files[0]).to_pydict()
    change(
        files[2],
        sequence=lambda column: column.__setitem__(0, first["sequence"][0]),
        paratope_labels=lambda column: column.__setitem__(0, first["paratope_labels"][0]),
    )
    with pytest.raises(
        ValueError, match=r"sabdab_train 1 and .* sabdab_test 1 \(the same pair\).*remove one"
    ):
        read_task("paratope", files)


def test_a_training_chain_that_is_near_a_test_chain_is_left_out_and_said(tmp_path):
    files = write_paratope(tmp_path)
    tested = pq.read_table(files[2]).to_pydict()
    chain, labels = tested["sequence"][0], tested["paratope_labels"][0]
    other = chain[:3] + ("L" if chain[3] != "L" else "V") + chain[4:]
    change(
        files[1],
        sequence=lambda column: column.__setitem__(2, other),
        paratope_labels=lambda column: column.__setitem__(2, labels),
    )
    (task,) = read_task("paratope", files)
    ((train, test),) = task.folds
    assert (len(train), len(test)) == (17, 6) and not any("sabdab_val 3" in name for name in task.ids)
    assert any("sabdab_val 4" in name for name in task.ids) and chain in task.pairs[test[0]]
    assert [note for note in task.notes if note.endswith("of the test part, which are left out: 1")]
