"""Signals that ask a process to end: how a command obeys, and a trainer after the step that it is in."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from accelerate import Accelerator

# The last, which Windows lacks, is what a closed terminal or a lost connection sends.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
# Variables of those who start several processes of one command, torchrun and `accelerate launch`.
_LAUNCHED = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
_PATIENCE = 60.0  # seconds in which a process without its launcher can save its state


class Interrupted(Exception):
    """The run was asked to stop and has saved its state."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number  # as a shell reports it


class Stopped(KeyboardInterrupt):
    """A command was asked to end, by any of the signals."""

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


def _is_ignored(number: int) -> bool:
    """True where whoever started the process wants it to outlive the signal, as nohup does."""
    return signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` for a signal, so that what is open is closed and half-written files go."""
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for one in before:  # a second one would come into what the first has begun to close
            signal.signal(one, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in SIGNALS if not _is_ignored(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_launcher() -> None:
    """Ask this process to end when the launcher that started it is gone, which cannot tell it any more."""
    parent = os.getppid()
    if not any(name in os.environ for name in _LAUNCHED) or os.name == "nt":  # where a parent stays the same
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PATIENCE)
        os._exit(128 + signal.SIGTERM)  # it waits for another process, which is gone

    threading.Thread(target=watch, daemon=True).start()


class StopRequest:
    """Remembers the signal while the block runs; a second one of its kind acts at once."""

    def __init__(self) -> None:
        self.signal_number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in SIGNALS:
            if number in (signal.SIGTERM, signal.SIGINT) or not _is_ignored(number):
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
