"""The polyreactivity task: which rows take part, odd chains, and other sets as test parts."""

import numpy as np
import pytest
from support.benchmark_files import boughter_rows, shehata_rows, write_table

from curr_ab.benchmark.tasks.catalogue import read_task
from curr_ab.benchmark.tasks.folds import find_leaks


def read(folder, rows, *others):
    files = [write_table(folder / "boughter.csv", rows)]
    files += [write_table(folder / f"other{number}.csv", one) for number, one in enumerate(others)]
    return read_task("polyreactivity", files)


def test_rows_in_training_take_part_and_the_mild_ones_do_not(tmp_path):
    rows = boughter_rows()
    (task,) = read(tmp_path, rows)
    labelled = [row for row in rows if row["include_in_training"]]
    assert task.ids == tuple(row["id"] for row in labelled)
    assert task.labels.tolist() == [int(float(row["label"])) for row in labelled]
    assert (task.kind, task.metric, task.label_names) == ("classes", "auroc", ("specific", "polyreactive"))
    assert any("40 of 60 rows are in training" in note for note in task.notes)
    rows[0]["include_in_training"] = False
    assert rows[0]["id"] not in read(tmp_path, rows)[0].ids


def test_folds_hold_clones_apart(tmp_path):
    rows = boughter_rows()
    heavy = rows[0]["heavy_seq"]
    rows[1]["heavy_seq"] = heavy[:3] + ("L" if heavy[3] != "L" else "V") + heavy[4:]
    (task,) = read(tmp_path, rows)
    assert task.groups[0] == task.groups[1] and len(set(task.groups)) == len(task) - 1
    assert find_leaks(task.ids, task.pairs, task.groups, task.folds) == []


def test_exchanged_chains_are_put_right_and_said(tmp_path):
    rows = boughter_rows()
    rows[1]["heavy_seq"], rows[1]["light_seq"] = rows[1]["light_seq"], rows[1]["heavy_seq"]
    (task,) = read(tmp_path, rows)
    assert task.pairs[1] == (rows[1]["light_seq"], rows[1]["heavy_seq"])
    assert any(
        "1 record is kept with their chains exchanged" in note and note.endswith(": 2") for note in task.notes
    )


def test_what_is_no_chain_is_left_out_and_said(tmp_path):
    rows = boughter_rows()
    rows[3]["heavy_seq"] = rows[3]["heavy_seq"][:40] + "*" + rows[3]["heavy_seq"][41:]
    rows[4]["light_seq"] = rows[4]["heavy_seq"]
    rows[6]["heavy_seq"] = rows[6]["heavy_seq"][40:]  # without framework 1
    (task,) = read(tmp_path, rows)
    assert rows[3]["id"] not in task.ids and rows[4]["id"] not in task.ids
    assert rows[6]["id"] in task.ids
    said = "\n".join(task.notes)
    assert "left out (a stop codon): 4" in said
    assert "left out (a light chain in the heavy column, or the other way round): 5" in said
    assert "kept (a part of a variable domain" in said


def test_a_pair_counts_once_and_not_where_it_has_both_labels(tmp_path):
    rows = boughter_rows()
    rows += [rows[0] | {"id": "again"}, rows[1] | {"id": "other", "label": "0.0"}]
    (task,) = read(tmp_path, rows)
    assert "again" not in task.ids and rows[0]["id"] in task.ids
    assert "other" not in task.ids and rows[1]["id"] not in task.ids
    assert any("labelled both ways, which are left out: 1" in note for note in task.notes)


def test_another_set_is_the_test_part_and_its_clones_do_not_train(tmp_path):
    rows, others = boughter_rows(), shehata_rows()
    heavy = rows[0]["heavy_seq"]
    others[0]["heavy_seq"] = heavy[:3] + ("L" if heavy[3] != "L" else "V") + heavy[4:]
    alone, against = read(tmp_path, rows, others)
    ((train, test),) = against.folds
    assert [against.ids[row] for row in test] == [f"other0/{row['id']}" for row in others]
    assert len(train) == len(alone) - 1 and not set(train) & set(test)
    assert f"boughter/{rows[0]['id']}" not in against.ids
    assert find_leaks(against.ids, against.pairs, against.groups, against.folds) == []
    assert np.bincount(against.labels[test]).tolist() == [10, 10]
    assert "of a clone in other0.csv, which are left out: 1" in against.notes[-1]


def test_a_label_that_is_neither_is_refused(tmp_path):
    rows = boughter_rows()
    rows[1]["label"] = "2"
    with pytest.raises(ValueError, match=r"record 2: label must be 0 \(specific\) or 1 .*; got '2'"):
        read(tmp_path, rows)
    others = [row | {"label": 0} for row in shehata_rows()]
    with pytest.raises(ValueError, match="label must be 0 and 1 of some records each; got 20 and 0"):
        read(tmp_path, boughter_rows(), others)


def test_a_file_without_the_flag_of_training_is_refused(tmp_path):
    columns = [name for name in boughter_rows(1)[0] if name != "include_in_training"]
    file = write_table(tmp_path / "boughter.csv", boughter_rows(), columns=columns)
    with pytest.raises(ValueError, match=r"boughter.csv \(ELISA flags.*no 'include_in_training'"):
        read_task("polyreactivity", [file])


def test_a_name_that_stands_twice_has_its_record_in_it(tmp_path):
    rows = boughter_rows()
    rows[1]["id"] = rows[0]["id"]
    (task,) = read(tmp_path, rows)
    assert task.ids[:2] == ("flu_000000", "flu_000000, record 2")
