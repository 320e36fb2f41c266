"""All single mutants of a pair: their log-odds, and heat maps of them, as a PNG and as a page."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from curr_ab.domains import Scheme
from curr_ab.inference.numbering import Numbering
from curr_ab.inference.records import Record, number_records
from curr_ab.pages import packaged_text, render_page
from curr_ab.pictures import Picture, new_figure, save_pictures, set_title
from curr_ab.words import CHAINS, STANDARD_RESIDUES

# Alike residues stand next to each other: small, aliphatic, aromatic, polar, positive, negative, special.
ROWS = "GASTCVILMFYWNQHKRDEP"
_COLUMNS = [STANDARD_RESIDUES.index(letter) for letter in ROWS]  # of the log-odds
_LONGEST = 60  # letters of an id in a file's name; a file system takes 255 bytes
_HEADER, _MAP = 190, 320  # pixels of the page's head, and of the map of a chain


class Site(NamedTuple):
    """One residue of a pair."""

    chain: str
    position: int  # from 1
    wild_type: str


class Saturation(NamedTuple):
    """The log-odds of all single mutants of a pair against its own residues."""

    record: Record
    sites: list[Site]
    log_odds: Tensor  # [sites, 20] in the order of STANDARD_RESIDUES; 0 at the wild type

    @property
    def id(self) -> str:
        return self.record.id

    def rows(self) -> Iterator[tuple[Site, str, float]]:
        """Site, mutant and log-odds of every single mutant."""
        for site, values in zip(self.sites, self.log_odds.tolist(), strict=True):
            for mutant, value in zip(STANDARD_RESIDUES, values, strict=True):
                if mutant != site.wild_type:
                    yield site, mutant, value

    def best(self, count: int) -> list[tuple[Site, str, float]]:
        """The mutants with the highest log-odds, the best first."""
        return heapq.nlargest(count, self.rows(), key=lambda row: row[2])

    def heat_map(self, scheme: Scheme | None = None) -> Picture:
        """The picture of all log-odds; with a scheme, such as imgt, positions are named in it, too."""
        return heat_map(self, number_records([self.record], scheme)[0][1] if scheme else {}, scheme or "imgt")

    def __repr__(self) -> str:
        text = f"Saturation(id={self.id!r}, {len(self.sites):,} positions, {19 * len(self.sites):,} mutants"
        if self.sites:
            [(site, mutant, best)] = self.best(1)
            name = f"{site.chain[0].upper()}:{site.wild_type}{site.position}{mutant}"
            text += f", log-odds from {float(self.log_odds.min()):.2f} to {best:.2f} ({name})"
        return f"{text})"


def write_heat_maps(
    saturation: Saturation, folder: Path, numbers: Mapping[str, Numbering], scheme: Scheme = "imgt"
) -> None:
    """`ID.png` and `ID.html`; of an id that cannot be a file's name the letters that can, and a digest."""
    name = re.sub(r"[^\w.+-]", "_", saturation.id)[:_LONGEST]
    if name != saturation.id:
        name += f"-{sha256(saturation.id.encode()).hexdigest()[:8]}"
    picture = heat_map(saturation, numbers, scheme)
    for suffix in (".png", ".html"):
        picture.save(folder / f"{name}{suffix}")


def heat_map(saturation: Saturation, numbers: Mapping[str, Numbering], scheme: Scheme = "imgt") -> Picture:
    """A map for each chain, with position, mutant and value under the pointer."""
    sites: list[dict[str, Any]] = [
        {
            "chain": site.chain,
            "at": site.position,
            "wt": site.wild_type,
            "label": f"{scheme.upper()} {numbers[site.chain].labels[site.position - 1]}" if numbers else "",
            "odds": [round(value, 3) for value in row],
        }
        for site, row in zip(saturation.sites, saturation.log_odds[:, _COLUMNS].tolist(), strict=True)
    ]
    if not saturation.sites:
        raise ValueError(f"{saturation.record.name} has no known residue to show; complete it with restore")
    page = render_page(
        "inference/heat_map.html",
        styles=(packaged_text("inference/heat_map.css"),),
        scripts=(packaged_text("inference/heat_map.js"),),
        name=saturation.id,
        map={"rows": ROWS, "limit": round(_limit(saturation), 2), "sites": sites},
    )
    height = _HEADER + _MAP * len({site.chain for site in saturation.sites})
    return Picture(page, height, {".png": partial(_write_png, saturation)})


def _write_png(saturation: Saturation, path: Path) -> None:
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
        set_title(axes, f"{saturation.id[:_LONGEST]}, {chain} chain")
    assert image is not None
    label = "log-odds against the wild type (•)"
    figure.colorbar(image, ax=figure.axes, label=label, shrink=0.8, extend="both")
    save_pictures({path.stem: figure}, path.parent)


def _limit(saturation: Saturation) -> float:
    """The end of the colour scale: one extreme value must not bleach the rest."""
    values = saturation.log_odds.abs().flatten()
    return max(1.0, float(torch.quantile(values[:100_000], 0.98)))
