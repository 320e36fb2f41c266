"""Probes of a run: features of all its examples, kept in its folder, and the regressions of its parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator

from curr_ab.checkpoint_files import CheckpointSource
from curr_ab.checkpoints import load
from curr_ab.files import replacing, write_json
from curr_ab.finetuning.batches import answers_of
from curr_ab.finetuning.contenders import inner_families
from curr_ab.finetuning.examples import Examples, Indices
from curr_ab.finetuning.label_counts import label_table, weight_table
from curr_ab.finetuning.model import model_config
from curr_ab.finetuning.probe_model import ProbeModel
from curr_ab.finetuning.recipe import Recipe
from curr_ab.probes.feature_names import RESIDUE_FEATURES, features_for
from curr_ab.probes.member_features import member_features, residue_features
from curr_ab.probes.regression import Choice, Regression, choose_regression
from curr_ab.training.stop import Interrupted, StopRequest

PAIRS_PER_PART = 1_024  # that a killed run computes anew at most
CHOICE = "probe.json"
Array = npt.NDArray[np.float32]


class ProbeFits:
    """The features of a run's examples by the frozen base, and regressions on them."""

    def __init__(
        self,
        recipe: Recipe,
        base: CheckpointSource,
        examples: Examples,
        answer_ends: Indices,
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        self.recipe, self.base, self.examples = recipe, base, examples
        self.answer_ends, self.folder, self.accelerator = answer_ends, folder, accelerator
        self._loaded: tuple[Any, Any] | None = None
        self._features: dict[str, Array] | None = None
        if recipe.features != "auto":
            self.names: tuple[str, ...] = (recipe.features,)
        elif recipe.target == "residues":
            self.names = RESIDUE_FEATURES
        else:
            self.names = features_for(causal=model_config(recipe, base.source).is_decoder)
        self.labels = label_table(examples.items, recipe)
        self.weights = weight_table(examples.items, recipe)

    def choose(self, examples: Indices) -> Choice:
        """The regression that these examples alone choose."""
        rows = answers_of(examples, self.answer_ends)
        return choose_regression(
            {name: values[rows] for name, values in self.features().items()},
            self.labels[rows],
            target=self.recipe.target,
            num_classes=len(self.recipe.labels),
            groups=self._groups(examples),
            weights=self.weights[rows],
            balanced=self.recipe.class_weights == "balanced",
            seed=self.recipe.seed,
        )

    def predict(self, choice: Choice, examples: Indices) -> npt.NDArray[np.float64]:
        """Probabilities or numbers of these examples, a row for each answer."""
        rows = answers_of(examples, self.answer_ends)
        return choice.regression.predict(self.features()[choice.features][rows])

    def model(self, regression: Regression, features: str) -> ProbeModel:
        """The base with this regression on these features."""
        recipe = self.recipe
        return ProbeModel(
            self._base()[0],
            regression,
            features,
            recipe.target,
            recipe.outputs or (recipe.label_column,),
        )

    def features(self, stop: StopRequest | None = None) -> dict[str, Array]:
        """The features of all answers by name, computed once: each process computes some parts."""
        if self._features is None:
            paths = [self._path(first) for first in range(0, len(self.examples), PAIRS_PER_PART)]
            process, num_processes = self.accelerator.process_index, self.accelerator.num_processes
            for first in range(0, len(paths), num_processes):
                number = first + process
                if number < len(paths) and not paths[number].exists():
                    self._write(paths[number], number * PAIRS_PER_PART)
                if stop is not None:
                    obey(stop, self.accelerator)
            self.accelerator.wait_for_everyone()
            self._features = _read(paths, self.names)
        return self._features

    def _groups(self, examples: Indices) -> Sequence[Hashable]:
        """What the inner folds hold apart, for each answer: families, or at least equal pairs."""
        counts = np.diff(self.answer_ends, prepend=0)
        of_example = inner_families(self.recipe, self.examples)
        groups: list[int] = np.repeat(of_example[examples], counts[examples]).tolist()
        return groups

    def _path(self, first: int) -> Path:
        """The file of a part, named after all that its content follows from."""
        part = self.examples.take(range(first, min(first + PAIRS_PER_PART, len(self.examples))))
        content = [self.base.digest, self.recipe.target, self.names, [(one.heavy, one.light) for one in part]]
        return self.folder / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]}.safetensors"

    def _write(self, path: Path, first: int) -> None:
        from safetensors.numpy import save_file

        model, tokenizer = self._base()
        part = self.examples.take(range(first, min(first + PAIRS_PER_PART, len(self.examples))))
        pairs = [(one.heavy or None, one.light or None) for one in part]
        if self.recipe.target == "residues":
            lists = residue_features(model, tokenizer, pairs, self.names)
            found = {name: np.concatenate(values) for name, values in lists.items()}
        else:
            found = member_features(model, tokenizer, pairs, self.names)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(found, temporary)

    def _base(self) -> tuple[Any, Any]:
        if self._loaded is None:
            # Always float32: bfloat16 would move what a regression sees by more than small effects are.
            self._loaded = load(
                self.base.source, head="none", device=self.accelerator.device, dtype=torch.float32
            )
        return self._loaded


def obey(stop: StopRequest, accelerator: Accelerator) -> None:
    """End the run, on all processes together, where one was asked to stop; what is done is on disk."""
    if signal := stop.agreed(accelerator, due=True):
        raise Interrupted("stopped between two parts of a probe; the same command goes on", signal)


def write_choice(path: Path, choice: Choice) -> None:
    """The features that were chosen, and the share that each explained of what inner folds left out."""
    write_json(path, {"features": choice.features, "scores": dict(choice.scores)})


def _read(paths: list[Path], names: tuple[str, ...]) -> dict[str, Array]:
    from safetensors.numpy import load_file

    parts = [load_file(path) for path in paths]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
