"""Submissions of the developability benchmark, and the baseline that its owners publish."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from support.benchmark_files import ASSAYS, FOLD, gdpa1_rows, write_table

from curr_ab.benchmark.plan import BenchmarkPlan, read_suite
from curr_ab.benchmark.run import run_benchmark
from curr_ab.benchmark.tasks.catalogue import read_task
from curr_ab.benchmark.tasks.submission import (
    predict_assays,
    published_baseline,
    read_antibodies,
    read_submission,
    write_submission,
)


@pytest.fixture
def file(tmp_path):
    return write_table(tmp_path / "gdpa1.csv", gdpa1_rows())


def predictions_of(antibodies):
    return {
        assay: {name: number + row / 7 for row, name in enumerate(antibodies.names)}
        for number, assay in enumerate(ASSAYS)
    }


def test_a_submission_has_the_columns_of_the_benchmark_and_comes_back_equal(file, tmp_path):
    antibodies, rows = read_antibodies(file), gdpa1_rows()
    predictions = predictions_of(antibodies)
    path = write_submission(predictions, antibodies, tmp_path / "submission.csv")
    with path.open(newline="") as opened:
        written = list(csv.DictReader(opened))
    chains = ["vh_protein_sequence", "vl_protein_sequence"]
    assert list(written[0]) == ["antibody_name", FOLD, *chains, *ASSAYS]
    assert [row["antibody_name"] for row in written] == [row["antibody_name"] for row in rows]
    assert [row[FOLD] for row in written] == [str(row[FOLD]) for row in rows]
    assert [row[chains[1]] for row in written] == [row[chains[1]] for row in rows]
    for task in read_task("developability", [file]):
        assay = task.name.removeprefix("developability-")
        assert read_submission(path, task).tolist() == [predictions[assay][name] for name in task.ids]


def test_the_held_out_set_has_no_folds(tmp_path):
    columns = [name for name in gdpa1_rows(1)[0] if name not in (*ASSAYS, FOLD)]
    antibodies = read_antibodies(write_table(tmp_path / "heldout.csv", gdpa1_rows(), columns=columns))
    path = write_submission({"HIC": predictions_of(antibodies)["HIC"]}, antibodies, tmp_path / "out.csv")
    header = "antibody_name,vh_protein_sequence,vl_protein_sequence,HIC"
    assert path.read_text().splitlines()[0] == header


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_an_antibody_without_a_prediction_is_refused_and_nothing_is_written(file, tmp_path, value):
    antibodies = read_antibodies(file)
    predictions = predictions_of(antibodies)
    predictions["Tm2"]["mab7"] = value if value is not None else np.nan
    if value is None:
        del predictions["Tm2"]["mab7"]
    with pytest.raises(ValueError, match="Tm2: each antibody must have a finite prediction; mab7 has none"):
        write_submission(predictions, antibodies, tmp_path / "bad.csv")
    assert not (tmp_path / "bad.csv").exists()


def test_an_unknown_assay_is_refused(file, tmp_path):
    with pytest.raises(ValueError, match=r"assays must be among .*; got 'Purity'"):
        write_submission({"Purity": {}}, read_antibodies(file), tmp_path / "bad.csv")


def test_other_predictions_must_be_whole(file, tmp_path):
    task = read_task("developability", [file])[1]  # HIC
    rows = [{"antibody_name": name, "HIC": 1.0} for name in task.ids]
    rows[3]["HIC"] = "-"
    path = write_table(tmp_path / "theirs.csv", rows)
    with pytest.raises(ValueError, match=f"HIC of {task.ids[3]} must be a finite number; got '-'"):
        read_submission(path, task)
    path = write_table(tmp_path / "theirs.csv", rows, columns=["antibody_name"])
    with pytest.raises(ValueError, match="there is no 'HIC'"):
        read_submission(path, task)


def test_predictions_by_other_folds_or_of_a_name_twice_are_refused(file, tmp_path):
    task, antibodies = read_task("developability", [file])[1], read_antibodies(file)
    folds = dict(zip(antibodies.names, antibodies.folds, strict=True))
    rows = [{"antibody_name": name, FOLD: folds[name], "HIC": 1.0} for name in task.ids]
    path = write_table(tmp_path / "theirs.csv", rows)
    assert read_submission(path, task).tolist() == [1.0] * len(task)
    other = {"antibody_name": "another", FOLD: "9", "HIC": 1.0}
    assert len(read_submission(write_table(tmp_path / "theirs.csv", [*rows, other]), task)) == len(task)
    changed = [*rows[:5], {**rows[5], FOLD: rows[6][FOLD]}, *rows[6:]]
    assert rows[5][FOLD] != rows[6][FOLD]
    with pytest.raises(ValueError, match=f"fold of {task.ids[5]} must be that of the task's file"):
        read_submission(write_table(tmp_path / "theirs.csv", changed), task)
    with pytest.raises(ValueError, match=f"must stand once; got {task.ids[2]} more than once"):
        read_submission(write_table(tmp_path / "theirs.csv", [*rows, {**rows[2], "HIC": 2.0}]), task)


def test_predictions_of_others_stand_beside_models(file, tmp_path):
    """They are asked for nothing but the file, and of another task they say nothing."""
    tasks = read_task("developability", [file])
    rows = [
        {"antibody_name": name, "HIC": label}
        for name, label in zip(tasks[1].ids, tasks[1].labels, strict=True)
    ]
    name = f"predictions:{write_table(tmp_path / 'theirs.csv', rows)}"
    names = [name, f"predictions:{tmp_path / 'none.csv'}"]
    plan = BenchmarkPlan(baselines=False)
    found = run_benchmark(read_suite("developability", [str(file)]), names, tmp_path / "bench", plan)
    [entry] = found.standings[1].entries
    assert (entry.name, entry.interval.value) == ("theirs", pytest.approx(1))
    assert entry.measurement.form == "predictions of others" and not entry.measurement.is_baseline
    reasons = {(one.model, one.task): one.reason for one in found.failures}
    assert "there is no 'Titer'" in reasons[name, "developability-Titer"]
    assert "there is no file" in reasons[names[1], "developability-HIC"]
    with pytest.raises(ValueError, match="models of the task developability, whose form it has; got x"):
        read_submission(tmp_path / "theirs.csv", replace(tasks[1], name="x"))


def test_the_baseline_is_ridge_on_aligned_letters_with_the_gap_as_one(file):
    from sklearn.linear_model import Ridge

    rows, task, antibodies = gdpa1_rows(), read_task("developability", [file])[1], read_antibodies(file)
    texts = [row["heavy_aligned_aho"] + row["light_aligned_aho"] for row in rows]
    letters = "ACDEFGHIKLMNPQRSTVWY-"
    features = np.array([[letter == one for letter in text for one in letters] for text in texts], float)
    expected = {}
    for fold in range(5):
        train = [row for row, own in enumerate(rows) if own[FOLD] != fold and own["HIC"] != ""]
        fitted = Ridge(alpha=1.0).fit(features[train], [rows[row]["HIC"] for row in train])
        for row, own in enumerate(rows):
            if own[FOLD] == fold:
                expected[own["antibody_name"]] = fitted.predict(features[[row]])[0]
    found = published_baseline(task, antibodies, antibodies)
    assert found == pytest.approx(expected, abs=1e-9)
    assert "mab3" in found and "mab3" not in task.ids  # not measured, and predicted all the same


def counts(pairs):
    """Features that a test can follow: how often each residue stands in either chain."""
    return {
        "counts": np.array([[text.count(one) for text in pair for one in "ACDEFGHIKL"] for pair in pairs])
    }


def test_each_antibody_is_predicted_by_the_fold_that_did_not_see_it(tmp_path):
    rows = gdpa1_rows()
    first = write_table(tmp_path / "gdpa1.csv", rows)
    known = read_antibodies(first)
    found = predict_assays(read_task("developability", [first]), known, known, counts)
    assert list(found) == list(ASSAYS) and all(list(own) == list(known.names) for own in found.values())
    for row in rows:
        if row[FOLD] == 2:
            row["HIC"] = 1_000.0 - row["antibody_name"].count("1")  # of the fold's own labels nothing is seen
    second = write_table(tmp_path / "changed.csv", rows)
    changed = predict_assays(read_task("developability", [second]), known, known, counts)["HIC"]
    same = {row["antibody_name"]: row[FOLD] == 2 for row in rows}
    assert {name: value == found["HIC"][name] for name, value in changed.items()} == same


def test_others_are_predicted_by_all_of_the_data(file, tmp_path):
    from curr_ab.probes.regression import choose_regression

    known, tasks = read_antibodies(file), read_task("developability", [file])
    columns = [name for name in gdpa1_rows(1)[0] if name not in (*ASSAYS, FOLD)]
    asked = read_antibodies(write_table(tmp_path / "heldout.csv", gdpa1_rows()[:9], columns=columns))
    found = predict_assays(tasks, known, asked, counts)["HIC"]
    choice = choose_regression(counts(tasks[1].pairs), tasks[1].labels, target="number")
    expected = choice.regression.predict(counts(asked.pairs)["counts"])
    assert list(found.values()) == pytest.approx(expected.tolist())
    assert set(published_baseline(tasks[1], known, asked)) == set(asked.names)


def test_aligned_chains_of_another_width_are_refused(tmp_path):
    rows = gdpa1_rows()
    rows[2]["light_aligned_aho"] += "-"
    with pytest.raises(ValueError, match=r"record 3: aligned chains must have 300 positions.*got 301"):
        read_antibodies(write_table(tmp_path / "gdpa1.csv", rows))
