"""Cross-validation: a fit for each fold, measured on what it has not seen, and a last fit on everything."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from curr_ab.checkpoints import load_tokenizer
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.objects import files_of
from curr_ab.data.reading.sources import expand_sources
from curr_ab.finetuning.adapter import save_adapter, without_folders
from curr_ab.finetuning.beside import compare_beside, write_comparisons, write_seconds
from curr_ab.finetuning.ensemble import EnsembleModel
from curr_ab.finetuning.examples import read_examples
from curr_ab.finetuning.fold_models import FoldModels
from curr_ab.finetuning.folds import Fold, hold_out_validation, split_folds
from curr_ab.finetuning.folds_beside import curve_of, is_beside, write_beside
from curr_ab.finetuning.further_sequences import FurtherSequences, read_further
from curr_ab.finetuning.learning_curve import CURVE
from curr_ab.finetuning.methods import ADAPTERS
from curr_ab.finetuning.model import earlier_name, find_base
from curr_ab.finetuning.probe_fit import obey
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.report import write_report
from curr_ab.finetuning.run_folder import (
    FinetuningFolder,
    FitFolder,
    fold_results,
    mean_results,
    shown_column,
    write_predictions,
)
from curr_ab.finetuning.uncertainty import Uncertainties, Uncertainty, measure_columns, measure_uncertainty
from curr_ab.measures.fold_figures import draw_figures
from curr_ab.number_types import Precision, training_precision
from curr_ab.results import Result, read_results, write_results
from curr_ab.training.processes import training_processes
from curr_ab.training.reporter import start_trackers
from curr_ab.training.stop import StopRequest


def cross_validate(
    recipe: Recipe,
    model: str | Path,
    data: Any,
    out: str | Path,
    *,
    names: ColumnNames | None = None,
    figures: bool = False,
    adapt_data: Any = (),
) -> list[Result]:
    """Fit and measure each fold, from where the run in `out` stands; results of the folds and their means.

    `model` is a member, a folder or a repository; `data` are files or objects, as `read_pairs` takes them,
    and `names` columns beside those that the recipe names. With `recipe.final` the folder `adapter` holds a
    last fit on all examples; `figures` are drawn into a folder of that name. `adapt_data` are files or
    objects without labels, for masked training before the head learns.
    """
    folder = FinetuningFolder(out)
    if recipe.method == "probe":
        precision = Precision(torch.float32, "the features of a probe are computed in it")
    else:
        precision = training_precision(recipe.precision, folder.precision)
    recipe = replace(recipe, precision=precision.name)
    with (
        files_of(data) as sources,
        files_of(adapt_data) as unlabelled,
        training_processes(folder.path, recipe.precision, recipe.trackers) as (accelerator, stop),
    ):
        run = CrossValidation(recipe, model, sources, folder, accelerator, names, unlabelled)
        run.say(f"{precision.name}: {precision.reason}")
        results = run.run(stop)
        if figures and accelerator.is_main_process:
            draw_figures(folder.path)
        return results


class CrossValidation:
    """Model, data and folds of a run, shared among its fits."""

    def __init__(
        self,
        recipe: Recipe,
        model: str | Path,
        data: Sequence[str],
        folder: FinetuningFolder,
        accelerator: Accelerator,
        names: ColumnNames | None = None,
        adapt_data: Sequence[str] = (),
    ) -> None:
        self.recipe, self.folder, self.accelerator = recipe, folder, accelerator
        with accelerator.main_process_first():  # it downloads, the others find it
            self.base = find_base(model)
            self.examples = read_examples(recipe, data, names=names)
            self.further: FurtherSequences = read_further(adapt_data, recipe)
        self.folds = split_folds(self.examples, recipe)
        self.sources = [without_folders(source) for source in expand_sources(data)]
        self.models = FoldModels(
            recipe, self.base, self.examples, self.folds, folder.path, accelerator, self.say, self.further
        )
        if accelerator.is_main_process:
            for note in (*self.examples.notes, *self.further.notes):
                self.say(note)
            identity = {
                "examples": self.examples.fingerprint,
                "model": self.base.name,
                "checkpoint": self.base.digest,
                "adapt_data": self.further.fingerprint,
            }
            name = folder.begin(recipe, identity, self.folds, earlier_name(model))
            if name != self.base.name:  # the results of one run have one name
                self.base = replace(self.base, name=name)
            if recipe.method == "auto":
                self.models.make_plan()
        start_trackers(accelerator, {**recipe.to_dict(), "model": self.base.name})
        accelerator.wait_for_everyone()

    def run(self, stop: StopRequest) -> list[Result]:
        """Do what is not done yet; all results."""
        done = [fold.number for fold in self.folds if self.folder.fold(fold.number).results_file.exists()]
        bare = [fold.number for fold in self.folds if not is_beside(self.folder.path, self.recipe, fold)]
        lacks_adapter = self.recipe.final and not self.folder.has_adapter(self.recipe)
        self.accelerator.wait_for_everyone()  # before one of the processes writes any of this
        for fold in self.folds:
            if fold.number not in done:
                self.fit_fold(fold, self.folder.fold(fold.number), stop)
            elif fold.number in bare:
                self.write_beside(fold, stop)
        results = [
            row for fold in self.folds for row in read_results(self.folder.fold(fold.number).results_file)
        ]
        means = mean_results(results)
        results += means
        if self.accelerator.is_main_process:
            write_results(self.folder.results_file, results)
        for row in means:
            self.say(f"{row.metric:<18} {row.shown}{shown_column(row)}")
        if lacks_adapter:
            self.fit_everything(results, stop)
        if self.wants_curve:
            self.models.probe.features(stop)  # of which each process computes a share
        if self.accelerator.is_main_process:
            self.report()
        self.accelerator.wait_for_everyone()
        return results

    @property
    def wants_curve(self) -> bool:
        """True where the learning curve is asked for and not measured yet."""
        return self.recipe.learning_curve and not (self.folder.path / CURVE).exists()

    def report(self) -> None:
        """The comparison with what stands beside the run, the learning curve, and the report of both."""
        columns = self.recipe.label_columns or (None,)
        found = [compare_beside(self.folder.path, self.recipe.method, column) for column in columns]
        write_comparisons(self.folder.path, found)
        if self.wants_curve:
            curve_of(self.recipe, self.models.contenders, self.folds).write(self.folder.path)
        write_report(self.folder.path)
        for comparison in found:
            self.say(comparison.sentence)

    def write_beside(self, fold: Fold, stop: StopRequest) -> None:
        """Predictions that stand beside those of a fold."""
        obey(stop, self.accelerator)
        self.models.probe.features(stop)  # of which each process computes a share
        if self.accelerator.is_main_process:
            write_beside(self.folder.path, self.recipe, self.examples, self.models.contenders, fold)

    def fit_fold(self, fold: Fold, folder: FitFolder, stop: StopRequest) -> None:
        """Fit, predict what the model has not seen, and write it; the results come last."""
        self.write_beside(fold, stop)
        began = time.perf_counter()
        title = f"fold {fold.number} of {len(self.folds)}"
        recipe, model, predictions = self.models.of(fold, folder, stop, title)
        if self.accelerator.is_main_process:
            tested = self.examples.take(fold.test)
            dataset = f"{' '.join(self.sources)} {self.examples.fingerprint[:12]}"
            results = fold_results(self.recipe, self.base, dataset, fold.number, tested, predictions)
            write_predictions(folder.predictions_file, self.recipe, tested, predictions)
            self.save(recipe, folder.adapter, model(), results)
            self.models.forget()
            write_seconds(folder.path, time.perf_counter() - began)
            write_results(folder.results_file, results)
            folder.drop_states()
            metrics = ", ".join(f"{row.metric} {row.shown}" for row in results if not shown_column(row))
            self.say(f"fold {fold.number} of {len(self.folds)}: {metrics}")
            self.accelerator.log(
                {f"{folder.path.name}/{row.metric}{shown_column(row)}": row.value for row in results},
                step=self.models.trained.steps_before(fold) + self.models.trained.steps_of(fold),
            )
        self.finish()

    def fit_everything(self, results: Sequence[Result], stop: StopRequest) -> None:
        """The adapter of the whole folder; it is measured by the folds, so it needs no test part."""
        if self.recipe.ensemble == "folds":
            if self.accelerator.is_main_process:
                self.save_ensemble(results)
            self.finish()
            return
        train, validation = hold_out_validation(self.examples, self.recipe)
        everything = Fold(0, train, validation, np.zeros(0, np.int64))
        folder = self.folder.final
        recipe, model, _ = self.models.of(everything, folder, stop, "everything")
        if self.accelerator.is_main_process:
            sure = self.uncertainty()
            self.say(sure.summary)
            means = [row for row in results if "fold" not in row.details]
            self.save(recipe, folder.adapter, model(), means, sure)
            folder.drop_states()
        self.finish()

    def save_ensemble(self, results: Sequence[Result]) -> None:
        """The models of the folds as the adapter of the whole folder."""
        from curr_ab.finetuning.prediction import load_finetuned

        folders = [self.folder.fold(fold.number).adapter for fold in self.folds]
        members = (load_finetuned(folder, device="cpu")[0] for folder in folders)
        sure = self.uncertainty()
        self.say(sure.summary)
        means = [row for row in results if "fold" not in row.details]
        self.save(self.recipe, self.folder.adapter, EnsembleModel(members, folders), means, sure)

    def uncertainty(self) -> Uncertainty | Uncertainties:
        """How sure the last fit is, by what the folds had not seen."""
        pairs, keeps = [example.chains for example in self.examples], self.recipe.training_sequences
        if columns := self.recipe.label_columns:
            return measure_columns(self.folder.path, pairs, columns, keep_sequences=keeps)
        return measure_uncertainty(self.folder.path, pairs, keep_sequences=keeps)

    def save(
        self,
        recipe: Recipe,
        folder: Path,
        model: Any,
        results: Sequence[Result],
        uncertainty: Uncertainty | Uncertainties | None = None,
    ) -> None:
        """The folder of an adapter or a probe, or a whole checkpoint where everything was trained."""
        save_adapter(
            model,
            folder,
            tokenizer=load_tokenizer(self.base.source),
            recipe=recipe,
            base_model=self.base.source,
            label_names=recipe.outputs,
            results=results,
            data={
                "sources": self.sources,
                "fingerprint": self.examples.fingerprint,
                "examples": len(self.examples),
                "dropped": self.examples.num_dropped,
                **(self.further.facts if recipe.adapt_epochs and recipe.method in ADAPTERS else {}),
            },
            folds={
                "folds": recipe.folds,
                "scheme": recipe.fold_scheme,
                "group_by": recipe.group_by or "none",
            },
            uncertainty=uncertainty,
        )

    def say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Leave nothing of a fit in memory, together."""
        self.accelerator.free_memory()
        self.accelerator.wait_for_everyone()
