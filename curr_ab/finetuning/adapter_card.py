"""The card of a fine-tuned member: one template, filled from the files beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
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
from curr_ab.quantities import format_setting
from curr_ab.results import Result, model_index, read_results

_TASKS = {
    "classes": "text-classification",
    "residues": "token-classification",
    "number": "text-classification",
}
_HEADS = {
    "classes": "SequenceClassification",
    "residues": "TokenClassification",
    "number": "SequenceClassification",
}
_OUTPUTS = {
    "classes": "[classes]: their probabilities",
    "residues": "[residues, classes]: probabilities, heavy chain first",
    "number": "[1]: the number",
}
_WHAT = {
    "classes": "classes of antibody pairs",
    "residues": "classes of residues",
    "number": "a number for each pair",
}


@cache
def _template() -> Template:
    return Template((files("curr_ab.finetuning") / "adapter_card.md").read_text(encoding="utf-8"))


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
    target, repo_id = recipe["target"], f"{namespace}/{record.name}"
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    return _template().substitute(
        header=_header(record, target, results, is_adapter),
        name=record.name,
        repo_id=repo_id,
        description=_description(record, recipe, is_adapter),
        facts=_table(_facts(record, recipe, config)),
        merged=", which merges the adapter into its base" if is_adapter else "",
        output=_OUTPUTS[target],
        stock=_stock(record, repo_id, target, recipe, is_adapter),
        recipe=_table({key: value for key, value in recipe.items() if value not in (None, [], "")}),
        data=_table(record.data) + "\n\nFolds:\n\n" + _table(record.folds),
        results=_results(results),
        limits=_limits(recipe, results),
    )


def _header(record: FinetuningRecord, target: str, results: Sequence[Result], is_adapter: bool) -> str:
    from huggingface_hub import ModelCardData

    # The Hub takes a repository for the base and nothing else.
    base = record.base_model if is_repository(record.base_model) else None
    relation = "adapter" if is_adapter else "finetune"
    data = ModelCardData(
        license="mit",
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag=_TASKS[target],
        base_model=base,
        tags=["antibody", "paired-antibody", "protein-language-model", "biology", "esm"],
        model_name=record.name,
        eval_results=model_index(results) or None,
        base_model_relation=relation if base else None,
    )
    header: str = data.to_yaml()
    return header.strip()


def _description(record: FinetuningRecord, recipe: Mapping[str, Any], is_adapter: bool) -> str:
    what = "An adapter" if is_adapter else "A fine-tuned model"
    name = Path(record.base_model).name
    base = f"`{record.base_model}`" if is_repository(record.base_model) else f"`{name}`, a model on disk,"
    return (
        f"{what} of {base} that predicts {_WHAT[recipe['target']]}: recipe `{recipe['name']}` of the package "
        f"`curr-ab` {record.code_version}."
    )


def _facts(record: FinetuningRecord, recipe: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    labels = config.get("id2label", {0: "LABEL_0", 1: "LABEL_1"})
    shown = {"target": recipe["target"], "method": recipe["method"]}
    if recipe["target"] != "number":
        shown["labels, in the order of the logits"] = list(labels.values())
    if recipe["target"] != "residues":
        shown["the head reads"] = config.get("classifier_pooling", "cls")
    return {**shown, "licence": "MIT"}


def _stock(
    record: FinetuningRecord, repo_id: str, target: str, recipe: Mapping[str, Any], is_adapter: bool
) -> str:
    """How to load it without the package, where that is possible."""
    head = f"AutoModelFor{_HEADS[target]}"
    if target != "residues" and recipe["pooling"] != "cls":
        return (
            f"Stock transformers has no head that reads `{recipe['pooling']}` and refuses this one: its head "
            "reads the first token."
        )
    if not is_adapter:
        lines = [
            f"from transformers import {head}, AutoTokenizer",
            "",
            f'model = {head}.from_pretrained("{repo_id}")',
        ]
    else:
        lines = [
            "from peft import PeftModel",
            f"from transformers import AutoConfig, {head}, AutoTokenizer",
            "",
            f'config = AutoConfig.from_pretrained("{repo_id}")  # the labels',
            f'base = {head}.from_pretrained("{record.base_model}", config=config)',
            f'model = PeftModel.from_pretrained(base, "{repo_id}").eval()',
        ]
    lines += [
        f'tokenizer = AutoTokenizer.from_pretrained("{repo_id}")',
        'logits = model(**tokenizer(heavy, light, return_tensors="pt")).logits',
    ]
    intro = "With stock transformers and PEFT" if is_adapter else "With stock transformers"
    code = "\n".join(lines)
    text = f"{intro}, and nothing else:\n\n```python\n{code}\n```"
    if is_adapter:
        text += (
            "\n\nAs a model of its own, which needs no PEFT any more:\n\n"
            '```python\nmodel.merge_and_unload().save_pretrained("merged")\n'
            'tokenizer.save_pretrained("merged")\n```'
        )
    return text


def _results(results: Sequence[Result]) -> str:
    if not results:
        return "Nothing has been measured."
    lines = ["| task | metric | mean ± standard error | examples |", "|---|---|---:|---:|"]
    for row in sorted(results, key=lambda row: (row.task, row.metric)):
        lines.append(f"| {row.task} | {row.metric} | {row.shown} | {row.num_items:,} |")
    measured = (
        "Measured on the fold that these weights have not seen."
        if "fold" in results[0].details
        else "Means over folds, each measured on examples that its model had not seen; the weights here were "
        "fitted afterwards, on all examples. The standard error is that over folds."
    )
    return "\n".join([*lines, "", f"{measured} All numbers are in `results.json`."])


def _limits(recipe: Mapping[str, Any], results: Sequence[Result]) -> str:
    told = []
    if not results:
        told.append("Nothing is known of how well it predicts.")
    if recipe.get("fold_scheme") == "rows":
        told.append(
            "The folds were drawn row by row: relatives of one clone or donor may stand on both sides, and "
            "then the numbers are better than they will be on a new donor."
        )
    elif recipe.get("group_by"):
        told.append(f"The folds keep each `{recipe['group_by']}` together, so the numbers are for new ones.")
    told.append(
        "Predictions hold for pairs like those of the data; what differs (other species, other assays, "
        "single chains) was not measured. A prediction is no measurement: check what matters in the lab."
    )
    return " ".join(told)


def _table(rows: Mapping[str, Any]) -> str:
    lines = ["| | |", "|---|---|"]
    return "\n".join(
        lines + [f"| {str(key).replace('_', ' ')} | {format_setting(value)} |" for key, value in rows.items()]
    )
