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
from curr_ab.checkpoints import Checkpoint, load, load_tokenizer
from curr_ab.family import NAMESPACE
from curr_ab.files import read_object
from curr_ab.finetuning.ensemble import EnsembleModel, is_ensemble, mean_and_deviation, member_folders
from curr_ab.finetuning.probe_model import ProbeModel, is_probe, load_probe
from curr_ab.finetuning.uncertainty import Uncertainties, Uncertainty, read_uncertainty
from curr_ab.finetuning.uncertainty_columns import (
    class_columns,
    nearness_columns,
    number_columns,
    several_columns,
)
from curr_ab.inference.batch_functions import BatchFunction
from curr_ab.inference.records import Record
from curr_ab.inference.results import Results
from curr_ab.inference.settings import PredictSettings
from curr_ab.inference.tasks import BulkTask
from curr_ab.inference.token_batches import SequenceBatch, map_batches
from curr_ab.inference.tokens import tokenize
from curr_ab.number_types import Precision
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import CHAINS, Target

Array = npt.NDArray[np.float32]
_PROBE, _ENSEMBLE = "probe", "ensemble"
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

    An adapter is merged into the base that it names, unless `merge` is false: then it is a `PeftModel`. A
    probe is a `ProbeModel`, for `predict` alone. What is known of its uncertainty goes along as
    `model.uncertainty`.
    """
    place: dict[str, Any] = {"revision": revision, "namespace": namespace}
    how: dict[str, Any] = {**place, "device": device, "dtype": dtype}
    source = resolve(name_or_path, namespace)
    model: Any
    if is_ensemble(source, revision):
        model, tokenizer = _load_ensemble(source, revision, device=device, dtype=dtype, namespace=namespace)
    elif is_probe(source, revision):
        model, tokenizer = load_probe(source, **how)
    else:
        model, tokenizer = load(name_or_path, head=head_of(name_or_path, **place), merge=merge, **how)
    model.uncertainty = read_uncertainty(name_or_path, **place)
    return model, tokenizer


def _load_ensemble(source: str, revision: str | None, **how: Any) -> tuple[EnsembleModel, CurrAbTokenizer]:
    """All members of an ensemble as one model."""
    folders = member_folders(source, revision)
    members = (load_finetuned(folder, **how)[0] for folder in folders)
    return EnsembleModel(members, folders), load_tokenizer(source, revision=revision)


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
    if isinstance(model, EnsembleModel):
        return target_of(model.members[0])
    if isinstance(model, ProbeModel):
        return model.target
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
    """One array for each pair, the model's own, or the table that `curr-ab predict` writes.

    Probabilities of the classes `[classes]` or `[residues, classes]`, heavy chain first; a number `[1]`; of
    several columns `[columns]`, their numbers or the probabilities of the second class. None for a chain is
    a single chain.
    """
    sure = getattr(model, "uncertainty", None)
    task = PredictTask(tokens_per_batch=tokens_per_batch, uncertainty=sure)
    return Results(task, model, tokenizer, pairs)


def predict_window(
    model: Any, tokenizer: CurrAbTokenizer, window: Sequence[Record], tokens_per_batch: int | None = None
) -> list[Array]:
    """The predictions for the records of a window that is batched together."""
    if isinstance(model, EnsembleModel):
        return mean_and_deviation(draws_window(model, tokenizer, window, tokens_per_batch))[0]
    if isinstance(model, ProbeModel):
        return model.predict(tokenizer, window, tokens_per_batch)
    tokens = tokenize(tokenizer, window)
    target, several = target_of(model), has_several_tasks(model)

    def run(batch: SequenceBatch) -> list[Array]:
        logits: Tensor = model(**batch.model_inputs).logits.float()
        probabilities = logits.sigmoid if several else partial(logits.softmax, -1)
        values = (logits if target == "number" else probabilities()).cpu()
        predictions = []
        for index, member in enumerate(batch.members):
            pair = tokens[member]
            if target == "residues":
                own = batch.take(values, index, len(pair.input_ids))[pair.positions]
            else:
                own = values[index]
            predictions.append(own.numpy())
        return predictions

    sequences = [pair.input_ids for pair in tokens]
    return map_batches(run, sequences, _bare(model), tokens_per_batch=tokens_per_batch)


def draws_window(
    model: EnsembleModel, tokenizer: CurrAbTokenizer, window: Sequence[Record], tokens_per_batch: int | None
) -> list[list[Array]]:
    """The same of each member of an ensemble."""
    if model.are_probes:
        return model.probe_draws(tokenizer, window, tokens_per_batch)
    return [predict_window(member, tokenizer, window, tokens_per_batch) for member in model.members]


def _bare(model: Any) -> Any:
    """The model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass(frozen=True, kw_only=True)
class PredictTask(BulkTask, PredictSettings):
    """`curr-ab predict`: a row for each pair, or for each residue."""

    records_per_part: int = 1024
    uncertainty: Uncertainty | Uncertainties | None = (
        None  # of the model; none gives the model's own numbers alone
    )

    def results(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> list[Array]:
        return predict_window(model, tokenizer, records, self.tokens_per_batch)

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        deviations: list[Array] | None = None
        if isinstance(model, EnsembleModel):
            draws = draws_window(model, tokenizer, records, self.tokens_per_batch)
            predictions, deviations = mean_and_deviation(draws)
        else:
            predictions = self.results(model, tokenizer, records)
        target, sure = target_of(model), None if self.raw else self.uncertainty
        columns: dict[str, Any] = {"id": pa.array([record.id for record in records], pa.string())}
        if has_several_tasks(model):
            assert not isinstance(sure, Uncertainty)
            values = np.stack(predictions)
            columns |= several_columns(label_names(model), values, target, sure, self.level)
            if deviations is not None:
                apart = zip(label_names(model), np.stack(deviations).T, strict=True)
                columns |= {f"deviation_{name}": pa.array(one) for name, one in apart}
            return pa.table(columns | nearness_columns(records, sure, None))
        assert not isinstance(sure, Uncertainties)
        if target == "number":
            columns |= number_columns(np.concatenate(predictions), sure, self.level)
        elif target == "classes":
            columns |= class_columns(label_names(model), np.stack(predictions), sure, self.level)
        else:
            columns = _residue_columns(records)
            columns |= class_columns(label_names(model), np.concatenate(predictions), sure, self.level)
        if deviations is not None:
            columns["deviation"] = pa.array(_of_chosen(target, predictions, deviations))
        counts = [len(one) for one in predictions] if target == "residues" else None
        return pa.table(columns | nearness_columns(records, sure, counts))


def _of_chosen(target: Target, predictions: Sequence[Array], deviations: Sequence[Array]) -> Array:
    """Deviations of the numbers, or of the probability of the class that is predicted."""
    if target == "number":
        return np.concatenate(deviations)
    join = np.concatenate if target == "residues" else np.stack
    best = join(predictions).argmax(axis=1)
    chosen: Array = join(deviations)[np.arange(len(best)), best]
    return chosen


@dataclass(frozen=True)
class TunedCheckpoint(Checkpoint):
    """What fine-tuning left: a checkpoint or an adapter with its head, or a probe."""

    def __post_init__(self) -> None:
        source = resolve(self.name, self.namespace)
        if is_ensemble(source, self.revision):
            head = _ENSEMBLE
        elif is_probe(source, self.revision):
            head = _PROBE
        else:
            head = head_of(self.name, revision=self.revision, namespace=self.namespace)
        object.__setattr__(self, "head", head)

    def precision(self) -> Precision:
        if self.head in (_PROBE, _ENSEMBLE) and self.dtype == "auto":
            return Precision(torch.float32, f"the {self.head} was fitted in it")
        return super().precision()

    def load(self, process: int = 0) -> tuple[Any, CurrAbTokenizer]:
        if self.head not in (_PROBE, _ENSEMBLE):
            return super().load(process)
        return load_finetuned(
            self.name,
            revision=self.revision,
            device=self.device_of(process),
            dtype=self.precision().dtype,
            namespace=self.namespace,
        )


class BatchPredictor(BatchFunction):
    """`curr-ab predict` of a batch."""

    task_type = PredictTask
    splits_pairs = False

    def __init__(self, model: str | Path | Checkpoint, **options: Any) -> None:
        super().__init__(model, **options)
        given = self.checkpoint = TunedCheckpoint(**vars(self.checkpoint))
        sure = read_uncertainty(given.name, revision=given.revision, namespace=given.namespace)
        assert isinstance(self.task, PredictTask)
        self.task = replace(self.task, uncertainty=sure)


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
