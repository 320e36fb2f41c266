"""Answers of every law to one question: how much data, or how big a model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from curr_ab.family import DATA_SIZES, TrainingPlan
from curr_ab.published import REPOSITORY
from curr_ab.quantities import format_quantity
from curr_ab.scaling.compute import TOKENS_PER_PAIR, paper_tokens
from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.iso_data import fit_iso_data, power_law
from curr_ab.scaling.laws import (
    CHENG_CLM,
    CHENG_MLM,
    CHINCHILLA_LAW,
    DATA_CONSTRAINED_LAW,
    PAPER_LAW,
    REPLICATION_LAW,
    SERRANO,
    SERRANO_EXPONENTS,
    ComputeLaw,
    ParametricLaw,
    Trained,
)
from curr_ab.scaling.runs import Array, published_runs
from curr_ab.scaling.uncertainty import Fit, Interval, Spread, interval

# The standard error that the repository's history gives for a test loss; the paper itself gives none.
PAPER_NOISE_SD = 3e-4
OWN_RUNS = "the given runs"
_FARTHEST = 10.0  # times beyond its runs, in size or data: farther a law is silent


@dataclass(frozen=True)
class Question:
    """Known quantity of the three; the laws answer with the others."""

    parameters: float | None = None
    sequences: float | None = None
    flops: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.parameters, self.sequences, self.flops) if value is not None]
        if len(given) != 1:
            raise ValueError(
                "ask with exactly one of parameters, sequences and flops (or GPU hours); "
                f"got {len(given)} of them"
            )
        if not (np.isfinite(given[0]) and given[0] > 0):
            raise ValueError(f"the known quantity must be positive and finite; got {given[0]}")


@dataclass(frozen=True)
class Advice:
    """Answer of a law: None where the law is silent; intervals where its uncertainty is known."""

    law: str
    source: str
    parameters: float | None = None
    parameters_interval: Interval | None = None
    sequences: float | None = None
    sequences_interval: Interval | None = None
    note: str = ""


def advise(question: Question, fits: tuple[Fit, ...] = (), doubt: Doubt | None = None) -> list[Advice]:
    """Ask the published laws, and after them those in `fits`."""
    doubt = doubt or Doubt()
    doubt = replace(doubt, noise_sd=doubt.noise_sd or PAPER_NOISE_SD)
    answers = [
        _paper(
            question, doubt, law="iso-data, the paper's", source=PAPER_LAW.source, task="test-loss-2025-09"
        ),
        _paper(question, doubt, law="iso-data, May losses", source=REPOSITORY, task="test-loss-2025-05"),
    ]
    for law in (CHENG_MLM, CHENG_CLM, CHINCHILLA_LAW.compute_law(), REPLICATION_LAW.compute_law()):
        answers.append(
            _by_compute(question, law, note="data seen once; the published figures allow no interval")
        )
    answers += [_repeated(question), _exponents_only()]
    return answers + [_by_fit(question, fit) for fit in fits]


def _paper(question: Question, doubt: Doubt, *, law: str, source: str, task: str) -> Advice:
    """Answer by the paper's law, with the noise of its losses under `task`."""
    fit = fit_iso_data(published_runs(task), doubt)
    if task == "test-loss-2025-09":  # the losses are read off a plot, the optima are published
        optima = np.array(list(PAPER_LAW.optima.values()))
        line = power_law(optima, np.array(list(PAPER_LAW.optima), dtype=float))
    else:
        line = (fit.estimates["coefficient"], fit.estimates["exponent"])
    spread = fit.spreads[-1]
    note = f"95 % by {spread.method} on its {len(fit.runs)} losses"
    return _by_data(
        question, law=law, source=source, trained=PAPER_LAW.trained, line=line, spread=spread, note=note
    )


def _by_data(
    question: Question,
    *,
    law: str,
    source: str,
    trained: Trained,
    line: tuple[float, float],
    spread: Spread,
    note: str,
) -> Advice:
    """Answer by a law between size and data; a budget is spent at the paper's training length."""
    coefficient, exponent = line
    if exponent <= 0:
        return Advice(law, source, note="silent: its best size does not grow with the data")
    if spread.share_without_optimum > 0:
        note += f", {spread.share_without_optimum:.1%} of the draws have no optimum"
    if question.sequences is not None:
        size, data = _bounded_power(question.sequences / coefficient, 1 / exponent), question.sequences
    elif question.flops is not None:
        size = question.flops / (6 * paper_tokens())
        data = coefficient * size**exponent
        note += "; the largest model that the budget trains for the paper's 500,000 steps"
    else:
        size = question.parameters or 0.0
        data = coefficient * size**exponent
    if trained.reach(size, data) > _FARTHEST:
        return _silent(law, source, trained, unit="sequences")
    note += _beyond(trained, size, data)
    draws = zip(spread.samples.get("coefficient", []), spread.samples.get("exponent", []), strict=True)
    if question.sequences is not None:
        # A law that does not grow cannot be turned round; such draws say that any size may be the best.
        sizes = [_bounded_power(data / a, 1 / b) if b > 0 else np.inf for a, b in draws]
        return Advice(law, source, size, spread.interval_of(np.array(sizes), size), data, note=note)
    amounts = [a * _bounded_power(size, b) for a, b in draws]
    return Advice(law, source, size, None, data, spread.interval_of(np.array(amounts), data), note)


def _bounded_power(base: float, exponent: float) -> float:
    return float(np.exp(np.clip(exponent * np.log(base), -600, 600)))


def _beyond(trained: Trained, size: float, data: float) -> str:
    reach = trained.reach(size, data)
    return f"; extrapolated {reach:.1f} times beyond its runs" if reach > 1.05 else ""


def _silent(law: str, source: str, trained: Trained, *, unit: str) -> Advice:
    sizes, amounts = (" to ".join(map(format_quantity, ends)) for ends in (trained.parameters, trained.data))
    note = f"silent: too far from its runs of {sizes} parameters, {amounts} {unit}"
    return Advice(law, source, note=note)


def _optimum(law: ComputeLaw, question: Question) -> tuple[float, float]:
    """Size and tokens at the law's optimum for the known quantity."""
    if question.flops is not None:
        flops = question.flops
    elif question.parameters is not None:
        flops = law.flops_for_parameters(question.parameters)
    else:
        flops = law.flops_for_tokens((question.sequences or 0.0) * TOKENS_PER_PAIR)
    return law.parameters(flops), law.tokens(flops)


def _by_compute(
    question: Question, law: ComputeLaw, draws: tuple[ComputeLaw, ...] = (), note: str = ""
) -> Advice:
    """Answer by a law of compute; `draws` are the law again, for the interval."""
    size, tokens = _optimum(law, question)
    if law.trained.reach(size, tokens) > _FARTHEST:
        return _silent(law.name, law.source, law.trained, unit="tokens")
    note += _beyond(law.trained, size, tokens)
    drawn = np.array([_optimum(draw, question) for draw in draws]).reshape(-1, 2)
    knows_size, knows_data = question.parameters is not None, question.sequences is not None
    return Advice(
        law=law.name,
        source=law.source,
        parameters=size,
        parameters_interval=None if knows_size or not draws else interval(drawn[:, 0]),
        sequences=tokens / TOKENS_PER_PAIR,
        sequences_interval=None if knows_data or not draws else interval(drawn[:, 1] / TOKENS_PER_PAIR),
        note=note,
    )


def _repeated(question: Question) -> Advice:
    """Answer by the law in which repetitions count, for data that is seen once."""
    law = DATA_CONSTRAINED_LAW
    one_pass = ParametricLaw(
        law.name, law.source, law.trained, A=law.A, B=law.B, E=law.E, alpha=law.exponent, beta=law.exponent
    )
    epochs = TrainingPlan().epochs(DATA_SIZES[0].num_pairs)
    at_constant, at_paper = (law.effective_tokens(1, passes) for passes in (1 + law.R_D_star, epochs))
    note = (
        f"data seen once; {law.R_D_star:.0f} repetitions are worth {at_constant:.1f} times the data, "
        f"the paper's {epochs:.0f} epochs {at_paper:.1f} times"
    )
    return _by_compute(question, one_pass.compute_law(), note=note)


def _exponents_only() -> Advice:
    size, tokens = 10 ** SERRANO_EXPONENTS["parameters"], 10 ** SERRANO_EXPONENTS["tokens"]
    note = (
        f"only exponents are published: ten times the compute, {size:.1f} x the size, {tokens:.1f} x the data"
    )
    return Advice("IsoFLOP exponents, MLM", SERRANO, note=note)


def _by_fit(question: Question, fit: Fit) -> Advice:
    """Answer by a fit to the user's own runs, with the interval of its last spread."""
    spread, estimates = fit.spreads[-1], fit.estimates
    note = f"95 % by {spread.method}"
    if fit.law == "iso-data":
        line = (estimates["coefficient"], estimates["exponent"])
        trained = _trained(fit.runs.parameters, fit.runs.sequences)
        return _by_data(
            question, law=fit.law, source=OWN_RUNS, trained=trained, line=line, spread=spread, note=note
        )
    names = ("parameters_coefficient", "parameters_exponent", "tokens_coefficient", "tokens_exponent")
    if not set(names) <= set(estimates):
        raise ValueError(f"the {fit.law} fit has no compute-optimal size to advise with; see its warnings")
    trained = _trained(fit.runs.parameters, fit.runs.seen_tokens)
    draws = tuple(
        ComputeLaw(fit.law, OWN_RUNS, trained, *values)
        for values in zip(*(spread.samples.get(name, []) for name in names), strict=True)
    )
    best = ComputeLaw(fit.law, OWN_RUNS, trained, *(estimates[name] for name in names))
    return _by_compute(question, best, draws, note)


def _trained(parameters: Array, data: Array) -> Trained:
    return Trained((parameters.min(), parameters.max()), (data.min(), data.max()))
