"""The training loop: one process or many, from the newest saved state to the last step."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator

from curr_ab.data.shards import TokenDataset
from curr_ab.measures.held_out import HeldOut, LossEstimate, baseline_losses, evaluate, loss_results
from curr_ab.number_types import training_precision
from curr_ab.pretraining.batches import StepBatches, TrainingData
from curr_ab.pretraining.checkpoint import public_plan, training_record, write_checkpoint
from curr_ab.pretraining.model import build_config, build_model, clm_tokens_before, pairs_at_once
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.pretraining.run_folder import RunFolder
from curr_ab.pretraining.step import build_optimizers, learning_rate, training_step
from curr_ab.quantities import format_value
from curr_ab.results import add_results, checkpoint_digest
from curr_ab.training.costs import (
    choose_attention,
    peak_flops,
    peak_memory,
    takes_packed_rows,
    training_flops_per_token,
)
from curr_ab.training.processes import training_processes
from curr_ab.training.reporter import Reporter, start_trackers
from curr_ab.training.state import Progress, save_state
from curr_ab.training.step import Diverged
from curr_ab.training.stop import Interrupted, StopRequest
from curr_ab.training.transfer import prepared_ahead, sent


def pretrain(plan: PretrainingPlan, out: str | Path) -> Path:
    """Train to the plan's last step, from where the run in `out` stands; the last checkpoint folder."""
    run = RunFolder(out)
    precision = training_precision(plan.precision, run.precision)
    plan = replace(plan, precision=precision.name)
    with training_processes(run.path, plan.precision, plan.trackers) as (accelerator, stop):
        if plan.pairs_per_step % accelerator.num_processes:
            raise ValueError(
                f"pairs_per_step must divide among the {accelerator.num_processes} processes; got "
                f"{plan.pairs_per_step}: choose a multiple of {accelerator.num_processes}"
            )
        try:
            training = Training(plan, run, accelerator)
            with closing(training.reporter):
                training.reporter.say(f"{precision.name}: {precision.reason}")
                training.run_to_end(stop)
        except torch.OutOfMemoryError as error:
            raise ValueError(advice_on_memory(plan, accelerator)) from error
    return run.checkpoint(plan.steps)


@dataclass
class Window:
    """Sums over the steps since the last line of the log; the loss stays on its device until then."""

    loss_sum: torch.Tensor
    gradient_norm: torch.Tensor
    began: float
    targets: int = 0
    pairs: int = 0
    unpaired: int = 0
    tokens: int = 0

    @classmethod
    def empty(cls, device: torch.device) -> Window:
        zero = torch.zeros((), device=device)
        return cls(zero, zero, time.perf_counter())

    def add(self, batches: StepBatches, loss_sum: torch.Tensor, gradient_norm: torch.Tensor) -> None:
        """Count one step; a gradient that is not a number stays one."""
        self.loss_sum = self.loss_sum + loss_sum
        self.gradient_norm = torch.maximum(self.gradient_norm, gradient_norm)
        self.targets += batches.num_targets
        self.pairs += batches.num_records
        self.unpaired += batches.num_unpaired
        self.tokens += batches.num_tokens


class Training:
    """Model, optimisers and data of a run, at the step that it has reached."""

    def __init__(self, plan: PretrainingPlan, run: RunFolder, accelerator: Accelerator) -> None:
        self.plan = plan
        self.run = run
        self.accelerator = accelerator
        device = accelerator.device
        self.pairs_per_micro_batch = pairs_at_once(plan, device)
        config = build_config(plan)
        self.clm_tokens = clm_tokens_before(plan)
        dropout = config.attention_probs_dropout_prob
        attention = choose_attention(plan.attention, plan.precision, device, dropout)
        pad = not takes_packed_rows(attention, device)
        self.data = TrainingData(plan, pad)
        validation = TokenDataset(plan.data, "validation")
        self.held_out = HeldOut(
            validation,
            num_pairs=plan.evaluation_pairs,
            draws=plan.evaluation_draws,
            seed=plan.evaluation_seed,
            objective=plan.objective,
            pad=pad,
        )
        if accelerator.is_main_process:
            run.begin(plan, self.data.identity)
            # What has changed would be trained on all the same.
            for dataset in (self.data.paired, self.data.unpaired, validation):
                if dataset is not None:
                    dataset.verify_arrays()
        model = build_model(plan, attention)
        self.flops_per_token = training_flops_per_token(model.config, self.data.paired.squared_length)
        self.peak_flops = peak_flops(device, plan.precision)
        self.model, *self.optimizers = accelerator.prepare(model, *build_optimizers(model, plan))
        start_trackers(accelerator, public_plan(plan))
        restored = run.restore(accelerator, self.model, self.optimizers)
        self.progress = restored or Progress()
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            run.forget_after(self.progress.step if restored else -1)
        self.reporter = Reporter(run, accelerator, first_step=self.progress.step, num_steps=plan.steps)

    def run_to_end(self, stop: StopRequest) -> None:
        """Step, report, evaluate, save, until the plan's last step or a request to stop."""
        plan, accelerator = self.plan, self.accelerator
        processes = accelerator.num_processes
        if self.progress.step == 0:
            self.log_baselines()
        elif self.progress.step == plan.steps:
            self.restore_checkpoint()
        parts = -(-plan.pairs_per_step // processes // self.pairs_per_micro_batch)

        def prepare(step: int) -> StepBatches:
            batches = self.data.step(step, accelerator.process_index, processes, parts)
            return replace(batches, micro_batches=sent(batches.micro_batches, accelerator.device))

        with closing(prepared_ahead(prepare, self.progress.step, plan.steps)) as prepared:
            self.take_steps(prepared, stop)

    def take_steps(self, prepared: Generator[StepBatches, None, None], stop: StopRequest) -> None:
        """Each of these steps, and what is due after it."""
        plan, run, accelerator = self.plan, self.run, self.accelerator
        window = Window.empty(accelerator.device)
        for batches in prepared:
            loss_sum, gradient_norm = training_step(
                accelerator, self.model, self.optimizers, plan, self.progress.step, batches
            )
            window.add(batches, loss_sum, gradient_norm)
            self.progress = self.progress.after(plan.pairs_per_step, batches.num_tokens)
            self.reporter.advance()

            step = self.progress.step
            last = step == plan.steps
            # Several processes ask each other when a line of the log is due.
            stopping = stop.agreed(accelerator, due=step % plan.log_every == 0)
            evaluating = last or step % plan.evaluate_every == 0
            saving = last or stopping or step % plan.save_every == 0
            # A state is saved with nothing left to report, so a resumed run writes the same log.
            if not (evaluating or saving or step % plan.log_every == 0 or step in plan.checkpoint_at):
                continue
            self.log(window)
            estimates = self.evaluate() if evaluating else None
            # Before the state: a run that is killed in between comes by here again.
            if step in plan.checkpoint_at:
                self.write_checkpoint(estimates)
            if saving:
                save_state(
                    run.states, self.progress, accelerator, self.model, self.optimizers, plan.keep_last
                )
            if stopping and not last:
                raise Interrupted(
                    f"stopped after step {step:,} of {plan.steps:,}; the same command goes on", stopping
                )
            window = Window.empty(accelerator.device)

    def log(self, window: Window) -> None:
        """One line about the steps of the window; a loss that is not a number ends the run."""
        loss = float(self.accelerator.reduce(window.loss_sum)) / max(1, window.targets)
        gradient_norm = float(window.gradient_norm)
        seconds = time.perf_counter() - window.began  # now that the device has done its part
        # With fp16 the scaler skips steps of infinite gradient; a loss that is not a number is never right.
        if not math.isfinite(loss) or (self.accelerator.scaler is None and not math.isfinite(gradient_norm)):
            raise Diverged(self.advice_on_divergence(loss, gradient_norm))
        self.progress = replace(self.progress, seconds=self.progress.seconds + seconds)
        speed = window.tokens / seconds
        pairs_per_second = window.pairs / seconds
        left = (self.plan.steps - self.progress.step) * self.plan.pairs_per_step / pairs_per_second
        entry = {
            "step": self.progress.step,
            "loss": loss,
            "gradient_norm": gradient_norm if math.isfinite(gradient_norm) else None,
            "learning_rate": learning_rate(self.plan, self.progress.step - 1),
            "unpaired_fraction": window.unpaired / window.pairs,
            "pairs_seen": self.progress.pairs,
            "residue_tokens_seen": self.progress.tokens,
            "pairs_per_second": pairs_per_second,
            "residue_tokens_per_second": speed,
            "model_flops_utilization": self.utilization(speed),
            "memory_gib": peak_memory(self.accelerator.device),
            "seconds": self.progress.seconds,
        }
        summary = {
            "loss": f"{loss:.4f}",
            "pairs/s": f"{pairs_per_second:.1f}",
            "tok/s": f"{speed:,.0f}",
            "GiB": f"{entry['memory_gib']:.1f}",
            "left": str(timedelta(seconds=round(left))),  # the bar has its own
        }
        if entry["model_flops_utilization"] is not None:
            summary["MFU"] = f"{entry['model_flops_utilization']:.0%}"
        self.reporter.write(entry, summary)

    def utilization(self, tokens_per_second: float) -> float | None:
        """Share of the devices' peak that residues and separators take; None where the peak is not known."""
        if self.peak_flops is None:
            return None
        flops: float = tokens_per_second * self.flops_per_token
        return flops / (self.peak_flops * int(self.accelerator.num_processes))

    def log_baselines(self) -> None:
        """The held-out loss that residue frequencies alone would reach."""
        if self.accelerator.is_main_process:
            losses = baseline_losses(self.data.paired, self.held_out)
            self.reporter.say("held-out loss of " + ", ".join(f"{k} {v:.4f}" for k, v in losses.items()))
            self.run.log({"step": 0, "baselines": losses})

    def evaluate(self) -> dict[str, LossEstimate]:
        """Held-out losses, also into the log."""
        estimates = evaluate(
            self.model,
            self.held_out,
            device=self.accelerator.device,
            pairs_per_batch=self.pairs_per_micro_batch,
            rank=self.accelerator.process_index,
            num_processes=self.accelerator.num_processes,
            total=self.accelerator.reduce,
        )
        overall = estimates["all"]
        self.reporter.say(
            f"step {self.progress.step:,}: held-out loss "
            f"{format_value(overall.loss, overall.standard_error, digits=4)}"
        )
        entry = {"step": self.progress.step, "held_out_loss": overall.loss}
        self.reporter.write({**entry, "held_out": {name: asdict(value) for name, value in estimates.items()}})
        return estimates

    def write_checkpoint(self, estimates: dict[str, LossEstimate] | None) -> None:
        """The folder of this step, and its held-out losses where they were just measured."""
        record = training_record(
            self.plan,
            self.progress,
            self.data.description,
            self.progress.tokens * self.flops_per_token,
            self.accelerator,
            self.clm_tokens,
        )
        folder = self.run.checkpoint(self.progress.step)
        write_checkpoint(folder, self.accelerator, self.model, record)
        if estimates and self.accelerator.is_main_process:
            results = loss_results(
                estimates,
                self.held_out,
                model=record.name or self.run.path.resolve().name,
                checkpoint=checkpoint_digest(folder),
                step=record.step,
                source="curr-ab pretrain",
                code_version=version("curr-ab"),
            )
            add_results(self.run.results_file, results)

    def restore_checkpoint(self) -> None:
        """The last folder of a finished run, where somebody has deleted it."""
        missing = not self.run.checkpoint(self.plan.steps).exists()
        self.accelerator.wait_for_everyone()
        if missing:
            self.write_checkpoint(None)

    def advice_on_divergence(self, loss: float, gradient_norm: float) -> str:
        state = self.run.newest_state
        good = f"the last good state is {state}" if state else "no state was saved yet"
        start = f", which can start from the newest folder in {self.run.checkpoints}"
        if not self.run.checkpoints.is_dir():
            start = ""
        return (
            f"loss {loss}, gradient norm {gradient_norm} up to step {self.progress.step:,}: {good}. A lower "
            f"peak_learning_rate, a longer warm-up or another seed help: in a new folder{start}"
        )


def advice_on_memory(plan: PretrainingPlan, accelerator: Accelerator) -> str:
    """Ways out when a device runs out of memory."""
    limit = f"pairs_per_micro_batch below {pairs_at_once(plan, accelerator.device)}"
    if plan.tokens_per_micro_batch:
        limit = f"tokens_per_micro_batch below {plan.tokens_per_micro_batch:,}"
    advice = [f"{limit}, which does not change the result"]
    if not plan.activation_checkpointing:
        advice.append("activation_checkpointing: true")
    if not accelerator.is_fsdp2:
        advice.append("a launch with FSDP2 on several GPUs")
    return f"the device is out of memory; choose {', or '.join(advice)}. The same command then goes on"
