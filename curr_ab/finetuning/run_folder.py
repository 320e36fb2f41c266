"""The folder of a fine-tuning: recipe, data, folds, and a folder for each fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from curr_ab.data.atomic import replacing, write_json
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.recipe import Recipe, resolve_recipe
from curr_ab.pretraining.run_folder import forget_lines_after, log_line
from curr_ab.pretraining.state import complete_states


class FitFolder:
    """Where everything of one fit lies; it is done when its results, or the last adapter, are there."""

    def __init__(self, path: Path, adapter: Path) -> None:
        self.path = path
        self.adapter = adapter
        self.log_file = path / "log.jsonl"
        self.predictions_file = path / "predictions.parquet"
        self.results_file = path / "results.json"
        self.states = path / "states"
        self.best = path / "best"

    @property
    def newest_state(self) -> Path | None:
        states = complete_states(self.states)
        return states[-1] if states else None

    @property
    def best_state(self) -> Path | None:
        states = complete_states(self.best)
        return states[-1] if states else None

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line."""
        log_line(self.log_file, dict(entry))

    def forget_after(self, step: int) -> None:
        """Drop what the log tells of steps after the state from which the fit goes on."""
        forget_lines_after(self.log_file, step)

    def read_log(self) -> list[dict[str, Any]]:
        """One line for each epoch."""
        if not self.log_file.exists():
            return []
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def drop_states(self) -> None:
        """What nobody goes on from any more."""
        for folder in (self.states, self.best):
            shutil.rmtree(folder, ignore_errors=True)


class FinetuningFolder:
    """Where everything of a cross-validation lies."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.data_file = self.path / "data.json"
        self.folds_file = self.path / "folds.json"
        self.results_file = self.path / "results.json"
        self.figures = self.path / "figures"
        self.adapter = self.path / "adapter"

    def fold(self, number: int) -> FitFolder:
        folder = self.path / f"fold-{number}"
        return FitFolder(folder, folder / "adapter")

    @property
    def final(self) -> FitFolder:
        """The fit on everything; its adapter is that of the whole folder."""
        return FitFolder(self.path / "final", self.adapter)

    def begin(self, recipe: Recipe, data: dict[str, Any], folds: Sequence[Fold]) -> None:
        """Record recipe, data and folds, or make sure that those of what is here are the same."""
        if self.recipe_file.exists():
            if not self.data_file.exists():
                raise ValueError(f"{self.path} holds a recipe.yaml but no run; choose another folder")
            changed = recipe.differences(resolve_recipe(self.recipe_file))
            before = json.loads(self.data_file.read_text())
            changed += [
                f"{key} {before.get(key)!r} → {data[key]!r}" for key in data if before.get(key) != data[key]
            ]
            if changed:
                raise ValueError(
                    f"{self.path} holds a fine-tuning of another kind ({'; '.join(changed)}); "
                    f"repeat it as it was, or choose another folder"
                )
        write_json(self.data_file, data)
        parts = ("train", "validation", "test")
        write_json(
            self.folds_file,
            [
                {"number": fold.number} | {part: getattr(fold, part).tolist() for part in parts}
                for fold in folds
            ],
        )
        with replacing(self.recipe_file) as temporary:
            temporary.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False))
