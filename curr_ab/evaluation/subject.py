"""The subject of an evaluation: a checkpoint, its digest, its name, and what its training recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from curr_ab.checkpoints import CONFIG, Checkpoint, find_checkpoint, find_file
from curr_ab.evaluation.plan import SuitePlan
from curr_ab.family import MEMBERS, SHAPE
from curr_ab.files import read_object
from curr_ab.modeling import CurrAbForMaskedLM
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.training_record import TrainingRecord


@dataclass(frozen=True)
class Subject:
    """A checkpoint that is not loaded yet."""

    checkpoint: Checkpoint
    name: str
    digest: str
    is_member: bool  # called like a member and of its shape: comparable with what the paper reports of it
    is_adapter: bool
    training: TrainingRecord | None = field(repr=False)

    def load(self) -> tuple[CurrAbForMaskedLM, CurrAbTokenizer]:
        """Model and tokenizer; weights that are NaN or infinite are refused here, before hours of work."""
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
            "step": self.training.step if self.training else None,
            "source": source,
            "code_version": version("curr-ab"),
        }


def find_subject(model: str | Path, plan: SuitePlan) -> Subject:
    """The checkpoint called `model`, as `curr_ab.load` reads names."""
    found = find_checkpoint(model, revision=plan.revision, namespace=plan.namespace)
    checkpoint = Checkpoint(
        found.source,
        revision=plan.revision,
        device=plan.device,
        dtype=plan.dtype,
        namespace=plan.namespace,
        separator=plan.separator,
    )
    name, is_adapter = plan.name or found.name, found.base is not None
    is_member = not is_adapter and name in MEMBERS
    if is_member:
        config = find_file(found.source, CONFIG, revision=plan.revision)
        shape, expected = {} if config is None else read_object(config), MEMBERS[name].config()
        is_member = all(shape.get(key) == expected[key] for key in SHAPE)
    return Subject(checkpoint, name, found.digest, is_member, is_adapter, found.training)
