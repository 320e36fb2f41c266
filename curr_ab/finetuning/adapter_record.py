"""The record of a fine-tuned member, `finetuning.json`, and its card, filled from the files beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from curr_ab import checkpoint_files
from curr_ab.files import as_written, read_object, replacing, write_json
from curr_ab.finetuning.probe_file import features_of
from curr_ab.hub_results import model_index
from curr_ab.options import check_types, read_yaml
from curr_ab.pages import code, render
from curr_ab.results import Result, read_results

FORMAT = "curr-ab finetuning 1"
CONFIG = checkpoint_files.CONFIG
RECORD, RECIPE, RESULTS, CARD = "finetuning.json", "recipe.yaml", "results.json", "README.md"
ADAPTER_CONFIG, MANIFEST = checkpoint_files.ADAPTER_CONFIG, checkpoint_files.TUNED
MEMBERS = "members"  # folder of the models of an ensemble
TRAINING = "training_pairs.safetensors"  # residues of the training pairs, where they are kept
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# By target: what a model predicts, and the arrays that `predict` gives.
_PREDICTIONS = {
    "classes": ("classes of antibody pairs", "[classes]: their probabilities"),
    "residues": ("classes of residues", "[residues, classes]: probabilities, heavy chain first"),
    "number": ("a number for each pair", "[1]: the number"),
    "several number": ("several numbers for each pair", "[columns]: the numbers"),
    "several classes": (
        "several labels of antibody pairs",
        "[columns]: the probabilities of the second class",
    ),
}


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
    content = read_object(path)
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: its format is not {FORMAT!r}")
    if set(content) != {item.name for item in fields(FinetuningRecord)}:
        raise ValueError(f"{path} is not a valid record: it holds {', '.join(sorted(content))}")
    record = FinetuningRecord(**content)
    with as_written(path):
        check_types(record)
    return record


def members_of(folder: Path) -> list[Path]:
    """The folders of an ensemble's models; none of any other fine-tuning."""
    return sorted(path.parent for path in (folder / MEMBERS).glob(f"*/{RECORD}"))


def change_record(folder: Path, name: str | None, base_model: str | None) -> None:
    """Another name, or the same base under another name: a repository in the place of a folder."""
    for member in members_of(folder):
        change_record(member, None, base_model)
    record = read_record(folder)
    record = replace(record, name=name or record.name, base_model=base_model or record.base_model)
    if (folder / ADAPTER_CONFIG).is_file():
        edit_json(folder / ADAPTER_CONFIG, {"base_model_name_or_path": record.base_model})
    record.write(folder)


def is_repository(base_model: str) -> bool:
    """True where others can load the base by this name."""
    return REPO_ID.fullmatch(base_model) is not None and not Path(base_model).is_dir()


def edit_json(path: Path, changes: Mapping[str, Any]) -> None:
    write_json(path, {**read_object(path), **changes})


def write_adapter_card(folder: Path, *, namespace: str) -> None:
    """Make the card anew."""
    with replacing(folder / CARD) as temporary:
        temporary.write_text(render_adapter_card(folder, namespace), encoding="utf-8")


def render_adapter_card(folder: Path, namespace: str) -> str:
    """The card that the files of the folder give under an owner's name."""
    with as_written(folder):
        return _render_card(folder, namespace)


def _render_card(folder: Path, namespace: str) -> str:
    record = read_record(folder)
    recipe, config = read_yaml(folder / RECIPE), read_object(folder / CONFIG)
    results = read_results(folder / RESULTS)
    # Those of the weights on one fold, or the means over folds, after which the weights were fitted.
    results = [row for row in results if "fold" not in row.details] or results
    target, repo_id = recipe["target"], code(f"{namespace}/{record.name}")
    predicts, output = _PREDICTIONS[f"several {target}" if recipe.get("label_columns") else target]
    is_adapter, is_probe = (folder / ADAPTER_CONFIG).is_file(), (folder / checkpoint_files.PROBE).is_file()
    num_members = len(members_of(folder))
    # Stock transformers has a head for residues, and one for pairs that reads the first token.
    refused = target != "residues" and recipe["pooling"] != "cls" and not is_probe
    return render(
        "finetuning/adapter_card.md",
        header=_header(record, target, results, _library(is_adapter, is_probe or num_members > 0), namespace),
        name=record.name,
        repo_id=repo_id,
        record=record,
        recipe=recipe,
        recipe_name=recipe["name"],
        is_adapter=is_adapter,
        is_probe=is_probe,
        num_members=num_members,
        base=record.base_model,
        base_name=Path(record.base_model).name,
        base_text=json.dumps(record.base_model),
        base_is_repository=is_repository(record.base_model),
        predicts=predicts,
        facts=_facts(recipe, config, features_of(folder / checkpoint_files.PROBE) if is_probe else None),
        output=output,
        refused_pooling=recipe["pooling"] if refused else "",
        head=f"AutoModelFor{'Token' if target == 'residues' else 'Sequence'}Classification",
        settings={key: value for key, value in recipe.items() if value not in (None, [], "")},
        training=TRAINING if (folder / TRAINING).is_file() else "",
        results=sorted(results, key=lambda row: (row.task, row.metric)),
    )


def _library(is_adapter: bool, is_own: bool) -> str:
    return "peft" if is_adapter else "curr-ab" if is_own else "transformers"


def _header(
    record: FinetuningRecord, target: str, results: Sequence[Result], library: str, namespace: str
) -> str:
    from huggingface_hub import ModelCardData

    # The Hub takes a repository for the base and nothing else.
    base = record.base_model if is_repository(record.base_model) else None
    relation = "adapter" if library == "peft" else "finetune"
    pipeline = "token-classification" if target == "residues" else "text-classification"
    data = ModelCardData(
        license="mit",
        library_name=library,
        pipeline_tag=pipeline,
        base_model=base,
        tags=["antibody", "paired-antibody", "protein-language-model", "biology", "esm"],
        model_name=record.name,
        eval_results=model_index(results, namespace, pipeline) or None,
        base_model_relation=relation if base else None,
    )
    header: str = data.to_yaml()
    return header.strip()


def _facts(recipe: Mapping[str, Any], config: Mapping[str, Any], features: str | None) -> dict[str, Any]:
    labels = config.get("id2label", {0: "LABEL_0", 1: "LABEL_1"})
    facts = {"target": recipe["target"], "method": recipe["method"]}
    if recipe.get("label_columns"):
        facts["columns, in the order of the outputs"] = list(labels.values())
        if recipe["target"] == "classes":
            facts["each output is of"] = recipe["labels"][1]
    elif recipe["target"] != "number":
        facts["labels, in the order of the logits"] = list(labels.values())
    if recipe.get("unpaired"):
        facts["trained on"] = "single chains too"
    if features is not None:
        facts["the regression reads"] = features
    elif recipe["target"] != "residues":
        facts["the head reads"] = config.get("classifier_pooling", "cls")
    return {**facts, "licence": "MIT"}
