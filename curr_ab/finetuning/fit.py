"""One fit: the examples of a fold, epoch by epoch, from the newest saved state to the best epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from curr_ab.finetuning.batches import (
    Part,
    RightAnswers,
    Rows,
    answers_of,
    epoch_order,
    share_of,
    shares_of,
)
from curr_ab.finetuning.examples import Indices
from curr_ab.finetuning.features import FeatureRows, HeadOnFeatures
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.model import HEAD, set_training
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.run_folder import FitFolder
from curr_ab.randomness import random_stream
from curr_ab.training.packed_rows import to_device
from curr_ab.training.processes import ALONE, whole_group
from curr_ab.training.reporter import Reporter
from curr_ab.training.state import Damaged, Progress, complete_states, restore_state, save_state
from curr_ab.training.step import Diverged, optimizer_step, parameter_groups, scheduled_rate
from curr_ab.training.stop import Interrupted, StopRequest

ASK_EVERY = 10  # steps after which several processes ask each other whether one was asked to stop
LOSSES = ("loss", "validation_loss")


@dataclass(frozen=True)
class FitProgress(Progress):
    """Progress of a fit, and the loss of the epoch that it is in."""

    loss_sum: float = 0.0


class Fit:
    """Model, optimiser and examples of one fold, at the step that they have reached."""

    def __init__(
        self,
        recipe: Recipe,
        accelerator: Accelerator,
        *,
        model: nn.Module,
        rows: Rows,
        right: RightAnswers,
        fold: Fold,
        folder: FitFolder,
        most_at_once: int,
        steps_before: int = 0,  # of the fits before, for the trackers
    ) -> None:
        self.recipe, self.accelerator, self.rows, self.right = recipe, accelerator, rows, right
        self.fold, self.folder, self.most_at_once = fold, folder, most_at_once
        # A head on features is so small that each process trains all of it, and comes to the same.
        self.shared = not isinstance(rows, FeatureRows)
        self.group = whole_group(accelerator) if self.shared else ALONE
        self.steps_per_epoch = steps_per_epoch(recipe, fold)
        self.num_epochs = recipe.num_epochs(self.steps_per_epoch)
        self.num_steps = self.num_epochs * self.steps_per_epoch
        self.steps_before = steps_before
        self.whole: nn.Module = model.to(accelerator.device)  # what has the trained weights in the end
        self.optimizer: torch.optim.Optimizer = build_optimizer(model, recipe)
        if self.shared:
            self.whole, self.optimizer = accelerator.prepare(model, self.optimizer)
        self.model = (
            self.whole if self.shared else HeadOnFeatures(model.get_submodule(f"base_model.model.{HEAD}"))
        )
        restored = folder.restore(accelerator, self.model, [self.optimizer], FitProgress)
        self.progress = restored or FitProgress()
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.forget_after(self.progress.step if restored else -1)
        accelerator.wait_for_everyone()
        # Of these steps alone: the main process may already have written the line of the next epoch.
        self.log = [entry for entry in folder.read_log() if entry["step"] <= self.progress.step]

    @property
    def best_epoch(self) -> int:
        """The epoch with the least loss on the validation part, 0 for the start; without it the last."""
        if not len(self.fold.validation):
            return self.epochs_done
        best = min(self.log, key=lambda entry: entry["validation_loss"])
        return int(best["epoch"])

    @property
    def epochs_done(self) -> int:
        """Epochs behind the fit."""
        return int(self.log[-1]["epoch"]) if self.log else 0

    @property
    def is_over(self) -> bool:
        """True after the last epoch, or after too many without improvement."""
        if not self.log:
            return False
        done, patience = self.epochs_done, self.recipe.early_stopping
        return done == self.num_epochs or 0 < patience <= done - self.best_epoch

    def run(self, stop: StopRequest, title: str) -> None:
        """Train to the end; the model is then that of the best epoch."""
        reporter = Reporter(
            self.folder,
            self.accelerator,
            first_step=self.progress.step,
            num_steps=self.num_steps,
            title=title,
            prefix=f"{self.folder.path.name}/",
            steps_before=self.steps_before,
        )
        with closing(reporter):
            if not self.log and not self.progress.step and self.recipe.start == "probe":
                self.record_start(reporter, title)
            while not self.is_over:
                began = time.perf_counter()
                loss = self.epoch(stop, reporter)
                self.finish_epoch(loss, time.perf_counter() - began, reporter, title)
                if not self.is_over and (signal := stop.agreed(self.accelerator, due=True)):
                    raise self.interrupted(signal)
        if self.best_epoch < self.epochs_done:
            self.take_best()

    def take_best(self) -> None:
        """Go back to the best epoch."""
        states = complete_states(self.folder.best)
        try:
            restore_state(states[-1], self.accelerator, self.model, [])
        except (IndexError, Damaged) as error:
            problem = str(error) if states else f"{self.folder.best} holds no state"
            raise ValueError(f"{problem}; delete {self.folder.path}, and the fit begins anew") from error

    def epoch(self, stop: StopRequest, reporter: Reporter) -> float:
        """Train to the end of the epoch that the fit stands in; the mean loss of all of it."""
        epoch, first = divmod(self.progress.step, self.steps_per_epoch)
        order = epoch_order(self.recipe, self.fold.number, epoch, self.fold.train)
        # What was added up before a stop is counted by one process: the sum over all is that of the epoch.
        before = self.progress.loss_sum if self.group.rank == 0 else 0.0
        loss_sum = torch.tensor(before, dtype=torch.float64, device=self.accelerator.device)
        set_training(self.model, self.recipe)
        size = self.recipe.pairs_per_step
        for number in range(first, self.steps_per_epoch):
            chosen = order[number * size : (number + 1) * size]
            loss_sum += self.step(chosen)
            self.progress = self.progress.after(len(chosen), 0)
            reporter.advance()
            if number + 1 == self.steps_per_epoch:
                break  # the epoch is finished before a stop is
            if signal := stop.agreed(self.accelerator, due=self.progress.step % ASK_EVERY == 0):
                self.progress = replace(self.progress, loss_sum=float(self.total(loss_sum)))
                self.save(self.folder.states, [self.optimizer])
                raise self.interrupted(signal)
        answers = answers_of(self.fold.train, self.rows.answer_ends)
        return float(self.total(loss_sum)) / self.right.weight(answers)

    def step(self, chosen: Indices) -> Tensor:
        """One step of the optimiser over these examples; this process's share of their loss, summed."""
        recipe, group, step = self.recipe, self.group, self.progress.step
        share = share_of(chosen, self.most_at_once, group)
        loss_sum, _ = optimizer_step(
            self.accelerator,
            self.model,
            [self.optimizer],
            self.rows.parts(share.examples, share.num_parts),
            lambda part: self.right.loss_sum(self.logits(part), part.answers),
            num_micro_batches=share.num_parts,
            total_weight=max(self.right.weight(answers_of(chosen, self.rows.answer_ends)), 1e-12),
            num_processes=group.num_processes,
            counts=share.counts,
            learning_rate=learning_rate(recipe, step, self.num_steps),
            max_gradient_norm=recipe.max_gradient_norm,
            randomness=random_stream(recipe.seed, "dropout", self.fold.number, step, group.rank),
        )
        return loss_sum

    def logits(self, part: Part) -> Tensor:
        """A row for each answer of the part."""
        logits: Tensor = self.model(**to_device(part.inputs, self.accelerator.device)).logits
        return logits.flatten(0, -2)

    def predict(self, examples: Indices) -> Tensor:
        """Logits of all answers of these examples, one example after the other, on every process."""
        self.model.eval()
        shape = (int(self.rows.answer_ends[-1]), self.right.num_outputs)
        all_logits = torch.zeros(shape, device=self.accelerator.device)
        with torch.no_grad():
            for share in shares_of(examples, self.most_at_once, self.group):
                for part in self.rows.parts(share.examples, share.num_parts):
                    logits = self.logits(part).float()
                    if share.counts:
                        all_logits[torch.from_numpy(part.answers)] = logits
        return self.total(all_logits)[torch.from_numpy(answers_of(examples, self.rows.answer_ends))].cpu()

    def validation_loss(self) -> float:
        """Mean loss of the validation part, weighted as in training."""
        answers = answers_of(self.fold.validation, self.rows.answer_ends)
        logits = self.predict(self.fold.validation)
        return float(self.right.loss_sum(logits, answers)) / self.right.weight(answers)

    def record_start(self, reporter: Reporter, title: str) -> None:
        """Measure and keep the start at the probe's solution, for a fit that does not improve on it."""
        if not len(self.fold.validation):
            return
        entry: dict[str, Any] = {"step": 0, "epoch": 0, "validation_loss": self.validation_loss()}
        self.log.append(entry)
        reporter.say(f"{title}, at the probe's solution: validation_loss {entry['validation_loss']:.4f}")
        reporter.write(entry)
        self.save(self.folder.best, [])
        self.save(self.folder.states, [self.optimizer])

    def finish_epoch(self, loss: float, seconds: float, reporter: Reporter, title: str) -> None:
        """Validate, report, and save what the fit goes on from."""
        step = self.progress.step
        entry: dict[str, Any] = {
            "step": step,
            "epoch": self.epochs_done + 1,
            "loss": loss,
            "learning_rate": learning_rate(self.recipe, step - 1, self.num_steps),
            "seconds": seconds,
        }
        if len(self.fold.validation):
            entry["validation_loss"] = self.validation_loss()
        if not all(math.isfinite(value) for value in entry.values()):
            raise Diverged(self.advice_on_divergence(entry))
        self.log.append(entry)
        self.progress = replace(self.progress, loss_sum=0.0, seconds=self.progress.seconds + seconds)
        losses = ", ".join(f"{name} {entry[name]:.4f}" for name in LOSSES if name in entry)
        reporter.say(f"{title}, epoch {entry['epoch']} of {self.num_epochs}: {losses}")
        # Before the states: a fit that is killed in between comes by here again.
        reporter.write(entry)
        if self.best_epoch == self.epochs_done and len(self.fold.validation):
            self.save(self.folder.best, [])
        self.save(self.folder.states, [self.optimizer])

    def take(self, weights: dict[str, Tensor]) -> None:
        """Put weights by their names in an unwrapped model in the place of those that the fit has come to."""
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(self.whole, dict(weights), options=options)

    def save(self, folder: Path, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        # An epoch may take less than a second, and a fit that has lost its state begins anew.
        save_state(
            folder, self.progress, self.accelerator, self.model, optimizers, keep_last=1, on_disk=False
        )

    def total(self, tensor: Tensor) -> Tensor:
        """Added up over the processes that divide the work."""
        added: Tensor = self.accelerator.reduce(tensor) if self.shared else tensor
        return added

    def interrupted(self, signal: int) -> Interrupted:
        step = f"step {self.progress.step:,} of {self.num_steps:,} of {self.folder.path.name}"
        return Interrupted(f"stopped after {step}; the same command goes on", signal)

    def advice_on_divergence(self, entry: dict[str, Any]) -> str:
        losses = ", ".join(f"{name} {entry[name]}" for name in LOSSES if name in entry)
        return (
            f"{self.folder.path.name} has diverged in epoch {entry['epoch']} ({losses}); a learning_rate "
            f"below {self.recipe.peak_learning_rate:g} or more warmup_fraction helps, in a new folder"
        )


def steps_of(recipe: Recipe, fold: Fold) -> int:
    """Steps of a fit that does not stop early."""
    per_epoch = steps_per_epoch(recipe, fold)
    return recipe.num_epochs(per_epoch) * per_epoch


def steps_per_epoch(recipe: Recipe, fold: Fold) -> int:
    """Steps in which a fit sees the training part once."""
    return -(-len(fold.train) // recipe.pairs_per_step)


def learning_rate(recipe: Recipe, step: int, num_steps: int) -> float:
    """Rate of a step, counted from 0: up to the peak, then down to 0."""
    warmup_steps = math.ceil(recipe.warmup_fraction * num_steps)
    return scheduled_rate(
        step, peak=recipe.peak_learning_rate, num_steps=num_steps, warmup_steps=warmup_steps
    )


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW for what the method trains."""
    groups = parameter_groups(model.parameters(), recipe.weight_decay)
    return torch.optim.AdamW(groups, lr=recipe.peak_learning_rate, fused=True)
