"""Published laws: their constants, their sources and their predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from curr_ab.published import PAPER

Amount = Any  # a number, or an array of them
CHENG = "arXiv 2411.02142 (proteins)"
SERRANO = "arXiv 2406.07249 (proteins)"
CHINCHILLA = "arXiv 2203.15556 (text)"
REPLICATION = "arXiv 2404.10102 (text)"
DATA_CONSTRAINED = "arXiv 2305.16264 (text)"


@dataclass(frozen=True)
class Trained:
    """Smallest and largest run that a law was fitted to; far from them it has no meaning."""

    parameters: tuple[float, float]
    data: tuple[float, float]  # tokens, or sequences where the law is about these

    def reach(self, parameters: float, data: float) -> float:
        """Factor by which a run is beyond the smallest or largest; 1 inside."""
        sizes, amounts = self.parameters, self.data
        beyond = (sizes[0] / parameters, parameters / sizes[1], amounts[0] / data, data / amounts[1])
        return max(1.0, *beyond)


@dataclass(frozen=True)
class ComputeLaw:
    """Best size and tokens for a compute budget C: coefficient * C^exponent each."""

    name: str
    source: str
    trained: Trained
    parameters_coefficient: float
    parameters_exponent: float
    tokens_coefficient: float
    tokens_exponent: float

    def parameters(self, flops: float) -> float:
        return _bounded_exp(np.log(self.parameters_coefficient) + self.parameters_exponent * np.log(flops))

    def tokens(self, flops: float) -> float:
        return _bounded_exp(np.log(self.tokens_coefficient) + self.tokens_exponent * np.log(flops))

    def flops_for_parameters(self, parameters: float) -> float:
        return _bounded_exp(np.log(parameters / self.parameters_coefficient) / self.parameters_exponent)

    def flops_for_tokens(self, tokens: float) -> float:
        return _bounded_exp(np.log(tokens / self.tokens_coefficient) / self.tokens_exponent)


def _bounded_exp(logarithm: float) -> float:
    """Exponential, kept within floating point: a draw of a nearly flat law would overflow."""
    return float(np.exp(np.clip(logarithm, -700, 700)))


@dataclass(frozen=True)
class ParametricLaw:
    """loss = E + A / parameters^alpha + B / tokens^beta"""

    name: str
    source: str
    trained: Trained
    A: float
    B: float
    E: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        return float(self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta)

    def compute_law(self) -> ComputeLaw:
        """Best sizes and tokens, by the law, where C = 6 * parameters * tokens."""
        total = self.alpha + self.beta
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / total)
        return ComputeLaw(
            self.name,
            self.source,
            self.trained,
            parameters_coefficient=ratio / 6 ** (self.beta / total),
            parameters_exponent=self.beta / total,
            tokens_coefficient=1 / ratio / 6 ** (self.alpha / total),
            tokens_exponent=self.alpha / total,
        )


@dataclass(frozen=True)
class RepeatedDataLaw:
    """Parametric law in which repeated tokens and excess parameters are worth less and less."""

    name: str
    source: str
    trained: Trained
    A: float
    B: float
    E: float
    exponent: float
    R_D_star: float
    R_N_star: float

    def best_parameters(self, unique_tokens: Amount) -> Amount:
        """Compute-optimal size for `unique_tokens` seen once; parameters beyond it are excess."""
        return (self.A / self.B) ** (1 / self.exponent) * unique_tokens

    def effective_tokens(self, unique_tokens: Amount, seen_tokens: Amount) -> Amount:
        repetitions = seen_tokens / unique_tokens - 1
        return unique_tokens * (1 - self.R_D_star * np.expm1(-repetitions / self.R_D_star))

    def effective_parameters(self, parameters: Amount, unique_tokens: Amount) -> Amount:
        used = np.minimum(parameters, self.best_parameters(unique_tokens))
        return used * (1 - self.R_N_star * np.expm1(-(parameters / used - 1) / self.R_N_star))

    def loss(self, parameters: Amount, unique_tokens: Amount, seen_tokens: Amount) -> Amount:
        """Of one training, or of many, as arrays."""
        size = self.effective_parameters(parameters, unique_tokens)
        tokens = self.effective_tokens(unique_tokens, seen_tokens)
        return self.E + self.A / size**self.exponent + self.B / tokens**self.exponent


@dataclass(frozen=True)
class PaperLaw:
    """Optima of the paper itself, from which its projection follows."""

    source: str
    trained: Trained
    optima: Mapping[int, float]  # different sequences: best model size
    coefficient: float
    exponent: float
    projected_parameters: float
    projected_sequences: float


PAPER_LAW = PaperLaw(
    source=PAPER,
    trained=Trained((8e6, 650e6), (412_182, 1_648_726)),
    optima=MappingProxyType({412_182: 29_020_563, 824_363: 68_099_905, 1_648_726: 152_000_061}),
    coefficient=0.2324,
    exponent=0.8369,
    projected_parameters=6.5e8,
    projected_sequences=5_523_212.43,
)
# As the papers' abstracts and introductions say.
_CHENG_RUNS = Trained((3.5e6, 10.7e9), (5e9, 200e9))
_CHINCHILLA_RUNS = Trained((70e6, 16e9), (5e9, 500e9))
_DATA_CONSTRAINED_RUNS = Trained((7e6, 9e9), (1e8, 900e9))
# Coefficient and exponent of the best size, then of the best number of tokens.
CHENG_MLM = ComputeLaw("IsoFLOP, MLM", CHENG, _CHENG_RUNS, 6.19e-8, 0.776, 2.02e6, 0.230)
CHENG_CLM = ComputeLaw("IsoFLOP, CLM", CHENG, _CHENG_RUNS, 1.26e-3, 0.578, 123, 0.422)
CHINCHILLA_LAW = ParametricLaw(
    "parametric", CHINCHILLA, _CHINCHILLA_RUNS, A=406.4, B=410.7, E=1.69, alpha=0.34, beta=0.28
)
REPLICATION_LAW = ParametricLaw(
    "parametric, replication",
    REPLICATION,
    _CHINCHILLA_RUNS,
    A=482.01,
    B=2085.43,
    E=1.8172,
    alpha=0.3478,
    beta=0.3658,
)
CHENG_MLM_JOINT = ParametricLaw(
    "joint form, MLM", CHENG, _CHENG_RUNS, A=3.365, B=7.569, E=0.0, alpha=0.0423, beta=0.0994
)
CHENG_CLM_JOINT = ParametricLaw(
    "joint form, CLM", CHENG, _CHENG_RUNS, A=143.98, B=22036.5, E=2.1226, alpha=0.3666, beta=0.4956
)
DATA_CONSTRAINED_LAW = RepeatedDataLaw(
    "repeated data",
    DATA_CONSTRAINED,
    _DATA_CONSTRAINED_RUNS,
    A=520.8,
    B=1487.7,
    E=1.8691,
    exponent=0.35266,
    R_D_star=15.3878,
    R_N_star=5.3097,
)
# Published without coefficients: they say how optima grow, not where they are.
SERRANO_EXPONENTS: Mapping[str, float] = MappingProxyType({"parameters": 0.27, "tokens": 0.71})
SERRANO_PLATEAU_LOSS = 2.4
SERRANO_PERPLEXITY = 11.4
