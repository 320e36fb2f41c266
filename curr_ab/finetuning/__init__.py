"""Fine-tuning for new tasks: recipes as data, adapters, folds that do not leak."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.finetuning.adapter import save_adapter
    from curr_ab.finetuning.cross_validation import cross_validate
    from curr_ab.finetuning.example_data import plant
    from curr_ab.finetuning.examples import Examples, read_examples
    from curr_ab.finetuning.folds import Fold, split_folds
    from curr_ab.finetuning.labelled_pairs import Example
    from curr_ab.finetuning.prediction import BatchPredictor, load_finetuned, predict
    from curr_ab.finetuning.recipe import Recipe
    from curr_ab.finetuning.recipe_files import resolve_recipe

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {
    "BatchPredictor": "prediction",
    "Example": "labelled_pairs",
    "Examples": "examples",
    "Fold": "folds",
    "Recipe": "recipe",
    "cross_validate": "cross_validation",
    "load_finetuned": "prediction",
    "plant": "example_data",
    "predict": "prediction",
    "read_examples": "examples",
    "resolve_recipe": "recipe_files",
    "save_adapter": "adapter",
    "split_folds": "folds",
}
__all__ = [
    "BatchPredictor",
    "Example",
    "Examples",
    "Fold",
    "Recipe",
    "cross_validate",
    "load_finetuned",
    "plant",
    "predict",
    "read_examples",
    "resolve_recipe",
    "save_adapter",
    "split_folds",
]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, extra="finetune")
