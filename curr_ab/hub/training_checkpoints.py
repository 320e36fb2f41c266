"""Checkpoints as training leaves them: found in a folder, put in order, recognised, read as a model."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.family import DATA_SIZES, SHAPE, SIZES, Member, ModelSize, member
from curr_ab.options import OptionError

if TYPE_CHECKING:
    from curr_ab.modeling import CurrAbForMaskedLM

STEP_FOLDER = re.compile(r"(?:step|checkpoint-)(\d+)")
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# What decides whether a checkpoint has a member's shape.


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model in it, and the step that it was saved at, where that is known."""

    folder: Path
    step: int | None


def find_checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints of a run, first to last: `checkpoint-N` or `stepN` folders, or the folder itself."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name a checkpoint, or the folder of a run's checkpoints")
    places = [folder, folder / "checkpoints"]
    for place in places:
        steps = {
            int(match[1]): entry
            for entry in (sorted(place.iterdir()) if place.is_dir() else ())
            if entry.is_dir() and (match := STEP_FOLDER.fullmatch(entry.name))
        }
        if steps:
            return [_checkpoint(steps[step], step) for step in sorted(steps)]
    return [_checkpoint(folder, None)]


def _checkpoint(folder: Path, step: int | None) -> Checkpoint:
    _refuse_shards(folder)
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise ValueError(f"{folder} has no model: none of {', '.join(_WEIGHTS)}")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json, which says how the weights are to be read")
    if step is None and (match := STEP_FOLDER.fullmatch(folder.name)):
        step = int(match[1])
    for record, key in (("training.json", "step"), ("trainer_state.json", "global_step")):
        other = _read(folder / record).get(key)
        if other is not None and step is not None and other != step:
            raise ValueError(f"{folder} is named after step {step}, but {record} says step {other}")
        step = step if other is None else int(other)
    return Checkpoint(folder, step)


def _refuse_shards(folder: Path) -> None:
    """Sharded training states are no model yet; the tool that wrote them joins them."""
    if any((folder / name).is_file() for name in _WEIGHTS):
        return
    if (
        (folder / "latest").is_file()
        or any(folder.glob("global_step*"))
        or any(folder.glob("*model_states.pt"))
    ):
        raise ValueError(
            f"{folder} holds DeepSpeed ZeRO shards and no joined model; join them with DeepSpeed: "
            f"python {folder}/zero_to_fp32.py {folder} {folder} --safe_serialization"
        )
    if any(folder.glob("pytorch_model_fsdp_*")):
        raise ValueError(
            f"{folder} holds FSDP shards and no joined model; join them with Accelerate: "
            f"accelerate merge-weights {folder}/pytorch_model_fsdp_0 {folder}"
        )


def _read(path: Path) -> dict[str, Any]:
    """A JSON record beside the weights; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no record: expected an object")
    return content


def training_record(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the training wrote about itself; empty for a checkpoint that came without."""
    return _read(checkpoint.folder / "training.json")


def read_model(checkpoint: Checkpoint) -> CurrAbForMaskedLM:
    """The model in the precision it was saved in; pickled weights are read as tensors and nothing else."""
    from curr_ab.modeling import CurrAbForMaskedLM

    try:
        model, report = CurrAbForMaskedLM.from_pretrained(
            checkpoint.folder,
            dtype="auto",
            output_loading_info=True,
            weights_only=True,
            local_files_only=True,
        )
    except (pickle.UnpicklingError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{checkpoint.folder} cannot be read: {text[:300]}") from None
    for kind, keys in report.items():
        if keys:
            raise ValueError(f"{checkpoint.folder}: {kind.replace('_', ' ')}: {sorted(map(str, keys))[:5]}")
    loaded: CurrAbForMaskedLM = model.eval()
    return loaded


def differing_shape(model: CurrAbForMaskedLM, wanted: Member) -> list[str]:
    """Where the model's shape is not the member's."""
    expected = wanted.config()
    return [
        f"{name} is {getattr(model.config, name)}, not {expected[name]}"
        for name in SHAPE
        if getattr(model.config, name) != expected[name]
    ]


def recognise(checkpoint: Checkpoint, model: CurrAbForMaskedLM, data: str | None) -> Member:
    """The member that a checkpoint is: the size from its shapes, the data from its record or as named."""
    letters = {size.letter for size in DATA_SIZES}
    if data is not None and data.upper() not in letters:
        raise OptionError(f"data must be one of {', '.join(sorted(letters))}; got {data!r}", "data")
    size = _size_of(checkpoint, model)
    named = training_record(checkpoint).get("member")
    if named and member(str(named)).size != size:
        raise ValueError(
            f"{checkpoint.folder}: its record names {named}, but its shape is that of {size.name}"
        )
    recorded = member(str(named)).data.letter if named else _letter_from_epochs(checkpoint)
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
    return member(f"{size.name}-{(data or recorded or '').upper()}")


def _size_of(checkpoint: Checkpoint, model: CurrAbForMaskedLM) -> ModelSize:
    for size in SIZES:
        if not differing_shape(model, member(f"{size.name}-F")):
            return size
    shape = ", ".join(f"{name} {getattr(model.config, name)}" for name in SHAPE)
    raise ValueError(
        f"{checkpoint.folder} has the shape of no member ({shape}); "
        "to try the way to the Hub with it, `curr-ab export MEMBER --rehearsal`"
    )


def _letter_from_epochs(checkpoint: Checkpoint) -> str | None:
    """The published training writes how many epochs its steps were: that tells the number of pairs."""
    state = _read(checkpoint.folder / "trainer_state.json")
    step, epoch = state.get("global_step"), state.get("epoch")
    if not step or not epoch:
        return None
    for data in DATA_SIZES:
        plan = member(f"8M-{data.letter}").plan
        # Epochs are rounded up to whole steps; the three data sizes are a factor of two apart.
        if abs(step * plan.pairs_per_step / epoch / data.num_pairs - 1) < 0.02:
            return data.letter
    return None
