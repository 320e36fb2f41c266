"""Folders of cross-validations as `finetune` leaves them, with predictions that a test makes up."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml


def write_run(folder, target, names, folds, *, model="8M-F", examples="e" * 64, task="specificity"):
    """`folds` are dicts with `labels` and `predictions`, and perhaps `ids` and `groups`.

    Labels are numbers of classes (or lists of them, -100 unknown); probabilities are [pairs, classes] (or
    lists of [residues, classes]).
    """
    folder.mkdir(parents=True)
    recipe = {"name": task, "target": target, "labels": list(names)}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "data.json").write_text(json.dumps({"examples": examples, "model": model}))
    count = sum(len(fold["labels"]) for fold in folds)
    parts = []
    for number, fold in enumerate(folds, start=1):
        size = len(fold["labels"])
        ids = fold.get("ids") or [f"{number}-{place}" for place in range(size)]
        columns = {"id": ids, "number": list(range(1, size + 1))}
        if "groups" in fold:
            columns["group"] = [str(group) for group in fold["groups"]]
        if target == "number":
            columns |= {"label": fold["labels"], "prediction": fold["predictions"]}
        elif target == "classes":
            columns["label"] = [names[label] for label in fold["labels"]]
            for place, name in enumerate(names):
                columns[f"probability_{name}"] = np.asarray(fold["predictions"])[:, place]
        else:
            shown = [[None if one == -100 else names[one] for one in label] for label in fold["labels"]]
            columns["label"] = shown
            for place, name in enumerate(names):
                columns[f"probability_{name}"] = [np.asarray(one)[:, place] for one in fold["predictions"]]
        place = folder / f"fold-{number}"
        place.mkdir()
        pq.write_table(pa.table(columns), place / "predictions.parquet")
        parts.append({"number": number, "train": list(range(count - size)), "validation": [], "test": ids})
    (folder / "folds.json").write_text(json.dumps(parts))
    return folder
