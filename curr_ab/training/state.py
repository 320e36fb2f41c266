"""The folder of a training: its log, and saved states that are complete or not there at all."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from curr_ab.files import (
    file_digest,
    is_beside,
    read_object,
    remove_folder,
    replacing,
    replacing_folder,
    write_json,
)

MARKER = "complete.json"
# What is frozen is what the run began with. Leaving it out needs strict=False; that nothing else is missing
# is checked where the file is read.
_FLAT = StateDictOptions(flatten_optimizer_state_dict=True, ignore_frozen_params=True, strict=False)
_MODEL, _OPTIMIZER = "model.", "optimizer."


@dataclass(frozen=True)
class Progress:
    """Steps and data so far; random numbers and the schedule follow from seed, step and rank."""

    step: int = 0
    pairs: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def after(self, pairs: int, tokens: int) -> Self:
        """One step on."""
        return replace(self, step=self.step + 1, pairs=self.pairs + pairs, tokens=self.tokens + tokens)


Kind = TypeVar("Kind", bound=Progress)


def save_state(
    folder: Path,
    progress: Progress,
    accelerator: Accelerator,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    keep_last: int,
    on_disk: bool = True,
) -> Path:
    """Write the state of this step with all processes, then drop the oldest beyond `keep_last`.

    Without `on_disk` it is faster, and a power cut may damage it.
    """
    final = folder / _name(progress.step)
    made_here = accelerator.is_main_process
    tensors, _, _ = _tensors(model, optimizers)
    size = num_bytes_of(tensors.values())
    with replacing_folder(final, size=size, made_here=made_here, on_disk=on_disk) as unfinished:
        accelerator.wait_for_everyone()
        writer = HuggingFaceStorageWriter(str(unfinished), save_distributed=True)
        with _one_process_is_enough(), _disk_errors(unfinished):
            save(tensors, storage_writer=writer)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
            marker = {**asdict(progress), "processes": accelerator.num_processes, "loss_scaler": scaler}
            marker["files"] = {path.name: file_digest(path) for path in sorted(unfinished.iterdir())}
            write_json(unfinished / MARKER, {**marker, "sha256": _digest(marker)})
    if accelerator.is_main_process:
        for old in complete_states(folder)[:-keep_last]:
            remove_folder(old)
    accelerator.wait_for_everyone()
    return final


def num_bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of all values, also of those that other processes hold."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """An error of the disk as one, and not as a collection of those of all processes."""
    try:
        yield
    except CheckpointException as error:
        for cause, _ in error.failures.values():
            if isinstance(cause, OSError | SafetensorError):
                raise OSError(
                    f"{folder.parent} cannot be written ({cause}); the state before is whole: make room, and "
                    "the same command goes on"
                ) from error
        raise


def complete_states(folder: Path) -> list[Path]:
    """The states that a training can go on from, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{MARKER}"))


def restore_state(
    state: Path,
    accelerator: Accelerator,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    kind: type[Kind] = Progress,  # type: ignore[assignment]
) -> Kind:
    """Read a state that any number of processes wrote, and that is as they wrote it."""
    # One process reads the files for all: they may lie on a disk that many machines share.
    [problem] = broadcast_object_list([_damage(state) if accelerator.is_main_process else None])
    if problem:
        raise Damaged(f"{state} is damaged ({problem})")
    try:
        tensors, model_state, optimizer_state = _tensors(model, optimizers)
        with _one_process_is_enough():
            load(tensors, storage_reader=HuggingFaceStorageReader(str(state)))
        set_state_dict(
            model,
            _bare(optimizers),
            model_state_dict=model_state,  # its tensors and the next one's were filled where they are
            optim_state_dict=optimizer_state,
            options=_FLAT,
        )
        marker = read_object(state / MARKER)
        if accelerator.scaler is not None and marker["loss_scaler"] is not None:
            accelerator.scaler.load_state_dict(marker["loss_scaler"])
        return kind(**{key: marker[key] for key in asdict(kind())})
    except (Exception, CheckpointException) as error:
        raise ValueError(
            f"{state} cannot be read ({' '.join(str(error).split())[:200]}); if it is damaged, delete it, "
            "and the run goes on from the state before it"
        ) from error


class Damaged(ValueError):
    """A saved state that is not what was written."""


def _damage(state: Path) -> str | None:
    """What of a state is not as it was written; an earlier version wrote no digests to tell that by."""
    try:
        marker = read_object(state / MARKER)
    except ValueError as error:
        return str(error)
    expected = marker.pop("sha256", None)
    if (
        not isinstance(marker.get("step"), int)
        or state.name != _name(marker["step"])
        or expected not in (None, _digest(marker))
    ):
        return f"{MARKER} is not what was written"
    files = marker.get("files", {})
    if not isinstance(files, dict) or not all(map(is_beside, files)):
        return f"{MARKER} is not what was written"
    for name, digest in files.items():
        if not (state / name).is_file():
            return f"{name} is missing"
        if file_digest(state / name) != digest:
            return f"{name} is not what was written"
    return None


def _digest(marker: Mapping[str, Any]) -> str:
    return sha256(json.dumps(marker, sort_keys=True).encode()).hexdigest()


def _name(step: int) -> str:
    return f"step-{step:08d}"


class TrainingFolder:
    """The log of a training, a JSON object in each line, and its saved states."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.log_file = self.path / "log.jsonl"
        self.states = self.path / "states"

    @property
    def newest_state(self) -> Path | None:
        """The complete state of the latest step."""
        return next(reversed(complete_states(self.states)), None)

    def restore(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        kind: type[Kind] = Progress,  # type: ignore[assignment]
    ) -> Kind | None:
        """Read the newest state that is whole, and set later ones aside; None where none was saved yet."""
        damaged: dict[Path, str] = {}
        for state in reversed(complete_states(self.states)):
            try:
                progress = restore_state(state, accelerator, model, optimizers, kind)
            except Damaged as error:
                damaged[state] = str(error)
                continue
            if accelerator.is_main_process:
                for other, problem in damaged.items():
                    aside = other.with_name(f"damaged-{other.name}")
                    remove_folder(aside)
                    other.rename(aside)
                    lost = f"the steps after {progress.step:,} are made again"
                    print(f"{problem}; it is {aside} now, and {lost}", file=sys.stderr, flush=True)
            return progress
        if damaged:
            raise ValueError(
                f"{next(iter(damaged.values()))}, and no earlier state is whole; delete {self.states}, and "
                "the training begins anew"
            )
        return None

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(entry)) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the lines of the log after the step from which the training goes on."""
        if self.log_file.exists():
            lines = [json.dumps(entry) + "\n" for entry in self.read_log() if entry["step"] <= step]
            with replacing(self.log_file) as temporary:
                temporary.write_text("".join(lines), encoding="utf-8")

    def read_log(self) -> list[dict[str, Any]]:
        """All lines, oldest first; none before the first."""
        return read_log(self.path) if self.log_file.exists() else []


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's log, oldest first; without those that a killed process or a disk left broken."""
    entries = []
    for line in (Path(path) / "log.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(json.JSONDecodeError, RecursionError):
            entries.append(json.loads(line))
    return entries


def _bare(optimizers: Sequence[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    return [getattr(optimizer, "optimizer", optimizer) for optimizer in optimizers]


@contextmanager
def _one_process_is_enough() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _tensors(
    model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """All tensors to be saved under one flat name each, then the two state dicts that they come from."""
    # Of the bare optimisers: to allocate a state takes a step, which must not pass through a loss scaler.
    model_state, optimizer_state = get_state_dict(model, _bare(optimizers), options=_FLAT)
    # The decoder is the embedding; one tensor cannot have two names in a file.
    tied = "lm_head.decoder.weight"
    tensors = {_MODEL + key: value for key, value in model_state.items() if key != tied}
    flat: dict[str, Any] = dict(optimizer_state)
    for key, value in flat.items():
        if isinstance(value, torch.Tensor):  # the rest is the plan's
            tensors[_OPTIMIZER + key] = value
    return tensors, model_state, flat
