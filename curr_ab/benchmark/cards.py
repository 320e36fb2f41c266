"""Results for the cards of single models, in the two forms that the Hub reads."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from curr_ab.benchmark.comparison import Standing
from curr_ab.benchmark.folder import RESULTS, file_name
from curr_ab.files import replacing
from curr_ab.hub_results import EVAL_RESULTS, eval_results
from curr_ab.results import Result, read_results, write_results

CARDS = "cards"


def write_cards(out: Path, standings: Sequence[Standing], namespace: str) -> None:
    """A folder for each model with its results of all tasks; `.eval_results` of data on the Hub."""
    rows: dict[str, list[Result]] = {}
    for standing in standings:
        for entry in standing.entries:
            if not entry.measurement.is_baseline:
                rows.setdefault(entry.name, []).extend(read_results(entry.folder / RESULTS))
    for name, own in rows.items():
        folder = out / CARDS / _folder_name(name)
        write_results(folder / RESULTS, own)
        if text := eval_results(own, namespace):
            with replacing(folder / EVAL_RESULTS) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _folder_name(model: str) -> str:
    """The model's own, also where another one differs from it in a slash or blank alone."""
    name = file_name(model)
    return name if name == model else f"{name}-{sha256(model.encode()).hexdigest()[:8]}"
