"""The manifest of what fine-tuning leaves: digests of files and base, labels, the answer to a probe."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from curr_ab.checkpoint_files import CONFIG, find_weights
from curr_ab.family import NAMESPACE
from curr_ab.files import file_digest, read_object, write_json
from curr_ab.finetuning.adapter_record import (
    ADAPTER_CONFIG,
    CARD,
    MANIFEST,
    RECORD,
    is_repository,
    members_of,
)
from curr_ab.results import checkpoint_digest
from curr_ab.words import EXAMPLE_PAIR

FORMAT = "curr-ab finetuning manifest 1"
# Made anew from the others, by a command that may change the name of the base in two of them.
_LIVING = (CARD,)
_NAMES_THE_BASE = (RECORD, ADAPTER_CONFIG, MANIFEST)  # the last of an ensemble's members
_OF_THE_HUB = (".gitattributes", ".cache")  # the second is what `hf download --local-dir` leaves
TOLERANCE = 1e-3  # of fp32 on one machine and another; a wrong model is off by orders of magnitude more


@dataclass(frozen=True)
class AdapterManifest:
    """All that can be compared with a folder and with the base that it names."""

    base_model: str
    base_revision: str | None  # commit of a base on the Hub, where it was known
    base_weights: str  # SHA-256, as results name checkpoints
    labels: list[str]
    heavy: str
    light: str
    prediction: list[list[float]]  # a row for the pair, or for each residue
    files: dict[str, str]  # SHA-256 by name
    namespace: str  # owner of the repository

    def write(self, folder: Path) -> None:
        write_json(folder / MANIFEST, {"format": FORMAT, **asdict(self)})


def write_manifest(folder: Path, model: Any, tokenizer: Any, base_model: str, labels: Sequence[str]) -> None:
    """Write down what is in the folder, and what the model predicts; the card is not part of it."""
    weights = find_weights(base_model)
    prediction = probe(model, tokenizer, EXAMPLE_PAIR)
    AdapterManifest(
        base_model,
        None if Path(base_model).is_dir() else commit_of(weights[0]),
        checkpoint_digest(*weights),
        list(labels),
        *EXAMPLE_PAIR,
        prediction,
        file_table(folder),
        NAMESPACE,
    ).write(folder)


def probe(model: Any, tokenizer: Any, pair: tuple[str, str]) -> list[list[float]]:
    """The prediction for a pair, in rows."""
    from curr_ab.finetuning.prediction import predict

    (found,) = predict(model, tokenizer, [pair])
    rows = found.reshape(-1, found.shape[-1])
    return [[float(f"{value:.7g}") for value in row] for row in rows]


def commit_of(path: Path) -> str | None:
    """The commit of a file in the cache of the Hub's client."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else None


def file_table(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that the manifest is of."""
    left_out = (MANIFEST, *_LIVING, *_OF_THE_HUB)
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {
        name: file_digest(folder / name) for name in sorted(names) if name.partition("/")[0] not in left_out
    }


def read_manifest(folder: Path) -> AdapterManifest:
    """The manifest of the folder; anything that `write_manifest` would not have written is refused."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{MANIFEST} is missing; what an earlier version has tuned cannot be verified")
    content = read_object(path)
    if content.pop("format", None) != FORMAT or set(content) != {one.name for one in fields(AdapterManifest)}:
        raise ValueError(f"{MANIFEST} must be of the format {FORMAT!r}; got another; fine-tune again")
    for name, fits in _TYPES.items():
        if not fits(content[name]):
            raise ValueError(
                f"{MANIFEST} must be what fine-tuning has written; got another {name}; fine-tune again"
            )
    return AdapterManifest(**content)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(fits, value))


_TYPES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("base_model", "base_weights", "heavy", "light", "namespace"), _is_text),
    "base_revision": lambda value: value is None or _is_text(value),
    "labels": lambda value: _is_list(value, _is_text),
    "prediction": lambda value: bool(value) and _is_list(value, lambda row: _is_list(row, _is_number)),
    "files": lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
}


def change_base(
    folder: Path, manifest: AdapterManifest, base_model: str | None, revision: str | None, namespace: str
) -> None:
    """Follow a command that has named base or owner anew; the digests of all else stay as they were."""
    for member in members_of(folder):
        change_base(member, read_manifest(member), base_model, revision, namespace)
    names = (name for name in manifest.files if Path(name).name in _NAMES_THE_BASE)
    anew = {name: file_digest(folder / name) for name in names}
    manifest = replace(manifest, files=manifest.files | anew, namespace=namespace)
    if base_model is not None:
        manifest = replace(manifest, base_model=base_model, base_revision=revision)
    manifest.write(folder)


def differences(folder: Path, manifest: AdapterManifest) -> list[str]:
    """What of the folder is not as it was saved."""
    found = file_table(folder)
    problems = [f"{name} is missing" for name in manifest.files if name not in found]
    problems += [f"{name} is not in the manifest" for name in found if name not in manifest.files]
    problems += [
        f"{name} is not what was saved: SHA-256 {found[name][:12]}… instead of {digest[:12]}…"
        for name, digest in manifest.files.items()
        if found.get(name, digest) != digest
    ]
    if problems:
        return problems
    labels = read_object(folder / CONFIG).get("id2label", {})
    if manifest.labels and [labels.get(str(n)) for n in range(len(labels))] != manifest.labels:
        problems.append(f"{CONFIG} names other labels than {', '.join(manifest.labels)}")
    named = {RECORD: read_object(folder / RECORD).get("base_model")}
    if (folder / ADAPTER_CONFIG).is_file():
        named[ADAPTER_CONFIG] = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    return problems + [
        f"{name} names the base {base}; it was tuned on {manifest.base_model}"
        for name, base in named.items()
        if base != manifest.base_model
    ]


def other_base(manifest: AdapterManifest) -> str | None:
    """Why the base is not the one that was tuned; None where its weights are the same."""
    name, revision = manifest.base_model, manifest.base_revision
    if not is_repository(name) and not Path(name).is_dir():
        return f"the base {name} is not on this machine"
    if checkpoint_digest(*find_weights(name)) == manifest.base_weights:
        return None
    at = f"; those are at the revision {revision}" if revision else ""
    return f"the base {name} has other weights than those that were tuned{at}"
