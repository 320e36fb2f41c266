"""A fine-tuning stands beside the models by what its folds said of unseen pairs."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support.benchmarks import PlantedPeer, planted

from curr_ab.benchmark import run as run_module
from curr_ab.benchmark.plan import Suite, TaskRequest
from curr_ab.data import builtin_path
from curr_ab.finetuning import read_examples, resolve_recipe, split_folds


def finetuning(folder, task, *, leave_out=0, unlabelled=False, folds_of=None):
    """The folder of a run in the folds of the task, or of another, that knows the labels well."""
    folds = []
    for number, (train, test) in enumerate((folds_of or task).folds, start=1):
        own = test[test < len(task) - leave_out]
        path = folder / f"fold-{number}" / "predictions.parquet"
        path.parent.mkdir(parents=True)
        yes = 0.5 + 0.4 * (np.array(task.labels)[own] * 2 - 1)
        columns = {
            "id": [task.ids[row] for row in own],
            "number": own,
            "label": [task.label_names[task.labels[row]] for row in own],
            "probability_no": 1 - yes,
            "probability_yes": yes,
        }
        if unlabelled:  # a pair more, at the top, whose label is not known
            more = ("unlabelled", len(task), None, 0.5, 0.5)
            columns = {name: [one, *columns[name]] for name, one in zip(columns, more, strict=True)}
        pq.write_table(pa.table(columns), path)
        folds.append({"number": number, "train": train.tolist(), "validation": [], "test": own.tolist()})
    (folder / "folds.json").write_text(json.dumps(folds))
    recipe = {"labels": list(task.label_names), "target": "classes", "name": "planted"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "data.json").write_text(json.dumps({"model": "8M-F", "examples": "x"}))
    return folder


def measured(bench, task, folder):
    """The benchmark of the task with the folder as its model."""
    found = bench([task], [PlantedPeer("blind", sees=False)])
    request = TaskRequest("planted", ())
    return run_module.run_benchmark(Suite((request,)), [str(folder)], found.folder)


def test_its_predictions_are_scored_like_all(bench, tmp_path):
    task = planted("classes")
    found = measured(bench, task, finetuning(tmp_path / "binders", task))
    assert found.failures == ()
    best = found.standings[0].entries[0]
    assert best.name == "8M-F fine-tuned in binders" and best.interval.value == 1
    assert "its own run" in best.measurement.form


def test_pairs_whose_label_the_run_did_not_know_move_no_prediction(bench, tmp_path):
    task = planted("classes")
    found = measured(bench, task, finetuning(tmp_path / "binders", task, unlabelled=True))
    assert found.failures == () and found.standings[0].entries[0].interval.value == 1


def test_the_table_of_a_task_makes_the_same_folds(bench, seeing, tmp_path):
    """A fine-tuning that holds the column of folds apart has those of the task."""
    rows = pq.read_table(builtin_path(), columns=["heavy", "light", "clone"]).to_pylist()
    firsts = list({row["clone"]: row for row in rows}.values())[::7]
    pairs = list({row["light"]: (row["heavy"], row["light"]) for row in firsts}.values())
    task = planted("classes")
    task = replace(task, pairs=tuple(pairs[: len(task)]))
    found = bench([task], [seeing])
    table = found.folder / "planted-classes" / "task.csv"
    changes = {"labels": ("no", "yes"), "group_by": "fold", "folds": 5, "label_column": "label"}
    recipe = resolve_recipe("specificity-binary", changes)
    examples = read_examples(recipe, [table])
    parts = {frozenset(fold.test.tolist()) for fold in split_folds(examples, recipe)}
    assert parts == {frozenset(test.tolist()) for _, test in task.folds}


@pytest.mark.parametrize(
    ("other", "leave_out", "message"),
    [
        (planted("classes"), 1, "got none of pair119"),
        (planted("classes", shuffled=True), 0, "the label of pair"),
        (planted("number"), 0, "must predict what planted-number asks for"),
        (planted("classes", folds=4), 0, "none that tests the 30 pairs of its fold 1"),
    ],
)
def test_one_that_does_not_fit_is_refused(bench, tmp_path, other, leave_out, message):
    folder = finetuning(tmp_path / "binders", planted("classes"), leave_out=leave_out)
    [failure] = measured(bench, other, folder).failures
    assert message in failure.reason


def test_a_run_of_several_columns_is_refused(bench, tmp_path):
    task = planted("classes")
    folder = finetuning(tmp_path / "binders", task)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "label_columns": ["sticks", "melts"]}))
    [failure] = measured(bench, task, folder).failures
    assert "it learns sticks, melts at once: fine-tune on the task's column alone" in failure.reason
