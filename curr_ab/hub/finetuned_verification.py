"""The check of what fine-tuning left, on the Hub or on disk, against its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from curr_ab.checkpoint_files import PROBE
from curr_ab.finetuning.adapter_manifest import (
    TOLERANCE,
    differences,
    other_base,
    probe,
    read_manifest,
)
from curr_ab.finetuning.adapter_record import (
    ADAPTER_CONFIG,
    CARD,
    MANIFEST,
    RECORD,
    members_of,
    read_record,
    render_adapter_card,
)
from curr_ab.quantities import largest_difference

_NEED_BASE = (ADAPTER_CONFIG, PROBE)


def is_finetuned(folder: Path) -> bool:
    """True for a folder with the record of a fine-tuning."""
    return (folder / RECORD).is_file()


def check_finetuned(folder: Path, repo_id: str | None, say: Callable[[str], None]) -> list[str]:
    """Problems of its files, base, labels, predictions and card; `repo_id` is its name on the Hub."""
    try:
        manifest = read_manifest(folder)
        if problems := differences(folder, manifest):
            return problems  # what is not as it was saved is not loaded
        record = read_record(folder)
    except (ValueError, TypeError) as error:
        return [str(error)]
    owner, name = repo_id.split("/") if repo_id else (manifest.namespace, record.name)
    if owner != manifest.namespace:
        problems.append(f"{MANIFEST} names the owner {manifest.namespace}")
    if name != record.name:
        problems.append(f"it is {record.name}, under another name")
    card = folder / CARD
    if not card.is_file():
        problems.append(f"{CARD} is missing")
    elif card.read_text(encoding="utf-8") != render_adapter_card(folder, owner):
        problems.append(f"{CARD} is not what the files beside it give")
    has_base = any((place / name).is_file() for place in (folder, *members_of(folder)) for name in _NEED_BASE)
    if has_base and (reason := other_base(manifest)) is not None:
        return [*problems, reason]
    from curr_ab.finetuning.prediction import load_finetuned

    model, tokenizer = load_finetuned(folder, device="cpu")
    found = probe(model, tokenizer, (manifest.heavy, manifest.light))
    difference = largest_difference(manifest.prediction, found, relative=True)
    if not difference <= TOLERANCE:
        problems.append(f"predictions differ from those recorded by {difference:.2g}")
    say(f"main: {len(manifest.files)} files, predictions within {difference:.1g}, on {manifest.base_model}")
    return problems
