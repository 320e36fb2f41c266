"""The log of a run: one JSON object in each line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curr_ab.files import replacing


def log_line(log_file: Path, entry: Mapping[str, Any]) -> None:
    """Append one line to a log."""
    with log_file.open("a") as file:
        file.write(json.dumps(dict(entry)) + "\n")


def forget_lines_after(log_file: Path, step: int) -> None:
    """Drop the lines of a log that belong to steps after the state from which a run goes on."""
    if not log_file.exists():
        return
    kept = [json.dumps(entry) + "\n" for entry in _entries(log_file) if entry["step"] <= step]
    with replacing(log_file) as temporary:
        temporary.write_text("".join(kept))


def _entries(log_file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log, without a last one that a process was killed in the middle of."""
    for line in log_file.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's log, oldest first."""
    return list(_entries(Path(path) / "log.jsonl"))
