"""The gene-only baseline of pairing: it sees genes that go together, and nothing where none do."""

from dataclasses import replace

import numpy as np
import pytest
from support.benchmark_files import write_table

from curr_ab.benchmark.tasks.catalogue import read_task
from curr_ab.benchmark.tasks.gene_pairs import gene_pair_scores
from curr_ab.finetuning import plant
from curr_ab.measures.modules.classification.core import auroc


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Native pairs all of which have the light family that goes with their heavy one."""
    rows = plant("pairing", 400).select(["id", "heavy", "light"]).to_pylist()
    return read_task("pairing", [write_table(tmp_path_factory.mktemp("genes") / "own.csv", rows)], folds=3)[0]


def measured(task):
    return float(auroc(task.labels, np.stack([-gene_pair_scores(task), gene_pair_scores(task)], axis=1)))


def test_genes_that_go_together_are_seen(task):
    assert measured(task) > 0.6


def test_exchanged_labels_tell_nothing(task):
    random = np.random.default_rng(0)
    values = [measured(replace(task, labels=random.permutation(task.labels))) for _ in range(4)]
    assert abs(np.mean(values) - 0.5) < 0.06


def test_labels_of_the_test_part_are_not_looked_at(task):
    _, test = task.folds[0]
    labels = task.labels.copy()
    labels[test] = 1 - labels[test]
    changed = gene_pair_scores(replace(task, labels=labels))
    assert changed[test].tolist() == gene_pair_scores(task)[test].tolist()
