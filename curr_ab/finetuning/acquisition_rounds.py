"""Rounds of measuring tried out on an assay: what chosen pairs gain against random ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv

from curr_ab.files import claimed, read_object, replacing, write_json
from curr_ab.finetuning.acquisition import acquisition_order, choose_batch
from curr_ab.finetuning.acquisition_assay import MOST_DRAWS, Assay, read_assay
from curr_ab.finetuning.acquisition_picture import draw_rounds
from curr_ab.finetuning.acquisition_plan import RANDOM, AcquisitionPlan, By, RoundsPlan
from curr_ab.finetuning.recipe import Recipe
from curr_ab.measures.metrics import Floats, Labels
from curr_ab.options import OptionError
from curr_ab.randomness import random_stream

TABLE = "rounds.csv"
REPETITIONS = "repetitions.json"
Curves = dict[str, list[tuple[float, float | None]]]  # by strategy, found and score after each round
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
    read: Callable[[], list[Curves]] = list,
    save: Callable[[list[Curves]], object] = lambda done: None,
) -> Rounds:
    """All strategies from the same first pairs, over and over; random choice among them.

    `read` gives the repetitions that were done before, and `save` takes all after each.
    """
    names = [*dict.fromkeys(plan.strategies), RANDOM]
    done = read()
    for repetition in range(len(done), plan.repetitions):
        done.append(_repetition(assay, plan, acquisition, names, repetition))
        save(done)
    curves = np.array([[one[name] for name in names] for one in done[: plan.repetitions]], np.float64)
    sizes = plan.first + plan.per_round * np.arange(plan.rounds + 1)
    found, score = (dict(zip(names, curves[..., place].swapaxes(0, 1), strict=True)) for place in (0, 1))
    return Rounds(measured=sizes, found=found, score=score, sign=assay.sign)


def _repetition(
    assay: Assay, plan: RoundsPlan, acquisition: AcquisitionPlan, names: Sequence[str], repetition: int
) -> Curves:
    """What each strategy has found, and the score, after each round: from the same first pairs."""
    seed = acquisition.choice_seed
    pool, held_out = _parts(assay, seed, repetition)
    first = _first(assay, pool, plan, seed, repetition)
    known: dict[bytes, Floats] = {}  # strategies that have measured the same see the same
    curves: Curves = {}
    for name in names:
        measured, curves[name] = np.sort(first), []
        for number in range(plan.rounds + 1):
            if (key := measured.tobytes()) not in known:
                bootstrap = random_stream(seed, "bootstrap", repetition, number)
                known[key] = assay.draws(measured, plan.members, bootstrap)
            draws = known[key]
            score = assay.score(draws.mean(axis=0), held_out)
            curves[name].append((assay.found(measured), score if np.isfinite(score) else None))
            if number < plan.rounds:
                rest = np.setdiff1d(pool, measured)
                randomness = random_stream(seed, "rounds", repetition, number)
                chosen = _chosen(assay, acquisition, name, rest, draws, randomness, plan.per_round)
                measured = np.sort(np.concatenate([measured, chosen]))
    return curves


def _chosen(
    assay: Assay,
    acquisition: AcquisitionPlan,
    name: str,
    rest: Labels,
    draws: Floats,
    randomness: np.random.Generator,
    count: int,
) -> Labels:
    """The pairs of a round."""
    if name == RANDOM:
        return rest[randomness.permutation(len(rest))[:count]]
    order, _ = acquisition_order(draws[:, rest], cast(By, name), randomness)
    return rest[choose_batch(order, count, assay.residues[rest] if acquisition.diverse else None)]


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
    yield from assay.notes
    needed = plan.first + plan.rounds * plan.per_round
    num_pairs = len(assay.labels)
    if needed >= num_pairs - num_pairs // _HELD_OUT:
        raise OptionError(
            f"rounds must leave a part of the pool; {plan.first} pairs and {plan.rounds} rounds of "
            f"{plan.per_round} are {needed}, and four fifths of {num_pairs} are the pool: take fewer or "
            "smaller rounds",
            *("rounds", "per_round"),
        )
    with claimed(out, "tries rounds out in"), tqdm(total=plan.repetitions, unit="repetition") as bar:
        settings = _settings(assay, plan, acquisition)

        def read() -> list[Curves]:
            return _read_repetitions(out / REPETITIONS, settings)

        def save(done: list[Curves]) -> None:
            write_json(out / REPETITIONS, {"settings": settings, "repetitions": done})
            bar.update(len(done) - bar.n)

        rounds = run_rounds(assay, plan, acquisition, read, save)
    table = table_of(rounds)
    with replacing(out / TABLE) as temporary:
        pyarrow.csv.write_csv(table, temporary)
    draw_rounds(table, out, found_name=assay.found_name, score_name=assay.score_name)
    yield from summary(table, assay)


def _settings(assay: Assay, plan: RoundsPlan, acquisition: AcquisitionPlan) -> str:
    """A digest of all that repetitions depend on, but their number."""
    digest = hashlib.sha256(repr((replace(plan, repetitions=2), acquisition, assay.sign)).encode())
    weights = [] if assay.weights is None else [assay.weights]
    for values in (assay.features, assay.labels, assay.residues, *weights):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _read_repetitions(path: Path, settings: str) -> list[Curves]:
    if not path.exists():
        return []
    content = read_object(path)
    if content.get("settings") != settings:
        raise ValueError(
            f"out must be a new folder or one of the same rounds; {path} is of another assay, model or plan: "
            "choose another folder"
        )
    found: list[Curves] = content["repetitions"]
    return found


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
