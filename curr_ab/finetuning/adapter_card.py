"""The card of a fine-tuned member: one template, filled from the files beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_ab.extras import needs_extra
from curr_ab.files import replacing
from curr_ab.finetuning.adapter_record import (
    ADAPTER_CONFIG,
    CARD,
    RECIPE,
    RESULTS,
    FinetuningRecord,
    is_repository,
    read_record,
)
from curr_ab.pages import code, render
from curr_ab.results import Result, model_index, read_results

_PREDICTS = {  # by target: in words, and as `predict` gives it
    "classes": ("classes of antibody pairs", "[classes]: their probabilities"),
    "residues": ("classes of residues", "[residues, classes]: probabilities, heavy chain first"),
    "number": ("a number for each pair", "[1]: the number"),
}


def write_adapter_card(folder: Path, *, namespace: str) -> None:
    """Make the card anew."""
    with replacing(folder / CARD) as temporary:
        temporary.write_text(render_adapter_card(folder, namespace), encoding="utf-8")


def render_adapter_card(folder: Path, namespace: str) -> str:
    """The card that the files of the folder give under an owner's name."""
    with needs_extra("finetune"):
        import yaml

    record = read_record(folder)
    recipe: dict[str, Any] = yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8"))
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    results = read_results(folder / RESULTS)
    # Those of the weights on one fold, or the means over folds, after which the weights were fitted.
    results = [row for row in results if "fold" not in row.details] or results
    target, repo_id = recipe["target"], code(f"{namespace}/{record.name}")
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    # Stock transformers has a head for residues, and one for pairs that reads the first token.
    refused = target != "residues" and recipe["pooling"] != "cls"
    predicts, output = _PREDICTS[target]
    return render(
        "finetuning/adapter_card.md",
        header=_header(record, target, results, is_adapter),
        name=record.name,
        repo_id=repo_id,
        record=record,
        recipe=recipe,
        is_adapter=is_adapter,
        base=record.base_model,
        base_name=Path(record.base_model).name,
        base_text=json.dumps(record.base_model),
        base_is_repository=is_repository(record.base_model),
        predicts=predicts,
        facts=_facts(recipe, config),
        output=output,
        refused_pooling=recipe["pooling"] if refused else "",
        head=f"AutoModelFor{'Token' if target == 'residues' else 'Sequence'}Classification",
        settings={key: value for key, value in recipe.items() if value not in (None, [], "")},
        results=sorted(results, key=lambda row: (row.task, row.metric)),
    )


def _header(record: FinetuningRecord, target: str, results: Sequence[Result], is_adapter: bool) -> str:
    from huggingface_hub import ModelCardData

    # The Hub takes a repository for the base and nothing else.
    base = record.base_model if is_repository(record.base_model) else None
    relation = "adapter" if is_adapter else "finetune"
    data = ModelCardData(
        license="mit",
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="token-classification" if target == "residues" else "text-classification",
        base_model=base,
        tags=["antibody", "paired-antibody", "protein-language-model", "biology", "esm"],
        model_name=record.name,
        eval_results=model_index(results) or None,
        base_model_relation=relation if base else None,
    )
    header: str = data.to_yaml()
    return header.strip()


def _facts(recipe: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    labels = config.get("id2label", {0: "LABEL_0", 1: "LABEL_1"})
    shown = {"target": recipe["target"], "method": recipe["method"]}
    if recipe["target"] != "number":
        shown["labels, in the order of the logits"] = list(labels.values())
    if recipe["target"] != "residues":
        shown["the head reads"] = config.get("classifier_pooling", "cls")
    return {**shown, "licence": "MIT"}
