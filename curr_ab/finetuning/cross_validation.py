"""Cross-validation: a fit for each fold, measured on what it has not seen, and a last fit on everything."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from curr_ab.checkpoints import load_tokenizer
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.objects import files_of
from curr_ab.data.reading.sources import expand_sources
from curr_ab.finetuning.adaptation import adaptation_steps, adapted_weights, take_adapters
from curr_ab.finetuning.adapter import save_adapter, without_folders
from curr_ab.finetuning.auto import Auto
from curr_ab.finetuning.batches import RightAnswers, Rows, TokenRows, answers_of, right_answers
from curr_ab.finetuning.beside import compare_beside, write_seconds
from curr_ab.finetuning.choice import Choice
from curr_ab.finetuning.contenders import Contenders, answers_for, make_contenders
from curr_ab.finetuning.examples import Indices, read_examples
from curr_ab.finetuning.features import FeatureRows, pooled_features
from curr_ab.finetuning.fit import Fit, steps_of
from curr_ab.finetuning.folds import Fold, hold_out_validation, split_folds
from curr_ab.finetuning.folds_beside import curve_of, is_beside, whole_part, write_beside
from curr_ab.finetuning.learning_curve import CURVE
from curr_ab.finetuning.lower_layers import (
    StateRows,
    fits_in_memory,
    go_on_from_states,
    lower_states,
)
from curr_ab.finetuning.methods import ADAPTERS
from curr_ab.finetuning.model import (
    build_model,
    describe_trainable,
    earlier_name,
    find_base,
    model_config,
    model_with,
    trained_weights,
)
from curr_ab.finetuning.plan import PLAN, Plan, describe, trial_recipe
from curr_ab.finetuning.preview import plan_of
from curr_ab.finetuning.probe_fit import CHOICE, ProbeFits, obey, write_choice
from curr_ab.finetuning.recipe import Method, Recipe
from curr_ab.finetuning.report import write_report
from curr_ab.finetuning.run_folder import (
    FinetuningFolder,
    FitFolder,
    fold_results,
    mean_results,
    shown_column,
    write_predictions,
)
from curr_ab.finetuning.start import probe_solution
from curr_ab.finetuning.uncertainty import Uncertainty, measure_uncertainty
from curr_ab.measures.fold_figures import draw_figures
from curr_ab.measures.metrics import Floats
from curr_ab.number_types import Precision, training_precision
from curr_ab.probes.feature_names import JOIN
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
    if recipe.method == "probe":
        precision = Precision(torch.float32, "the features of a probe are computed in it")
    else:
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
        self.pad = not takes_packed_rows(self.attention, device)
        self.rows = TokenRows(self.examples.items, recipe, pad=self.pad)
        self.most_at_once = recipe.pairs_per_micro_batch or default_micro_batch(device)
        self._features: Tensor | None = None
        self._states: Tensor | None = None
        self.probe = ProbeFits(
            recipe, self.base, self.examples, self.rows.answer_ends, folder.path / "features", accelerator
        )
        self._contenders: Contenders | None = None
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
            if recipe.method == "auto":
                self.make_plan()
        start_trackers(accelerator, {**recipe.to_dict(), "model": self.base.name})
        accelerator.wait_for_everyone()

    def run(self, stop: StopRequest) -> list[Result]:
        """Do what is not done yet; all results."""
        done = [fold.number for fold in self.folds if self.folder.fold(fold.number).results_file.exists()]
        bare = []
        if not self.recipe.label_columns:
            bare = [fold.number for fold in self.folds if not is_beside(self.folder.path, self.recipe, fold)]
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
        if self.recipe.final and not self.folder.adapter.exists():
            self.fit_everything(results, stop)
        if self.recipe.label_columns:
            self.say("several columns at once have no baselines beside them: learn one alone for those")
        elif self.accelerator.is_main_process:
            self.report()
        self.accelerator.wait_for_everyone()
        return results

    def report(self) -> None:
        """The comparison with what stands beside the run, the learning curve, and the report of both."""
        comparison = compare_beside(self.folder.path, self.recipe.method)
        comparison.write(self.folder.path)
        if self.recipe.learning_curve and not (self.folder.path / CURVE).exists():
            curve_of(self.recipe, self.contenders, self.folds).write(self.folder.path)
        write_report(self.folder.path)
        self.say(comparison.sentence)

    def write_beside(self, fold: Fold, stop: StopRequest) -> None:
        """Predictions that stand beside those of a fold."""
        obey(stop, self.accelerator)
        self.probe.features(stop)  # of which each process computes a share
        if self.accelerator.is_main_process:
            write_beside(self.folder.path, self.recipe, self.examples, self.contenders, fold)

    def fit_fold(self, fold: Fold, folder: FitFolder, stop: StopRequest) -> None:
        """Fit, predict what the model has not seen, and write it; the results come last."""
        began = time.perf_counter()
        if not self.recipe.label_columns:
            self.write_beside(fold, stop)
        title = f"fold {fold.number} of {len(self.folds)}"
        recipe, model, predictions = self.fitted_model(fold, folder, stop, title)
        if self.accelerator.is_main_process:
            tested = self.examples.take(fold.test)
            dataset = f"{' '.join(self.sources)} {self.examples.fingerprint[:12]}"
            results = fold_results(self.recipe, self.base, dataset, fold.number, tested, predictions)
            write_predictions(folder.predictions_file, self.recipe, tested, predictions)
            self.save(recipe, folder.adapter, model(), results)
            self.contenders.forget()
            write_seconds(folder.path, time.perf_counter() - began)
            write_results(folder.results_file, results)
            folder.drop_states()
            metrics = ", ".join(f"{row.metric} {row.shown}" for row in results if not shown_column(row))
            self.say(f"fold {fold.number} of {len(self.folds)}: {metrics}")
            self.accelerator.log(
                {f"{folder.path.name}/{row.metric}{shown_column(row)}": row.value for row in results},
                step=self.steps_before(fold) + self.steps_of(fold),
            )
        self.finish()

    def fit_everything(self, results: Sequence[Result], stop: StopRequest) -> None:
        """The adapter of the whole folder; it is measured by the folds, so it needs no test part."""
        train, validation = hold_out_validation(self.examples, self.recipe)
        everything = Fold(0, train, validation, np.zeros(0, np.int64))
        folder = self.folder.final
        recipe, model, _ = self.fitted_model(everything, folder, stop, "everything")
        if self.accelerator.is_main_process:
            sure = self.uncertainty()
            if sure is not None:
                self.say(sure.summary)
            means = [row for row in results if "fold" not in row.details]
            self.save(recipe, folder.adapter, model(), means, sure)
            folder.drop_states()
        self.finish()

    def fitted_model(
        self, fold: Fold, folder: FitFolder, stop: StopRequest, title: str
    ) -> tuple[Recipe, Callable[[], Any], Floats]:
        """The recipe of a fold's fit, its model, built where it is asked for, and what it predicts."""
        if self.recipe.method == "probe":
            return self.recipe, *self.fitted_probe(fold, folder, stop, title)
        recipe = self.recipe
        if recipe.method == "auto":
            choice = self.chosen(fold, folder, stop)
            recipe = replace(recipe, method=choice.method)
            self.say(f"{title}: {choice.named} ({choice.reason})")
            if recipe.method == "probe":
                return recipe, *self.blended(choice, fold)
        fit = self.fitted(recipe, fold, folder, stop, title)
        predictions = fit.right.meaning(fit.predict(fold.test)) if len(fold.test) else np.zeros(0)
        weights = trained_weights(fit.whole)
        return recipe, lambda: model_with(weights, recipe, self.base.source, fit.right), predictions

    def fitted_probe(
        self, fold: Fold, folder: FitFolder, stop: StopRequest, title: str
    ) -> tuple[Callable[[], Any], Floats]:
        """The same of a probe of the member."""
        obey(stop, self.accelerator)
        self.probe.features(stop)
        choice = self.probe.choose(fold.train)
        if self.accelerator.is_main_process:
            write_choice(folder.path / CHOICE, choice)
        score = choice.scores[choice.features]
        self.say(f"{title}: probe of {choice.features}, which explains {score:.0%} within the training part")
        predictions = self.probe.predict(choice, fold.test) if len(fold.test) else np.zeros(0)
        return lambda: self.probe.model(choice.regression, choice.features), predictions

    def blended(self, choice: Choice, fold: Fold) -> tuple[Callable[[], Any], Floats]:
        """The same of regressions on several sets of features; the main process fits them."""
        part, predictions = whole_part(fold), np.zeros(0)
        if self.accelerator.is_main_process and len(fold.test):
            predictions = self.contenders.predict(choice.features, part, fold.test)

        def model() -> Any:
            regression = self.contenders.blend(choice.features, part)
            return self.probe.model(regression, JOIN.join(choice.features))

        return model, predictions

    def chosen(self, fold: Fold, folder: FitFolder, stop: StopRequest) -> Choice:
        """The method that is best inside the training part of a fold."""

        def fit_and_predict(method: Method, train: Indices, test: Indices, place: Path) -> Floats:
            inside = Fold(fold.number, train, train[:0], test)
            trial = FitFolder(place, place / "adapter")
            fit = self.fitted(trial_recipe(self.recipe, method), inside, trial, stop, f"trial of {method}")
            predictions = fit.right.meaning(fit.predict(test))
            trial.drop_states()
            return predictions

        self.probe.features(stop)  # of which each process computes a share
        answers = answers_for(self.recipe, self.examples, self.rows.answer_ends)
        trained = Plan.read(self.folder.path).trained
        auto = Auto(lambda: self.contenders, answers, trained, fit_and_predict, self.accelerator)
        return auto.choose(whole_part(fold), folder.path)

    @property
    def contenders(self) -> Contenders:
        """Regressions on all sets of features: the main process's, for features are computed together."""
        if self._contenders is None:
            ends = self.rows.answer_ends
            self._contenders = make_contenders(self.recipe, self.examples, ends, self.probe.features())
        return self._contenders

    def make_plan(self) -> None:
        """Decide what is tried, unless the run has done that before, and say it."""
        if not (self.folder.path / PLAN).exists():
            plan_of(self.recipe, self.base.source, self.examples, self.folds).write(self.folder.path)
        for line in describe(Plan.read(self.folder.path)):
            self.say(line)

    def fitted(self, recipe: Recipe, fold: Fold, folder: FitFolder, stop: StopRequest, title: str) -> Fit:
        """A fit at its best epoch, from where its folder stands."""
        model = build_model(recipe, self.base.source, self.attention, fold.number)
        has_adapters = recipe.method in ADAPTERS  # auto may have chosen another method
        if recipe.adapt_epochs and has_adapters:
            take_adapters(model, self.adapted_weights(fold, folder, stop, title))
        training = answers_of(fold.train, self.rows.answer_ends)
        right = right_answers(self.examples, recipe, training)
        self.say(f"{title}: {describe_trainable(model)}")
        if recipe.early_stopping and not len(fold.validation):
            self.say(
                f"{title}: no early stopping, for nothing can be held out of one group, or of a class of one"
            )
        rows: Rows = self.rows
        most_at_once = self.most_at_once
        solution: dict[str, Tensor] = {}
        if recipe.start == "probe":
            features = self.features(model, anew=recipe.adapt_epochs > 0 and has_adapters)
            solution = self.probe_solution(model, features, right, np.union1d(fold.train, fold.validation))
            start = self.probe_solution(model, features, right, fold.train)
            model.load_state_dict(start, strict=False)
        if recipe.method == "frozen" and recipe.target != "residues":
            rows, most_at_once = FeatureRows(self.features(model)), recipe.pairs_per_step
        if recipe.layers and has_adapters and fits_in_memory(self.rows, model.config.hidden_size):
            rows = StateRows(self.rows, self.states(model))
            go_on_from_states(model, recipe.layers)
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
            steps_before=self.steps_before(fold) + adaptation_steps(recipe, fold),
        )
        fit.run(stop, title)
        if solution and not fit.best_epoch:  # the validation part has said so, and is free to be learnt from
            fit.take(solution)
        if recipe.loss in ("ranking", "ordinal"):
            fit.right = right.finished(fit.predict(fold.train), training)
        return fit

    def probe_solution(
        self, model: Any, features: Tensor, right: RightAnswers, chosen: Indices
    ) -> dict[str, Tensor]:
        """The head of a probe on these examples."""
        groups = [self.examples[index].group for index in chosen] if self.recipe.group_by else None
        answers = right.labels[torch.from_numpy(chosen)].numpy()
        return probe_solution(model, self.recipe, features[torch.from_numpy(chosen)], answers, groups)

    def adapted_weights(
        self, fold: Fold, folder: FitFolder, stop: StopRequest, title: str
    ) -> dict[str, Tensor]:
        """The adapters after their masked training on the fold's training part."""
        return adapted_weights(
            self.recipe,
            self.base.source,
            self.accelerator,
            examples=self.examples.items,
            fold=fold,
            folder=folder,
            stop=stop,
            title=title,
            attention=self.attention,
            pad=self.pad,
            most_at_once=self.most_at_once,
            steps_before=self.steps_before(fold),
        )

    def steps_before(self, fold: Fold) -> int:
        """Steps of the fits before this one, as if none had stopped early; the fit on everything is last."""
        before = self.folds[: fold.number - 1] if fold.number else self.folds
        return sum(self.steps_of(earlier) for earlier in before)

    def steps_of(self, fold: Fold) -> int:
        """Steps of a fit and of the masked training before it."""
        return adaptation_steps(self.recipe, fold) + steps_of(self.recipe, fold)

    def features(self, model: Any = None, *, anew: bool = False) -> Tensor:
        """Features of every pair by the frozen base, once for all folds, or `anew` by a fold's adapters."""
        if self._features is None or anew:
            model = model or build_model(self.recipe, self.base.source, self.attention)
            group = whole_group(self.accelerator)
            base = model.get_base_model() if hasattr(model, "get_base_model") else model
            self._features = pooled_features(base, self.rows, self.accelerator, group, self.most_at_once)
        return self._features

    def states(self, model: Any) -> Tensor:
        """States of every token below the adapters, computed once for all folds."""
        if self._states is None:
            group, num_layers = whole_group(self.accelerator), self.recipe.layers
            self._states = lower_states(
                model, self.rows, num_layers, self.accelerator, group, self.most_at_once
            )
        return self._states

    def uncertainty(self) -> Uncertainty | None:
        """How sure the last fit is, by what the folds had not seen; None where several columns are learnt."""
        if self.recipe.label_columns:
            return None
        pairs = [(example.heavy, example.light) for example in self.examples]
        return measure_uncertainty(self.folder.path, pairs, keep_sequences=self.recipe.training_sequences)

    def save(
        self,
        recipe: Recipe,
        folder: Path,
        model: Any,
        results: Sequence[Result],
        uncertainty: Uncertainty | None = None,
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
