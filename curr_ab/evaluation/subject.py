"""What is measured: a checkpoint, its digest, its name, and what its training recorded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers.utils import find_adapter_config_file

from curr_ab.checkpoints import Checkpoint, resolve
from curr_ab.evaluation.plan import SuitePlan
from curr_ab.family import MEMBERS, SHAPE
from curr_ab.files import file_digest
from curr_ab.modeling import CurrAbForMaskedLM
from curr_ab.tokenization import CurrAbTokenizer

_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")


@dataclass(frozen=True)
class Subject:
    """A checkpoint that was found but not loaded yet."""

    checkpoint: Checkpoint
    name: str
    digest: str
    is_member: bool  # called like a member and of its shape: comparable with what the paper reports of it
    is_adapter: bool
    training: dict[str, Any] = field(repr=False)  # training.json; empty where there is none

    def load(self) -> tuple[CurrAbForMaskedLM, CurrAbTokenizer]:
        """Model and tokenizer; weights that are no numbers are refused here, before hours of work."""
        model, tokenizer = self.checkpoint.load()
        for name, parameter in model.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise ValueError(
                    f"{self.checkpoint.name}: the weights {name} are not all numbers (NaN or inf)"
                )
        return model, tokenizer

    def result_fields(self, source: str) -> dict[str, Any]:
        """The fields of a `Result` that say what was measured, and how to do it again."""
        return {
            "model": self.name,
            "checkpoint": self.digest,
            "step": self.training.get("step"),
            "source": source,
            "code_version": version("curr-ab"),
        }


def find_subject(model: str | Path, plan: SuitePlan) -> Subject:
    """The checkpoint called `model`, as `curr_ab.load` finds it."""
    source = resolve(model, plan.namespace)
    checkpoint = Checkpoint(
        source,
        revision=plan.revision,
        device=plan.device,
        dtype=plan.dtype,
        namespace=plan.namespace,
        separator=plan.separator,
    )
    training = _read(_file(source, "training.json", plan.revision))
    name = plan.name or training.get("member") or _name_of(model, source)
    files, base = [_weights(source, plan.revision)], source
    config = find_adapter_config_file(source, revision=plan.revision)
    if config is not None:  # what is measured is the base with the adapter merged in
        base = resolve(_read(Path(config))["base_model_name_or_path"], plan.namespace)
        files.append(_weights(base, None))
    shape = _read(_file(base, "config.json", None if config else plan.revision))
    is_member = config is None and name in MEMBERS
    is_member = is_member and all(shape.get(key) == MEMBERS[name].config().get(key, 33) for key in SHAPE)
    return Subject(checkpoint, name, _digest(files), is_member, config is not None, training)


def _name_of(model: str | Path, source: str) -> str:
    """A member's name where it is one; else the folder's, or the repository's."""
    folder = Path(source)
    if not folder.is_dir():
        text = source
    elif folder.resolve().parent.name == "checkpoints":  # of a run: its folder tells more than `step500`
        text = folder.resolve().parents[1].name
    else:
        text = folder.resolve().name
    short = text.rpartition("/")[2].upper().removeprefix("CURRAB-")
    return short if short in MEMBERS else text


def _file(source: str, name: str, revision: str | None) -> Path | None:
    """A file of a checkpoint, here or from the Hub; None where it has none of that name."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(source, name, revision=revision))
    except EntryNotFoundError:
        return None


def _weights(source: str, revision: str | None) -> Path:
    for name in ("adapter_model.safetensors", *_WEIGHTS):
        if (found := _file(source, name, revision)) is not None:
            return found
    where = "folder" if Path(source).is_dir() else "repository, or without network in the cache"
    raise ValueError(
        f"{source} has no model in it (none of {', '.join(_WEIGHTS)} in the {where}); name a checkpoint, "
        "such as RUN/checkpoints/step500000 or a member"
    )


def _digest(files: list[Path]) -> str:
    """`checkpoint_digest` of an ordinary checkpoint; of an adapter, the digest of both files' digests."""
    digests = [file_digest(path) for path in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
