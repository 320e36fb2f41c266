"""Progress of a training as it goes: a bar, the log, trackers such as TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from curr_ab.training.state import TrainingFolder


def start_trackers(accelerator: Accelerator, settings: Mapping[str, Any]) -> None:
    """Begin a run of each tracker; settings other than numbers go as text, for TensorBoard refuses lists."""
    plain = {key: v if isinstance(v, (int, float)) else str(v) for key, v in settings.items()}
    accelerator.init_trackers("curr-ab", config=plain)


class Reporter:
    """Reports one training; only the main process writes.

    Where several trainings share the trackers, `prefix` is put before the names of this one's numbers, and
    its steps go on from `steps_before`: some trackers drop what is not in ascending order.
    """

    def __init__(
        self,
        folder: TrainingFolder,
        accelerator: Accelerator,
        *,
        first_step: int,
        num_steps: int,
        title: str | None = None,
        prefix: str = "",
        steps_before: int = 0,
    ) -> None:
        self._folder, self._accelerator = folder, accelerator
        self._num_steps, self._prefix, self._steps_before = num_steps, prefix, steps_before
        self._bar = tqdm(
            total=num_steps,
            initial=first_step,
            desc=title,
            unit="step",
            disable=None if accelerator.is_main_process else True,
        )

    def advance(self) -> None:
        self._bar.update()

    def write(self, entry: Mapping[str, Any], summary: Mapping[str, str] | None = None) -> None:
        """One line of the log, its numbers to the trackers, and a summary at the bar."""
        if self._accelerator.is_main_process:
            self._folder.log(entry)
            if summary is not None and self._bar.disable:  # no terminal: a line instead
                text = ", ".join(f"{name} {value}" for name, value in summary.items())
                print(f"step {entry['step']:,} of {self._num_steps:,}: {text}", file=sys.stderr, flush=True)
            elif summary is not None:
                self._bar.set_postfix({name: value for name, value in summary.items() if name != "left"})
        numbers = {self._prefix + name: v for name, v in entry.items() if isinstance(v, (int, float))}
        self._accelerator.log(numbers, step=self._steps_before + entry["step"])

    def say(self, text: str) -> None:
        if self._accelerator.is_main_process:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
