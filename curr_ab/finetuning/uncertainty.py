"""How sure predictions are: calibration, intervals, sets and applicability, stored beside the adapter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from curr_ab.checkpoint_files import find_file, resolve
from curr_ab.family import NAMESPACE
from curr_ab.files import read_object, replacing, write_json
from curr_ab.finetuning.adapter_record import TRAINING
from curr_ab.finetuning.examples import family_numbers
from curr_ab.finetuning.uncertainty_levels import (
    LEVELS,
    HeldOut,
    all_levels,
    calibration_error,
    errors_of,
    fit_temperature,
    place_of,
    reaches,
    tempered,
)
from curr_ab.finetuning.uncertainty_neighbours import PERCENTILES, Neighbours, fold_identities, residues_of
from curr_ab.measures.fold_predictions import FOLDS, RunPredictions, read_run
from curr_ab.measures.metrics import Floats
from curr_ab.words import Target

UNCERTAINTY = "uncertainty.json"
FORMAT = "curr-ab uncertainty 1"
CHECKED_LEVEL = 0.9
_FACTS = ("target", "temperature", "num_units", "grouped", "checked")


@dataclass(frozen=True, eq=False, kw_only=True)
class Uncertainty:
    """What a run's folds say of predictions for pairs of groups that the model has not seen."""

    digest: str  # of all that follows; alone in the plan of a bulk command
    target: Target = field(repr=False)
    temperature: float | None = field(repr=False)  # None for numbers
    reach: Floats = field(repr=False)  # at the levels 0.001 ... 0.999; infinite where units are too few
    num_units: int = field(repr=False)
    grouped: bool = field(repr=False)
    checked: dict[str, float] = field(repr=False)  # on each fold, by what the others say
    neighbours: Neighbours | None = field(repr=False)

    def reach_at(self, level: float) -> float:
        """The error that predictions stay within at the level; infinite where units are too few for it."""
        return float(np.append(self.reach, np.inf)[place_of(level)])

    def doubt(self, level: float) -> str | None:
        """Why nothing is narrowed down at this level; None where something is."""
        if np.isfinite(self.reach_at(level)):
            return None
        unit, needed = self.unit, int(np.ceil(level / (1 - level) - 1e-9))
        most = int(np.isfinite(self.reach).sum()) / LEVELS
        return (
            f"level {level:g} needs {needed:,} {unit} that folds held apart, and this model's held "
            f"{self.num_units:,}: every value stays possible; --level {most:g} is the most that they show"
        )

    def explained(self, level: float) -> list[str]:
        """What is to be said beside the predictions, in lines."""
        rule = None if self.neighbours is None else self.neighbours.rule
        return [line for line in (self.doubt(level), rule) if line is not None]

    @property
    def unit(self) -> str:
        """The name of what is independent."""
        return "groups" if self.grouped else "pairs"

    def calibrated(self, probabilities: Floats) -> Floats:
        """Probabilities that say how often a class is right."""
        assert self.temperature is not None
        return tempered(probabilities, self.temperature)

    def sets(self, probabilities: Floats, level: float) -> Any:
        """Flags [items, classes] of the classes that hold the right one at the level; never none."""
        inside = 1.0 - probabilities <= self.reach_at(level)
        inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
        return inside

    def write(self, folder: Path) -> None:
        """Write it into the folder of an adapter."""
        _write(folder, self)

    def plain(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            **{name: getattr(self, name) for name in _FACTS},
            "reach": [float(f"{one:.9g}") if np.isfinite(one) else None for one in self.reach],
            **_plain_neighbours(self.neighbours),
        }

    @property
    def summary(self) -> str:
        """What was found, in a line."""
        words = [f"uncertainty: from {self.num_units:,} {self.unit} that the folds held apart"]
        if "coverage" in self.checked:
            covered = f"{CHECKED_LEVEL:.0%} hold {self.checked['coverage']:.1%}"
            kind = "intervals" if self.target == "number" else "sets"
            words.append(f"{kind} of {covered} of what the other folds had not seen")
        if "calibration_error" in self.checked:
            before, after = self.checked["raw_calibration_error"], self.checked["calibration_error"]
            words.append(f"calibration error {before:.3f} → {after:.3f}")
        return "; ".join(words)


def _plain_neighbours(near: Neighbours | None) -> dict[str, Any]:
    return {
        "identities": None if near is None else near.percentiles.tolist(),
        "rule": None if near is None else near.rule,
    }


@dataclass(frozen=True, eq=False, kw_only=True)
class Uncertainties:
    """The same of several columns that are learnt at once, which have one training set."""

    digest: str
    labels: tuple[str, ...] = field(repr=False)  # the two classes of each column, or none of numbers
    columns: dict[str, Uncertainty] = field(repr=False)
    neighbours: Neighbours | None = field(repr=False)

    def explained(self, level: float) -> list[str]:
        """What is to be said beside the predictions, in lines."""
        lines = [f"{name}: {doubt}" for name, one in self.columns.items() if (doubt := one.doubt(level))]
        return lines + ([] if self.neighbours is None else [self.neighbours.rule])

    def write(self, folder: Path) -> None:
        """Write it into the folder of an adapter."""
        _write(folder, self)

    def plain(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "labels": list(self.labels),
            "columns": {name: one.plain() for name, one in self.columns.items()},
            **_plain_neighbours(self.neighbours),
        }

    @property
    def summary(self) -> str:
        """What was found, a line for each column."""
        return "\n".join(f"{name}, {one.summary}" for name, one in self.columns.items())


def _write(folder: Path, sure: Uncertainty | Uncertainties) -> None:
    write_json(folder / UNCERTAINTY, {**sure.plain(), "digest": sure.digest})
    if sure.neighbours is not None:
        from safetensors.numpy import save_file

        with replacing(folder / TRAINING) as temporary:
            save_file({"residues": np.ascontiguousarray(sure.neighbours.training)}, temporary)


def measure_columns(
    run_folder: str | Path,
    pairs: Sequence[tuple[str | None, str | None]],
    columns: Sequence[str],
    *,
    keep_sequences: bool = True,
) -> Uncertainties:
    """What `measure_uncertainty` says of each column of a run that learns several."""
    found = {
        name: measure_uncertainty(run_folder, pairs, keep_sequences=False, column=name) for name in columns
    }
    run = read_run(run_folder, column=columns[0])
    folds = json.loads((run.folder / FOLDS).read_text(encoding="utf-8"))
    neighbours = _neighbours_of(pairs, folds) if keep_sequences else None
    several = Uncertainties(digest="", labels=run.label_names, columns=found, neighbours=neighbours)
    return replace(several, digest=_digest_of(several))


def measure_uncertainty(
    run_folder: str | Path,
    pairs: Sequence[tuple[str | None, str | None]],
    *,
    keep_sequences: bool = True,
    column: str | None = None,
) -> Uncertainty:
    """The uncertainty of a finished cross-validation; `pairs` are all of its examples in order.

    Without `keep_sequences` nothing is stored from which residues of the training pairs could be read, and
    how near a pair is to them is not told. Of a run of several columns it is about one.
    """
    run = read_run(run_folder, column=column)
    folds = json.loads((run.folder / FOLDS).read_text(encoding="utf-8"))
    held_out = held_out_of(run, [pairs[index] for fold in folds for index in fold["test"]])
    temperature = None if run.target == "number" else fit_temperature(held_out)
    errors = errors_of(held_out, temperature)
    sure = Uncertainty(
        digest="",
        target=run.target,
        temperature=temperature,
        reach=reaches(errors, held_out.units, all_levels()),
        num_units=held_out.num_units,
        grouped=run.grouped,
        checked=check_folds(held_out, run.target),
        neighbours=_neighbours_of(pairs, folds) if keep_sequences else None,
    )
    return replace(sure, digest=_digest_of(sure))


def _neighbours_of(
    pairs: Sequence[tuple[str | None, str | None]], folds: Sequence[Mapping[str, Any]]
) -> Neighbours | None:
    """The training set; None where no chain can be numbered."""
    residues = residues_of(pairs)
    parts = ((np.array(fold["train"] + fold["validation"]), np.array(fold["test"])) for fold in folds)
    found = fold_identities(residues, parts)
    if not len(found):
        return None
    return Neighbours(np.unique(residues, axis=0), np.percentile(found, PERCENTILES))


def held_out_of(run: RunPredictions, tested: Sequence[tuple[str | None, str | None]]) -> HeldOut:
    """All folds' test parts, whose pairs are `tested` in order.

    Units are what the folds held together, groups that share a pair among them, or pairs where the folds are
    of rows.
    """
    names = [name for fold in run.folds for name in fold.groups]
    families = family_numbers(names, tested if run.grouped else names)
    starts = np.cumsum([0, *(len(fold.ids) for fold in run.folds)])
    return HeldOut(
        labels=run.pooled_labels,
        predictions=run.pooled_predictions,
        units=families[
            np.concatenate([start + fold.pairs for start, fold in zip(starts, run.folds, strict=False)])
        ],
        folds=np.concatenate([np.full(len(fold.labels), fold.number) for fold in run.folds]),
    )


def check_folds(held_out: HeldOut, target: Target) -> dict[str, float]:
    """Coverage and calibration on each fold by what the other folds say; empty for a single fold.

    Of a set, the right class is inside; units that are too few for the level leave coverage out.
    """
    covered: list[Floats] = []
    before: list[Floats] = []
    after: list[Floats] = []
    for fold in np.unique(held_out.folds):
        own, others = held_out.take(held_out.folds == fold), held_out.take(held_out.folds != fold)
        if not len(others.labels):
            return {}
        temperature = None if target == "number" else fit_temperature(others)
        [reach] = reaches(errors_of(others, temperature), others.units, [CHECKED_LEVEL])
        inside = errors_of(own, temperature) <= reach
        if temperature is not None:
            before.append(own.predictions)
            after.append(tempered(own.predictions, temperature))
            inside |= after[-1].argmax(axis=1) == own.labels
        if np.isfinite(reach):
            covered += [inside[own.units == unit].mean() for unit in np.unique(own.units)]
    found: dict[str, float] = {}
    if covered:
        found["coverage"] = float(np.mean(covered))
    if before:
        labels = np.concatenate([held_out.labels[held_out.folds == one] for one in np.unique(held_out.folds)])
        found["raw_calibration_error"] = calibration_error(labels, np.concatenate(before))
        found["calibration_error"] = calibration_error(labels, np.concatenate(after))
    return found


def read_uncertainty(
    name_or_path: str | Path, *, revision: str | None = None, namespace: str = NAMESPACE
) -> Uncertainty | Uncertainties | None:
    """The uncertainty of a fine-tuned member, on disk or on the Hub; None where there is none."""
    source = resolve(name_or_path, namespace)
    path = find_file(source, UNCERTAINTY, revision=revision)
    if path is None:
        return None
    content = read_object(path)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} must be of the format {FORMAT!r}; got another: fine-tune again, or use raw")
    neighbours = None
    if content["identities"] is not None:
        training = find_file(source, TRAINING, revision=revision)
        if training is None:
            raise ValueError(f"{path} names {TRAINING}, which is missing; copy the adapter again")
        from safetensors.numpy import load_file

        neighbours = Neighbours(load_file(training)["residues"], np.array(content["identities"]))
    digest = content["digest"]
    if "columns" not in content:
        return _of_plain(content, digest, neighbours)
    columns = {name: _of_plain(one, "", None) for name, one in content["columns"].items()}
    labels = tuple(content["labels"])
    return Uncertainties(digest=digest, labels=labels, columns=columns, neighbours=neighbours)


def _of_plain(content: Mapping[str, Any], digest: str, neighbours: Neighbours | None) -> Uncertainty:
    facts = {name: content[name] for name in _FACTS}
    reach = np.array([np.inf if one is None else one for one in content["reach"]])
    return Uncertainty(digest=digest, reach=reach, neighbours=neighbours, **facts)


def _digest_of(one: Uncertainty | Uncertainties) -> str:
    digest = hashlib.sha256(json.dumps(one.plain(), sort_keys=True).encode())
    if one.neighbours is not None:
        digest.update(one.neighbours.training.tobytes())
    return digest.hexdigest()
