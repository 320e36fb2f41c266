"""Checkpoints as a training leaves them: located in order, recognised as members, read as models."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.checkpoint_files import (
    CONFIG,
    WEIGHTS,
    is_causal,
    refuse_foreign_files,
    step_folders,
    step_of_folder,
)
from curr_ab.family import DATA_SIZES, SHAPE, SIZES, Member, ModelSize, member
from curr_ab.files import read_object
from curr_ab.options import OptionError
from curr_ab.training_record import TRAINING, TrainingRecord, read_training

if TYPE_CHECKING:
    from curr_ab.modeling import CurrAbForCausalLM, CurrAbForMaskedLM

    LanguageModel = CurrAbForMaskedLM | CurrAbForCausalLM

_TRAINER_STATE = "trainer_state.json"


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A folder that a training left, with a model in it; step and record where they are known."""

    folder: Path
    step: int | None
    training: TrainingRecord | None


def find_checkpoints(folder: Path) -> list[TrainingCheckpoint]:
    """The checkpoints of a run, first to last: `checkpoint-N` or `stepN` folders, or the folder itself."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; name a checkpoint, or the folder of a run's checkpoints")
    if steps := step_folders(folder):
        return [_checkpoint(entry, step) for step, entry in steps.items()]
    return [_checkpoint(folder, step_of_folder(folder))]


def _checkpoint(folder: Path, step: int | None) -> TrainingCheckpoint:
    _refuse_shards(folder)
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise ValueError(f"{folder} has no model: none of {', '.join(WEIGHTS)}")
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} has no {CONFIG}, which says how the weights are to be read")
    record = folder / TRAINING
    training = read_training(record) if record.is_file() else None
    state = _trainer_state(folder)
    recorded = {TRAINING: training.step if training else None, _TRAINER_STATE: state.get("global_step")}
    for name, other in recorded.items():
        if other is not None and step is not None and other != step:
            raise ValueError(f"{folder} is named after step {step}, but {name} says step {other}")
        step = step if other is None else int(other)
    return TrainingCheckpoint(folder, step, training)


def _trainer_state(folder: Path) -> dict[str, Any]:
    """The record of the published training, which transformers' Trainer wrote; empty where there is none."""
    path = folder / _TRAINER_STATE
    return read_object(path) if path.is_file() else {}


def _refuse_shards(folder: Path) -> None:
    """Refuse sharded training states, which are not a model until the tool that wrote them joins them."""
    if any((folder / name).is_file() for name in WEIGHTS):
        return
    if (
        (folder / "latest").is_file()
        or any(folder.glob("global_step*"))
        or any(folder.glob("*model_states.pt"))
    ):
        raise ValueError(
            f"{folder} holds DeepSpeed ZeRO shards and no joined model; join them with DeepSpeed: "
            f"python -m deepspeed.utils.zero_to_fp32 {folder} {folder} --safe_serialization"
        )
    if any(folder.glob("pytorch_model_fsdp_*")):
        raise ValueError(
            f"{folder} holds FSDP shards and no joined model; join them with Accelerate: "
            f"accelerate merge-weights {folder}/pytorch_model_fsdp_0 {folder}"
        )


def read_model(checkpoint: TrainingCheckpoint) -> LanguageModel:
    """The model in the precision it was saved in; pickled weights are read as tensors and nothing else."""
    from safetensors import SafetensorError

    from curr_ab.modeling import CurrAbForCausalLM, CurrAbForMaskedLM

    refuse_foreign_files(str(checkpoint.folder))
    causal = is_causal(str(checkpoint.folder))
    try:
        model, report = (CurrAbForCausalLM if causal else CurrAbForMaskedLM).from_pretrained(
            checkpoint.folder,
            dtype="auto",
            output_loading_info=True,
            weights_only=True,
            local_files_only=True,
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError) as error:
        # Damaged files are an OSError in transformers 4.
        text = " ".join(str(error).split())
        raise ValueError(f"{checkpoint.folder} cannot be read: {text[:300]}") from None
    for kind, keys in report.items():
        if keys:
            raise ValueError(f"{checkpoint.folder}: {kind.replace('_', ' ')}: {sorted(map(str, keys))[:5]}")
    loaded: LanguageModel = model.eval()
    return loaded


def differing_shape(model: LanguageModel, wanted: Member) -> list[str]:
    """Every way in which the model's shape differs from the member's."""
    expected = wanted.config()
    return [
        f"{name} is {getattr(model.config, name)}, not {expected[name]}"
        for name in SHAPE
        if getattr(model.config, name) != expected[name]
    ]


def recognise(checkpoint: TrainingCheckpoint, model: LanguageModel, data: str | None) -> Member:
    """The member that a checkpoint is: the size from its shapes, the data from its record or as named."""
    letters = {size.letter for size in DATA_SIZES}
    if data is not None and data.upper() not in letters:
        raise OptionError(f"data must be one of {', '.join(sorted(letters))}; got {data!r}", "data")
    size = _size_of(checkpoint, model)
    named = checkpoint.training.member if checkpoint.training else None  # size and data: a twin has the same
    if named and member(named).size != size:
        raise ValueError(
            f"{checkpoint.folder}: its record names {named}, but its shape is that of {size.name}"
        )
    recorded = member(named).data.letter if named else _letter_from_epochs(checkpoint)
    if data is None and recorded is None:
        raise OptionError(
            f"{checkpoint.folder} has the shape of {size.name}, but does not say what it was trained on; "
            "set data to F, H or Q",
            "data",
        )
    if data is not None and recorded is not None and data.upper() != recorded:
        raise OptionError(
            f"{checkpoint.folder}: data must be {recorded}, as its record says; got {data.upper()}", "data"
        )
    recognised = member(f"{size.name}-{(data or recorded or '').upper()}")
    return replace(recognised, causal=bool(model.config.is_decoder))


def _size_of(checkpoint: TrainingCheckpoint, model: CurrAbForMaskedLM) -> ModelSize:
    for size in SIZES:
        if not differing_shape(model, member(f"{size.name}-F")):
            return size
    shape = ", ".join(f"{name} {getattr(model.config, name)}" for name in SHAPE)
    raise ValueError(
        f"{checkpoint.folder} does not have the shape of any member ({shape}); "
        "to try the way to the Hub with it, `curr-ab export MEMBER --rehearsal`"
    )


def _letter_from_epochs(checkpoint: TrainingCheckpoint) -> str | None:
    """The published training writes how many epochs its steps were: that tells the number of pairs."""
    state = _trainer_state(checkpoint.folder)
    step, epoch = state.get("global_step"), state.get("epoch")
    if not step or not epoch:
        return None
    for data in DATA_SIZES:
        plan = member(f"8M-{data.letter}").plan
        # Epochs are rounded up to whole steps; the three data sizes are a factor of two apart.
        if abs(step * plan.pairs_per_step / epoch / data.num_pairs - 1) < 0.02:
            return data.letter
    return None
