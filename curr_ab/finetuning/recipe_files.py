"""Recipes by name or file: those that come with the package, one's own like another, and that of a run."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from curr_ab.finetuning.recipe import Recipe
from curr_ab.options import check_names, read_yaml, unknown


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(files("curr_ab.finetuning"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def resolve_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by name or a recipe of one's own by path, changed by `overrides`.

    A file may begin with `like: NAME`, another recipe whose values it changes.
    """
    given = dict(overrides or {})
    check_names(given, Recipe, "recipe")
    return Recipe(**_changed(_read(name_or_path), given))


def recorded_recipe(path: Path) -> Recipe:
    """The recipe of a run; one that began before an option existed did without it."""
    return Recipe(**{"start": "random", "fewest_steps": 0, **_read(path)})


def _read(name_or_path: str | Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    shipped = shipped_recipes()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise ValueError(f"{unknown('recipe', str(name_or_path), shipped)} or name a YAML file")
    if path in seen:
        raise ValueError(f"{path} is `like` itself; name another recipe there, or none")
    given = read_yaml(path)
    like = given.pop("like", None)
    check_names(given, Recipe, "recipe", str(path))
    base = {} if like is None else _read(like, (*seen, path))
    return _changed(base, {"name": path.stem, **given})


def _changed(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The base with what is given; scheme and groups go together, so that one of them says both."""
    implied: dict[str, Any] = {}
    if given.get("fold_scheme") == "rows":
        implied["group_by"] = None
    elif given.get("group_by") is not None:
        implied["fold_scheme"] = "grouped"
    if given.get("label_column") is not None:
        implied["label_columns"] = ()
    return {**base, **implied, **given}
