"""Tables of runs simulated from known laws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curr_ab.scaling import Fit, Runs, Spread, make_runs
from curr_ab.scaling.laws import DATA_CONSTRAINED_LAW, REPLICATION_LAW

LAW_ESTIMATES = {
    name: getattr(DATA_CONSTRAINED_LAW, name) for name in ("A", "B", "E", "exponent", "R_D_star", "R_N_star")
}


def parametric_runs(num_runs: int, noise_sd: float = 0.003, seed: int = 0) -> Runs:
    """Runs of the replication's law with multiplicative noise, at sizes and tokens like Chinchilla's."""
    generator = np.random.default_rng(seed)
    parameters = 10 ** generator.uniform(7.5, 10.2, num_runs)
    tokens = 10 ** generator.uniform(9, 11.5, num_runs)
    noise = np.exp(generator.normal(0, noise_sd, num_runs))
    return make_runs(
        {"parameters": n, "seen_tokens": d, "loss": REPLICATION_LAW.loss(n, d) * e}
        for n, d, e in zip(parameters, tokens, noise, strict=True)
    )


def repeated_runs(num_runs: int, noise_sd: float = 0.003, seed: int = 0) -> Runs:
    """Runs of the data-constrained law, 1 to 155 epochs, sizes on both sides of what the data can use."""
    generator = np.random.default_rng(seed)
    unique = 10 ** generator.uniform(8.0, 10.5, num_runs)
    epochs = np.exp(generator.uniform(0, np.log(155), num_runs))
    parameters = 0.05 * unique * 10 ** generator.uniform(-1.5, 1.5, num_runs)
    noise = np.exp(generator.normal(0, noise_sd, num_runs))
    return make_runs(
        {
            "parameters": n,
            "unique_tokens": u,
            "seen_tokens": u * k,
            "loss": DATA_CONSTRAINED_LAW.loss(n, u, u * k) * e,
        }
        for n, u, k, e in zip(parameters, unique, epochs, noise, strict=True)
    )


def fitted_law(sd: float = 0.01) -> Fit:
    """The data-constrained law as if it had been fitted, with draws that scatter about it."""
    generator = np.random.default_rng(0)
    samples = {name: value * np.exp(generator.normal(0, sd, 30)) for name, value in LAW_ESTIMATES.items()}
    return Fit(
        law="repeated-data",
        runs=repeated_runs(40),
        estimates=LAW_ESTIMATES,
        residuals=np.zeros(40),
        spreads=(Spread("draws", 30, 0.0, samples),),
        influences=(),
        warnings=("a doubt of the fit",),
    )


def drawn_runs(
    draws: int = 3,
    seeds: int = 1,
    draw_sd: float = 0.0,
    own_sd: float = 0.0,
    seed_sd: float = 0.0,
    missing: float = 0.0,
    seed: int = 0,
    data: Sequence[int] = (8, 24, 72),
    sizes: Sequence[float] = tuple(2e4 * 2.5**step for step in range(5)),
) -> Runs:
    """Parabolas whose optimum grows with the sequences; noise of draws, of each size on them, of seeds."""
    generator = np.random.default_rng(seed)
    rows = []
    for sequences in data:
        for draw in range(1, draws + 1):
            shift = generator.normal(0, draw_sd)
            for size in sizes:
                own = generator.normal(0, own_sd)
                for number in range(1, seeds + 1):
                    noise = shift + own + generator.normal(0, seed_sd)
                    loss = 2 - np.log10(sequences) / 3 + np.log10(size / best_of_drawn(sequences)) ** 2 / 2
                    row = {"parameters": size, "sequences": sequences, "loss": float(loss + noise)}
                    if generator.random() >= missing:
                        rows.append({**row, "draw": str(draw), "seed": str(number)})
    return make_runs(rows)


def best_of_drawn(sequences: float) -> float:
    """The best size in `drawn_runs`."""
    return float(1.2e5 * (sequences / 24) ** 0.63)
