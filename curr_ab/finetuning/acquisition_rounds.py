"""Rounds of measuring tried out on an assay: what chosen pairs gain against random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from curr_ab.files import replacing
from curr_ab.finetuning.acquisition import acquisition_order, choose_batch
from curr_ab.finetuning.acquisition_assay import MOST_DRAWS, Assay, read_assay
from curr_ab.finetuning.acquisition_picture import draw_rounds
from curr_ab.finetuning.acquisition_plan import RANDOM, AcquisitionPlan, RoundsPlan
from curr_ab.finetuning.recipe import Recipe
from curr_ab.measures.metrics import Floats, Labels
from curr_ab.options import OptionError
from curr_ab.randomness import random_stream

TABLE = "rounds.csv"
_HELD_OUT = 5  # one part of so many
_NORMAL = 1.96  # standard errors that hold 95 %


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What was found, and how well a part that is never measured is ranked: [repetitions, rounds + 1]."""

    measured: Labels
    found: dict[str, Floats]
    score: dict[str, Floats]
    sign: float  # -1 where what is low is wanted


def run_rounds(
    assay: Assay,
    plan: RoundsPlan,
    acquisition: AcquisitionPlan,
    say: Callable[[int], object] = lambda done: None,
) -> Rounds:
    """All strategies from the same first pairs, over and over; random choice among them."""
    names = [*dict.fromkeys(plan.strategies), RANDOM]
    shape = (plan.repetitions, plan.rounds + 1)
    found, score = ({name: np.full(shape, np.nan) for name in names} for _ in range(2))
    for repetition in range(plan.repetitions):
        pool, held_out = _parts(assay, acquisition.choice_seed, repetition)
        first = _first(assay, pool, plan, acquisition.choice_seed, repetition)
        for name in names:
            measured = first
            for number in range(plan.rounds + 1):
                # The same stream for all strategies: where they have measured the same, they see the same.
                randomness = random_stream(acquisition.choice_seed, "rounds", repetition, number)
                rest = np.setdiff1d(pool, measured)
                draws = assay.draws(measured, plan.members, randomness)
                found[name][repetition, number] = assay.found(measured)
                score[name][repetition, number] = assay.score(draws.mean(axis=0), held_out)
                if name == RANDOM:
                    order = randomness.permutation(len(rest))
                else:
                    order, _ = acquisition_order(draws[:, rest], name, randomness)  # type: ignore[arg-type]
                diverse = acquisition.diverse and name != RANDOM
                residues = assay.residues[rest] if diverse else None
                chosen = rest[choose_batch(order, plan.per_round, residues)]
                measured = np.concatenate([measured, chosen])
        say(repetition + 1)
    sizes = plan.first + plan.per_round * np.arange(plan.rounds + 1)
    return Rounds(measured=sizes, found=found, score=score, sign=assay.sign)


def _parts(assay: Assay, seed: int, repetition: int) -> tuple[Labels, Labels]:
    """The pool, and a fifth of the assay that is never measured: on it all strategies are scored alike."""
    order = random_stream(seed, "held out", repetition).permutation(len(assay.labels))
    size = len(order) // _HELD_OUT
    return order[size:], order[:size]


def _first(assay: Assay, pool: Labels, plan: RoundsPlan, seed: int, repetition: int) -> Labels:
    """Pairs drawn by chance, among them two labels or more: a regression needs them."""
    randomness = random_stream(seed, "first", repetition)
    for _ in range(MOST_DRAWS):
        drawn = randomness.permutation(pool)[: plan.first]
        if len(np.unique(assay.labels[drawn])) > 1:
            return drawn
    raise OptionError(
        f"first must be enough pairs to have two labels among them; {plan.first}, drawn {MOST_DRAWS} times, "
        "had one: give more",
        "first",
    )


def table_of(rounds: Rounds) -> pa.Table:
    """A row for each strategy and round: means over the repetitions with 95 % intervals.

    Gains are differences to random choice from the same first pairs; more is better.
    """
    rows = []
    for name, found in rounds.found.items():
        for number, measured in enumerate(rounds.measured.tolist()):
            row: dict[str, Any] = {"strategy": name, "round": number, "measured": measured}
            values = {
                "found": found[:, number],
                "score": rounds.score[name][:, number],
                "gain": rounds.sign * (found[:, number] - rounds.found[RANDOM][:, number]),
                "score_gain": rounds.score[name][:, number] - rounds.score[RANDOM][:, number],
            }
            for column, ones in values.items():
                mean, reach = interval(ones)
                row |= {column: mean, f"{column}_low": mean - reach, f"{column}_high": mean + reach}
            rows.append(row)
    return pa.Table.from_pylist(rows)


def interval(values: Floats) -> tuple[float, float]:
    """Mean of what is defined, and how far the 95 % interval of the mean reaches."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return (float(known[0]) if len(known) else float("nan")), float("nan")
    return float(known.mean()), float(_NORMAL * known.std(ddof=1) / np.sqrt(len(known)))


def simulate(
    recipe: Recipe,
    model: str | Path,
    data: Any,
    out: Path,
    plan: RoundsPlan,
    acquisition: AcquisitionPlan,
) -> Iterator[str]:
    """Try the rounds out, write table and picture into `out`, and say what each strategy gained."""
    from tqdm import tqdm

    assay = read_assay(recipe, model, data, plan, acquisition)
    needed = plan.first + plan.rounds * plan.per_round
    num_pairs = len(assay.labels)
    if needed >= num_pairs - num_pairs // _HELD_OUT:
        raise OptionError(
            f"rounds must leave a part of the pool; {plan.first} pairs and {plan.rounds} rounds of "
            f"{plan.per_round} are {needed}, and four fifths of {num_pairs} are the pool: take fewer or "
            "smaller rounds",
            *("rounds", "per_round"),
        )
    with tqdm(total=plan.repetitions, unit="repetition") as bar:
        rounds = run_rounds(assay, plan, acquisition, lambda done: bar.update(done - bar.n))
    table = table_of(rounds)
    with replacing(out / TABLE) as temporary:
        pyarrow.csv.write_csv(table, temporary)
    draw_rounds(table, out, found_name=assay.found_name, score_name=assay.score_name)
    yield from summary(table, assay)


def summary(table: pa.Table, assay: Assay) -> Iterator[str]:
    """A line for each strategy after the last round."""
    rows = table.to_pylist()
    last = max(row["round"] for row in rows)
    for row in rows:
        if row["round"] == last:
            line = f"{row['strategy']:<12} {assay.found_name} {row['found']:.3f}"
            line += f", {assay.score_name} {row['score']:.3f}"
            if row["strategy"] != RANDOM:
                line += (
                    f"; gain {row['gain']:+.3f} [{row['gain_low']:+.3f}, {row['gain_high']:+.3f}] against "
                    f"random after {row['measured']} pairs"
                )
            yield line
