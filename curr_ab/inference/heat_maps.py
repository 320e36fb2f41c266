"""Heat maps of single mutants: a PNG for print, and a page that says what is under the pointer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from curr_ab.domains import Scheme
from curr_ab.files import replacing
from curr_ab.inference.mutation import Saturation
from curr_ab.inference.numbering import Numbering
from curr_ab.pages import packaged_text, render_page
from curr_ab.pictures import new_figure, save_pictures, set_title
from curr_ab.words import CHAINS, STANDARD_RESIDUES

# Alike residues stand next to each other: small, aliphatic, aromatic, polar, positive, negative, special.
ROWS = "GASTCVILMFYWNQHKRDEP"
_COLUMNS = [STANDARD_RESIDUES.index(letter) for letter in ROWS]  # of the log-odds


def write_heat_maps(
    saturation: Saturation, folder: Path, numbers: Mapping[str, Numbering], scheme: Scheme = "imgt"
) -> None:
    """`ID.png` and `ID.html`; what cannot stand in a file's name becomes `_`."""
    name = re.sub(r"[^\w.+-]", "_", saturation.record.id)
    write_png(saturation, folder / f"{name}.png")
    write_html(
        saturation, folder / f"{name}.html", {chain: one.labels for chain, one in numbers.items()}, scheme
    )


def write_png(saturation: Saturation, path: Path) -> None:
    """One map for each chain: mutants up and down, positions across, the wild type as a dot."""
    chains = [chain for chain in CHAINS if any(site.chain == chain for site in saturation.sites)]
    longest = max(sum(site.chain == chain for site in saturation.sites) for chain in chains)
    size = (max(6.0, 1.8 + 0.13 * longest), 0.8 + 3.3 * len(chains))
    figure, panels = new_figure(size, rows=len(chains))
    limit = _limit(saturation)
    image = None
    for axes, chain in zip(panels, chains, strict=True):
        places = [place for place, site in enumerate(saturation.sites) if site.chain == chain]
        sites = [saturation.sites[place] for place in places]
        values = saturation.log_odds[places][:, _COLUMNS].T.numpy()
        image = axes.imshow(
            values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
        )
        wild_types = [ROWS.index(site.wild_type) for site in sites]
        axes.plot(range(len(sites)), wild_types, "k.", markersize=3, linestyle="")
        axes.set_yticks(range(len(ROWS)), list(ROWS), fontsize=7)
        shown = [place for place, site in enumerate(sites) if site.position % 10 == 0 or place == 0]
        labels = [f"{sites[place].wild_type}{sites[place].position}" for place in shown]
        axes.set_xticks(shown, labels, fontsize=8)
        axes.grid(False)
        set_title(axes, f"{saturation.record.id}, {chain} chain")
    assert image is not None
    label = "log-odds against the wild type (•)"
    figure.colorbar(image, ax=figure.axes, label=label, shrink=0.8, extend="both")
    save_pictures({path.stem: figure}, path.parent)


def write_html(
    saturation: Saturation,
    path: Path,
    labels: dict[str, tuple[str, ...]] | None = None,
    scheme: Scheme = "imgt",
) -> None:
    """One page without any other file: the same maps, with position, mutant and value under the pointer."""
    sites: list[dict[str, Any]] = [
        {
            "chain": site.chain,
            "at": site.position,
            "wt": site.wild_type,
            "label": f"{scheme.upper()} {labels[site.chain][site.position - 1]}" if labels else "",
            "odds": [round(value, 3) for value in row],
        }
        for site, row in zip(saturation.sites, saturation.log_odds[:, _COLUMNS].tolist(), strict=True)
    ]
    page = render_page(
        "inference/heat_map.html",
        styles=(packaged_text("inference/heat_map.css"),),
        scripts=(packaged_text("inference/heat_map.js"),),
        name=saturation.record.id,
        map={"rows": ROWS, "limit": round(_limit(saturation), 2), "sites": sites},
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _limit(saturation: Saturation) -> float:
    """The end of the colour scale: one extreme value must not bleach the rest."""
    values = saturation.log_odds.abs().flatten()
    return max(1.0, float(torch.quantile(values[:100_000], 0.98)))
