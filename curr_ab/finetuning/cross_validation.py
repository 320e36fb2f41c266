"""Cross-validation: a fit for each fold, measured on what it has not seen, and a last fit on everything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor

from curr_ab.checkpoints import load_tokenizer
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.objects import files_of
from curr_ab.data.reading.sources import expand_sources
from curr_ab.finetuning.adapter import save_adapter, without_folders
from curr_ab.finetuning.batches import Rows, TokenRows, answers_of, right_answers
from curr_ab.finetuning.examples import read_examples
from curr_ab.finetuning.features import FeatureRows, pooled_features, probe
from curr_ab.finetuning.fit import Fit, steps_per_epoch
from curr_ab.finetuning.folds import Fold, hold_out_validation, split_folds
from curr_ab.finetuning.model import (
    build_model,
    describe_trainable,
    earlier_name,
    find_base,
    model_config,
    model_with,
    trained_weights,
)
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.run_folder import (
    FinetuningFolder,
    FitFolder,
    fold_results,
    mean_results,
    shown_column,
    write_predictions,
)
from curr_ab.measures.fold_figures import draw_figures
from curr_ab.number_types import training_precision
from curr_ab.results import Result, read_results, write_results
from curr_ab.training.costs import choose_attention, default_micro_batch, takes_packed_rows
from curr_ab.training.processes import training_processes, whole_group
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
) -> list[Result]:
    """Fit and measure each fold, from where the run in `out` stands; results of the folds and their means.

    `model` is a member, a folder or a repository; `data` are files or objects, as `read_pairs` takes them,
    and `names` columns beside those that the recipe names. With `recipe.final` the folder `adapter` holds a
    last fit on all examples; `figures` are drawn into a folder of that name.
    """
    folder = FinetuningFolder(out)
    precision = training_precision(recipe.precision, folder.precision)
    recipe = replace(recipe, precision=precision.name)
    with (
        files_of(data) as sources,
        training_processes(folder.path, recipe.precision, recipe.trackers) as (accelerator, stop),
    ):
        run = CrossValidation(recipe, model, sources, folder, accelerator, names)
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
    ) -> None:
        self.recipe, self.folder, self.accelerator = recipe, folder, accelerator
        with accelerator.main_process_first():  # it downloads, the others find it
            self.base = find_base(model)
            self.examples = read_examples(recipe, data, names=names)
        self.folds = split_folds(self.examples, recipe)
        self.sources = [without_folders(source) for source in expand_sources(data)]
        device = accelerator.device
        dropout = model_config(recipe, self.base.source).attention_probs_dropout_prob
        self.attention = choose_attention(recipe.attention, recipe.precision, device, dropout)
        self.rows = TokenRows(self.examples.items, recipe, pad=not takes_packed_rows(self.attention, device))
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
            name = folder.begin(recipe, identity, self.folds, earlier_name(model))
            if name != self.base.name:  # the results of one run have one name
                self.base = replace(self.base, name=name)
        start_trackers(accelerator, {**recipe.to_dict(), "model": self.base.name})
        accelerator.wait_for_everyone()

    def run(self, stop: StopRequest) -> list[Result]:
        """Do what is not done yet; all results."""
        for fold in self.folds:
            folder = self.folder.fold(fold.number)
            if not folder.results_file.exists():
                self.fit_fold(fold, folder, stop)
        results = [
            row for fold in self.folds for row in read_results(self.folder.fold(fold.number).results_file)
        ]
        means = mean_results(results)
        results += means
        if self.accelerator.is_main_process:
            write_results(self.folder.results_file, results)
        for row in means:
            self.say(f"{row.metric:<18} {row.shown}{shown_column(row)}")
        if self.recipe.final and self.recipe.method != "probe" and not self.folder.adapter.exists():
            self.fit_everything(results, stop)
        return results

    def fit_fold(self, fold: Fold, folder: FitFolder, stop: StopRequest) -> None:
        """Fit, predict what the model has not seen, and write it; the results come last."""
        if self.recipe.method == "probe":
            predictions = probe(self.recipe, self.features(), self.examples, fold)
            fit = None
        else:
            fit = self.fitted(fold, folder, stop, f"fold {fold.number} of {len(self.folds)}")
            predictions = fit.right.meaning(fit.predict(fold.test))
        weights = None if fit is None else trained_weights(fit.whole)
        if self.accelerator.is_main_process:
            tested = self.examples.take(fold.test)
            dataset = f"{' '.join(self.sources)} {self.examples.fingerprint[:12]}"
            results = fold_results(self.recipe, self.base, dataset, fold.number, tested, predictions)
            write_predictions(folder.predictions_file, self.recipe, tested, predictions)
            if fit is not None and weights is not None:
                self.save(folder.adapter, fit, weights, results)
            write_results(folder.results_file, results)
            folder.drop_states()
            metrics = ", ".join(f"{row.metric} {row.shown}" for row in results if not shown_column(row))
            self.say(f"fold {fold.number} of {len(self.folds)}: {metrics}")
            self.accelerator.log(
                {f"{folder.path.name}/{row.metric}{shown_column(row)}": row.value for row in results},
                step=self.steps_before(fold) + self.recipe.epochs * steps_per_epoch(self.recipe, fold),
            )
        self.finish()

    def fit_everything(self, results: Sequence[Result], stop: StopRequest) -> None:
        """The adapter of the whole folder; it is measured by the folds, so it needs no test part."""
        train, validation = hold_out_validation(self.examples, self.recipe)
        everything = Fold(0, train, validation, np.zeros(0, np.int64))
        folder = self.folder.final
        fit = self.fitted(everything, folder, stop, "everything")
        weights = trained_weights(fit.whole)
        if self.accelerator.is_main_process:
            self.save(folder.adapter, fit, weights, [row for row in results if "fold" not in row.details])
            folder.drop_states()
        self.finish()

    def fitted(self, fold: Fold, folder: FitFolder, stop: StopRequest, title: str) -> Fit:
        """A fit at its best epoch, from where its folder stands."""
        recipe = self.recipe
        model = build_model(recipe, self.base.source, self.attention, fold.number)
        training = answers_of(fold.train, self.rows.answer_ends)
        right = right_answers(self.examples, recipe, training)
        self.say(f"{title}: {describe_trainable(model)}")
        rows: Rows = self.rows
        most_at_once = self.most_at_once
        if recipe.method == "frozen" and recipe.target != "residues":
            rows, most_at_once = FeatureRows(self.features(model)), recipe.pairs_per_step
        if recipe.loss == "ranking":  # it compares all pairs of a step
            most_at_once = max(most_at_once, recipe.pairs_per_step)
        fit = Fit(
            recipe,
            self.accelerator,
            model=model,
            rows=rows,
            right=right,
            fold=fold,
            folder=folder,
            most_at_once=most_at_once,
            steps_before=self.steps_before(fold),
        )
        fit.run(stop, title)
        if recipe.loss in ("ranking", "ordinal"):
            fit.right = right.finished(fit.predict(fold.train), training)
        return fit

    def steps_before(self, fold: Fold) -> int:
        """Steps of the fits before this one, as if none had stopped early; the fit on everything is last."""
        before = self.folds[: fold.number - 1] if fold.number else self.folds
        return self.recipe.epochs * sum(steps_per_epoch(self.recipe, earlier) for earlier in before)

    def features(self, model: Any = None) -> Tensor:
        """Features of every pair by the frozen base, computed once for all folds."""
        if self._features is None:
            model = model or build_model(self.recipe, self.base.source, self.attention)
            group = whole_group(self.accelerator)
            base = model.get_base_model() if hasattr(model, "get_base_model") else model
            self._features = pooled_features(base, self.rows, self.accelerator, group, self.most_at_once)
        return self._features

    def save(self, folder: Path, fit: Fit, weights: dict[str, Tensor], results: Sequence[Result]) -> None:
        """An adapter's folder, or a whole checkpoint where everything was trained."""
        recipe = self.recipe
        save_adapter(
            model_with(weights, recipe, self.base.source, fit.right),
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
            },
            folds={
                "folds": recipe.folds,
                "scheme": recipe.fold_scheme,
                "group_by": recipe.group_by or "none",
            },
        )

    def say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Leave nothing of a fit in memory, together."""
        self.accelerator.free_memory()
        self.accelerator.wait_for_everyone()
