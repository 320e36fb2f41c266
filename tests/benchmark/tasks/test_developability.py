"""The developability task: assays, gaps, the folds of the file, and what is refused of it."""

import numpy as np
import pytest
from support.benchmark_files import FOLD, gdpa1_rows, write_table

from curr_ab.benchmark.tasks.catalogue import read_task


def read(folder, rows, **options):
    return read_task("developability", [write_table(folder / "gdpa1.csv", rows)], **options)


def test_a_task_for_each_assay_over_the_antibodies_that_it_has_measured(tmp_path):
    rows = gdpa1_rows()
    tasks = {task.name.removeprefix("developability-"): task for task in read(tmp_path, rows)}
    assert list(tasks) == ["AC-SINS_pH7.4", "HIC", "PR_CHO", "Titer", "Tm2"]
    with_hic = [row for row in rows if row["HIC"] != ""]
    hic = tasks["HIC"]
    assert len(hic) == len(with_hic) < len(rows) == len(tasks["Tm2"])
    assert hic.ids == tuple(row["antibody_name"] for row in with_hic)
    assert hic.labels.tolist() == [row["HIC"] for row in with_hic]
    assert hic.pairs[4] == (with_hic[4]["vh_protein_sequence"], with_hic[4]["vl_protein_sequence"])
    assert (hic.metric, hic.average, hic.kind, hic.sign, tasks["Titer"].sign) == (
        *("spearman", "folds", "number", -1, 1),
    )
    assert any("34 of 40" in note for note in hic.notes)


def test_folds_are_those_of_the_file(tmp_path):
    rows = gdpa1_rows()
    task = next(task for task in read(tmp_path, rows) if task.name.endswith("HIC"))
    column = np.array([row[FOLD] for row in rows if row["HIC"] != ""])
    assert len(task.folds) == 5
    for number, (train, test) in enumerate(task.folds):
        assert test.tolist() == np.flatnonzero(column == number).tolist()
        assert train.tolist() == np.flatnonzero(column != number).tolist()


def test_a_byte_order_mark_and_compression_change_nothing(tmp_path):
    plain = read(tmp_path, gdpa1_rows())
    marked = write_table(tmp_path / "gdpa1.csv.gz", gdpa1_rows(), bom=True)
    again = read_task("developability", [marked])
    assert [task.fingerprint for task in again] == [task.fingerprint for task in plain]


def test_the_fingerprint_tells_labels_pairs_and_folds_apart(tmp_path):
    rows = gdpa1_rows()
    first = read(tmp_path, rows)[0].fingerprint
    rows[1][FOLD] = (rows[1][FOLD] + 1) % 5
    assert read(tmp_path, rows)[0].fingerprint != first
    rows = gdpa1_rows()
    rows[1]["AC-SINS_pH7.4"] += 1
    assert read(tmp_path, rows)[0].fingerprint != first


def test_a_missing_column_is_named_with_the_file_that_has_it(tmp_path):
    columns = [name for name in gdpa1_rows(1)[0] if name != "PR_CHO"]
    file = write_table(tmp_path / "old.csv", gdpa1_rows(), columns=columns)
    with pytest.raises(ValueError, match=r"old.csv.*GDPa1_v1.2_20250814.csv; there is no 'PR_CHO' among"):
        read_task("developability", [file])


def test_a_number_that_is_none_is_refused_with_its_record(tmp_path):
    rows = gdpa1_rows()
    rows[4]["Titer"] = "high"
    with pytest.raises(ValueError, match="record 5: Titer must be a finite number or empty; got 'high'"):
        read(tmp_path, rows)


def test_an_antibody_without_a_fold_is_refused_with_its_record(tmp_path):
    rows = gdpa1_rows()
    rows[2][FOLD] = ""
    with pytest.raises(ValueError, match="record 3 must have a fold; got an empty cell"):
        read(tmp_path, rows)


def test_a_pair_in_two_folds_is_refused_or_marked(tmp_path):
    rows = gdpa1_rows()
    for chain in ("vh_protein_sequence", "vl_protein_sequence"):
        rows[6][chain] = rows[5][chain]
    with pytest.raises(ValueError, match=r"mab5 and mab6 \(the same pair\).* set leaks to keep"):
        read(tmp_path, rows)
    assert read(tmp_path, rows, leaks="keep")[0].leaks == ("mab5 and mab6 (the same pair)",)
    rows[6][FOLD] = rows[5][FOLD]
    assert read(tmp_path, rows)[0].leaks == ()


def test_relatives_that_the_given_folds_part_are_said(tmp_path):
    rows = gdpa1_rows()
    assert not any("close CDRH3" in note for note in read(tmp_path, rows)[0].notes)
    heavy = rows[5]["vh_protein_sequence"]
    rows[6]["vh_protein_sequence"] = heavy[:3] + ("L" if heavy[3] != "L" else "V") + heavy[4:]
    assert "close CDRH3, such as mab5 and mab6" in read(tmp_path, rows)[0].notes[-1]
