"""`run_suite`: one suite on one checkpoint, unless the same has been measured already."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.evaluation.plan import make_plan
from curr_ab.files import claimed, write_json
from curr_ab.results import Result, add_results, read_results, write_results

if TYPE_CHECKING:
    from curr_ab.evaluation.subject import Subject

# Each module has `open_data(plan, sources)`, which checks the data and tells their fingerprint, and
# `measure(subject, plan, data, folder, say)`; `draw(folder, record)` where pictures show several models.
_MODULES = {
    "loss": "loss",
    "regions": "regions",
    "specificity": "classification",
    "pairing": "classification",
    "fitness": "fitness",
}
RESULTS = "results.json"
RECORD = "measurement.json"
_KEYS = {"suite", "model", "checkpoint", "data", "settings", "is_member", "key"}


def run_suite(
    suite: str,
    model: str | Path,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> list[Result]:
    """The suite's numbers of one model, also added to `out/results.json`.

    Every measurement has a folder of its own in `out/SUITE`, with all that was found. What was measured
    already, on the same weights and data with the same options, is read from there.
    """
    plan = make_plan(suite, options)
    module = importlib.import_module(f"curr_ab.evaluation.suites.{_MODULES[suite]}")
    sources = [str(data)] if isinstance(data, str | Path) else [str(one) for one in data]
    from curr_ab.evaluation.subject import find_subject

    subject = find_subject(model, plan)
    opened = module.open_data(plan, sources)
    record = measurement(suite, subject, opened.fingerprint, plan.settings)
    folder = Path(out) / suite / f"{_file_name(subject.name)}-{record['key'][:8]}"
    if (folder / RESULTS).exists() and read_record(folder) == record:
        say(f"{suite} of {subject.name}: measured already, in {folder}")
    else:
        precision = str(subject.checkpoint.precision().dtype).removeprefix("torch.")
        device = subject.checkpoint.device_of()
        say(f"{suite} of {subject.name} on {', '.join(sources)}, {precision} on {device}")
        write_json(folder / RECORD, record)
        found = module.measure(subject, plan, opened, folder, say)
        told = [replace(row, details={**row.details, **plan.unusual}) for row in found]
        write_results(folder / RESULTS, told)
    results = read_results(folder / RESULTS)
    with claimed(Path(out), "writes its results into", wait=True):
        add_results(Path(out) / RESULTS, results)
    if hasattr(module, "draw"):
        module.draw(Path(out) / suite, record)
    return results


def measurement(suite: str, subject: Subject, data: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a measurement is of; `key` is one name for all of it."""
    record = {
        "suite": suite,
        "model": subject.name,
        "checkpoint": subject.digest,
        "data": data,
        "settings": json.loads(json.dumps(settings)),
    }
    key = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return {**record, "is_member": subject.is_member, "key": key}


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in text)


def read_record(folder: Path) -> dict[str, Any] | None:
    """None where the file is missing or broken: then nobody knows what the folder holds."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() >= _KEYS else None
