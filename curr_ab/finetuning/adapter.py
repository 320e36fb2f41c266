"""The folder that fine-tuning leaves: weights, labels, tokenizer, recipe, results and card, for the Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curr_ab import __version__
from curr_ab.checkpoint_files import resolve
from curr_ab.family import NAMESPACE
from curr_ab.files import replacing_folder, write_json
from curr_ab.finetuning.adapter_manifest import write_manifest
from curr_ab.finetuning.adapter_record import (
    ADAPTER_CONFIG,
    RECIPE,
    RESULTS,
    FinetuningRecord,
    edit_json,
    write_adapter_card,
)
from curr_ab.finetuning.ensemble import EnsembleModel
from curr_ab.finetuning.probe_model import ProbeModel
from curr_ab.finetuning.uncertainty import Uncertainties, Uncertainty
from curr_ab.results import Result, write_results


def save_adapter(
    model: Any,
    folder: str | Path,
    *,
    tokenizer: Any,
    recipe: Any,
    base_model: str,
    label_names: Sequence[str],
    results: Sequence[Result],
    data: Mapping[str, Any],
    folds: Mapping[str, Any],
    uncertainty: Uncertainty | Uncertainties | None = None,
) -> None:
    """Write the folder, whole or not at all, in the place of what is there.

    A PEFT model leaves its adapter, which holds the head too, a probe its regression, an ensemble all its
    models; any other model a complete checkpoint. `recipe` is a dataclass with a `name`; `label_names` are
    the classes in the order of the logits, or the columns that are predicted at once, none for one number. Of
    paths in `data` the names are kept.
    """
    import yaml

    base = resolve(base_model)
    record = FinetuningRecord(
        name=f"{Path(base).name}-{recipe.name}",
        base_model=str(Path(base).resolve()) if Path(base).is_dir() else base,
        data=without_folders(data),
        folds=dict(folds),
        code_version=__version__,
    )
    label(model, label_names)
    with replacing_folder(Path(folder)) as new:
        if isinstance(model, ProbeModel):
            model.save(new, record.base_model)
        elif isinstance(model, EnsembleModel):
            model.save(new)
        elif hasattr(model, "peft_config"):
            _save_peft(model, new, record.base_model)
        else:
            model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        plain = json.loads(json.dumps(asdict(recipe)))  # tuples as lists
        (new / RECIPE).write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
        write_results(new / RESULTS, results)
        record.write(new)
        if uncertainty is not None:
            uncertainty.write(new)
        write_manifest(new, model, tokenizer, record.base_model, label_names)
        write_adapter_card(new, namespace=NAMESPACE)


def label(model: Any, label_names: Sequence[str]) -> None:
    """Name the classes in the model's configuration, which every way of loading reads."""
    num_labels = max(1, len(label_names))
    if model.config.num_labels != num_labels:
        raise ValueError(
            f"the head must have an output for each of {num_labels} labels; it has {model.config.num_labels}"
        )
    if label_names:
        model.config.id2label = dict(enumerate(label_names))
        model.config.label2id = {name: number for number, name in enumerate(label_names)}
    else:
        model.config.problem_type = "regression"


def _save_peft(model: Any, folder: Path, base_model: str) -> None:
    # Without the argument PEFT asks the Hub whether the base had another vocabulary.
    model.save_pretrained(folder, save_embedding_layers=False)
    tuned = type(model.get_base_model()).__name__
    task = "TOKEN_CLS" if tuned.endswith("ForTokenClassification") else "SEQ_CLS"
    # A class of this package under `auto_mapping` would keep PEFT from loading it where there is none.
    about_base = {"base_model_name_or_path": base_model, "auto_mapping": None, "revision": None}
    edit_json(folder / ADAPTER_CONFIG, {**about_base, "task_type": task})
    config = json.loads(model.config.to_json_string())
    config.pop("auto_map", None)  # the code of the model is where the base is
    write_json(folder / "config.json", {**config, "architectures": [tuned]})


def without_folders(value: Any) -> Any:
    """The same with paths cut down to file names: folders of this machine tell a reader nothing."""
    if isinstance(value, Mapping):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    is_path = isinstance(value, str | Path) and "://" not in str(value) and "/" in str(value)
    return Path(value).name if is_path else value
