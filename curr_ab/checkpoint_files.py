"""Files of a checkpoint: where a name points to, and what lies there; apart from `load`, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path, PureWindowsPath
from typing import Any

from curr_ab.family import DEMOS, NAMESPACE, REPO_PREFIX, find_demo, find_member, nearest_members
from curr_ab.files import as_written, is_beside, read_object
from curr_ab.reach import downloads_explained, reach
from curr_ab.results import checkpoint_digest
from curr_ab.training_record import TRAINING, TrainingRecord, read_training

CONFIG, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
TUNED = "finetuning_manifest.json"  # what an adapter of this package says of itself and of its base
PROBE = "probe.safetensors"  # a regression on features of a base, for `load_finetuned` alone
# In the order in which transformers prefers them.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Options of `from_pretrained` that say where the files are: tokenizer and adapter need them, too.
HUB_OPTIONS = ("revision", "cache_dir", "local_files_only", "token", "subfolder", "force_download")
DEMO_FOLDERS = {demo: Path(__file__).with_name(folder) for demo, folder in DEMOS.items()}
MODEL_TYPE = "esm"  # of the family, too, so that stock transformers reads it
_STEP_FOLDER = re.compile(r"(?:step|checkpoint-)(\d+)")


def resolve(name_or_path: str | Path, namespace: str = NAMESPACE) -> str:
    """The folder or repository of a checkpoint: every command and function reads names this way.

    `name_or_path` is a folder, the folder of a run (its last checkpoint is taken), a repository, or a member,
    `demo` or `CLM-demo` in any case, with or without the prefix of the repositories; an adapter is a folder
    or a repository, too.
    """
    text = str(name_or_path)
    folder, demo = Path(text), find_demo(text)
    if folder.is_dir():
        if any((folder / name).is_file() for name in (CONFIG, ADAPTER_CONFIG, *WEIGHTS)):
            return text
        if steps := step_folders(folder):
            return str(steps[max(steps)])
        if demo is None:  # many a folder is called so that has no checkpoint in it
            return text
    if demo is not None:
        return str(DEMO_FOLDERS[demo])
    if "/" in text.strip("/") and not text.startswith((".", "/", "~")):
        return text
    if (member := find_member(text)) is not None:
        return member.repo_id(namespace)
    raise ValueError(
        f"no checkpoint is called {text!r}: it is neither a folder nor {' nor '.join(DEMOS)} nor a member "
        f"nor a repository such as {namespace}/{REPO_PREFIX}350M-F; {nearest_members(text)}"
    )


def step_folders(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run by step, ascending: `stepN` or `checkpoint-N`, here or in `checkpoints/`."""
    for parent in (folder, folder / "checkpoints"):
        steps = {
            step: entry
            for entry in (sorted(parent.iterdir()) if parent.is_dir() else ())
            if entry.is_dir() and (step := step_of_folder(entry)) is not None
        }
        if steps:
            return dict(sorted(steps.items()))
    return {}


def step_of_folder(folder: Path) -> int | None:
    """The step that a checkpoint's folder is named after; None where its name is another."""
    match = _STEP_FOLDER.fullmatch(folder.name)
    return int(match[1]) if match else None


def find_file(source: str, name: str, **options: Any) -> Path | None:
    """A file of a checkpoint, downloaded from a repository; None where no file has that name.

    `options` are those of HUB_OPTIONS.
    """
    from transformers.utils import cached_file

    options = reach(source, (CONFIG, ADAPTER_CONFIG), **options)
    with downloads_explained(source):
        path = cached_file(source, name, _raise_exceptions_for_missing_entries=False, **options)
    return None if path is None else Path(path)


def find_weights(source: str, **options: Any) -> list[Path]:
    """The file with the weights of a checkpoint, or its shards; of an adapter the adapter's own file."""
    for name in (ADAPTER_WEIGHTS, *WEIGHTS):
        path = find_file(source, name, **options)
        if path is None:
            continue
        if not name.endswith(".index.json"):
            return [path]
        shards = []
        for shard in _shards(path):
            if (path := find_file(source, shard, **options)) is None:
                raise ValueError(f"{source} lacks {shard}, which its {name} lists; copy the checkpoint again")
            shards.append(path)
        return shards
    if find_file(source, PROBE, **options) is not None:
        raise ValueError(
            f"{source} must be a checkpoint here; got a probe, a regression on features of a base: load "
            "it with curr_ab.finetuning.load_finetuned, or name its base"
        )
    where = "folder" if Path(source).is_dir() else "repository, or without network in the cache"
    raise ValueError(
        f"{source} has no model in it (none of {', '.join(WEIGHTS)} in the {where}); name a checkpoint, "
        "such as RUN/checkpoints/step500000 or a member"
    )


def _shards(index: Path) -> list[str]:
    """The names of the files that an index of weights lists, which lie beside it."""
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{index} must say in which file each tensor is; copy the checkpoint again")
    for shard in shards.values():
        if not is_beside(shard):
            raise ValueError(f"{index.parent}: {index.name} must name files beside it; got {shard!r}")
    return sorted(set(shards.values()))


def num_parameters(folder: Path) -> int:
    """Parameters of the weights in one file, read from its head; rotary frequencies are none."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS[0], framework="numpy") as weights:
        names = [name for name in weights.keys() if not name.endswith("inv_freq")]  # noqa: SIM118 (no mapping)
        return sum(prod(weights.get_slice(name).get_shape()) for name in names)


def base_of_adapter(source: str, **options: Any) -> str | None:
    """The base that an adapter names; None for a checkpoint that is complete by itself."""
    path = find_file(source, ADAPTER_CONFIG, **options)
    if path is None:
        return None
    # PEFT needs the folder of the machine that tuned `demo`.
    with as_written(path):
        return base_here(str(read_object(path)["base_model_name_or_path"]))


def base_as_tuned(
    source: str, base: str, options: Mapping[str, Any], base_options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options with which an adapter's base is read, at the revision that was tuned.

    A base with other weights is refused; an adapter that PEFT alone has made says nothing of its base.
    """
    path = find_file(source, TUNED, **options)
    if path is None:
        return dict(base_options)
    tuned = read_object(path)
    pinned = {**base_options}
    if not Path(base).is_dir() and tuned.get("base_revision"):
        pinned["revision"] = tuned["base_revision"]
    if checkpoint_digest(*find_weights(base, **pinned)) != tuned.get("base_weights"):
        raise ValueError(
            f"the base of {source} must have the weights that it was tuned on; got others in {base}: put the "
            "base back, or fine-tune again"
        )
    return pinned


def base_here(base: str) -> str:
    """The base that another machine may have named: of the folder of `demo` there, this package's."""
    there = PureWindowsPath(base).parts[-2:]
    here = next((folder for folder in DEMO_FOLDERS.values() if folder.parts[-2:] == there), None)
    return base if here is None or Path(base).is_dir() else str(here)


def refuse_foreign_files(source: str, **options: Any) -> None:
    """Refuse a checkpoint that takes code from another repository, or weights from another folder.

    transformers before 5.3 loads such code without asking (CVE-2026-4372).
    """
    for name in (name for name in WEIGHTS if name.endswith(".index.json") and Path(source).is_dir()):
        if (Path(source) / name).is_file():
            _shards(Path(source) / name)
    path = find_file(source, CONFIG, **options)
    for key, value in ({} if path is None else read_object(path)).items():
        if key.endswith(("_implementation", "_implementation_internal")) and "/" in str(value):
            raise ValueError(
                f"{path} must not name code of another repository; got {value!r} under {key}; remove it"
            )


def is_causal(source: str, **options: Any) -> bool:
    """True for a causal checkpoint, false for a masked one.

    What is no checkpoint is refused, and one of another architecture, of which no weight would be loaded.
    """
    path = find_file(source, CONFIG, **options)
    if path is None:
        raise ValueError(
            f"{source} is no checkpoint: it has no {CONFIG}; name a folder that has, such as "
            "RUN/checkpoints/step500000, or a member"
        )
    config = read_object(path)
    kind = config.get("model_type")
    if kind != MODEL_TYPE:
        raise ValueError(
            f"{source} holds a model of the type {kind}; name a checkpoint of this family or of ESM-2"
        )
    return bool(config.get("is_decoder", False))


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint whose files are at hand and which is not loaded yet."""

    source: str  # folder or repository
    name: str  # the member's where it is one, else the run's, the folder's or the repository's
    weights: tuple[Path, ...]  # of an adapter its own file, then its base's
    base: str | None  # folder or repository, of an adapter
    training: TrainingRecord | None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights, as results name checkpoints."""
        return checkpoint_digest(*self.weights)


def find_checkpoint(
    name_or_path: str | Path, *, revision: str | None = None, namespace: str = NAMESPACE
) -> CheckpointSource:
    """Locate a checkpoint by any name that `resolve` reads; the weights of a repository are downloaded."""
    source = resolve(name_or_path, namespace)
    record = find_file(source, TRAINING, revision=revision)
    training = None if record is None else read_training(record)
    weights = find_weights(source, revision=revision)
    base = base_of_adapter(source, revision=revision)
    if base is not None:
        base = resolve(base, namespace)
        weights += find_weights(base, **base_as_tuned(source, base, {"revision": revision}, {}))
    name = (training.name if training else None) or _name_of(source)
    return CheckpointSource(source, name, tuple(weights), base, training)


def _name_of(source: str) -> str:
    folder = Path(source).resolve()
    demo = next((demo for demo, path in DEMO_FOLDERS.items() if path.resolve() == folder), None)
    if demo is not None:
        return f"{REPO_PREFIX}{demo}"
    if not folder.is_dir():
        text = source
    elif folder.parent.name == "checkpoints":  # of a run: its name says more than `step500`
        text = folder.parents[1].name
    else:
        text = folder.name
    member = find_member(text.rpartition("/")[2])
    return text if member is None else member.name
