"""Fits that are trained epoch by epoch, over the folds of a run, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from curr_ab.attention import Asked, choose_attention
from curr_ab.checkpoint_files import CheckpointSource
from curr_ab.finetuning.adaptation import adaptation_steps, adapted_weights, take_adapters
from curr_ab.finetuning.batches import RightAnswers, TokenRows, answers_of, right_answers
from curr_ab.finetuning.contenders import inner_families
from curr_ab.finetuning.examples import Examples, Indices
from curr_ab.finetuning.features import FeatureRows, pooled_features
from curr_ab.finetuning.fit import Fit, steps_of
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.further_sequences import FurtherSequences
from curr_ab.finetuning.label_counts import weight_table
from curr_ab.finetuning.lower_layers import StateRows, fits_in_memory, go_on_from_states, lower_states
from curr_ab.finetuning.methods import ADAPTERS
from curr_ab.finetuning.model import build_model, describe_trainable, model_config
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.run_folder import FitFolder
from curr_ab.finetuning.start import probe_solution
from curr_ab.training.costs import default_micro_batch
from curr_ab.training.processes import whole_group
from curr_ab.training.stop import StopRequest


class TrainedFits:
    """Fits of any method that trains; tokens, features and states are computed once for all folds."""

    def __init__(
        self,
        recipe: Recipe,
        base: CheckpointSource,
        examples: Examples,
        folds: Sequence[Fold],
        accelerator: Accelerator,
        say: Callable[[str], None],
        further: FurtherSequences,
    ) -> None:
        self.recipe, self.base, self.examples, self.folds = recipe, base, examples, folds
        self.accelerator, self.say, self.further = accelerator, say, further
        device = accelerator.device
        asked = Asked.by(model_config(recipe, base.source), device, recipe.precision)
        attention = choose_attention(recipe.attention, asked)
        self.attention, self.pad = attention.implementation, not attention.packed
        self.rows = TokenRows(examples.items, recipe, pad=self.pad)
        self.most_at_once = recipe.pairs_per_micro_batch or default_micro_batch(device)
        # By the number of last layers whose states they follow from, or that go on from them.
        self._features: dict[int, Tensor] = {}
        self._states: dict[int, Tensor] = {}

    @property
    def keeps_states(self) -> bool:
        """True where states below the last layers are computed once."""
        return fits_in_memory(self.rows, model_config(self.recipe, self.base.source).hidden_size)

    def fitted(
        self,
        recipe: Recipe,
        fold: Fold,
        folder: FitFolder,
        stop: StopRequest,
        title: str,
        known: Indices | None = None,
    ) -> Fit:
        """A fit at its best epoch, from where its folder stands.

        The head's start and the scales follow from `known` examples, where a fit trains on few of them.
        """
        known = fold.train if known is None else known
        model = build_model(recipe, self.base.source, self.attention, fold.number)
        has_adapters = recipe.method in ADAPTERS  # auto may have chosen another method
        if recipe.adapt_epochs and has_adapters:
            take_adapters(model, self.adapted_weights(recipe, fold, folder, stop, title))
        training = answers_of(known, self.rows.answer_ends)
        right = right_answers(self.examples, recipe, training)
        self.say(f"{title}: {describe_trainable(model)}")
        if recipe.early_stopping and not len(fold.validation):
            self.say(
                f"{title}: no early stopping, for nothing can be held out of one group, or of a class of one"
            )
        rows: TokenRows | StateRows = self.rows
        layers = recipe.layers if has_adapters and self.keeps_states else 0
        seen: FeatureRows | None = None
        most_at_once = self.most_at_once
        solution: dict[str, Tensor] = {}
        if layers:
            rows = StateRows(self.rows, self.states(model, layers))
            go_on_from_states(model, layers)
        if recipe.start == "probe":
            features = self.features(model, rows, layers, anew=recipe.adapt_epochs > 0 and has_adapters)
            solution = self.probe_solution(model, features, right, np.union1d(known, fold.validation))
            start = solution
            if len(fold.validation):
                start = self.probe_solution(model, features, right, known)
            model.load_state_dict(start, strict=False)
        if recipe.method == "frozen" and recipe.target != "residues":
            seen = FeatureRows(self.features(model, rows, layers, anew=False))
            most_at_once = recipe.pairs_per_step
        if recipe.loss == "ranking":  # it compares all pairs of a step
            most_at_once = max(most_at_once, recipe.pairs_per_step)
        fit = Fit(
            recipe,
            self.accelerator,
            model=model,
            rows=seen or rows,
            right=right,
            fold=fold,
            folder=folder,
            most_at_once=most_at_once,
            steps_before=self.steps_before(fold) + self.adaptation_steps(recipe, fold),
        )
        fit.run(stop, title)
        if solution and not fit.best_epoch:  # the validation part has said so, and is free to be learnt from
            fit.take(solution)
        if recipe.loss in ("ranking", "ordinal"):
            trained = answers_of(fold.train, self.rows.answer_ends)
            fit.right = right.finished(fit.predict(fold.train), trained)
        return fit

    def probe_solution(
        self, model: Any, features: Tensor, right: RightAnswers, chosen: Indices
    ) -> dict[str, Tensor]:
        """The head of a probe on these examples."""
        groups = inner_families(self.recipe, self.examples)[chosen].tolist()
        weights = weight_table(self.examples.items, self.recipe)[chosen]
        answers = right.labels[torch.from_numpy(chosen)].numpy()
        of_chosen = features[torch.from_numpy(chosen)]
        return probe_solution(model, self.recipe, of_chosen, answers, groups, weights)

    def adapted_weights(
        self, recipe: Recipe, fold: Fold, folder: FitFolder, stop: StopRequest, title: str
    ) -> dict[str, Tensor]:
        """The adapters after their masked training on the fold's training part and further sequences."""
        return adapted_weights(
            recipe,
            self.base.source,
            self.accelerator,
            examples=[*self.examples.take(fold.train), *self.further.beside(self.examples, fold.train)],
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
        return self.adaptation_steps(self.recipe, fold) + steps_of(self.recipe, fold)

    def adaptation_steps(self, recipe: Recipe, fold: Fold) -> int:
        """Steps of the masked training before a fit."""
        if not recipe.adapt_epochs:
            return 0
        further = self.further.beside(self.examples, fold.train)
        return adaptation_steps(recipe, len(fold.train) + len(further))

    def features(self, model: Any, rows: TokenRows | StateRows, layers: int, *, anew: bool) -> Tensor:
        """Features of every pair by the frozen base, once for all folds, or `anew` by a fold's adapters."""
        if layers not in self._features or anew:
            group = whole_group(self.accelerator)
            base = model.get_base_model() if hasattr(model, "get_base_model") else model
            features = pooled_features(base, rows, self.accelerator, group, self.most_at_once)
            if anew:
                return features
            self._features[layers] = features
        return self._features[layers]

    def states(self, model: Any, layers: int) -> Tensor:
        """States of every token below the last layers, computed once for all folds."""
        if layers not in self._states:
            group = whole_group(self.accelerator)
            self._states[layers] = lower_states(
                model, self.rows, layers, self.accelerator, group, self.most_at_once
            )
        return self._states[layers]
