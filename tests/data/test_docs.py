"""docs/how-to/prepare.md lists the fields and the reasons that the code has."""

from __future__ import annotations

from pathlib import Path

from curr_ab.data.preparing.clean import REASONS
from curr_ab.data.schema import FIELDS, PROVENANCE

DOCUMENT = (Path(__file__).parents[2] / "docs" / "how-to" / "prepare.md").read_text()


def test_every_field_and_reason_is_documented() -> None:
    for field in (*FIELDS, *PROVENANCE):
        others = ", ".join(f"`{alias}`" for alias in field.bases) if not field.chain else ""
        assert f"| `{field.name}` | {field.type} | {field.meaning} | {others} |" in DOCUMENT
    for reason, meaning in REASONS.items():
        assert f"| `{reason}` | {meaning} |" in DOCUMENT
