"""What is planted is learnt by adapters on a trained member, not by a head on a random one, nor by chance."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curr_ab.finetuning import cross_validate


def without_signal(path, folder):
    """The same pairs; labels go to other clones, those of residues to other residues of the chain."""
    randomness = np.random.default_rng(0)
    table = pq.read_table(path)
    for place, name in enumerate(table.column_names):
        values = table[name].to_pylist()
        if name == "label":
            of_clone = dict(zip(table["clone"].to_pylist(), values, strict=True))
            others = dict(zip(of_clone, randomness.permutation(list(of_clone.values())), strict=True))
            values = [str(others[clone]) for clone in table["clone"].to_pylist()]
        elif name.startswith("paratope"):
            values = ["".join(randomness.permutation(list(mask))) for mask in values]
        table = table.set_column(place, name, pa.array(values))
    shuffled = folder / "shuffled.parquet"
    pq.write_table(table, shuffled)
    return shuffled


@pytest.fixture
def score(make_recipe, tmp_path):
    def measured(task, metric, model, data, **changes):
        recipe = make_recipe(task, **{"folds": 1, **changes})
        rows = cross_validate(recipe, model, [data], tmp_path / f"run-{len(list(tmp_path.iterdir()))}")
        (value,) = (row.value for row in rows if row.metric == metric and "fold" not in row.details)
        return value

    return measured


def test_paratopes_are_learnt_by_adapters_alone(score, trained_member, random_member, planted, tmp_path):
    """Residues that touch in a loop stand outside of loops too: only their context tells them apart."""
    data = planted("paratope", 60)
    quick = {"epochs": 10, "learning_rate": 1e-2, "pairs_per_step": 4}
    assert score("paratope", "aupr", trained_member, data, **quick) > 0.7
    assert 0.2 < score("paratope", "aupr", random_member, data, method="frozen", **quick) < 0.7
    shuffled = without_signal(data, tmp_path)
    assert score("paratope", "auroc", trained_member, shuffled, **quick | {"epochs": 3}) < 0.6
