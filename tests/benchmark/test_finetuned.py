"""A fine-tuning stands beside the models by what its folds said of unseen pairs."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support.benchmarks import PlantedPeer, planted

from curr_ab.benchmark import run as run_module
from curr_ab.benchmark.plan import Suite, TaskRequest


def finetuning(folder, task, *, leave_out=0):
    """The folder of a run in two folds that knows the labels well."""
    codes = np.arange(len(task) - leave_out)
    folds = []
    for number in (1, 2):
        own = codes[codes % 2 == number - 1]
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
        pq.write_table(pa.table(columns), path)
        folds.append({"number": number, "train": [], "validation": [], "test": own.tolist()})
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


@pytest.mark.parametrize(
    ("other", "leave_out", "message"),
    [
        (planted("classes"), 1, "got none of pair119"),
        (planted("classes", shuffled=True), 0, "the label of pair"),
        (planted("number"), 0, "must predict what planted-number asks for"),
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
