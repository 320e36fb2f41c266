"""`measurement.json` of a measurement's folder: what was measured, on which weights and data, how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD = "measurement.json"
_KEYS = {"suite", "model", "checkpoint", "data", "settings", "is_member", "key"}


def read_record(folder: Path) -> dict[str, Any] | None:
    """None where the file is missing or broken: then nobody knows what the folder holds."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() >= _KEYS else None
