"""Results as the app shows them: tables, chains in colour, pictures, downloads, and the same as code."""

from __future__ import annotations

import csv
import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from curr_ab.formulas import guard_row
from curr_ab.inference.generation import Generated
from curr_ab.inference.heat_maps import Saturation
from curr_ab.inference.pairing import RankedLight
from curr_ab.inference.restoration import Restoration
from curr_ab.pages import render
from curr_ab.space.answers import (
    Answers,
    candidates_of,
    heavy_record,
    pair_record,
    parts_of,
    residues_of_score,
)
from curr_ab.space.reference import MODE
from curr_ab.space.snippets import (
    Snippets,
    file_snippets,
    generate_snippets,
    mutate_snippets,
    pair_snippets,
    restore_snippets,
    score_snippets,
)
from curr_ab.words import CHAINS

_FILLED = ("position", "residue", "choices")
_STRONGEST = 4.0  # nats at which a residue has its full colour, as in the chart of a score


@dataclass(frozen=True)
class Table:
    """Rows with a heading each; of numbers all but the first column."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Letter:
    """A residue in colour: `mark` is a class of the style sheet, `strength` from 0 to 1."""

    text: str
    tip: str
    mark: str = ""
    strength: float = 0.0


@dataclass(frozen=True)
class Download:
    """A file in the address of its link: the server keeps nothing of a visitor."""

    name: str
    address: str


def complaint(message: str) -> str:
    """One line instead of a result."""
    return render("space/complaint.html", message=message)


def show_score(answers: Answers, heavy: str, light: str) -> str:
    """Perplexities and percentiles, the chains in colour, and a bar for each residue."""
    score = answers.scored(heavy, light)
    percentiles, reference = answers.percentiles(score), answers.reference
    rows = [
        [part, f"{score.pll(part):.2f}", f"{score.perplexity(part):.3f}"]
        + [f"{percentiles[part]:.0f}" for _ in [0] if percentiles]
        for part in parts_of(score)
    ]
    caption = "Perplexity: 1 is certain, 20 is a guess among 20 residues."
    if reference is not None and percentiles:
        caption += f" Percentile: the share of {reference.corpus} that this model finds less natural."
    residues = residues_of_score(score)
    chains = {
        chain: [_scored(row) for row in residues if row["chain"] == chain]
        for chain in CHAINS
        if score.tokens.record.chain(chain)
    }
    return _page(
        score_snippets(answers.model.name, score.tokens.record, MODE),
        table=Table(
            caption,
            ["part", "log-likelihood", "perplexity", *(["percentile"] if percentiles else [])],
            rows,
        ),
        chains=chains,
        legend="score",
        picture=score.plot(),
        download=_csv("residues.csv", residues),
    )


def _scored(row: dict[str, Any]) -> Letter:
    value, region = row["log_probability"], row["region"]
    where = f"{row['chain']} {row['residue']}{row['position']}{f', {region}' if region else ''}"
    if value is None:
        return Letter(row["residue"], f"{where}: unknown", region.lower())
    return Letter(row["residue"], f"{where}: {-value:.2f}", region.lower(), min(1.0, -value / _STRONGEST))


def show_mutants(answers: Answers, heavy: str, light: str) -> str:
    """The heat map of all single mutants, the best of them, and all as a file."""
    saturation: Saturation = answers.saturated(heavy, light)
    mutants = [
        {**site._asdict(), "mutant": mutant, "log_odds": round(value, 4)}
        for site, mutant, value in saturation.rows()
    ]
    best = sorted(mutants, key=lambda one: -float(one["log_odds"]))[:5]
    names = [
        f"{str(one['chain'])[0].upper()}:{one['wild_type']}{one['position']}{one['mutant']}" for one in best
    ]
    return _page(
        mutate_snippets(answers.model.name, saturation.record, MODE),
        picture=saturation.heat_map(),
        table=Table(
            "The mutants that the model finds most natural. Log-odds are no affinities and no stabilities.",
            ["mutant", "log-odds"],
            [[name, f"{one['log_odds']:+.2f}"] for name, one in zip(names, best, strict=True)],
        ),
        download=_csv("mutants.csv", mutants),
    )


def show_restoration(answers: Answers, heavy: str, light: str) -> str:
    """The completed chains, and the probabilities of what was filled in."""
    one: Restoration = answers.restored(heavy, light)
    filled = {(site.chain, site.position) for site in one.filled}
    chains = {
        chain: [
            Letter(letter, f"{chain} {letter}{position}", "filled" if (chain, position) in filled else "")
            for position, letter in enumerate(text, start=1)
        ]
        for chain in CHAINS
        if (text := one.record.chain(chain))
    }
    rows = [
        (
            f"{site.chain[0].upper()}:{site.position}",
            site.residue,
            ", ".join(f"{letter} {probability:.2f}" for letter, probability in site.top),
        )
        for site in one.filled
    ]
    return _page(
        restore_snippets(answers.model.name, pair_record(heavy, light)),
        chains=chains,
        legend="filled",
        table=Table("Residues that were filled in, and their likeliest choices", _FILLED, rows),
        download=_csv("restored.csv", [{"heavy": one.record.heavy, "light": one.record.light}]),
    )


def show_ranking(answers: Answers, heavy: str, lights: str) -> str:
    """The light chains, best first."""
    ranking: list[RankedLight] = answers.ranked(heavy, lights)
    rows = [
        [str(one.rank), one.light, f"{one.log_likelihood:.2f}"]
        + ([] if one.gain is None else [f"{one.gain:+.2f}"])
        for one in ranking
    ]
    columns, caption = (
        ["rank", "light chain", "log-likelihood"],
        "Log-likelihood of the light chain given the heavy one",
    )
    if ranking[0].gain is not None:  # a causal model scores no chain without the one before it
        columns, caption = [*columns, "gain"], f"{caption}; the gain is what the heavy chain adds"
    candidates = candidates_of(lights)
    return _page(
        pair_snippets(answers.model.name, str(heavy_record(heavy).heavy), candidates, MODE),
        table=Table(f"{caption}.", columns, rows),
        download=_csv("ranking.csv", [one._asdict() for one in ranking]),
    )


def show_generated(
    answers: Answers, heavy: str, num_samples: int | None, temperature: float | None, seed: int | None
) -> str:
    """The light chains that were drawn; fewer where some were no complete domains."""
    samples: list[Generated] = answers.generated(heavy, num_samples, temperature, seed)
    assert num_samples is not None and temperature is not None and seed is not None  # else refused above
    rows = [(f"{one.sample}", str(one.record.light), f"{one.perplexity:.3f}") for one in samples]
    caption = f"{len(rows)} of {num_samples} light chains; what was no complete V domain was drawn anew."
    found = [{"light": one.record.light, "perplexity": one.perplexity} for one in samples]
    given = str(heavy_record(heavy).heavy)
    return _page(
        generate_snippets(answers.model.name, given, int(num_samples), temperature, int(seed)),
        table=Table(caption, ("draw", "light chain", "perplexity"), rows),
        download=_csv("generated.csv", found or [{"light": "", "perplexity": ""}]),
    )


def show_file(answers: Answers, path: str | None) -> str:
    """A row for each pair of a file."""
    rows = answers.score_file(path or "")
    columns = list(rows[0])
    shown = [[str(row["id"]), *(f"{row.get(name, nan):.3f}" for name in columns[1:])] for row in rows]
    headings = [name.replace("_", " ") for name in columns]
    snippets = file_snippets(answers.model.name, Path(str(path)).name, MODE)
    table = Table(f"{len(rows)} records", headings, shown)
    return _page(snippets, table=table, download=_csv("scores.csv", rows))


def _page(snippets: Snippets, **parts: Any) -> str:
    names = ("chains", "legend", "table", "picture", "download")
    return render("space/result.html", snippets=snippets, **{name: parts.get(name) for name in names})


def _csv(name: str, rows: Sequence[dict[str, Any]]) -> Download:
    text = io.StringIO()
    guarded = [guard_row(row) for row in rows]
    writer = csv.DictWriter(text, list(guarded[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(guarded)
    return Download(name, f"data:text/csv;base64,{b64encode(text.getvalue().encode()).decode()}")
