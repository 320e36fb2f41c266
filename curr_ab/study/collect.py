"""Summary of a study, read from its folders: its report is written from it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from curr_ab.data.description import describe
from curr_ab.data.shards import TokenDataset
from curr_ab.evaluation.plan import LossPlan, make_plan
from curr_ab.measures.held_out import LOSS_REGIONS, HeldOut, baseline_losses
from curr_ab.results import Result, is_headline
from curr_ab.study.cells import Cell, CellFolder, loss_by_place, pairing_accuracy
from curr_ab.study.costs import Cost
from curr_ab.study.folder import StudyFolder
from curr_ab.study.law import StudyLaw
from curr_ab.study.preset import Preset
from curr_ab.study.summary import CellSummary, Estimate, State, StudySummary
from curr_ab.training.state import read_log
from curr_ab.words import CHAINS

_LIBRARIES = ("curr-ab", "torch", "transformers", "accelerate")


class CellView(NamedTuple):
    """A cell, its folder, how far it is, what it takes."""

    cell: Cell
    folder: CellFolder
    state: State
    cost: Cost


def summarize(
    study: StudyFolder,
    preset: Preset,
    command: str,
    cells: Sequence[CellView],
    law: StudyLaw,
    transfer: Mapping[str, Any],
    data: Path,
    clock: Mapping[str, Any],
    notes: Sequence[str],
) -> StudySummary:
    """Collect what is known now; the study may be under way, or have failed in part."""
    folder = os.path.relpath(study.figures, study.path)
    figures = {name: f"{folder}/{name}.png" for name in ("loss_by_size", "data_by_size")}
    return StudySummary(
        preset=preset.name,
        title=preset.title,
        command=command,
        cells=tuple(_cell_summary(study, view) for view in cells if view.cell.in_law),
        further_cells=tuple(_cell_summary(study, view) for view in cells if not view.cell.in_law),
        started=clock["started"],
        seconds=clock["seconds"],
        hardware=_hardware(),
        versions={name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        baselines=_baselines(preset, data),
        law=law,
        transfer=transfer,
        law_figures=figures if any(view.state == "done" for view in cells) else {},
        data_report=report_data(data),
        notes=tuple(notes),
    )


def _cell_summary(study: StudyFolder, view: CellView) -> CellSummary:
    cell, folder, state, cost = view
    log = read_log(folder.run.path) if folder.run.log_file.exists() else []
    results = folder.results() if state == "done" else []
    losses = loss_by_place(results)
    steps = [entry for entry in log if "loss" in entry]
    config = cell.plan.model_config
    export = study.export(cell)
    loss, error = losses.get("all", (None, None))
    return CellSummary(
        member=cell.title,
        size=cell.size,
        data=cell.data,
        shape=f"{config['hidden_size']}x{config['num_hidden_layers']}",
        parameters=cost.parameters,
        pairs=cost.pairs or 0,
        seed=cell.plan.seed,
        draw=cell.plan.draw,
        steps=cell.plan.steps,
        state=state,
        log=os.path.relpath(folder.log_file, study.path),
        loss=loss,
        standard_error=error,
        region_losses={place: losses[place] for place in LOSS_REGIONS if place in losses},
        pairing=pairing_accuracy(results),
        training_curve=tuple((entry["step"], entry["loss"]) for entry in steps),
        held_out_curve=tuple((e["step"], e["held_out_loss"]) for e in log if "held_out_loss" in e),
        tokens_per_second=steps[-1]["residue_tokens_seen"] / steps[-1]["seconds"] if steps else None,
        seconds=steps[-1]["seconds"] if steps else None,
        objective=cell.plan.objective,
        after=cell.after,
        generation=_generation(results),
        export=os.path.relpath(export, study.path) if cell.exported and export.is_dir() else None,
        problem=folder.problem if state == "failed" else None,
    )


def _generation(results: Sequence[Result]) -> dict[str, dict[str, Estimate]]:
    """Measures of what a causal cell generates, each by sample: its own, and those of real pairs.

    Measures that are shown for one sample are shown for all, so that each stands beside its references.
    """
    rows = [row for row in results if row.task == "generation"]
    shown = {row.metric for row in rows if is_headline(row)}
    found: dict[str, dict[str, Estimate]] = {}
    for row in rows:
        if row.metric in shown:
            sample = str(row.details.get("sample", "its own"))
            found.setdefault(row.metric, {})[sample] = (row.value, row.standard_error or 0.0)
    return found


def _baselines(preset: Preset, data: Path) -> dict[str, float]:
    """Frequencies of the largest training set (of its first draw), on the pairs and masks of the losses."""
    draw = int(preset.data.draws > 1)
    plan = make_plan("loss", preset.evaluation["loss"])
    assert isinstance(plan, LossPlan)
    held_out = TokenDataset(data, plan.split)
    largest = max((TokenDataset(data, "train", name, draw) for name in preset.data.subsets), key=len)
    num_pairs = plan.pairs or len(held_out)
    return baseline_losses(largest, HeldOut(held_out, num_pairs=num_pairs, draws=plan.draws, seed=plan.seed))


def _hardware() -> str:
    """Such as `2 cores (x86_64)` or `1 x NVIDIA H200, 16 cores (x86_64)`."""
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, {cores}"
    return cores


def report_data(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """`pairs` and `clusters` by split, `subsets`, `dropped`, and histograms of lengths, as plain JSON."""
    description = describe(folder)
    report = description.report
    histograms = {"length": description.lengths, "CDR3 length": description.cdr3_lengths}
    return {
        "folder": description.folder.name,
        "fingerprint": description.index["fingerprint"],
        "read": report["read"],
        "kept": report["kept"],
        "dropped": report["dropped"],
        "pairs": report["pairs"],
        "clusters": report["clusters"],
        "clusters_in_several_splits": report["clusters_in_several_splits"],
        "subsets": description.index["subsets"],
        "histograms": {
            f"{chain} {name}": {str(value): count for value, count in sorted(histogram[chain].items())}
            for name, histogram in histograms.items()
            for chain in CHAINS
            if histogram[chain]
        },
    }
