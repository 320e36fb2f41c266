"""The table of faults and commands that the documents show, made of the log of tries."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from .commands import COMMANDS, KINDS, kinds_of

RESULTS = Path(__file__).with_name("results.jsonl")


def summary(log: Path = RESULTS) -> dict[tuple[str, str], dict[str, int]]:
    """Tries of each command and fault, those that were lost, wrong or badly said, and tracebacks."""
    cells: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        entry = json.loads(line)
        cell = cells[entry["command"], entry["fault"]]
        outcome = entry.get("outcome", "equal")
        cell["runs"] += 1
        cell["tries"] += entry["tries"]
        cell[outcome] += 1
        cell["leftovers"] += bool(entry.get("leftovers"))
        for what in ("tracebacks", "orphans", "temporary"):
            cell[what] += entry.get(what, 0)
        found = any(entry.get(what) for what in ("tracebacks", "orphans", "temporary", "leftovers"))
        cell["bad"] += found or outcome not in ("equal", "one line")
    return cells


def fault_table() -> str:
    """Kinds of fault as columns, commands as rows; a cell has its tries and whatever was not survived."""
    cells = summary()
    lines = ["| command | " + " | ".join(KINDS) + " |", "|---" + "|---:" * len(KINDS) + "|"]
    for name, command in COMMANDS.items():
        shown = [_cell(cells[name, kind]) if kind in kinds_of(command) else "-" for kind in KINDS]
        lines.append(f"| `{name}` | {' | '.join(shown)} |")
    return "\n".join(lines)


def _cell(cell: dict[str, int]) -> str:
    if not cell.get("tries"):
        return ""
    seen = [
        f"{cell[what]} {what}"
        for what in ("lost", "wrong", "badly said", "tracebacks", "orphans", "temporary", "leftovers")
        if cell.get(what)
    ]
    return ", ".join([str(cell["tries"]), *seen])
