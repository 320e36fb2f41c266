"""Repositories on the Hub for local folders: a model with its revisions, a fine-tuned one, a data set."""

from __future__ import annotations

import gzip
import pickletools
import re
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curr_ab.checkpoint_files import PROBE
from curr_ab.family import NAMESPACE, member
from curr_ab.files import read_object
from curr_ab.finetuning.adapter_manifest import differences as tuned_differences
from curr_ab.finetuning.adapter_manifest import read_manifest as read_tuned
from curr_ab.finetuning.adapter_record import (
    ADAPTER_CONFIG,
    RECORD,
    is_repository,
    read_record,
    render_adapter_card,
)
from curr_ab.finetuning.adapter_record import MANIFEST as TUNED_MANIFEST
from curr_ab.hub.card import stale_files
from curr_ab.hub.data_card import is_prepared
from curr_ab.hub.data_sets import data_card_problems, data_files, data_note, data_problems
from curr_ab.hub.manifest import (
    CARD,
    HUB_FILES,
    MANIFEST,
    REVISIONS,
    WEIGHTS,
    differences,
    read_manifest,
    revision_files,
)
from curr_ab.hub_results import EVAL_RESULTS_FOLDER
from curr_ab.options import OptionError
from curr_ab.space.settings import APP, REFERENCE

# Usual suffixes of pickles; files of other names are looked into.
_LOOKED_INTO = 1 << 20  # bytes
# Steps of a pickle that name what is to be called; text may be a pickle of text by chance.
_CALLS = {"GLOBAL", "STACK_GLOBAL", "INST"}
_NAMED = re.compile(r"[A-Za-z_][\w.]* [A-Za-z_][\w.]*")  # module and name
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npz"}


@dataclass(frozen=True)
class Repository:
    """Repository as it is to be: the files of each revision by their names there, with `main` last."""

    repo_id: str
    repo_type: Literal["model", "dataset", "space"]
    note: str
    revisions: dict[str, dict[str, Path]]

    @property
    def is_app(self) -> bool:
        """True for a Space that runs, which the folders of metrics do not."""
        return self.repo_type == "space" and REFERENCE in self.revisions["main"]


def describe_folder(folder: Path, namespace: str) -> Repository:
    """Describe the repository for an export, an adapter or a metric; anything wrong with it is an error."""
    if (folder / MANIFEST).is_file():
        return _export(folder, namespace)
    if (folder / RECORD).is_file():
        return _finetuned(folder, namespace)
    if (folder / ADAPTER_CONFIG).is_file():  # made by PEFT alone
        base = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
        if base is not None and not is_repository(base):
            raise ValueError(
                f"{folder}: its base must be a repository on the Hub, as nobody else has {base}; name one "
                f"under base_model_name_or_path in {ADAPTER_CONFIG}"
            )
        return Repository(f"{namespace}/{_name(folder)}", "model", "adapter", {"main": _files(folder)})
    if (folder / REFERENCE).is_file() and (folder / APP).is_file():
        return _space(folder, namespace)
    if (folder / f"{_name(folder)}.py").is_file():  # where the library `evaluate` looks for a module
        return Repository(f"{namespace}/{_name(folder)}", "space", "metrics", {"main": _files(folder)})
    raise OptionError(
        f"{folder} must be an export ({MANIFEST}), an adapter ({ADAPTER_CONFIG}) or a folder of metrics "
        f"({_name(folder)}.py); got none of these files; publish data or results as a dataset",
        "dataset",
    )


def describe_dataset(folder: Path, namespace: str) -> Repository:
    """Describe the data-set repository for prepared data, or for a folder such as the results of a study."""
    if not folder.is_dir():
        raise ValueError(f"{folder} must be a folder; it is missing or a file")
    if is_prepared(folder):
        return _prepared(folder, namespace)
    files = _files(folder)
    if not files:
        raise ValueError(f"{folder} is empty; name the folder with the data")
    return Repository(f"{namespace}/{_name(folder)}", "dataset", "data", {"main": files})


def _prepared(folder: Path, namespace: str) -> Repository:
    """Parquet, index and card: the arrays are made again from these, to the bit, by whoever needs them."""
    name = _name(folder)
    make_card = f"curr-ab card {folder} --namespace {namespace}"
    if not (folder / CARD).is_file():
        raise ValueError(
            f"{folder} has no card ({CARD}); make it: {make_card} --license cc-by-4.0 (for example)"
        )
    if problems := data_problems(folder) + data_card_problems(folder, f"{namespace}/{name}"):
        raise ValueError(
            f"{folder}: {problems[0]}; prepare the data again, or make the card anew: {make_card}"
        )
    files = [CARD, *data_files(folder)]
    for file in files:
        refuse_outside(folder / file, folder)
    return Repository(
        f"{namespace}/{name}", "dataset", data_note(folder), {"main": {file: folder / file for file in files}}
    )


def _export(folder: Path, namespace: str) -> Repository:
    manifest = read_manifest(folder)
    revisions = {name: _checked_revision(folder / REVISIONS / name) for name in manifest.revisions}
    revisions["main"] = _checked_revision(folder)
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder} has no card ({CARD}); make it: curr-ab card {folder}")
    if stale := stale_files(folder, namespace):
        raise ValueError(
            f"{folder}: the card does not match these files under {namespace} ({stale[0]}); "
            f"make it anew: curr-ab card {folder} --namespace {namespace}"
        )
    exported = member(manifest.member)
    note = f"{exported.size.num_parameters:,} parameters, {exported.data.num_pairs:,} training pairs"
    if manifest.rehearsal:
        note = f"rehearsal of {exported.name}: not the member's weights"
    return Repository(exported.repo_id(namespace), "model", note, revisions)


def _finetuned(folder: Path, namespace: str) -> Repository:
    record = read_record(folder)
    make_card = f"curr-ab card {folder} --namespace {namespace}"
    if not is_repository(record.base_model):
        raise ValueError(
            f"{folder}: its base must be a repository on the Hub, as nobody else has {record.base_model}; "
            f"publish that first, and name it: {make_card} --base {NAMESPACE}/CurrAb-350M-F (for example)"
        )
    card = folder / CARD
    if not card.is_file() or card.read_text(encoding="utf-8") != render_adapter_card(folder, namespace):
        raise ValueError(
            f"{folder}: the card does not match these files under {namespace}; make it anew: {make_card}"
        )
    kinds = {ADAPTER_CONFIG: "adapter", PROBE: "probe"}
    kind = next((kind for name, kind in kinds.items() if (folder / name).is_file()), "fine-tuned model")
    note = f"{kind} of {record.base_model}"
    if (folder / TUNED_MANIFEST).is_file() and (found := tuned_differences(folder, read_tuned(folder))):
        raise ValueError(f"{folder}: {found[0]}; put it back, or fine-tune again")
    return Repository(f"{namespace}/{record.name}", "model", note, {"main": _files(folder)})


def _space(folder: Path, namespace: str) -> Repository:
    name = f"{namespace}/{_name(folder)}"
    if f"/spaces/{name}/" not in (folder / "requirements.txt").read_text(encoding="utf-8"):
        raise ValueError(f"{folder} must be written for {name}; write it anew: --space MODEL")
    return Repository(name, "space", "app", {"main": _files(folder)})


def _checked_revision(folder: Path) -> dict[str, Path]:
    if problems := differences(folder, read_manifest(folder)):
        raise ValueError(f"{folder}: {problems[0]}; export it again")
    files = {name: folder / name for name in revision_files(folder) if name not in HUB_FILES}
    for path in files.values():
        refuse_outside(path, folder)
        refuse_pickle(path)
    return files


def _files(folder: Path) -> dict[str, Path]:
    """All files but those that nobody means to publish: hidden ones, half-written ones, compiled code."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") and part != EVAL_RESULTS_FOLDER for part in name.parts)
        if hidden or path.suffix in (".pyc", ".tmp", ".lock") or path.is_dir():
            continue
        refuse_outside(path, folder)
        refuse_pickle(path)
        files[name.as_posix()] = path
    return files


def refuse_outside(path: Path, folder: Path) -> None:
    """Refuse a link to what is not in the folder: it would be published under an innocent name."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{path} must be a file of {folder}; it is a link to {path.resolve()}: copy that file"
        )


def _name(folder: Path) -> str:
    return folder.resolve().name


def refuse_pickle(path: Path) -> None:
    """Refuse a pickle, which runs code on the machine that opens it."""
    if path.suffix.lower() in _PICKLES or _is_pickle(path):
        raise ValueError(f"{path} is a pickle, or named like one, and is not published; save it as {WEIGHTS}")


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_LOOKED_INTO)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if start.startswith(b"\x93NUMPY"):
        return b"'|O'" in start[:256] or b"'O'" in start[:256]  # an array of objects holds a pickle
    if start.startswith(b"\x1f\x8b"):
        with suppress(OSError, EOFError), gzip.open(path) as file:
            return _is_old_pickle(file.read(_LOOKED_INTO))
    if _is_old_pickle(start):
        return True
    if start[:2] == b"PK" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    return False


def _is_old_pickle(content: bytes) -> bool:
    """True for a pickle without the mark of later protocols: steps to its end, one names what to call."""
    steps = set()
    with suppress(Exception):  # whatever it is, it is no pickle
        for step, named, _ in pickletools.genops(content):
            if step.name in ("GLOBAL", "INST") and not _NAMED.fullmatch(str(named)):
                return False  # a line of text that begins with its letter
            steps.add(step.name)
        return bool(steps & _CALLS)
    return False
