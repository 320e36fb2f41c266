"""The table of recipes in docs/how-to/finetune.md is that of the code."""

import re
from pathlib import Path

from curr_ab.finetuning import resolve_recipe
from curr_ab.finetuning.recipe_files import shipped_recipes

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "how-to" / "finetune.md").read_text()


def test_table_of_recipes():
    rows = re.findall(r"^\| `([a-z-]+)` \| .* \| (\d+) \| (\d+) \| (\w+) \|$", TEXT, re.MULTILINE)
    assert {name for name, *_ in rows} == set(shipped_recipes())
    for name, epochs, pairs, groups in rows:
        recipe = resolve_recipe(name)
        held_apart = f"{recipe.group_by}s" if recipe.group_by else "nothing"
        assert (str(recipe.epochs), str(recipe.pairs_per_step), held_apart) == (epochs, pairs, groups)
