"""Pictures of generated pairs beside real ones: V families, CDR3 lengths, positions, diversity, validity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curr_ab.measures.generated import Estimate, Reference, Sample, jensen_shannon
from curr_ab.measures.metrics import Floats
from curr_ab.measures.repertoires import POSITIONS, Chains
from curr_ab.pictures import MARKERS, add_legend, colours, new_figure, save_pictures, set_title
from curr_ab.words import CHAINS, STANDARD_RESIDUES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE = (11.0, 4.2)


def draw_samples(
    folder: Path, samples: Sequence[Sample], reference: Reference, estimates: Sequence[tuple[str, Estimate]]
) -> None:
    """Write all pictures into the folder."""
    pictures = {
        "cdr3_lengths": _lengths(samples, reference),
        "residues_by_position": _positions(samples, reference),
        "diversity_validity": _diversity(samples, estimates),
    }
    if len(reference.families) == len(CHAINS):
        pictures["v_families"] = _families(samples, reference)
    save_pictures(pictures, folder)


def _two(samples: Sequence[Sample]) -> tuple[Figure, list, Sequence]:  # type: ignore[type-arg]
    figure, panels = new_figure(_SIZE, columns=2, extra="evaluate")
    for axes, chain in zip(panels, CHAINS, strict=True):
        set_title(axes, f"{chain} chain")
    return figure, panels, colours(len(samples))


def _key(figure: Figure, panels: list) -> None:  # type: ignore[type-arg]
    handles, labels = panels[0].get_legend_handles_labels()
    add_legend(figure, handles, labels, loc="outside lower center", ncols=3)


def _families(samples: Sequence[Sample], reference: Reference) -> Figure:
    figure, panels, shades = _two(samples)
    width = 0.8 / len(samples)
    for axes, chain in zip(panels, CHAINS, strict=True):
        names = reference.families[chain]
        for number, sample in enumerate(samples):
            called = reference.family_numbers(sample.chain(chain), chain)
            counts = np.bincount(called[called >= 0], minlength=len(names))
            places = np.arange(len(names)) + (number - (len(samples) - 1) / 2) * width
            shares = counts / max(1, counts.sum())
            axes.bar(places, shares, width, color=shades[number], label=sample.name)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.grid(False, axis="x")
    panels[0].set_ylabel("share of chains")
    _key(figure, panels)
    return figure


def _lengths(samples: Sequence[Sample], reference: Reference) -> Figure:
    figure, panels, shades = _two(samples)
    for axes, chain in zip(panels, CHAINS, strict=True):
        longest = max(int(sample.chain(chain).cdr3_lengths.max()) for sample in samples)
        for number, sample in enumerate(samples):
            chains = sample.chain(chain)
            counts = np.bincount(chains.cdr3_lengths[chains.numbered], minlength=longest + 1)
            axes.plot(
                counts / max(1, counts.sum()),
                color=shades[number],
                marker=MARKERS[number % len(MARKERS)],
                markersize=3,
                linewidth=1.2,
                label=sample.name,
            )
        axes.set_xlabel("residues of CDR3")
    panels[0].set_ylabel("share of chains")
    _key(figure, panels)
    return figure


def _positions(samples: Sequence[Sample], reference: Reference) -> Figure:
    """The divergence at every position; what is far from the real pairs of the other half stands out."""
    figure, panels, shades = _two(samples)
    for axes, chain in zip(panels, CHAINS, strict=True):
        target = _frequencies(reference.target.chain(chain))
        for number, sample in enumerate(samples):
            apart = jensen_shannon(_frequencies(sample.chain(chain)), target)
            axes.plot(apart, color=shades[number], linewidth=1, label=sample.name)
        shown = [place for place, label in enumerate(POSITIONS) if label in ("1", "27", "56", "105", "118")]
        axes.set_xticks(shown, [POSITIONS[place] for place in shown])
        axes.set_xlabel("IMGT position")
    panels[0].set_ylabel("Jensen-Shannon divergence (bits)")
    _key(figure, panels)
    return figure


def _frequencies(chains: Chains) -> Floats:
    codes = np.arange(len(STANDARD_RESIDUES) + 1)
    counts = (chains.residues[chains.numbered][:, :, None] == codes).sum(axis=0)
    return np.asarray(counts / max(1, int(chains.numbered.sum())))


def _diversity(samples: Sequence[Sample], estimates: Sequence[tuple[str, Estimate]]) -> Figure:
    """Validity against how unlike the chains of a sample are; real pairs are points, too."""
    values = {(name, one.measure): one for name, one in estimates}
    figure, panels, shades = _two(samples)
    for axes, chain in zip(panels, CHAINS, strict=True):
        for number, sample in enumerate(samples):
            alike = values.get((sample.name, f"{chain}: mean pairwise identity"))
            valid = values[sample.name, f"{chain}: numbered as this chain"]
            if alike is None:
                continue
            axes.errorbar(
                [1 - alike.value],
                [valid.value],
                xerr=[1.96 * alike.standard_error],
                yerr=[1.96 * valid.standard_error],
                fmt=MARKERS[number % len(MARKERS)],
                color=shades[number],
                label=sample.name,
            )
        axes.set_xlabel("diversity (1 - mean pairwise identity)")
    panels[0].set_ylabel("share numbered as this chain")
    _key(figure, panels)
    return figure
