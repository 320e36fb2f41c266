"""Subject and record of a measurement: a checkpoint, and all that decides the numbers of a suite on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.evaluation.plan import GeneratedPairsPlan, SuitePlan
from curr_ab.family import MEMBERS, SHAPE
from curr_ab.files import file_digest, read_object, write_json
from curr_ab.training_record import TrainingRecord

if TYPE_CHECKING:  # they load torch, which the tables do without
    from curr_ab.checkpoints import Checkpoint
    from curr_ab.modeling import CurrAbForMaskedLM
    from curr_ab.tokenization import CurrAbTokenizer

RECORD = "measurement.json"


@dataclass(frozen=True)
class Subject:
    """A checkpoint that is not loaded yet."""

    checkpoint: Checkpoint
    name: str
    digest: str
    is_member: bool  # called like a member and of its shape: comparable with what the paper reports of it
    is_adapter: bool
    training: TrainingRecord | None = field(repr=False)
    is_file: bool = False  # pairs that any generator made, in the place of a checkpoint

    def load(self) -> tuple[CurrAbForMaskedLM, CurrAbTokenizer]:
        """Model and tokenizer; weights that are NaN or infinite are refused here, before hours of work."""
        model, tokenizer = self.checkpoint.load()
        for name, parameter in model.named_parameters():
            if not bool(parameter.isfinite().all()):
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
    """The checkpoint called `model`, as `curr_ab.load` reads names; or a file of pairs that one made."""
    from curr_ab.checkpoint_files import CONFIG, find_checkpoint, find_file
    from curr_ab.checkpoints import Checkpoint

    if isinstance(plan, GeneratedPairsPlan) and Path(model).is_file():
        name = plan.name or Path(model).stem
        return Subject(Checkpoint(str(model)), name, file_digest(Path(model)), False, False, None, True)
    source = find_checkpoint(model, revision=plan.revision, namespace=plan.namespace)
    checkpoint = Checkpoint(
        source.source,
        revision=plan.revision,
        device=plan.device,
        dtype=plan.dtype,
        namespace=plan.namespace,
        separator=plan.separator,
    )
    name, is_adapter = plan.name or source.name, source.base is not None
    is_member = not is_adapter and name in MEMBERS
    if is_member:
        config = find_file(source.source, CONFIG, revision=plan.revision)
        shape, expected = {} if config is None else read_object(config), MEMBERS[name].config()
        is_member = all(shape.get(key) == expected[key] for key in SHAPE)
    return Subject(checkpoint, name, source.digest, is_member, is_adapter, source.training)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """All that decides the numbers of one suite; equal measurements give equal results."""

    suite: str
    model: str
    checkpoint: str  # digest of the weights
    data: str  # fingerprint
    settings: Mapping[str, Any]  # as JSON has them: lists, no tuples
    is_member: bool  # comparable with what the paper reports of the member

    @classmethod
    def of(cls, suite: str, subject: Subject, *, data: str, settings: Mapping[str, Any]) -> Measurement:
        """The measurement of a suite on a checkpoint; `data` is the fingerprint of the data."""
        return cls(
            suite=suite,
            model=subject.name,
            checkpoint=subject.digest,
            data=data,
            settings=json.loads(json.dumps(settings)),
            is_member=subject.is_member,
        )

    @property
    def key(self) -> str:
        """One name for all of it."""
        content = asdict(self)
        del content["is_member"]  # follows from the others
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Record in the folder what its numbers are of."""
        write_json(folder / RECORD, {**asdict(self), "key": self.key})


def read_measurement(folder: Path) -> Measurement | None:
    """The record; None where it is missing or broken: then nobody knows what the folder holds."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Measurement(**{name: content[name] for name in Measurement.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
