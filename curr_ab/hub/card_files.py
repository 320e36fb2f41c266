"""The card of an export or an adapter: written from the files beside it, and compared with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from curr_ab.family import NAMESPACE, member
from curr_ab.files import replacing
from curr_ab.finetuning.adapter_record import RECORD, change_record, is_repository
from curr_ab.hub.card import render_card
from curr_ab.hub.manifest import CARD, RESULTS, Manifest, read_manifest
from curr_ab.options import OptionError
from curr_ab.results import Result, read_results, write_results
from curr_ab.training_record import TRAINING, read_training

# The sections that hold numbers: `verify` makes them anew from the files beside the card, and compares.
NUMBERED_SECTIONS = ("Training", "Evaluation", "Scaling law", "Compute and carbon")


def write_card(
    folder: str | Path,
    *,
    results: Sequence[str | Path] = (),
    namespace: str | None = None,
    name: str | None = None,
    base_model: str | None = None,
) -> None:
    """Make the card of an export anew; `results` replace those that it has.

    Only numbers that were measured on the very weights of the export are taken; others are refused. What
    fine-tuning left may get another `name`, and a repository as its `base_model` in the place of a folder.
    """
    folder = Path(folder)
    if (folder / RECORD).is_file():
        if results:
            raise OptionError(
                f"{folder}: results must be none for an adapter, which has its folds'", "results"
            )
        _write_finetuned(folder, namespace, name, base_model)
        return
    if name or base_model:
        raise OptionError(
            f"{folder}: name and base must be none for what fine-tuning did not leave", "name", "base"
        )
    manifest = read_manifest(folder)
    if results:
        measured = _results_of(manifest, results)
        write_results(folder / RESULTS, measured)
    card = folder / CARD
    if namespace is None:
        namespace = namespace_of(card.read_text(encoding="utf-8")) if card.is_file() else NAMESPACE
    with replacing(card) as temporary:
        temporary.write_text(rendered(folder, namespace), encoding="utf-8")


def _write_finetuned(folder: Path, namespace: str | None, name: str | None, base_model: str | None) -> None:
    from curr_ab.finetuning.adapter_card import write_adapter_card

    if base_model is not None and not is_repository(base_model):
        raise ValueError(f"{base_model!r} must be a repository such as {NAMESPACE}/CurrAb-350M-F")
    if name is not None and not is_repository(f"{NAMESPACE}/{name}"):
        raise ValueError(f"{name!r} must be the name of a repository: letters, digits, `-`, `_` and `.`")
    change_record(folder, name, base_model)
    card = folder / CARD
    if namespace is None:
        namespace = _owner(card.read_text(encoding="utf-8")) if card.is_file() else NAMESPACE
    write_adapter_card(folder, namespace=namespace)


def rendered(folder: Path, namespace: str) -> str:
    """The card that the files of an export give."""
    manifest = read_manifest(folder)
    results = read_results(folder / RESULTS) if (folder / RESULTS).is_file() else []
    record = folder / TRAINING
    training = read_training(record) if record.is_file() else None
    return render_card(
        member(manifest.member), namespace=namespace, results=results, training=training, manifest=manifest
    )


def _results_of(manifest: Manifest, paths: Sequence[str | Path]) -> list[Result]:
    """The results of all files, which must be about the weights of the export."""
    found = [(path, row) for path in paths for row in read_results(path)]
    for path, row in found:
        if row.checkpoint != manifest.weights:
            raise ValueError(
                f"{path}: {row.task} {row.metric} was measured on weights {row.checkpoint[:12]}…, "
                f"but this export has {manifest.weights[:12]}…; evaluate the export itself"
            )
    return [replace(row, model=manifest.member) for _, row in found]


def namespace_of(card: str) -> str:
    """The owner that a card names."""
    found = re.search(r'from_pretrained\("([^"/]+)/', card)
    return found[1] if found else NAMESPACE


def _owner(card: str) -> str:
    """The owner that the card of a fine-tuned model names; it names its base as well."""
    found = re.search(r'load_finetuned\("([^"/]+)/', card)
    return found[1] if found else NAMESPACE


def stale_parts(card: str, expected: str) -> list[str]:
    """Parts of a card that hold numbers and are not what they should be; its prose may differ."""
    parts = ["its header"] if _front(card) != _front(expected) else []
    return parts + [
        f"its section {name!r}"
        for name in NUMBERED_SECTIONS
        if _section(card, name) != _section(expected, name)
    ]


def _front(card: str) -> str:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    return found[1] if found else ""


def _section(card: str, name: str) -> str:
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)
    return found[1].strip() if found else ""
