"""Recipes: the shipped ones say what was published, and a wrong one is refused with the way out."""

import re
from dataclasses import fields

import pytest
import yaml

from curr_ab.finetuning import Recipe, resolve_recipe
from curr_ab.finetuning.recipe_files import recorded_recipe, shipped_recipes

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
        assert recipe.method == "auto"
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
        ({"method": "adapter"}, "method must be one of auto, lora, dora, frozen, full, probe; got 'adapter'"),
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
        ({"target_modules": [], "method": "dora"}, "for dora; got none"),
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


def test_what_a_recipe_leaves_open_is_the_method_s():
    names = ("pooling", "start", "fewest_steps", "early_stopping")
    published = resolve_recipe("specificity-binary", {"method": "frozen"})
    assert [getattr(published, name) for name in names] == ["cls", "random", 0, 0]
    for method in ("lora", "dora", "full"):
        recipe = resolve_recipe("affinity", {"method": method})
        assert [getattr(recipe, name) for name in names] == ["mean_per_chain", "probe", 200, 4]
    assert resolve_recipe("paratope").start == "random"
    given = {"pooling": "mean", "start": "random", "fewest_steps": 7, "early_stopping": 0}
    assert [getattr(resolve_recipe("affinity", given), name) for name in names] == list(given.values())
    recorded = resolve_recipe("affinity").to_dict()
    assert None not in [recorded[name] for name in names]  # a run's recipe.yaml says all of them


@pytest.mark.parametrize(
    ("epochs", "fewest_steps", "steps_per_epoch", "expected"),
    [(3, 200, 9, 23), (3, 200, 100, 3), (3, 0, 1, 3), (20, 200, 10, 20)],
)
def test_small_data_get_more_epochs(epochs, fewest_steps, steps_per_epoch, expected):
    recipe = resolve_recipe("affinity", {"epochs": epochs, "fewest_steps": fewest_steps})
    assert recipe.num_epochs(steps_per_epoch) == expected


def test_the_recipe_of_an_earlier_run_did_without_later_options(tmp_path):
    values = resolve_recipe("affinity").to_dict()
    for later in ("start", "fewest_steps", "layers", "adapt_epochs"):
        del values[later]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    recipe = recorded_recipe(tmp_path / "recipe.yaml")
    assert (recipe.start, recipe.fewest_steps, recipe.layers, recipe.adapt_epochs) == ("random", 0, 0, 0)


def test_a_recipe_by_another_method_keeps_what_that_method_has():
    """What `auto` plans and tries are recipes of other methods, some of which have no adapters."""
    recipe = resolve_recipe("affinity", {"layers": 2, "adapt_epochs": 1})
    assert recipe.method == "auto"
    assert (recipe.as_method("lora").layers, recipe.as_method("lora").adapt_epochs) == (2, 1)
    for method in ("probe", "full", "frozen"):
        assert (recipe.as_method(method).layers, recipe.as_method(method).adapt_epochs) == (0, 0)
