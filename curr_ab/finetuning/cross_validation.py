"""Cross-validation: a fit for each fold, predictions for what it has not seen, and a last fit on everything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from curr_ab.finetuning.adapting import build_model, describe_trainable, model_config
from curr_ab.finetuning.base_model import BaseModel
from curr_ab.finetuning.examples import read_examples
from curr_ab.finetuning.fitting import Fit
from curr_ab.finetuning.folds import Fold, hold_out_validation, split_folds
from curr_ab.finetuning.labelled_batches import Group, Rows, TokenRows, answers_of
from curr_ab.finetuning.outcome import Outcome, fold_results, mean_results, write_figures, write_predictions
from curr_ab.finetuning.pooled_features import FeatureRows, HeadOnFeatures, pooled_features
from curr_ab.finetuning.probing import probe
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.right_answers import right_answers
from curr_ab.finetuning.run_folder import FinetuningFolder, FitFolder
from curr_ab.finetuning.trained_weights import rebuilt, trained_weights
from curr_ab.pretraining.attention import choose_attention, takes_packed_rows
from curr_ab.pretraining.preview import default_micro_batch
from curr_ab.pretraining.processes import start_processes
from curr_ab.pretraining.run_folder import claimed
from curr_ab.pretraining.stopping import StopRequest
from curr_ab.results import Result, read_results, write_results


def cross_validate(
    recipe: Recipe, model: str | Path, data: Sequence[str | Path], out: str | Path
) -> list[Result]:
    """Fit and measure each fold, from where the run in `out` stands; results of the folds and their means.

    `model` is a member, a folder or a repository; `data` are files, or `hf://owner/name`. With `recipe.final`
    the folder `adapter` holds a last fit on all examples.
    """
    folder = FinetuningFolder(out)
    with ExitStack() as stack:
        stack.callback(AcceleratorState._reset_state, reset_partial_state=True)  # for another run here
        accelerator = start_processes(folder.path, recipe.precision)
        if accelerator.is_main_process:
            stack.enter_context(claimed(folder.path))
        stop = stack.enter_context(StopRequest())
        run = CrossValidation(recipe, model, [str(source) for source in data], folder, accelerator)
        return run.run(stop)


class CrossValidation:
    """Model, data and folds of a run, and what is shared among its fits."""

    def __init__(
        self,
        recipe: Recipe,
        model: str | Path,
        data: Sequence[str],
        folder: FinetuningFolder,
        accelerator: Accelerator,
    ) -> None:
        self.recipe, self.folder, self.accelerator = recipe, folder, accelerator
        with accelerator.main_process_first():  # it downloads, the others find it
            self.base = find_base(model)
            self.examples = read_examples(recipe, data)
        self.folds = split_folds(self.examples, recipe)
        self.sources = [Path(source).name for source in data]
        device = accelerator.device
        dropout = model_config(recipe, self.base.source).attention_probs_dropout_prob
        self.attention = choose_attention(recipe.attention, recipe.precision, device, dropout)
        self.rows = TokenRows(self.examples, recipe, pad=not takes_packed_rows(self.attention, device))
        self.most_at_once = recipe.pairs_per_micro_batch or default_micro_batch(device)
        self._features: Tensor | None = None
        if accelerator.is_main_process:
            for note in self.examples.notes:
                self.say(note)
            identity = {
                "examples": self.examples.fingerprint,
                "model": self.base.name,
                "checkpoint": self.base.digest,
            }
            folder.begin(recipe, identity, self.folds)
        accelerator.wait_for_everyone()

    def run(self, stop: StopRequest) -> list[Result]:
        """What is not done yet; then all results."""
        for fold in self.folds:
            place = self.folder.fold(fold.number)
            if not self.exists(place.results_file):
                self.fit_fold(fold, place, stop)
        results = [
            row for fold in self.folds for row in read_results(self.folder.fold(fold.number).results_file)
        ]
        results += mean_results(results)
        if self.recipe.final and self.recipe.method != "probe" and not self.exists(self.folder.adapter):
            self.fit_everything(results, stop)
        if self.accelerator.is_main_process:
            write_results(self.folder.results_file, results)
        return results

    def fit_fold(self, fold: Fold, place: FitFolder, stop: StopRequest) -> None:
        """Fit, predict what the model has not seen, and write it; the results come last."""
        if self.recipe.method == "probe":
            labels = np.array([one.label for one in self.examples])
            predictions = probe(self.recipe, self.features(), labels, fold)
            fit = None
        else:
            fit = self.fitted(fold, place, stop, f"fold {fold.number} of {len(self.folds)}")
            predictions = fit.right.meaning(fit.predict(fold.test))
        weights = None if fit is None else trained_weights(fit.whole)
        if self.accelerator.is_main_process:
            tested = self.examples.take(fold.test)
            dataset = f"{' '.join(self.sources)} {self.examples.fingerprint[:12]}"
            results = fold_results(self.recipe, self.base, dataset, fold.number, tested, predictions)
            write_predictions(place.predictions_file, self.recipe, tested, predictions)
            if fit is not None and weights is not None:
                self.save(place.adapter, fit, weights, results)
            write_results(place.results_file, results)
            place.drop_states()
            told = ", ".join(f"{row.metric} {row.value:.4f}" for row in results)
            self.say(f"fold {fold.number} of {len(self.folds)}: {told}")
        self.finish()
