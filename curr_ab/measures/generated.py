"""Measures of a set of pairs against real ones: validity, likeness, conditioning, diversity, novelty.

Every measure is a function of weighted records, so that one bootstrap gives the errors of all. Records of one
group, such as samples of one heavy chain, are drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curr_ab.measures.metrics import Floats, Labels
from curr_ab.measures.repertoires import (
    J_REGION,
    POSITIONS,
    REGION_COLUMNS,
    V_REGION,
    WHOLE,
    Chains,
    Genes,
    all_identities,
    identities,
    learn_genes,
    nearest,
)
from curr_ab.measures.statistics import DRAWS
from curr_ab.randomness import random_stream
from curr_ab.words import CHAINS, STANDARD_RESIDUES

_LETTERS = len(STANDARD_RESIDUES)
_USUAL_LENGTHS = (0.1, 99.9)  # percentiles
_ALIKE = 0.95
_CLUSTER = 0.90
Weights = Floats  # [draws, records]; the first row is the sample as it is, each row sums to 1
Measure = Callable[[Weights], Floats]


@dataclass(frozen=True)
class Estimate:
    """A measure with its error; the interval holds 95 % of the normal distribution with this error.

    Percentiles of the bootstrap would not do: distances from a target grow with every drawing.
    """

    group: str
    measure: str
    value: float
    standard_error: float
    num_records: int

    @property
    def low(self) -> float:
        return self.value - 1.96 * self.standard_error

    @property
    def high(self) -> float:
        return self.value + 1.96 * self.standard_error


@dataclass(frozen=True, eq=False)
class Sample:
    """Pairs that are judged, or compared with; `native` are the light chains of the same cells."""

    name: str
    heavy: Chains
    light: Chains
    groups: Labels  # number of the record that each is made for
    native: Chains | None = None

    def __len__(self) -> int:
        return len(self.heavy)

    def chain(self, name: str) -> Chains:
        return self.heavy if name == "heavy" else self.light

    def take(self, rows: Sequence[int] | Labels, name: str) -> Sample:
        """These records of it, under another name."""
        chosen = np.asarray(rows, np.int64)
        native = None if self.native is None else self.native.take(chosen)
        return Sample(name, self.heavy.take(chosen), self.light.take(chosen), self.groups[chosen], native)


@dataclass(frozen=True, eq=False)
class Reference:
    """Real pairs: the target that usage and lengths are compared with, and the training pairs."""

    target: Sample
    train: Sample
    genes: dict[tuple[str, str], Genes]  # by chain, and V or J

    @classmethod
    def of(
        cls, target: Sample, train: Sample, calls: dict[tuple[str, str], Sequence[str | None]]
    ) -> Reference:
        """`calls` are the genes of the training pairs, by chain and V or J."""
        columns = {"v": V_REGION, "j": J_REGION}
        learnt = {
            key: learn_genes(train.chain(key[0]), names, columns[key[1]]) for key, names in calls.items()
        }
        return cls(target, train, {key: genes for key, genes in learnt.items() if genes is not None})

    @cached_property
    def families(self) -> dict[str, list[str]]:
        """The V families of each chain, in the order of their numbers."""
        return {
            chain: sorted({*self.genes[chain, "v"].families})
            for chain in CHAINS
            if (chain, "v") in self.genes
        }

    def family_numbers(self, chains: Chains, kind: str) -> Labels:
        """The number of each chain's V family, -1 where it is not numbered."""
        genes, names = self.genes[kind, "v"], self.families[kind]
        of_gene = np.array([names.index(family) for family in genes.families])
        called, _ = genes.call(chains)
        return np.where(called < 0, -1, of_gene[called])

    @cached_property
    def preferred(self) -> Labels:
        """For each heavy V family the light one that is most over-represented beside it in training."""
        joint = np.zeros((len(self.families["heavy"]), len(self.families["light"])))
        heavy = self.family_numbers(self.train.heavy, "heavy")
        light = self.family_numbers(self.train.light, "light")
        known = (heavy >= 0) & (light >= 0)
        np.add.at(joint, (heavy[known], light[known]), 1)
        joint /= joint.sum()
        expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
        return np.asarray((joint - expected).argmax(axis=1))


def measure_sample(sample: Sample, reference: Reference, seed: int = 0) -> Iterator[Estimate]:
    """All measures that the sample and the reference allow."""
    weights = bootstrap_weights(sample.groups, seed)
    for group, name, measure in _measures(sample, reference):
        values = measure(weights)
        if not np.isnan(values).any():
            yield Estimate(group, name, float(values[0]), float(values[1:].std(ddof=1)), len(sample))


def bootstrap_weights(groups: Labels, seed: int) -> Weights:
    """The weights of records [1 + draws, records] when whole groups are drawn with replacement."""
    _, numbers = np.unique(groups, return_inverse=True)
    count = int(numbers.max()) + 1
    drawn = random_stream(seed, "bootstrap").multinomial(count, np.full(count, 1 / count), DRAWS)
    weights = np.concatenate([np.ones((1, len(numbers))), drawn[:, numbers]])
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def mean_of(values: Floats | Labels) -> Measure:
    """The mean of the values that are known."""
    known = ~np.isnan(np.asarray(values, np.float64))
    filled = np.where(known, values, 0.0)

    def measure(weights: Weights) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            means: Floats = (weights @ filled) / (weights @ known.astype(np.float64))
        return means

    return measure


def _measures(sample: Sample, reference: Reference) -> Iterator[tuple[str, str, Measure]]:
    for chain in CHAINS:
        of_sample, of_target = sample.chain(chain), reference.target.chain(chain)
        yield from _validity(chain, of_sample, of_target)
        yield from _likeness(chain, of_sample, of_target, reference)
        yield from _diversity(chain, of_sample)
        yield from _novelty(chain, of_sample, reference.train.chain(chain))
    yield from _pairs(sample, reference)
    if sample.native is not None:
        yield from _conditioning(sample.light, sample.native, reference)


def _validity(chain: str, chains: Chains, target: Chains) -> Iterator[tuple[str, str, Measure]]:
    low, high = np.percentile(target.lengths, _USUAL_LENGTHS)
    flags = {
        "numbered as this chain": chains.numbered,
        "complete domain": chains.complete,
        "Cys23, Trp41, Cys104": chains.conserved,
        "usual length": (chains.lengths >= low) & (chains.lengths <= high),
    }
    for name, values in flags.items():
        yield "validity", f"{chain}: {name}", mean_of(values)


def _counted(numbers: Labels, size: int) -> Floats:
    """Indicators [records, size] of numbered categories; rows of -1 have none."""
    table = np.zeros((len(numbers), size))
    known = np.flatnonzero(numbers >= 0)
    table[known, numbers[known]] = 1.0
    return table


def _shares(weights: Weights, table: Floats) -> Floats:
    sums = weights @ table
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: Floats = sums / sums.sum(axis=-1, keepdims=True)
    return shares


def _usage(numbers: Labels, of_target: Labels, size: int) -> tuple[Measure, Measure]:
    """Total variation and Jensen-Shannon divergence, in bits, between the usage of categories."""
    table, target = _counted(numbers, size), _counted(of_target, size).sum(axis=0)
    target = target / target.sum()

    def variation(weights: Weights) -> Floats:
        return np.asarray(np.abs(_shares(weights, table) - target).sum(axis=1) / 2)

    def divergence(weights: Weights) -> Floats:
        return jensen_shannon(_shares(weights, table), target)

    return variation, divergence


def jensen_shannon(first: Floats, second: Floats) -> Floats:
    """The divergence in bits, over the last axis."""
    middle = (first + second) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = [np.where(one > 0, one * np.log2(one / middle), 0.0).sum(axis=-1) for one in (first, second)]
    return np.asarray((parts[0] + parts[1]) / 2)


def wasserstein(first: Floats, second: Floats) -> Floats:
    """The distance between shares of the whole numbers 0, 1, 2 ... on the last axis."""
    return np.asarray(np.abs(np.cumsum(first - second, axis=-1)).sum(axis=-1))


def _likeness(
    chain: str, chains: Chains, target: Chains, reference: Reference
) -> Iterator[tuple[str, str, Measure]]:
    for segment in ("v", "j"):
        if (genes := reference.genes.get((chain, segment))) is not None:
            (ours, identity), (theirs, _) = genes.call(chains), genes.call(target)
            variation, divergence = _usage(ours, theirs, len(genes.names))
            yield "likeness", f"{chain}: {segment.upper()} usage, total variation", variation
            yield "likeness", f"{chain}: {segment.upper()} usage, Jensen-Shannon", divergence
            if segment == "v":
                yield "likeness", f"{chain}: identity to V gene", mean_of(identity)
                ours, theirs = (reference.family_numbers(one, chain) for one in (chains, target))
                variation, _ = _usage(ours, theirs, len(reference.families[chain]))
                yield "likeness", f"{chain}: V family usage, total variation", variation
    yield "likeness", f"{chain}: CDR3 length, Wasserstein", lengths_distance(chains, target)
    yield "likeness", f"{chain}: residues by position, Jensen-Shannon", _residues_distance(chains, target)


def lengths_distance(chains: Chains, target: Chains) -> Measure:
    """Residues by which the CDR3 lengths of numbered chains are apart from those of the target."""
    size = 1 + int(max(chains.cdr3_lengths.max(), target.cdr3_lengths.max()))
    table, theirs = (_counted(np.where(one.numbered, one.cdr3_lengths, -1), size) for one in (chains, target))
    shares = theirs.sum(axis=0) / theirs.sum()
    return lambda weights: wasserstein(_shares(weights, table), shares)


def _residues_distance(chains: Chains, target: Chains) -> Measure:
    """The mean divergence of residues, or none, over the positions that the target has."""
    used = np.flatnonzero((target.residues > 0).any(axis=0))
    codes = np.arange(_LETTERS + 1)
    tables = [
        (one.residues[one.numbered][:, used, None] == codes).astype(np.float32) for one in (chains, target)
    ]
    theirs = tables[1].mean(axis=0)
    flat = tables[0].reshape(len(tables[0]), len(used) * len(codes))

    def measure(weights: Weights) -> Floats:
        own = weights[:, chains.numbered].astype(np.float32)
        with np.errstate(invalid="ignore"):  # no chain is numbered
            shares = own @ flat / own.sum(axis=1, keepdims=True)
        apart = jensen_shannon(shares.reshape(len(own), len(used), len(codes)), theirs)
        return np.asarray(apart.mean(axis=1))

    return measure


def _diversity(chain: str, chains: Chains) -> Iterator[tuple[str, str, Measure]]:
    copies: dict[str, int] = {}
    first = np.array([copies.setdefault(text, row) == row for row, text in enumerate(chains.texts)])
    yield "diversity", f"{chain}: unique", mean_of(first)
    if chains.numbered.sum() < 2:
        return
    own = chains.residues[chains.numbered]
    alike = np.concatenate([block for _, block in all_identities(own, own)], axis=1)

    def mean_identity(weights: Weights) -> Floats:
        ours = weights[:, chains.numbered]
        both = np.square(ours).sum(axis=1)  # a chain is not compared with itself
        inside = ((ours @ alike) * ours).sum(axis=1)
        return np.asarray((inside - both) / (np.square(ours.sum(axis=1)) - both))

    yield "diversity", f"{chain}: mean pairwise identity", mean_identity
    leads = np.zeros(len(chains), bool)
    leads[chains.numbered] = _cluster_leads(alike)
    yield "diversity", f"{chain}: clusters at 90 %, for each chain", mean_of(leads)


def _cluster_leads(alike: Floats) -> Labels:
    """True for the chains that found a cluster: none that founded one before is as alike as 90 %."""
    leads = np.zeros(len(alike), bool)
    for row in range(len(alike)):
        leads[row] = not (alike[row, :row][leads[:row]] >= _CLUSTER).any()
    return leads


def _novelty(chain: str, chains: Chains, train: Chains) -> Iterator[tuple[str, str, Measure]]:
    known = {*train.texts}
    yield "novelty", f"{chain}: in training", mean_of(np.array([text in known for text in chains.texts]))
    for name, columns in (("chain", WHOLE), ("CDR3", REGION_COLUMNS["CDR3"])):
        _, best = nearest(chains.residues[:, columns], train.residues[train.numbered][:, columns])
        best = np.where(chains.numbered, best, np.nan)
        yield "novelty", f"{chain}: identity to nearest {name} of training", mean_of(best)
        if name == "chain":
            alike = np.where(chains.numbered, best >= _ALIKE, np.nan)
            yield "novelty", f"{chain}: 95 % like one of training", mean_of(alike)


def _pairs(sample: Sample, reference: Reference) -> Iterator[tuple[str, str, Measure]]:
    """Which V families go together."""
    if len(reference.families) < len(CHAINS):
        return
    size = len(reference.families["light"])
    heavy, theirs = (reference.family_numbers(one.heavy, "heavy") for one in (sample, reference.target))
    light, partner = (reference.family_numbers(one.light, "light") for one in (sample, reference.target))
    both, of_target = (
        np.where((first >= 0) & (second >= 0), first * size + second, -1)
        for first, second in ((heavy, light), (theirs, partner))
    )
    variation, _ = _usage(both, of_target, len(reference.families["heavy"]) * size)
    yield "conditioning", "V families of both chains, total variation", variation
    known = (heavy >= 0) & (light >= 0)
    wanted = np.where(known, reference.preferred[heavy], 0)
    yield "conditioning", "preferred light V family", mean_of(np.where(known, light == wanted, np.nan))
    tables = [_counted(np.where(known, numbers, -1), size) for numbers in (wanted, light)]

    def over_chance(weights: Weights) -> Floats:
        asked, got = (_shares(weights, table) for table in tables)
        chance = (asked * got).sum(axis=1)
        return np.asarray(mean_of(np.where(known, light == wanted, np.nan))(weights) - chance)

    yield "conditioning", "preferred light V family, above chance", over_chance


def _conditioning(light: Chains, native: Chains, reference: Reference) -> Iterator[tuple[str, str, Measure]]:
    """How alike the light chain is to the one that the heavy chain really has."""
    both = light.numbered & native.numbered
    categories = {
        "kappa or lambda": [
            np.array(["HKL".find(one) if one else -1 for one in each.loci]) for each in (light, native)
        ]
    }
    if "light" in reference.families:
        categories["V family"] = [reference.family_numbers(each, "light") for each in (light, native)]
        categories["V gene"] = [reference.genes["light", "v"].call(each)[0] for each in (light, native)]
    for name, (ours, theirs) in categories.items():
        equal = np.where(both, ours == theirs, np.nan)
        size = 1 + int(max(ours.max(), theirs.max(), 0))
        tables = [_counted(np.where(both, numbers, -1), size) for numbers in (ours, theirs)]

        def above(
            weights: Weights, equal: Floats = equal, tables: Sequence[Floats] = tuple(tables)
        ) -> Floats:
            mine, its = (_shares(weights, table) for table in tables)
            return np.asarray(mean_of(equal)(weights) - (mine * its).sum(axis=1))

        yield "conditioning", f"native {name}", mean_of(equal)
        yield "conditioning", f"native {name}, above chance", above
    for region, columns in REGION_COLUMNS.items():
        alike = identities(light.residues[:, columns], native.residues[:, columns])
        yield "conditioning", f"identity to native {region}", mean_of(np.where(both, alike, np.nan))


def shuffled_within(codes: Labels, seed: int) -> Labels:
    """A row for each row: another with the same code, in a ring of random order; -1 counts as a code."""
    order = random_stream(seed, "shuffled within V gene").permutation(len(codes))
    rows = np.arange(len(codes))
    for code in np.unique(codes):
        ring = order[codes[order] == code]
        rows[ring] = np.roll(ring, 1)
    return rows


assert POSITIONS[V_REGION][-1] == "104"
