"""The checkpoint that is fine-tuned: where it is, what it is called, and a digest of its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import cached_file

from curr_ab.family import MEMBERS, member
from curr_ab.loading import resolve
from curr_ab.results import checkpoint_digest


@dataclass(frozen=True)
class BaseModel:
    """A checkpoint by the names that loading, results and run folders use."""

    source: str  # folder or repository
    name: str  # the member where it is one
    digest: str


def find_base(name_or_path: str | Path) -> BaseModel:
    """The checkpoint of a member, a folder or a repository, which is downloaded if need be."""
    source = checked_source(name_or_path)
    folder = Path(source)
    if not folder.is_dir():
        weights = cached_file(source, "model.safetensors")
        assert weights is not None  # cached_file raises OSError where there is none
        folder = Path(weights).parent
    return BaseModel(source, _name(str(name_or_path), folder), checkpoint_digest(folder))


def checked_source(name_or_path: str | Path) -> str:
    """Where the checkpoint is: a repository, or a folder that holds one."""
    source = resolve(name_or_path)
    folder = Path(source)
    if folder.is_dir() and not (folder / "model.safetensors").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ValueError(
                f"{folder} is an adapter; merge it first: load_finetuned(folder), then save_pretrained of "
                "model and tokenizer"
            )
        raise ValueError(f"{folder} is no checkpoint: it has no model.safetensors")
    return source


def _name(text: str, folder: Path) -> str:
    last = text.rstrip("/").rpartition("/")[2]
    if last.upper().removeprefix("CURRAB-") in MEMBERS:
        return member(last).name
    training = folder / "training.json"
    of_training = json.loads(training.read_text())["member"] if training.is_file() else None
    return of_training or Path(text).resolve().name
