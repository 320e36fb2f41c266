"""The model of each fold, by whatever method: trained, a probe, or what `auto` chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from curr_ab.checkpoint_files import CheckpointSource
from curr_ab.finetuning.auto import Auto
from curr_ab.finetuning.choice import Choice
from curr_ab.finetuning.contenders import Contenders, answers_for, make_contenders
from curr_ab.finetuning.examples import Examples, Indices
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.folds_beside import whole_part
from curr_ab.finetuning.further_sequences import FurtherSequences
from curr_ab.finetuning.model import model_with, trained_weights
from curr_ab.finetuning.plan import PLAN, Plan, describe, trial_part, trial_recipe
from curr_ab.finetuning.preview import plan_of
from curr_ab.finetuning.probe_fit import CHOICE, ProbeFits, obey, write_choice
from curr_ab.finetuning.recipe import Method, Recipe
from curr_ab.finetuning.run_folder import FitFolder
from curr_ab.finetuning.trained_fits import TrainedFits
from curr_ab.measures.metrics import Floats
from curr_ab.probes.feature_names import JOIN
from curr_ab.training.stop import StopRequest


class FoldModels:
    """Models of the folds of a run, in `folder`."""

    def __init__(
        self,
        recipe: Recipe,
        base: CheckpointSource,
        examples: Examples,
        folds: Sequence[Fold],
        folder: Path,
        accelerator: Accelerator,
        say: Callable[[str], None],
        further: FurtherSequences,
    ) -> None:
        self.recipe, self.base, self.examples, self.folds = recipe, base, examples, folds
        self.folder, self.accelerator, self.say, self.further = folder, accelerator, say, further
        self.trained = TrainedFits(recipe, base, examples, folds, accelerator, say, further)
        self.answer_ends = self.trained.rows.answer_ends
        self.probe = ProbeFits(recipe, base, examples, self.answer_ends, folder / "features", accelerator)
        self._contenders: Contenders | None = None

    def of(
        self, fold: Fold, folder: FitFolder, stop: StopRequest, title: str
    ) -> tuple[Recipe, Callable[[], Any], Floats]:
        """The recipe of a fold's fit, its model, built where it is asked for, and what it predicts."""
        if self.recipe.method == "probe":
            return self.recipe, *self.fitted_probe(fold, folder, stop, title)
        recipe = self.recipe
        if recipe.method == "auto":
            choice = self.chosen(fold, folder, stop)
            recipe = recipe.as_method(choice.method)
            self.say(f"{title}: {choice.named} ({choice.reason})")
            if recipe.method == "probe":
                return recipe, *self.blended(choice, fold)
        fit = self.trained.fitted(recipe, fold, folder, stop, title)
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
            part, epochs = trial_part(train, self.recipe, plan.trial_steps(method))
            inside = Fold(fold.number, part, train[:0], test)
            trial, short = FitFolder(place, place / "adapter"), trial_recipe(self.recipe, method, epochs)
            fit = self.trained.fitted(short, inside, trial, stop, f"trial of {method}", known=train)
            predictions = fit.right.meaning(fit.predict(test))
            trial.drop_states()
            return predictions

        self.probe.features(stop)  # of which each process computes a share
        answers = answers_for(self.recipe, self.examples, self.answer_ends)
        plan = Plan.read(self.folder)
        auto = Auto(lambda: self.contenders, answers, plan.trained, fit_and_predict, self.accelerator)
        return auto.choose(whole_part(fold), folder.path)

    @property
    def contenders(self) -> Contenders:
        """Regressions on all sets of features: the main process's, for features are computed together."""
        if self._contenders is None:
            features = self.probe.features()
            self._contenders = make_contenders(self.recipe, self.examples, self.answer_ends, features)
        return self._contenders

    def make_plan(self) -> None:
        """Decide what is tried, unless the run has done that before, and say it."""
        if not (self.folder / PLAN).exists():
            plan = plan_of(self.recipe, self.base.source, self.examples, self.folds, self.further)
            plan.write(self.folder)
        for line in describe(Plan.read(self.folder)):
            self.say(line)

    def forget(self) -> None:
        """Leave no regression in memory."""
        if self._contenders is not None:
            self._contenders.forget()
