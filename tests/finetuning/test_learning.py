"""What is planted is learnt by adapters on a trained member, not by a head on a random one, nor by chance."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curr_ab import CurrAbConfig, CurrAbForMaskedLM, CurrAbTokenizer
from curr_ab.data import PreparationPlan, prepare
from curr_ab.finetuning import cross_validate, plant, read_examples, resolve_recipe
from curr_ab.pretraining import pretrain, resolve_plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]  # two minutes of pretraining, ten of fine-tuning

TINY = Path(__file__).parents[2] / "train_scripts" / "plans" / "tiny.yaml"
COMMON = {
    "method": "lora",
    "folds": 1,
    "final": False,
    "precision": "fp32",
    "adapter_dropout": 0.0,
    "learning_rate": 3e-3,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The tiny plan's member after its training on the built-in corpus."""
    folder = tmp_path_factory.mktemp("trained")
    prepare("builtin", folder / "data", PreparationPlan(cluster="source"))
    return pretrain(resolve_plan({"data": str(folder / "data")}, [TINY]), folder / "run")


@pytest.fixture(scope="module")
def untrained(trained, tmp_path_factory):
    """The same shape with random weights."""
    folder = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(5)
    CurrAbForMaskedLM(CurrAbConfig.from_pretrained(trained)).save_pretrained(folder)
    CurrAbTokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def score(tmp_path):
    """A metric of the test part after a fit on labelled pairs."""

    def measured(task, metric, model, table, **changes):
        place = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        place.mkdir()
        pq.write_table(table, place / "pairs.parquet")
        recipe = resolve_recipe(task, {**COMMON, **changes})
        rows = cross_validate(recipe, model, [place / "pairs.parquet"], place / "run")
        (value,) = (row.value for row in rows if row.metric == metric and "fold" not in row.details)
        return value

    return measured


def without_signal(table):
    """The same pairs; labels go to other clones, those of residues to other residues of the chain."""
    randomness = np.random.default_rng(0)
    clones = table["clone"].to_pylist()
    for place, name in enumerate(table.column_names):
        values = table[name].to_pylist()
        if name == "label":
            of_clone = dict(zip(clones, values, strict=True))
            others = dict(zip(of_clone, randomness.permutation(list(of_clone.values())), strict=True))
            values = [str(others[clone]) for clone in clones]
        elif name.startswith("paratope"):
            values = ["".join(randomness.permutation(list(mask))) for mask in values]
        table = table.set_column(place, name, pa.array(values))
    return table


def test_a_motif_in_the_cdrh3_is_learnt_by_adapters_alone(score, trained, untrained):
    table = plant("specificity-binary", 600)
    how = {"epochs": 10, "pairs_per_step": 16, "pooling": "mean"}
    assert score("specificity-binary", "mcc", trained, table, **how) > 0.9
    # A random base counts residues, of which the motif is some.
    assert score("specificity-binary", "mcc", untrained, table, method="frozen", **how) < 0.7
    # Both halves are tested: a fifth has 43 clones, among which chance reaches 0.3.
    assert abs(score("specificity-binary", "mcc", trained, without_signal(table), folds=2, **how)) < 0.25


def test_paratopes_are_learnt_by_adapters_alone(score, trained, untrained):
    """Residues that touch in a loop stand outside of loops too: only their context tells them apart."""
    table = plant("paratope", 100)
    how = {"epochs": 10, "pairs_per_step": 4}
    assert score("paratope", "aupr", trained, table, **how) > 0.9
    assert score("paratope", "aupr", untrained, table, method="frozen", **how) < 0.7
    shuffled = score("paratope", "auroc", trained, without_signal(table), **how | {"epochs": 3})
    assert 0.4 < shuffled < 0.6


def test_native_pairing_is_learnt_by_adapters_alone(score, trained, untrained):
    table = plant("pairing", 2_000)
    how = {"pooling": "mean_per_chain", "pairs_per_step": 16, "learning_rate": 1e-3}
    assert score("pairing", "accuracy", trained, table, epochs=10, **how) > 0.7
    assert score("pairing", "accuracy", untrained, table, epochs=10, method="frozen", **how) < 0.6


def test_native_pairing_is_not_learnt_where_nothing_tells_it(score, trained, tmp_path):
    """The same pairs and negatives, their labels by chance."""
    table = plant("pairing", 2_000)
    pq.write_table(table, tmp_path / "natives.parquet")
    examples = list(read_examples(resolve_recipe("pairing"), [tmp_path / "natives.parquet"]))
    labels = np.random.default_rng(0).permutation(["native", "shuffled"] * (len(examples) // 2))
    by_chance = pa.table(
        {
            "heavy": [one.heavy for one in examples],
            "light": [one.light for one in examples],
            "donor": [one.group for one in examples],
            "label": labels.tolist(),
        }
    )
    how = {"pooling": "mean_per_chain", "pairs_per_step": 16, "epochs": 30, "method": "frozen"}
    assert score("pairing", "accuracy", trained, table, **how) > 0.75
    assert 0.44 < score("pairing", "accuracy", trained, by_chance, negatives="given", **how) < 0.56
