"""The chart of a score: how surprised the model is at each residue, with the CDRs in colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from curr_ab.charts import Chart, Drawing, Scale, rules
from curr_ab.inference.records import Record, number_records
from curr_ab.pages import packaged_text, render_page
from curr_ab.pictures import Picture, save_pictures
from curr_ab.words import CHAINS, REGIONS

_SIZE = (1180.0, 280.0)
_HEIGHT = 430  # of the page in a notebook
_GAP = 8  # between the chains, in residues
_LEAST = 4.0  # end of the scale in nats: small values must not look like surprises
_COLOURS = {"CDR1": "d0", "CDR2": "d1", "CDR3": "d2"}
_FRAMEWORK = "d4"


def residue_chart(record: Record, values: Mapping[str, Sequence[float]], perplexity: float) -> Picture:
    """A bar for each residue of each chain, as high as minus its log-probability."""
    drawing = _draw(record, values)
    page = render_page(
        "inference/residue_chart.html",
        styles=(packaged_text("charts.css"), rules(5, 0), packaged_text("inference/residue_chart.css")),
        name=record.id,
        perplexity=perplexity,
        chart=drawing,
    )

    def save(path: Path) -> None:
        save_pictures({path.stem: drawing}, path.parent, (path.suffix.removeprefix("."),))

    return Picture(page, _HEIGHT, {".svg": save, ".png": save})


def _draw(record: Record, values: Mapping[str, Sequence[float]]) -> Drawing:
    known = [-value for own in values.values() for value in own if not math.isnan(value)]
    lengths = [len(values[chain]) for chain in CHAINS]
    end = sum(lengths) + _GAP * all(lengths)
    chart = Chart("residues", Scale(0, max(1, end)), Scale(0, 1.1 * max([_LEAST, *known])), _SIZE)
    chart.y_axis(lambda value: f"{value:g}", "-log probability (nats)")
    ticks, labels, start = [], [], 0
    for chain in CHAINS:
        own, regions = values[chain], regions_of(record, chain)
        for place, value in enumerate(own):
            region = regions[place] if regions else ""
            if place % 10 == 9 or place == 0:
                ticks.append(start + place + 0.5)
                labels.append(f"{chain[0].upper()}{place + 1}")
            if math.isnan(value):
                continue
            residue = (record.chain(chain) or "").replace("<mask>", "X")[place]
            tip = f"{chain} {residue}{place + 1}{f', {region}' if region else ''}: {value:.2f}"
            series = _COLOURS.get(region, _FRAMEWORK)
            chart.bar(start + place, start + place + 1, -value, series, tip)
        for region, series in _COLOURS.items():
            if own and region in regions:
                first = regions.index(region)
                middle = chart.x(start + first + regions.count(region) / 2)
                name = f"{region[:3]}{chain[0].upper()}{region[3]}"
                chart.note(name, middle, 10, "middle", f"end {series}")
        start += len(own) + _GAP * bool(own)
    chart.x_axis(ticks, labels, "position in the chain")
    described = "A bar for each residue; a high bar is a residue that the model did not expect."
    return chart.drawn(f"Surprise at each residue of {record.id}", described)


def regions_of(record: Record, chain: str) -> list[str]:
    """The region of each residue; none where the chain cannot be numbered."""
    mask, text = record.region_mask(chain), record.chain(chain)
    if mask is None and text is not None:
        alone = record.with_chains({other: None for other in CHAINS if other != chain})
        try:
            mask = number_records([alone])[0][0].region_mask(chain)
        except ValueError:  # a fragment, say, which has a score all the same
            return []
    return [REGIONS[int(code) - 1] for code in mask or ""]
