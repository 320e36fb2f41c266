"""Recipes: the shipped ones say what was published, and a wrong one is refused with the way out."""

import re
from dataclasses import fields

import pytest
import yaml

from curr_ab.finetuning import Recipe, resolve_recipe
from curr_ab.finetuning.recipe import shipped_recipes

CLASSES = {"labels": ["HD", "CoV"], "group_by": "donor"}


def test_shipped_recipes():
    assert list(shipped_recipes()) == [
        "affinity",
        "developability",
        "pairing",
        "paratope",
        "specificity-binary",
        "specificity-multiclass",
    ]
    for name, path in shipped_recipes().items():
        recipe = resolve_recipe(name)
        assert recipe.name == name
        assert recipe.method == "lora"
        assert len(path.read_text().splitlines()) <= 12


@pytest.mark.parametrize(
    ("name", "labels", "epochs", "pairs_per_step"),
    [
        ("specificity-binary", ("HD", "CoV"), 3, 32),
        ("specificity-multiclass", ("HD", "Flu", "CoV"), 5, 8),
        ("pairing", ("shuffled", "native"), 50, 32),
    ],
)
def test_published_hyper_parameters(name, labels, epochs, pairs_per_step):
    """github brineylab/AbLMs-scaling-laws; the paper froze the base and split by rows."""
    recipe = resolve_recipe(name, {"method": "frozen", "fold_scheme": "rows"})
    assert (recipe.labels, recipe.epochs, recipe.pairs_per_step) == (labels, epochs, pairs_per_step)
    assert recipe.peak_learning_rate == 5e-5
    assert recipe.warmup_fraction == 0.1
    assert recipe.max_residues == 315
    assert (recipe.folds, recipe.seed, recipe.pooling) == (5, 42, "cls")
    assert resolve_recipe(name, {"method": "full"}).peak_learning_rate == 5e-5


def test_folds_hold_groups_apart_unless_asked():
    for name in ("specificity-binary", "specificity-multiclass", "pairing", "paratope"):
        assert resolve_recipe(name).fold_scheme == "grouped"
        assert resolve_recipe(name, {"fold_scheme": "rows"}).group_by is None
    assert resolve_recipe("affinity", {"group_by": "clone"}).fold_scheme == "grouped"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"epoch": 3}, "unknown recipe option 'epoch'; did you mean epochs?"),
        ({"epochs": "three"}, "epochs must be a whole number; got 'three'"),
        ({"epochs": 0}, "epochs must be above 0; got 0"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
        ({"labels": "HD"}, "labels must be a list; got 'HD'"),
        ({"labels": [False, True]}, "YAML reads no, yes, false and true as truth values: quote them"),
        ({"labels": ["HD"]}, "labels must be at least two for the target classes, such as [HD, CoV]; got HD"),
        ({"labels": ["HD", "hd"]}, "labels must be different; got HD, hd"),
        ({"target": "residues", "labels": list("abcdefghijk")}, "labels must be at most 10 for residues"),
        ({"target": "number"}, "labels must be none for the target number"),
        (
            {"target": "number", "labels": [], "class_weights": "balanced"},
            "class_weights must be none",
        ),
        ({"method": "adapter"}, "method must be one of lora, dora, frozen, full, probe; got 'adapter'"),
        ({"features": "median"}, "features must be one of auto, mean-per-chain, "),
        ({"features": "mean", "target": "residues"}, "features must be one of auto, residue, middle-layer"),
        ({"warmup_fraction": 1.0}, "warmup_fraction must be at least 0 and below 1; got 1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0; got 0.0"),
        ({"group_by": None}, "group_by must name a column such as donor or clone for grouped folds"),
        (
            {"fold_scheme": "rows", "group_by": "donor"},
            "group_by must be none for fold_scheme rows",
        ),
        ({"negatives": "shuffled", "labels": ["a", "b", "c"]}, "with two labels"),
        ({"negatives": "matched", "target": "residues"}, "negatives must be given, or the target classes"),
        ({"validation_fraction": 0}, "validation_fraction must be above 0 and at most 0.5; got 0.0"),
        ({"validation_fraction": 0.6}, "must be above 0 and at most 0.5; got 0.6"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number; got nan"),
        ({"max_gradient_norm": "inf"}, "max_gradient_norm must be a finite number; got inf"),
        ({"target_modules": []}, "for lora; got none"),
        ({"target_modules": ["lm_head.dense"]}, "target_modules must be some of attention.self.query"),
    ],
)
def test_refused(values, problem, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(CLASSES | values))
    with pytest.raises(ValueError, match=re.escape(problem)):
        resolve_recipe(path)


def test_own_recipe(tmp_path):
    path = tmp_path / "binders.yaml"
    path.write_text("like: specificity-binary\nlabels: [0, 1]\nlearning_rate: 1e-4\n")
    recipe = resolve_recipe(path, {"epochs": 7})
    assert recipe.name == "binders"
    assert recipe.labels == ("0", "1")
    assert (recipe.peak_learning_rate, recipe.epochs, recipe.pairs_per_step) == (1e-4, 7, 32)


def test_where_a_recipe_is_looked_for(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"unknown recipe 'specificity'; did you mean specificity-binary\?",
    ):
        resolve_recipe("specificity")
    path = tmp_path / "circle.yaml"
    path.write_text(f"like: {path}\n")
    with pytest.raises(ValueError, match="is `like` itself"):
        resolve_recipe(path)


def test_written_and_read_again(tmp_path):
    recipe = resolve_recipe("pairing", {"negatives": "matched", "early_stopping": 3})
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.to_dict()))
    assert resolve_recipe(path) == recipe


def test_what_may_change_when_a_run_goes_on():
    one, other = (
        resolve_recipe("affinity", {"pairs_per_micro_batch": size, "rank": size}) for size in (2, 4)
    )
    assert other.differences(one) == ["rank 2 → 4"]


def test_every_field_is_explained():
    explained = {one.name: one.metadata["help"] for one in fields(Recipe)}
    assert list(explained) == list(Recipe.__dataclass_fields__)
    assert all(explained.values())
