"""Studies that nobody ran: plausible numbers to draw reports of, made up here and nowhere else."""

import math
import random
from dataclasses import replace
from functools import cache

from curr_ab import scaling
from curr_ab.measures.held_out import LOSS_REGIONS
from curr_ab.scaling.iso_data import fit_parabolas
from curr_ab.study.law import CellLoss, StudyLaw, fit_cells
from curr_ab.study.report.grid import make_grid
from curr_ab.study.summary import CellSummary, StudySummary

# name, shape, parameters
MINI_SIZES = (
    ("8M", "64x2", 105_000),
    ("35M", "96x3", 341_000),
    ("150M", "128x4", 802_000),
    ("350M", "160x4", 1_250_000),
    ("650M", "192x4", 1_790_000),
)
SMALL_SIZES = tuple(
    (f"w{width}", f"{width}x{layers}", 12 * layers * width**2 + 33 * width)
    for width, layers in ((32, 2), (48, 2), (64, 2), (96, 3), (128, 4), (160, 4), (224, 4))
)
EASE = {"FWR1": 0.32, "CDR1": 0.8, "FWR2": 0.35, "CDR2": 0.75, "FWR3": 0.4, "CDR3": 1.35, "FWR4": 0.22}
EASE |= {"V": 0.5, "D": 1.5, "J": 0.6, "N": 1.7}


def _loss(parameters, pairs):
    """The best size grows with the pairs; below it the loss falls slowly, above it rises."""
    best = 21_000 * pairs**0.75
    away = math.log10(parameters / best)
    return 1.05 + 5.2 / pairs**0.45 + 0.22 * away**2


def _curves(final, steps, parameters, random_numbers):
    training, held_out = [], []
    for step in range(10, steps + 1, 10):
        share = step / steps
        fallen = math.exp(-5 * share)
        trained = final * 0.75 + (3.3 - final * 0.75) * fallen + random_numbers.gauss(0, 0.04)
        training.append((step, round(trained, 4)))
        if step % 50 == 0:
            turned = 0.3 * max(0, final - 1.8) * (share - 1)
            held_out.append((step, round(final + (3.2 - final) * fallen * (1 - share) + turned, 4)))
    held_out[-1] = (steps, round(final, 4))
    return tuple(training), tuple(held_out)


def _cell(name, data, pairs, seed, noise, steps=500, draw=0):
    size, shape, parameters = name
    random_numbers = random.Random(f"{size} {data} {seed}" + f" {draw}" * (draw > 0))
    luck = random.Random(f"{data} {draw}").gauss(0, 0.1) if draw else 0.0  # of all sizes that see these pairs
    loss = _loss(parameters, pairs) + luck + random_numbers.gauss(0, noise)
    training, held_out = _curves(loss, steps, parameters, random_numbers)
    regions = {
        place: (
            round(loss * EASE[place.split()[1]] * (1.1 if place.startswith("heavy") else 0.9), 4),
            round(0.02 * EASE[place.split()[1]] + 0.004, 4),
        )
        for place in LOSS_REGIONS
    }
    seconds = 12 + parameters / 45_000
    folder = f"cells/{size}-{data}" + f"-draw{draw}" * (draw > 0) + (f"-seed{seed}" if noise else "")
    return CellSummary(
        member=f"{size}-{data}",
        size=size,
        data=data,
        shape=shape,
        parameters=parameters,
        pairs=pairs,
        seed=seed,
        draw=draw,
        steps=steps,
        state="done",
        log=f"{folder}/log.txt",
        loss=round(loss, 5),
        standard_error=round(0.012 + random_numbers.random() * 0.004, 5),
        region_losses=regions,
        pairing=(round(0.5 + 0.12 * (3 - loss) / 2 + random_numbers.gauss(0, 0.02), 4), 0.031),
        training_curve=training,
        held_out_curve=held_out,
        tokens_per_second=round(2.4e9 / (parameters + 60_000)),
        seconds=round(seconds, 1),
        export=f"exports/CurrAb-{size}-{data}",
    )


def _runs(cells):
    rows = [
        {"parameters": c.parameters, "sequences": c.pairs, "loss": c.loss, "seed": c.seed, "objective": "mlm"}
        for c in cells
        if c.state == "done"
    ]
    return scaling.make_runs(rows, "cells")


def _law(cells, project_to):
    fit = scaling.fit_iso_data(_runs(cells), scaling.Doubt(draws=60, noise_sd=0.01), float(project_to))
    return StudyLaw(fit=fit.record(), parabolas=fit.parabolas)


def _normal(middle, width, low, high):
    return {
        str(x): max(1, round(90 * math.exp(-(((x - middle) / width) ** 2) / 2))) for x in range(low, high + 1)
    }


DATA = {
    "folder": "corpus",
    "fingerprint": "9f2c41d07be35a86",
    "read": 1240,
    "kept": 1187,
    "dropped": {"duplicate": 41, "too-short": 12},
    "pairs": {"train": 950, "validation": 118, "test": 119},
    "clusters": {"train": 702, "validation": 91, "test": 88},
    "clusters_in_several_splits": 0,
    "subsets": {"F": 150, "H": 40, "Q": 12},
    "histograms": {
        "heavy length": _normal(121, 4, 108, 136),
        "light length": _normal(108, 2, 102, 116),
        "heavy CDR3 length": _normal(15, 3.5, 5, 28),
        "light CDR3 length": _normal(9, 1.2, 5, 13),
    },
}


def _study(cells, **changed):
    values = {
        "preset": "mini",
        "title": "Five sizes, three data sets, fifteen antibody models",
        "command": "curr-ab study --preset mini --out study",
        "cells": tuple(cells),
        "started": "2025-11-21T09:14:03",
        "seconds": 641.0,
        "hardware": "2 cores of an x86-64 processor, 8 GiB, no GPU",
        "versions": {"curr-ab": "0.1.0", "python": "3.12.4", "torch": "2.13.0", "transformers": "5.23.0"},
        "baselines": {"unigram": 2.874, "position-wise": 2.041},
        "data_report": DATA,
        "notes": ("Losses are of 119 held-out pairs under fixed masks.",),
    }
    return StudySummary(**{**values, **changed})


@cache
def mini():
    """15 cells, one seed, a law."""
    subsets = (("Q", 12), ("H", 40), ("F", 150))
    cells = [_cell(size, data, pairs, 42, 0.0) for size in MINI_SIZES for data, pairs in subsets]
    figures = {"loss_by_size": "law/loss_by_size.png", "data_by_size": "law/data_by_size.png"}
    return _study(cells, law=_law(cells, 1_790_000), law_figures=figures)


@cache
def unidentifiable():
    """With the least data every larger size is worse, so that nothing has a minimum; one cell failed."""
    study = mini()
    cells = list(study.cells)
    for place, cell in enumerate(cells):
        if cell.data == "Q":
            loss = 2.5 + 0.9 * (1 - math.exp(-cell.parameters / 500_000))
            cells[place] = replace(cell, loss=round(loss, 5))
    problem = 'the loss is not a number at step 212 of 500\n<script>document.title = "hacked"</script>'
    cells[4] = replace(
        cells[4],
        state="failed",
        loss=None,
        standard_error=None,
        region_losses={},
        pairing=None,
        held_out_curve=cells[4].held_out_curve[:4],
        training_curve=(*cells[4].training_curve[:21], (212, math.nan)),
        tokens_per_second=None,
        export=None,
        problem=problem,
    )
    why = "data size 12: the loss has no minimum in the model size (its parabola opens downward)"
    parabolas = fit_parabolas(_runs([cell for cell in cells if cell.data != "Q"]))
    return replace(study, cells=tuple(cells), law=StudyLaw(problem=why, parabolas=parabolas), law_figures={})


@cache
def under_way():
    """Six cells done, one running, the rest waiting; no law yet."""
    cells = list(mini().cells)
    nothing = {"loss": None, "standard_error": None, "region_losses": {}, "pairing": None, "export": None}
    nothing |= {"tokens_per_second": None, "seconds": None, "training_curve": (), "held_out_curve": ()}
    running = replace(
        cells[6],
        **{
            **nothing,
            "training_curve": cells[6].training_curve[:24],
            "held_out_curve": cells[6].held_out_curve[:4],
        },
        state="running",
    )
    waiting = [replace(cell, **nothing, state="waiting") for cell in cells[7:]]
    return replace(
        mini(), cells=(*cells[:6], running, *waiting), law=StudyLaw(), law_figures={}, seconds=205.0
    )


@cache
def small():
    """Seven sizes, four data sets, three seeds."""
    subsets = (("S12", 12), ("S40", 40), ("S150", 150), ("S400", 400))
    cells = [
        _cell(size, data, pairs, seed, 0.01)
        for size in SMALL_SIZES
        for data, pairs in subsets
        for seed in (1, 2, 3)
    ]
    return _study(
        cells,
        preset="small",
        title="Seven sizes, four data sets, three seeds",
        command="curr-ab study --preset small --out study",
        law=_law(cells, SMALL_SIZES[-1][2]),
        data_report={**DATA, "subsets": dict(subsets)},
        seconds=3_720.0,
    )


@cache
def drawn():
    """Seven sizes, four data sets, three draws of each, and a law of the study's own."""
    subsets = (("S12", 12), ("S40", 40), ("S150", 150), ("S400", 400))
    cells = [
        _cell(size, data, pairs, 100 * pairs + draw, 0.01, draw=draw)
        for size in SMALL_SIZES
        for data, pairs in subsets
        for draw in (1, 2, 3)
    ]
    losses = [
        CellLoss(c.data, c.parameters, c.pairs, c.seed, c.loss, c.standard_error, c.draw) for c in cells
    ]
    return replace(
        small(),
        preset="small",
        title="Seven sizes, four data sets, three draws",
        cells=tuple(cells),
        law=fit_cells(losses),
    )


@cache
def untouched():
    """Planned, and nothing more."""
    study = under_way()
    cells = tuple(
        replace(
            study.cells[-1],
            member=cell.member,
            size=cell.size,
            data=cell.data,
            parameters=cell.parameters,
            pairs=cell.pairs,
            shape=cell.shape,
        )
        for cell in study.cells
    )
    return replace(study, cells=cells, baselines={}, data_report={}, seconds=0.0)


ALL = {function.__name__: function for function in (mini, unidentifiable, under_way, small, drawn, untouched)}
assert len(make_grid(mini()).spots) == 15
