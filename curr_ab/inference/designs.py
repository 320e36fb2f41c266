"""Search for mutants of a pair that an objective prefers, one mutation after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curr_ab.inference.marginals import Marginals
from curr_ab.inference.objectives import Likelihood, Objective, build_objective
from curr_ab.inference.records import Record
from curr_ab.inference.references import Germline, References, domain_of
from curr_ab.inference.settings import DesignPlan
from curr_ab.inference.sites import Choice
from curr_ab.randomness import random_stream
from curr_ab.words import CHAINS, STANDARD_RESIDUES

Array = npt.NDArray[Any]
Changes = tuple[tuple[int, str], ...]  # place among the choices, and residue; in order
_AT_ONCE = 64  # mutants that are compared with germline genes together


class Designed(NamedTuple):
    """A mutant of a pair."""

    record: Record  # as it would be
    rank: int  # from 1, by score
    mutant: str  # such as H:Y32A;L:S50T
    num_mutations: int
    score: float  # what the objective gains over the input
    values: Mapping[str, float]  # of each term of the objective
    gains: Mapping[str, float]  # of each term over the input

    def __repr__(self) -> str:
        return f"Designed(id={self.record.id!r}, rank {self.rank}, {self.mutant}, score {self.score:.3f})"


def objective_of(
    model: Any, tokenizer: Any, plan: DesignPlan, references: References, tokens_per_batch: int | None = None
) -> Objective:
    """The objective of a plan with this model."""
    marginals = Marginals(model, tokenizer, plan.mode, tokens_per_batch=tokens_per_batch)
    options: dict[str, Any] = {"device": model.device, "tokens_per_batch": tokens_per_batch}
    return build_objective(plan, Likelihood(marginals), references, **options)


def search(
    record: Record,
    choices: Sequence[Choice],
    objective: Objective,
    plan: DesignPlan,
    germline: Germline | None = None,
) -> list[Designed]:
    """The designs of one record."""
    return _Search(record, choices, objective, plan, germline).run()


class _Search:
    """The mutants of a record that were judged so far."""

    def __init__(
        self,
        record: Record,
        choices: Sequence[Choice],
        objective: Objective,
        plan: DesignPlan,
        germline: Germline | None,
    ) -> None:
        self.record, self.choices, self.objective, self.plan = record, list(choices), objective, plan
        self.germline = germline if plan.from_germline is not None else None
        self.domains = {
            chain: domain_of(text, chain)
            for chain in CHAINS
            if self.germline and (text := record.chain(chain))
        }
        self.barred = np.array(
            [[letter not in one.residues for letter in STANDARD_RESIDUES] for one in self.choices]
        )
        # One stream for each record: neither its place in the input nor other records have a part in it.
        place = int.from_bytes(hashlib.sha256(record.id.encode()).digest()[:8], "big")
        self.random = random_stream(plan.seed, "design", place)
        self.values: dict[Changes, dict[str, float]] = {}
        self.scores: dict[Changes, float] = {}

    def run(self) -> list[Designed]:
        _, most = self.plan.num_mutations()
        width = 1 if self.plan.search == "greedy" else self.plan.beam
        beam: list[Changes] = [()]
        self._judge(beam)
        for number in range(1, min(most, len(self.choices)) + 1):
            candidates = self._candidates(beam, most - number)
            if not candidates:
                break
            self._judge(candidates)
            scores = np.array([self.scores[one] for one in candidates])
            order = np.argsort(-self._drawn(scores), kind="stable")[:width]
            beam = [candidates[place] for place in order]
        return self._results()

    def _drawn(self, scores: Array) -> Array:
        """The scores by which the best are taken.

        With Gumbel noise the k largest are k draws without replacement, in proportion to exp(score).
        """
        if self.plan.search != "stochastic":
            return scores
        return scores / self.plan.temperature + self.random.gumbel(size=scores.shape)

    def _candidates(self, beam: Sequence[Changes], left: int) -> list[Changes]:
        """Mutants with one more mutation, those first that promise most."""
        promised = np.empty((len(beam), *self.barred.shape))
        for row, changes in enumerate(beam):
            promised[row] = self.objective.gains(self._mutant(changes), self.choices) + self.scores[changes]
            promised[row, self.barred] = -np.inf
            promised[row, [place for place, _ in changes]] = -np.inf
        ranked = self._drawn(promised).ravel()
        order = np.argsort(-ranked, kind="stable")
        order = order[ranked[order] > -np.inf]
        found: dict[Changes, None] = {}  # one mutant may be reached from several
        limit = self.plan.candidates or len(order)
        for start in range(0, len(order), _AT_ONCE):
            rows, places, letters = np.unravel_index(order[start : start + _AT_ONCE], promised.shape)
            some = [
                tuple(sorted((*beam[row], (int(place), STANDARD_RESIDUES[letter]))))
                for row, place, letter in zip(rows, places, letters, strict=True)
            ]
            for one in self._near_germline(list(dict.fromkeys(some)), left):
                found[one] = None
                if len(found) == limit:
                    return list(found)
        return list(found)

    def _near_germline(self, mutants: list[Changes], left: int) -> list[Changes]:
        """Those that are near enough, or can be once as many mutations are added as are left."""
        limit = self.plan.from_germline
        if self.germline is None or limit is None:
            return mutants
        records = [self._mutant(one) for one in mutants]
        far = np.zeros(len(mutants), np.int64)  # by how much both chains are too far
        for chain, domain in self.domains.items():
            texts = [one.chain(chain) or "" for one in records]
            distances = self.germline.distances(texts, chain, domain)
            far += [0 if number is None else max(0, number - limit) for number in distances]
        return [one for one, number in zip(mutants, far, strict=True) if number <= left]

    def _mutant(self, changes: Changes) -> Record:
        texts = {chain: list(text) for chain in CHAINS if (text := self.record.chain(chain))}
        for place, letter in changes:
            one = self.choices[place]
            texts[one.chain][one.position - 1] = letter
        return self.record.with_chains({chain: "".join(letters) for chain, letters in texts.items()})

    def _judge(self, mutants: Sequence[Changes]) -> None:
        """Compute what is not known yet."""
        new = [one for one in mutants if one not in self.scores]
        if not new:
            return
        values = self.objective.values([self._mutant(one) for one in new])
        for number, one in enumerate(new):
            self.values[one] = {name: float(column[number]) for name, column in values.items()}
            gains = {name: value - self.values[()][name] for name, value in self.values[one].items()}
            self.scores[one] = sum(self.objective.weights[name] * gain for name, gain in gains.items())

    def _results(self) -> list[Designed]:
        least, _ = self.plan.num_mutations()
        ranked = sorted(
            (one for one in self.scores if len(one) >= least), key=lambda one: (-self.scores[one], one)
        )
        chosen: list[Changes] = []
        for changes in ranked:
            if len(chosen) == self.plan.n:
                break
            if all(distance(changes, other) >= self.plan.min_distance for other in chosen) and (
                self._is_within(changes)
            ):
                chosen.append(changes)
        return [self._designed(changes, rank) for rank, changes in enumerate(chosen, start=1)]

    def _is_within(self, changes: Changes) -> bool:
        """True for what is near enough to its germline genes, aligned by itself."""
        limit, mutant = self.plan.from_germline, self._mutant(changes)
        if self.germline is None or limit is None:
            return True
        texts = {chain: text for chain in CHAINS if (text := mutant.chain(chain))}
        found = {chain: self.germline.distances([text], chain)[0] for chain, text in texts.items()}
        return all(
            self.domains[chain] is None if number is None else number <= limit
            for chain, number in found.items()
        )

    def _designed(self, changes: Changes, rank: int) -> Designed:
        sites = [(self.choices[place], letter) for place, letter in changes]
        names = [f"{one.chain[0].upper()}:{one.wild_type}{one.position}{letter}" for one, letter in sites]
        gains = {name: value - self.values[()][name] for name, value in self.values[changes].items()}
        return Designed(
            self._mutant(changes),
            rank,
            ";".join(names),
            len(changes),
            self.scores[changes],
            self.values[changes],
            gains,
        )


def distance(some: Changes, others: Changes) -> int:
    """The number of positions at which two mutants differ."""
    one, other = dict(some), dict(others)
    return sum(one.get(place) != other.get(place) for place in one.keys() | other.keys())
