"""Learning curves of runs as rows of a table: validation losses while the learning rate was constant."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_ab.checkpoint_files import num_parameters, step_folders
from curr_ab.scaling.runs import Runs, make_runs
from curr_ab.training.state import read_log
from curr_ab.training_record import TRAINING, TrainingRecord, read_training

# What a validation loss depends on beside the model; runs that differ in it do not compare.
_MEASURE = (
    "objective",
    "mask_fraction",
    "mask_token_share",
    "random_token_share",
    "cdr3_mask_fraction",
    "evaluation_pairs",
    "evaluation_draws",
    "evaluation_seed",
)


def read_curves(folders: Sequence[str | Path]) -> Runs:
    """Read the folders of finished `curr-ab pretrain` runs, each a curve of its own under `run`.

    A loss counts from the end of the warm-up to the beginning of the decay: after that it falls for another
    reason than more tokens. These are losses on validation pairs, never to be mixed with those of a test.
    """
    rows: list[dict[str, str | float]] = []
    measures: dict[str, str] = {}
    for folder in map(Path, folders):
        checkpoint = _last_checkpoint(folder)
        record = read_training(checkpoint / TRAINING)
        plan = record.plan or {}
        if plan.get("schedule") != "constant":
            raise ValueError(
                f"{folder}: schedule must be constant, for losses on the way to be those of shorter runs; "
                f"got {plan.get('schedule')}: give its results.json, which has the final loss"
            )
        measure = {name: plan.get(name) for name in _MEASURE}
        measure["data"] = (record.data or {}).get("fingerprint")
        measures.setdefault(json.dumps(measure), str(folder))
        rows += _rows(folder, record, plan, num_parameters(checkpoint))
    if len(measures) > 1:
        first, other, *_ = measures.values()
        raise ValueError(
            f"{first} and {other} were validated on other pairs or masks, so that their losses do not "
            "compare; keep runs of one kind only"
        )
    if not rows:
        raise ValueError("the runs have no validation loss from their constant part; choose others")
    return make_runs(rows, ", ".join(map(str, folders)))


def _last_checkpoint(folder: Path) -> Path:
    found = step_folders(folder / "checkpoints")
    if not found or not (found[max(found)] / TRAINING).is_file():
        raise ValueError(f"{folder} must be the folder of a finished run of `curr-ab pretrain`; got none")
    return found[max(found)]


def _rows(
    folder: Path, record: TrainingRecord, plan: Mapping[str, Any], parameters: int
) -> Iterator[dict[str, str | float]]:
    known = record.quantities()
    first, last = plan["warmup_steps"], plan["steps"] - plan["decay_steps"]
    tokens: dict[int, float] = {}
    for entry in read_log(folder):
        if "residue_tokens_seen" in entry:
            tokens[entry["step"]] = entry["residue_tokens_seen"]
        if "held_out_loss" in entry and first <= entry["step"] <= last and entry["step"] in tokens:
            yield {
                "parameters": parameters,
                "loss": entry["held_out_loss"],
                "sequences": known["sequences"],
                "unique_tokens": known["unique_tokens"],
                "seen_tokens": tokens[entry["step"]],
                "clm_tokens": known.get("clm_tokens", 0),
                "objective": str(plan["objective"]),
                "seed": str(known["training_seed"]),
                "draw": str(known.get("training_draw", "")),
                "run": str(folder),
            }
