"""`--method auto`: the choice of each training part, made once and kept in the folder of its fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from curr_ab.files import read_object, write_json
from curr_ab.finetuning.choice import CHOICE, Choice, Tried, features_to_blend, is_better, losses_of
from curr_ab.finetuning.contenders import Answers, Contenders
from curr_ab.finetuning.examples import Indices
from curr_ab.finetuning.plan import TRAINED
from curr_ab.finetuning.recipe import Method
from curr_ab.measures.metrics import Floats
from curr_ab.probes.inner_folds import inner_folds

# Fits a method on an inner part and predicts another: method, the two parts, and the folder of the fit.
Trial = Callable[[Method, Indices, Indices, Path], Floats]
FEWEST_GROUPS = 5  # in what is measured: the spread of fewer says little
# Of a training part, what is measured on: about a fifth, and no more than what is left to fit on.
_FEWEST_HELD, _MOST_HELD = 0.15, 0.5


@dataclass(frozen=True)
class Auto:
    """What choices are made of; nothing here sees a test part.

    Regressions are the main process's; the others take part in trials, and read what it has decided.
    """

    contenders: Callable[[], Contenders]
    answers: Answers
    trained: Sequence[Method]  # methods beyond regressions that are worth a trial, cheapest first
    fit_and_predict: Trial
    accelerator: Accelerator

    def choose(self, part: Indices, folder: Path) -> Choice:
        """The choice for a training part: the one that the folder holds, or a new one."""
        if not (folder / CHOICE).exists():
            began = time.perf_counter()
            trials = self.trials(part, folder)
            if self.accelerator.is_main_process:
                method, reasons = _decided(trials)
                features, tried = self.regressions(part)
                if method != "probe":
                    features = ()
                reason = "; ".join(reasons) or f"explains {tried[0].score:.3f} of what inner folds left out"
                Choice(method, features, reason, tried, time.perf_counter() - began).write(folder)
            self.accelerator.wait_for_everyone()
        return Choice.read(folder)

    def regressions(self, part: Indices) -> tuple[tuple[str, ...], tuple[Tried, ...]]:
        """The sets of features that serve best, and all that were tried, best first."""
        scores = self.contenders().scores(part)
        ordered = sorted(scores, key=lambda name: -scores[name])
        return features_to_blend(scores), tuple(Tried(name, scores[name]) for name in ordered)

    def trials(self, part: Indices, folder: Path) -> dict[Method, dict[str, object]]:
        """What every trial said of its method; those after one that did not pay are not made."""
        trials: dict[Method, dict[str, object]] = {}
        for method in self.trained:
            path = folder / f"trial-{method}.json"
            if not path.exists():
                train, test = self.inner_parts(part)
                predictions = self.fit_and_predict(method, train, test, folder / path.stem)
                if self.accelerator.is_main_process:
                    write_json(path, self.judged(predictions, part, train, test, trials))
                self.accelerator.wait_for_everyone()
            trials[method] = read_object(path)
            if method == TRAINED[0] and not trials[method]["better"]:
                break  # what costs more than adapters hardly pays where they do not
        return trials

    def judged(
        self,
        predictions: Floats,
        part: Indices,
        train: Indices,
        test: Indices,
        before: dict[Method, dict[str, object]],
    ) -> dict[str, object]:
        """Whether a method is better than the best so far on an inner part that neither was fitted on."""
        rows = self.answers.of(test)
        known = self.answers.measured[rows]
        labels, units = self.answers.labels[rows][known], self.answers.groups[rows][known]
        if few := len(np.unique(units)) < FEWEST_GROUPS:
            units = self.answers.examples_of(test)[known]
        best, _ = _decided(before)
        if best == "probe":
            features, _ = self.regressions(part)
            others = losses_of(labels, self.contenders().predict(features, train, test)[known])
        else:
            others = np.array(before[best]["losses"], np.float64)
        losses = losses_of(labels, predictions[known])
        better, gain = is_better(others, losses, units)
        reason = f"beside the {best}, losses of held-out pairs fall by {gain}"
        if few:
            reason += f", a spread over pairs: they are of fewer than {FEWEST_GROUPS} groups"
        return {"better": better, "reason": reason, "losses": losses.tolist()}

    def inner_parts(self, part: Indices) -> tuple[Indices, Indices]:
        """A training part in two: one to fit on, and one of several groups to measure on.

        The largest groups stand alone in their inner folds, so that one such fold may be a single group.
        """
        firsts = self.answers.firsts[part]
        groups = self.answers.groups[firsts]
        if len(np.unique(groups)) == 1:  # nothing can be held apart
            groups = np.arange(len(part))
        classes = np.zeros(len(part), np.int64)
        if self.answers.target == "classes":
            classes = self.answers.labels[firsts].astype(np.int64)
        folds = inner_folds(classes, groups.tolist(), self.answers.seed)
        num_groups = [len(np.unique(groups[folds == fold])) for fold in range(folds.max() + 1)]
        held = np.zeros(len(part), bool)
        for fold in np.argsort(num_groups, kind="stable")[::-1]:
            wider = held | (folds == fold)
            lacks = set(classes.tolist()) - set(classes[~wider].tolist())
            if held.any() and (wider.mean() > _MOST_HELD or lacks):
                continue
            held = wider
            if len(np.unique(groups[held])) >= FEWEST_GROUPS and held.mean() >= _FEWEST_HELD:
                break
        return part[~held], part[held]


def _decided(trials: dict[Method, dict[str, object]]) -> tuple[Method, list[str]]:
    """The last method that was better than those before it, and why each is or is not."""
    better: list[Method] = [method for method, trial in trials.items() if trial["better"]]
    reasons = [f"{method}: {trial['reason']}" for method, trial in trials.items()]
    return (better or ["probe"])[-1], reasons
