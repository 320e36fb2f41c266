"""`finetuning.json`: which model was fine-tuned on what, in the folder that others load."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from curr_ab.files import write_json

FORMAT = "curr-ab finetuning 1"
RECORD, RECIPE, RESULTS, CARD = "finetuning.json", "recipe.yaml", "results.json", "README.md"
ADAPTER_CONFIG = "adapter_config.json"
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class FinetuningRecord:
    """The base, the data and the folds of a fine-tuning; `recipe.yaml` beside it says how."""

    name: str  # of the repository
    base_model: str  # a repository, or a folder of this machine
    data: Mapping[str, Any]
    folds: Mapping[str, Any]
    code_version: str

    def write(self, folder: Path) -> None:
        write_json(folder / RECORD, {"format": FORMAT, **asdict(self)})


def read_record(folder: Path) -> FinetuningRecord:
    """The record of an adapter folder; anything that `save_adapter` would not have written is refused."""
    path = folder / RECORD
    if not path.is_file():
        raise ValueError(f"{folder} is not what fine-tuning leaves: it has no {RECORD}")
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: its format is not {FORMAT!r}")
    if set(content) != {item.name for item in fields(FinetuningRecord)}:
        raise ValueError(f"{path} is not a valid record: it holds {', '.join(sorted(content))}")
    return FinetuningRecord(**content)


def change_record(folder: Path, name: str | None, base_model: str | None) -> None:
    """Another name, or the same base under another name: a repository in the place of a folder."""
    record = read_record(folder)
    record = replace(record, name=name or record.name, base_model=base_model or record.base_model)
    if (folder / ADAPTER_CONFIG).is_file():
        edit_json(folder / ADAPTER_CONFIG, {"base_model_name_or_path": record.base_model})
    record.write(folder)


def is_repository(base_model: str) -> bool:
    """True where others can load the base by this name."""
    return REPO_ID.fullmatch(base_model) is not None and not Path(base_model).is_dir()


def edit_json(path: Path, changes: Mapping[str, Any]) -> None:
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})
