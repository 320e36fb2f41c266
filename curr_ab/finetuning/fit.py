"""One fit: the examples of a fold, epoch by epoch, from the newest saved state to the best epoch."""

from __future__ import annotations

import math
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from curr_ab.finetuning.batches import (
    ALONE,
    Group,
    Indices,
    Part,
    RightAnswers,
    Rows,
    answers_of,
    epoch_order,
    share_of,
    shares_of,
)
from curr_ab.finetuning.features import FeatureRows, HeadOnFeatures
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.model import HEAD, set_training
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.run_folder import FitFolder
from curr_ab.randomness import random_stream
from curr_ab.training.optimizers import set_learning_rate
from curr_ab.training.state import Progress, restore_state, save_state
from curr_ab.training.stopping import Interrupted, StopRequest

ASK_EVERY = 10  # steps between questions of several processes whether one was asked to stop
LOSSES = ("loss", "validation_loss")


class Diverged(ValueError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class FitProgress(Progress):
    """How far a fit has come, and the loss of the epoch that it is in."""

    loss_sum: float = 0.0


class Fit:
    """Model, optimiser and examples of one fold, at the step that they have reached."""

    def __init__(
        self,
        recipe: Recipe,
        accelerator: Accelerator,
        model: nn.Module,
        rows: Rows,
        right: RightAnswers,
        fold: Fold,
        folder: FitFolder,
        most_at_once: int,
    ) -> None:
        self.recipe, self.accelerator, self.rows, self.right = recipe, accelerator, rows, right
        self.fold, self.folder, self.most_at_once = fold, folder, most_at_once
        # A head on features is so small that each process trains all of it, and comes to the same.
        self.shared = not isinstance(rows, FeatureRows)
        self.group = Group(accelerator.process_index, accelerator.num_processes) if self.shared else ALONE
        self.steps_per_epoch = -(-len(fold.train) // recipe.pairs_per_step)
        self.num_steps = recipe.epochs * self.steps_per_epoch
        self.whole: nn.Module = model.to(accelerator.device)  # what has the trained weights in the end
        self.optimizer: torch.optim.Optimizer = build_optimizer(model, recipe)
        if self.shared:
            self.whole, self.optimizer = accelerator.prepare(model, self.optimizer)
        self.model = (
            self.whole if self.shared else HeadOnFeatures(model.get_submodule(f"base_model.model.{HEAD}"))
        )
        self.progress = FitProgress()
        if state := folder.newest_state:
            self.progress = restore_state(state, accelerator, self.model, [self.optimizer], FitProgress)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.forget_after(self.progress.step if state else -1)
        accelerator.wait_for_everyone()
        self.log = folder.read_log()

    @property
    def best_epoch(self) -> int:
        """Of those in the log, from 1: the least loss on the validation part, else the last."""
        if not len(self.fold.validation):
            return len(self.log)
        losses = [entry["validation_loss"] for entry in self.log]
        return losses.index(min(losses)) + 1

    @property
    def is_over(self) -> bool:
        """Whether the last epoch is done, or too many without improvement."""
        if not self.log:
            return False
        patience = self.recipe.early_stopping
        return len(self.log) == self.recipe.epochs or 0 < patience <= len(self.log) - self.best_epoch

    def run(self, stop: StopRequest, title: str) -> None:
        """To the end; the model is then that of the best epoch."""
        bar = tqdm(
            total=self.num_steps,
            initial=self.progress.step,
            desc=title,
            unit="step",
            disable=None if self.accelerator.is_main_process else True,
        )
        with bar:
            while not self.is_over:
                began = time.perf_counter()
                loss = self.epoch(stop, bar)
                self.finish_epoch(loss, time.perf_counter() - began, bar, title)
                if not self.is_over and (signal := self.agreed(stop)):
                    raise self.interrupted(signal)
        if self.best_epoch < len(self.log):
            best = self.folder.best_state
            assert best is not None
            restore_state(best, self.accelerator, self.model, [])

    def epoch(self, stop: StopRequest, bar: tqdm[NoReturn]) -> float:
        """What is left of the epoch that the fit stands in; the mean loss of all of it."""
        epoch, first = divmod(self.progress.step, self.steps_per_epoch)
        order = epoch_order(self.recipe, self.fold.number, epoch, self.fold.train)
        # What was added up before a stop is counted by one process: the sum over all is that of the epoch.
        before = self.progress.loss_sum if self.group.rank == 0 else 0.0
        loss_sum = torch.tensor(before, dtype=torch.float64, device=self.accelerator.device)
        set_training(self.model, self.recipe)
        size = self.recipe.pairs_per_step
        for place in range(first, self.steps_per_epoch):
            chosen = order[place * size : (place + 1) * size]
            loss_sum += self.step(chosen)
            self.progress = self.progress.after(len(chosen), 0)
            bar.update()
            asking = self.accelerator.num_processes == 1 or self.progress.step % ASK_EVERY == 0
            if asking and place + 1 < self.steps_per_epoch and (signal := self.agreed(stop)):
                self.progress = replace(self.progress, loss_sum=float(self.total(loss_sum)))
                self.save()
                raise self.interrupted(signal)
        answers = answers_of(self.fold.train, self.rows.answer_ends)
        return float(self.total(loss_sum)) / self.right.weight(answers)

    def step(self, chosen: Indices) -> Tensor:
        """One step of the optimiser over these examples; this process's share of their loss, summed."""
        recipe, group, step = self.recipe, self.group, self.progress.step
        # Dropout follows from seed, step and rank, so no random state has to be saved, and none can be lost.
        stream = random_stream(recipe.seed, "dropout", self.fold.number, step, group.rank)
        torch.manual_seed(int(stream.integers(1 << 62)))
        set_learning_rate([self.optimizer], learning_rate(recipe, step, self.num_steps))
        share = share_of(chosen, self.most_at_once, group)
        # DDP and FSDP average gradients over processes; the mean over answers wants their sum.
        weight = self.right.weight(answers_of(chosen, self.rows.answer_ends))
        scale = share.counts * group.num_processes / max(weight, 1e-12)
        loss_sum = torch.zeros((), device=self.accelerator.device)
        for number, part in enumerate(self.rows.parts(share.examples, share.num_parts), start=1):
            # Gradients are exchanged once, after the last part.
            waiting = self.shared and number < share.num_parts
            with self.accelerator.no_sync(self.model) if waiting else nullcontext():
                loss = self.right.loss_sum(self.logits(part), part.answers)
                self.accelerator.backward(loss * scale)
            loss_sum += loss.detach() * share.counts
        clip = self.accelerator.clip_grad_norm_ if self.shared else nn.utils.clip_grad_norm_
        clip(self.model.parameters(), recipe.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss_sum

    def logits(self, part: Part) -> Tensor:
        """A row for each answer of the part."""
        found: Tensor = self.model(**part.to(self.accelerator.device).inputs).logits
        return found.flatten(0, -2)

    def predict(self, examples: Indices) -> Tensor:
        """Logits of all answers of these examples, one example after the other, on every process."""
        self.model.eval()
        shape = (int(self.rows.answer_ends[-1]), self.right.num_outputs)
        found = torch.zeros(shape, device=self.accelerator.device)
        with torch.no_grad():
            for share in shares_of(examples, self.most_at_once, self.group):
                for part in self.rows.parts(share.examples, share.num_parts):
                    logits = self.logits(part).float()
                    if share.counts:
                        found[torch.from_numpy(part.answers)] = logits
        return self.total(found)[torch.from_numpy(answers_of(examples, self.rows.answer_ends))].cpu()

    def validation_loss(self) -> float:
        """Of the validation part, weighted as in training."""
        answers = answers_of(self.fold.validation, self.rows.answer_ends)
        logits = self.predict(self.fold.validation)
        return float(self.right.loss_sum(logits, answers)) / self.right.weight(answers)

    def finish_epoch(self, loss: float, seconds: float, bar: tqdm[NoReturn], title: str) -> None:
        """Validate, tell, and save what the fit goes on from."""
        step = self.progress.step
        entry: dict[str, Any] = {
            "step": step,
            "epoch": len(self.log) + 1,
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
        if self.accelerator.is_main_process:
            told = ", ".join(f"{name} {entry[name]:.4f}" for name in LOSSES if name in entry)
            bar.write(f"{title}, epoch {entry['epoch']} of {self.recipe.epochs}: {told}", file=sys.stderr)
            # Before the states: a fit that is killed in between comes by here again.
            self.folder.log(entry)
        if self.best_epoch == len(self.log) and len(self.fold.validation):
            save_state(self.folder.best, self.progress, self.accelerator, self.model, [], keep_last=1)
        self.save()

    def save(self) -> None:
        save_state(
            self.folder.states, self.progress, self.accelerator, self.model, [self.optimizer], keep_last=1
        )

    def total(self, tensor: Tensor) -> Tensor:
        """Added up over the processes that divide the work."""
        added: Tensor = self.accelerator.reduce(tensor) if self.shared else tensor
        return added

    def agreed(self, stop: StopRequest) -> int:
        """The signal that any process has received."""
        if self.accelerator.num_processes == 1:
            return stop.signal_number
        signal = torch.tensor([stop.signal_number], device=self.accelerator.device)
        return int(self.accelerator.gather(signal).max())

    def interrupted(self, signal: int) -> Interrupted:
        told = f"stopped after step {self.progress.step:,} of {self.num_steps:,} of {self.folder.path.name}"
        return Interrupted(f"{told}; the same command goes on", signal)

    def advice_on_divergence(self, entry: dict[str, Any]) -> str:
        told = ", ".join(f"{name} {entry[name]}" for name in LOSSES if name in entry)
        return (
            f"{self.folder.path.name} has diverged in epoch {entry['epoch']} ({told}); a learning_rate below "
            f"{self.recipe.peak_learning_rate:g} or more warmup_fraction helps, in a new folder"
        )


def learning_rate(recipe: Recipe, step: int, num_steps: int) -> float:
    """Of the step counted from 0: up to the peak, then down to 0, as transformers' linear schedule."""
    warmup = math.ceil(recipe.warmup_fraction * num_steps)
    if step < warmup:
        return recipe.peak_learning_rate * step / warmup
    return recipe.peak_learning_rate * (num_steps - step) / max(1, num_steps - warmup)


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW for what the method trains; biases and norms have no weight decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if one.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [one for one in trained if one.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_learning_rate, fused=True)
