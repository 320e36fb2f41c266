"""Specificity and epitopes: classes, groups by clone or study, and what is left out."""

import numpy as np
import pytest
from support.benchmark_files import epitope_rows, pairs, write_table

from curr_ab.benchmark.tasks.catalogue import read_task
from curr_ab.benchmark.tasks.folds import find_leaks


def write(folder, rows, **options):
    return write_table(folder / "CoV-AbDab_040322.csv.gz", rows, bom=True, **options)


def test_epitopes_become_two_classes_and_three(tmp_path):
    two, three = read_task("epitope", [write(tmp_path, epitope_rows())], folds=3)
    assert (two.label_names, three.label_names) == (("other", "RBD"), ("RBD", "NTD", "S2"))
    epitopes = {row["Name"]: row["Protein + Epitope"] for row in epitope_rows()}
    assert [epitopes[one] for one in two.ids] == [
        "S; RBD" if label else epitopes[one] for one, label in zip(two.ids, two.labels, strict=True)
    ]
    assert {epitopes[one] for one in two.ids} == {"S; RBD", "S; NTD", "S; S2"}
    assert [epitopes[one][3:] for one in three.ids] == [three.label_names[label] for label in three.labels]
    assert "ab0" not in two.ids  # a nanobody
    assert (two.metric, three.metric) == ("auroc", "macro-f1")
    assert any("20 of 59 pairs have no clear epitope" in note for note in two.notes)


@pytest.mark.parametrize(
    ("epitope", "label"),
    [
        ("S:RBD", 1),
        ("S; RBD", 1),
        ("S; non-RBD", 0),
        ("S; S1 non-RBD", 0),
        ("N", 0),
        ("N; RBD", 0),  # of the nucleocapsid: it binds RNA
        ("S; S2 Stem Helix", 0),
        ("S; S1", None),
        ("S", None),
        ("S; RBD/non-RBD", None),
        ("S; probably RBD (implied by clustering)", None),
        ("Unknown", None),
    ],
)
def test_words_for_epitopes(tmp_path, epitope, label):
    rows = epitope_rows()
    rows[7]["Protein + Epitope"] = epitope
    two, _ = read_task("epitope", [write(tmp_path, rows)], folds=2)
    labels = dict(zip(two.ids, two.labels.tolist(), strict=True))
    assert labels.get("ab7") == label


def test_folds_hold_clones_or_studies_apart(tmp_path):
    file = write(tmp_path, epitope_rows())
    studies = {row["Name"]: row["Sources"] for row in epitope_rows()}
    by_clone, _ = read_task("epitope", [file], folds=3)
    by_study, _ = read_task("epitope", [file], folds=3, group_by="source")
    assert set(by_study.groups) == set(studies.values()) and len(set(by_clone.groups)) == len(by_clone)
    for task in (by_clone, by_study):
        assert find_leaks(task.ids, task.pairs, task.groups, task.folds) == []


def test_a_file_without_studies_cannot_be_grouped_by_them(tmp_path):
    columns = [name for name in epitope_rows(1)[0] if name != "Sources"]
    with pytest.raises(ValueError, match="group_by must be clone where the file has no column Sources"):
        read_task("epitope", [write(tmp_path, epitope_rows(), columns=columns)], group_by="source")


def test_the_newer_name_of_the_heavy_column_and_other_tables_are_read(tmp_path):
    rows = [{("VHorVHH" if k == "VH or VHH" else k): v for k, v in row.items()} for row in epitope_rows()]
    newer = read_task("epitope", [write(tmp_path, rows)], folds=3)[0]
    rows = [{("heavy" if k == "VHorVHH" else k): v for k, v in row.items()} for row in rows]
    other = read_task("epitope", [write(tmp_path, rows)], folds=3)[0]
    assert newer.pairs == other.pairs and len(newer) > 0


def test_a_class_that_a_fold_lacks_is_an_error(tmp_path):
    rows = [row for row in epitope_rows() if row["Protein + Epitope"] != "S; S2"]
    rows[1]["Protein + Epitope"] = "S; S2"
    with pytest.raises(
        ValueError, match="every class must be in each test part; fold 2 has no S2; take fewer"
    ):
        read_task("epitope", [write(tmp_path, rows)], folds=3)


def test_a_class_for_each_file_cut_to_the_smallest(tmp_path):
    files = [
        write_table(
            tmp_path / f"{name}.csv",
            [{"id": f"{name}{n}", "heavy": h, "light": v} for n, (h, v) in enumerate(pairs(count, first))],
        )
        for name, count, first in (("hd", 30, 0), ("flu", 20, 29), ("cov", 25, 60))
    ]  # the last of the healthy is the first of the second file: of both classes
    (task,) = read_task("specificity", files, folds=3)
    assert task.label_names == ("healthy", "influenza", "coronavirus")
    assert np.bincount(task.labels).tolist() == [19, 19, 19]
    assert "flu/flu0" not in task.ids and "hd/hd29" not in task.ids
    assert any("the class equals the study" in note for note in task.notes)
    (two,) = read_task("specificity", files[::2], folds=3)
    assert two.label_names == ("healthy", "coronavirus") and two.metric == "auroc"
    again = read_task("specificity", files, folds=3, seed=1)[0]
    assert again.fingerprint != task.fingerprint
