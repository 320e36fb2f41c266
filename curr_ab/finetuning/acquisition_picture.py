"""Picture of rounds: what was found, and how well others are ranked, by the number of measured pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.finetuning.acquisition_plan import RANDOM
from curr_ab.pictures import BAND, COLOURS, MARKERS, add_legend, new_figure, save_pictures, set_title


def draw_rounds(table: pa.Table, folder: Path, *, found_name: str, score_name: str) -> list[Path]:
    """Write the picture of the table of rounds; bands hold 95 % intervals of the means."""
    figure, axes = new_figure((9.6, 4.0), columns=2, extra="finetune")
    panels = {"found": found_name, "score": f"{score_name} on a fifth that is never measured"}
    for place, (column, title) in zip(axes, panels.items(), strict=True):
        for number, name in enumerate(table["strategy"].unique().to_pylist()):
            own = table.filter(pc.equal(table["strategy"], name))
            measured, means, low, high = (
                np.asarray(own[one]) for one in ("measured", column, f"{column}_low", f"{column}_high")
            )
            colour = "#777777" if name == RANDOM else COLOURS[number % len(COLOURS)]
            style: dict[str, Any] = {"color": colour, "marker": MARKERS[number % len(MARKERS)]}
            place.plot(measured, means, label=name, markersize=4, **style)
            place.fill_between(measured, low, high, color=colour, alpha=BAND, linewidth=0)
        set_title(place, title)
        place.set(xlabel="pairs measured")
    add_legend(axes[0])
    return save_pictures({"rounds": figure}, folder)
