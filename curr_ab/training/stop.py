"""SIGTERM and SIGINT as a request that a trainer grants after the step it is in."""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator


class Interrupted(Exception):
    """The run was asked to stop and has saved its state."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number  # as a shell reports it


class StopRequest:
    """Remembers the signal while the block runs; a second one acts at once."""

    def __init__(self) -> None:
        self.signal_number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator, *, due: bool) -> int:
        """The signal that any process has received, else 0; several processes ask each other where it is due.

        All of them must call it at the same steps, so that they stop at the same step.
        """
        if accelerator.num_processes == 1:
            return self.signal_number
        if not due:
            return 0
        import torch  # the command line imports this file without it

        signal_number = torch.tensor([self.signal_number], device=accelerator.device)
        return int(accelerator.gather(signal_number).max())

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        signal.signal(number, self._before[number])
