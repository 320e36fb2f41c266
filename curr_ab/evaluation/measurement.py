"""Record of a measurement: the suite, checkpoint, data and settings that decide its numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.files import write_json

if TYPE_CHECKING:
    from curr_ab.evaluation.subject import Subject

RECORD = "measurement.json"


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
        """That of a suite on a checkpoint; `data` is the fingerprint of the data."""
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
        content = self._content()
        del content["is_member"]  # follows from the others
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Record in the folder what its numbers are of."""
        write_json(folder / RECORD, {**self._content(), "key": self.key})

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content


def read_measurement(folder: Path) -> Measurement | None:
    """The record; None where it is missing or broken: then nobody knows what the folder holds."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Measurement(**{name: content[name] for name in Measurement.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError):
        return None
