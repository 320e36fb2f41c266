"""Predictions of a fine-tuned member: loaded by folder or repository, for lists of pairs and for files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from curr_ab.checkpoint_files import CONFIG, find_file, resolve
from curr_ab.checkpoints import Checkpoint, load
from curr_ab.family import NAMESPACE
from curr_ab.files import read_object
from curr_ab.inference.batch_functions import BatchFunction
from curr_ab.inference.records import Record
from curr_ab.inference.results import Results
from curr_ab.inference.tasks import BulkTask
from curr_ab.inference.token_batches import SequenceBatch, map_batches
from curr_ab.inference.tokens import tokenize
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import CHAINS, Target

Array = npt.NDArray[np.float32]
_HEADS = {
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
}


def load_finetuned(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = torch.float32,
    merge: bool = True,
    namespace: str = NAMESPACE,
) -> tuple[Any, CurrAbTokenizer]:
    """Model and tokenizer of what fine-tuning left, on disk or on the Hub, with the labels in `model.config`.

    An adapter is merged into the base that it names, unless `merge` is false: then it is a `PeftModel`.
    """
    return load(
        name_or_path,
        head=head_of(name_or_path, revision=revision, namespace=namespace),
        revision=revision,
        device=device,
        dtype=dtype,
        namespace=namespace,
        merge=merge,
    )


def head_of(name_or_path: str | Path, *, revision: str | None = None, namespace: str = NAMESPACE) -> str:
    """The head that was tuned, as `curr_ab.load` calls it."""
    path = find_file(resolve(name_or_path, namespace), CONFIG, revision=revision)
    if path is not None:
        for architecture in read_object(path).get("architectures") or ():
            for ending, head in _HEADS.items():
                if architecture.endswith(ending):
                    return head
    raise ValueError(
        f"{name_or_path} has no config.json that names a head for pairs or residues; name the adapter of a "
        "`curr-ab finetune`"
    )


def target_of(model: Any) -> Target:
    """Target that the model predicts."""
    if type(_bare(model)).__name__.endswith("ForTokenClassification"):
        return "residues"
    is_number = model.config.num_labels == 1 or model.config.problem_type == "regression"
    return "number" if is_number else "classes"


def has_several_tasks(model: Any) -> bool:
    """True where each output answers by itself: one of several numbers, or the second of two classes."""
    kind, num_labels = model.config.problem_type, model.config.num_labels
    return bool(kind == "multi_label_classification" or (kind == "regression" and num_labels > 1))


def label_names(model: Any) -> list[str]:
    """The classes in the order of the logits, or the columns that are predicted at once."""
    return [str(model.config.id2label[number]) for number in range(model.config.num_labels)]


def predict(
    model: Any, tokenizer: CurrAbTokenizer, pairs: Any, *, tokens_per_batch: int | None = None
) -> Results[Array]:
    """One array for each pair, or the table that `curr-ab predict` writes.

    Probabilities of the classes `[classes]` or `[residues, classes]`, heavy chain first; a number `[1]`; of
    several columns `[columns]`, their numbers or the probabilities of the second class. None for a chain is
    a single chain.
    """
    return Results(PredictTask(tokens_per_batch=tokens_per_batch), model, tokenizer, pairs)


def predict_window(
    model: Any, tokenizer: CurrAbTokenizer, window: Sequence[Record], tokens_per_batch: int | None = None
) -> list[Array]:
    """The predictions for the records of a window that is batched together."""
    tokens = tokenize(tokenizer, window)
    target, several = target_of(model), has_several_tasks(model)

    def run(batch: SequenceBatch) -> list[Array]:
        logits: Tensor = model(input_ids=batch.input_ids, position_ids=batch.position_ids).logits.float()
        probabilities = logits.sigmoid if several else partial(logits.softmax, -1)
        values = (logits if target == "number" else probabilities()).cpu()
        predictions = []
        for index, member in enumerate(batch.members):
            own, pair = values[index], tokens[member]
            if target == "residues":
                own = batch.take(values, index, len(pair.input_ids))[pair.positions]
            predictions.append(own.numpy())
        return predictions

    sequences = [pair.input_ids for pair in tokens]
    return map_batches(run, sequences, _bare(model), tokens_per_batch=tokens_per_batch)


def _bare(model: Any) -> Any:
    """The model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass(frozen=True, kw_only=True)
class PredictTask(BulkTask):
    """`curr-ab predict`: a row for each pair, or for each residue."""

    records_per_part: int = 1024

    def results(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> list[Array]:
        return predict_window(model, tokenizer, records, self.tokens_per_batch)

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        predictions = self.results(model, tokenizer, records)
        target = target_of(model)
        columns: dict[str, Any] = {"id": pa.array([record.id for record in records], pa.string())}
        if has_several_tasks(model):
            kind = "prediction" if target == "number" else "probability"
            values = zip(label_names(model), np.stack(predictions).T, strict=True)
            return pa.table({**columns, **{f"{kind}_{name}": pa.array(value) for name, value in values}})
        if target == "number":
            return pa.table({**columns, "prediction": pa.array(np.concatenate(predictions))})
        if target == "classes":
            return pa.table({**columns, **_class_columns(label_names(model), np.stack(predictions))})
        columns = _residue_columns(records)
        return pa.table({**columns, **_class_columns(label_names(model), np.concatenate(predictions))})


class BatchPredictor(BatchFunction):
    """`curr-ab predict` of a batch."""

    task_type = PredictTask
    splits_pairs = False

    def __init__(self, model: str | Path | Checkpoint, **options: Any) -> None:
        super().__init__(model, **options)
        given = self.checkpoint
        head = head_of(given.name, revision=given.revision, namespace=given.namespace)
        self.checkpoint = replace(given, head=head)


def _class_columns(names: Sequence[str], probabilities: Array) -> dict[str, Any]:
    best = [names[number] for number in probabilities.argmax(axis=1)]
    columns: dict[str, Any] = {"prediction": pa.array(best, pa.string())}
    for number, name in enumerate(names):
        columns[f"probability_{name}"] = pa.array(probabilities[:, number])
    return columns


def _residue_columns(records: Sequence[Record]) -> dict[str, Any]:
    rows = [
        (record.id, chain, position, residue)
        for record in records
        for chain in CHAINS
        for position, residue in enumerate((record.chain(chain) or "").replace("<mask>", "X"), start=1)
    ]
    ids, chains, positions, residues = zip(*rows, strict=True)
    return {
        "id": pa.array(ids, pa.string()),
        "chain": pa.array(chains, pa.string()),
        "position": pa.array(positions, pa.int32()),
        "residue": pa.array(residues, pa.string()),
    }
