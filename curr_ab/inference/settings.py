"""Settings of the tasks of inference, as options. Apart from the tasks, which load torch and pyarrow."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from curr_ab.domains import Scheme
from curr_ab.family import NAMESPACE
from curr_ab.options import OptionError, Options, check_types, departures, option, unknown
from curr_ab.words import CHAIN_REGIONS, CHAINS, STANDARD_RESIDUES, Mode

Dtype = Literal["auto", "float32", "bfloat16"]
StoredType = Literal["float32", "float16"]
Pooling = Literal["mean", "max", "std", "cls", "none"]
By = Literal["marginals", "sequence"]
Method = Literal["greedy", "confident", "sample"]
Given = Literal["heavy", "light", "nothing"]
Order = Literal["random", "confident"]
Ranking = Literal["likelihood", "gain", "head"]
Reference = Literal["germline", "human"]
Search = Literal["greedy", "beam", "stochastic"]
_USED_BY: dict[str, tuple[Search, ...]] = {
    "beam": ("beam", "stochastic"),
    "temperature": ("stochastic",),
    "seed": ("stochastic",),
}

DTYPE_HELP = "Number type to compute in; auto is bfloat16 where the hardware multiplies it, else float32"
MODE_HELP = "Way of masking: each residue alone, every 7th at once, or none, in one pass"
_NUMBER_HELP = "Number the residues, and take the regions of that numbering"
_SCHEME_HELP = "Numbering scheme of positions and regions; regions in another than imgt are numbered anew"
_PART = "pair, heavy, light, or a region such as CDRH3"


@dataclass(frozen=True)
class LoadingOptions(Options):
    """The place of a checkpoint, its device and its number type."""

    revision: str | None = option(
        None, "Branch, tag or commit of the repository", shown="main", metavar="NAME", execution=True
    )
    namespace: str = option(NAMESPACE, "Owner of the members' repositories", metavar="NAME", execution=True)
    device: str = option(
        "auto",
        "Device to compute on: cpu, cuda or cuda:1; auto is the GPU where there is one",
        metavar="NAME",
        execution=True,
    )
    separator: str | None = option(
        None, "Separator of the chains, such as '<cls>'", shown="the checkpoint's own", metavar="TOKENS"
    )
    dtype: Dtype = option("auto", DTYPE_HELP)


PARTS = ("pair", *CHAINS, *CHAIN_REGIONS)


def check_part(part: str, field: str = "part") -> str:
    """The part's name, or an error with the nearest name."""
    if part not in PARTS:
        raise OptionError(unknown(f"{field} of a pair", part, PARTS), field)
    return part


@dataclass(frozen=True)
class EmbeddingPlan:
    """Embeddings that are wanted of each pair."""

    poolings: tuple[Pooling, ...] = option(
        ("mean",), "Poolings over the residues; none keeps each residue", flag="pooling"
    )
    parts: tuple[str, ...] = option(("pair",), f"Parts to embed: {_PART}", flag="part", metavar="PART")
    # 0 the embeddings, then each layer's output; -1 the last, normalised
    layers: tuple[int, ...] = option((-1,), "Layers: 0 is the embeddings, -1 the last layer")
    attention: bool = option(False, "Write attention maps as well, to a .safetensors file")

    def __post_init__(self) -> None:
        check_types(self)
        for part in self.parts:
            check_part(part, "parts")
        if "cls" in self.poolings and "pair" not in self.parts:
            raise OptionError(
                "parts must hold pair for the pooling cls, because <cls> stands for the whole pair; "
                f"got {' '.join(self.parts)}",
                "parts",
            )
        for name in ("poolings", "parts", "layers"):
            if not getattr(self, name):
                raise OptionError(f"{name} must be one at least; got none", name)

    def names(self) -> dict[tuple[str, Pooling, int], str]:
        """The name of every embedding, by (part, pooling, layer)."""
        return {
            (part, pooling, layer): f"{part}_{'residues' if pooling == 'none' else pooling}_layer{layer}"
            for part in self.parts
            for pooling in self.poolings
            for layer in self.layers
            if pooling != "cls" or part == "pair"
        }

    def resolve(self, num_layers: int) -> EmbeddingPlan:
        """The same with layers counted from the front, checked against the model."""
        for layer in self.layers:
            if not -num_layers - 1 <= layer <= num_layers:
                message = f"layers must be from {-num_layers - 1} to {num_layers} for this model; got {layer}"
                raise OptionError(message, "layers")
        layers = tuple(dict.fromkeys(layer % (num_layers + 1) for layer in self.layers))
        return EmbeddingPlan(self.poolings, self.parts, layers, self.attention)


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Options):
    """How sure the predictions of `curr-ab predict` are to be."""

    level: float = option(
        0.9, "Share of new groups' pairs that intervals and sets hold the right value of", above=0, below=1
    )
    raw: bool = option(False, "Write the model's own numbers, without calibration, intervals and distances")


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions(Options):
    """Germline genes and natural chains that chains are compared with."""

    v_genes: tuple[Path, ...] = option(
        (), "FASTA files of germline V genes, as residues or nucleotides, gapped or not", metavar="FILE"
    )
    natural: tuple[str, ...] = option(
        (), "Files of natural chains or pairs, or `builtin`; the nearest one is reported", metavar="FILE"
    )


@dataclass(frozen=True, kw_only=True)
class NumberSettings(Options):
    """Settings of `curr-ab number`."""

    scheme: Scheme = option("imgt", "Numbering scheme of positions and regions")
    per_record: bool = option(False, "Write a row for each record, with the residues of its regions")


@dataclass(frozen=True)
class EmbedSettings:
    """Settings of `curr-ab embed`."""

    plan: EmbeddingPlan = field(default_factory=EmbeddingPlan)
    precision: StoredType = option("float32", "Number type that embeddings are written in")
    number: bool = option(False, _NUMBER_HELP)
    scheme: Scheme = option("imgt", _SCHEME_HELP)

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class ScoreSettings:
    """Settings of `curr-ab score`."""

    mode: Mode = option("exact", MODE_HELP)
    alone: bool = option(False, "Score each chain without its partner, too")
    per_residue: bool = option(False, "Write a row for each residue")
    regions: tuple[str, ...] = option((), "Regions to score too, such as CDRH3 CDRL3", metavar="REGION")
    number: bool = option(False, _NUMBER_HELP)
    scheme: Scheme = option("imgt", _SCHEME_HELP)

    def __post_init__(self) -> None:
        check_types(self)
        for region in self.regions:
            check_part(region, "regions")


@dataclass(frozen=True, kw_only=True)
class MutateSettings:
    """Settings of `curr-ab mutate`."""

    mode: Mode = option("exact", MODE_HELP)
    part: str = option("pair", f"Part to mutate: {_PART}", metavar="PART")
    mutants: tuple[str, ...] = option(
        (),
        "Mutants to score, such as 'H:Y32A;L:S50T', H:Y32del or H:G54insAG",
        shown="all single mutants",
        flag="mutant",
        metavar="MUTANT",
    )
    by: By = option("marginals", "Score of the given mutants: log-odds added, or whole sequences")
    top: int | None = option(
        None, "Number of the best single mutants of each pair to write, the best first", shown="all", least=1
    )
    number: bool = option(False, _NUMBER_HELP)
    scheme: Scheme = option("imgt", _SCHEME_HELP)
    heat_maps: str | None = option(None, "Folder for a PNG and an HTML page of each pair", metavar="FOLDER")

    def __post_init__(self) -> None:
        check_types(self)
        check_part(self.part)
        if self.mutants and self.heat_maps:
            message = "heat_maps must be none where mutants are given, because they show all single mutants"
            raise OptionError(message, "heat_maps", "mutants")
        if self.mutants and self.top is not None:
            raise OptionError(
                f"top must be left out where mutants are given: all of them are written; got {self.top}",
                "top",
                "mutants",
            )


@dataclass(frozen=True, kw_only=True)
class RestorationPlan:
    """The choice of unknown residues."""

    method: Method = option(
        "confident", "Order of filling in: greedy is all at once, confident the surest first, sample draws"
    )
    variants: int = option(1, "Number of variants of each pair; several need the method sample", least=1)
    seed: int = option(0, "Seed of the residues that are drawn")
    temperature: float = option(1.0, "Temperature of the residues that are drawn", above=0)
    top_k: int = option(
        3, "Number of residues that are reported with their probabilities", flag="top", least=1, most=20
    )
    allowed: str = option(
        STANDARD_RESIDUES, "Residues that may be filled in", flag="allow", metavar="RESIDUES"
    )
    allowed_at: tuple[tuple[str, int, str], ...] = ()  # (chain, position, residues): these alone, there

    def __post_init__(self) -> None:
        check_types(self)
        if self.variants > 1 and self.method != "sample":
            why = "because only sample makes different ones"
            message = f"variants must be 1 for the method {self.method}, {why}; got {self.variants}"
            raise OptionError(message, "variants", "method")
        for name, residues in [
            ("allowed", self.allowed),
            *(("allowed_at", one) for *_, one in self.allowed_at),
        ]:
            if not residues or set(residues) - set(STANDARD_RESIDUES):
                raise OptionError(f"{name} must be some of {STANDARD_RESIDUES}; got {residues!r}", name)
        for chain, position, _ in self.allowed_at:
            if chain not in CHAINS or position < 1:
                message = "allowed_at must name a chain, heavy or light, and a position from 1"
                raise OptionError(f"{message}; got {chain!r} and {position}", "allowed_at")


@dataclass(frozen=True)
class RestoreSettings:
    """Settings of `curr-ab restore`."""

    plan: RestorationPlan = field(default_factory=RestorationPlan)
    ends: bool = option(False, "Complete missing ends, which alignment recognises")


@dataclass(frozen=True, kw_only=True)
class PairSettings(Options):
    """Settings of `curr-ab pair`."""

    lights: tuple[Any, ...] = ()  # records; first, as the settings of parts on disk have it
    by: Ranking = option(
        "likelihood",
        "Score of a light chain: likelihood given the heavy chain, gain over its own, or a pairing head",
    )
    mode: Mode = option("group", MODE_HELP)
    top: int | None = option(None, "Number of rows for each heavy chain", shown="all", least=1)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a residue is drawn from its probabilities."""

    temperature: float = option(1.0, "Temperature: below 1 the likely residues are likelier yet", above=0)
    top_p: float = option(
        1.0, "Draw among the likeliest residues that have this share together", above=0, most=1
    )
    top_k: int | None = option(None, "Draw among this many of the likeliest residues", shown="all", least=1)
    min_p: float = option(0.0, "Leave out residues below this share of the likeliest", least=0, below=1)


@dataclass(frozen=True, kw_only=True)
class GenerationPlan(Sampling):
    """The chains that are wanted of each record, and how they are drawn."""

    given: Given = option("heavy", "Chain that is given: heavy asks for light chains, nothing for pairs")
    n: int = option(1, "Number of samples for each record; of pairs in all where nothing is given", least=1)
    unique: bool = option(False, "Leave out what was drawn before for the same record")
    seed: int = option(0, "Seed of all draws: the same seed gives the same chains")
    start: tuple[str, ...] = option(
        (), "First residues of a generated chain, such as DIQMT, or H:EVQL L:DIQMT", metavar="RESIDUES"
    )
    v_gene: tuple[str, ...] = option(
        (), "V gene, family or locus that a chain begins with: IGKV1-39, IGKV1 or IGK", metavar="GENE"
    )
    start_residues: int = option(20, "Number of germline residues that v_gene gives", least=1)
    fix: tuple[str, ...] = option(
        (),
        "Residues of the record's own chain that stand while the rest of it is drawn: L:1-23, CDRL3",
        metavar="SPAN",
    )
    cdr: tuple[str, ...] = option(
        (), "CDR that must stand in a generated chain, such as L3=QQYNSYPLT", metavar="L3=RESIDUES"
    )
    length_from: str | None = option(
        None,
        "Pairs whose region lengths generated chains take",
        shown="masked members: the built-in corpus; causal ones end chains themselves",
        metavar="FILE",
    )
    max_length: int = option(160, "Longest chain in residues", least=1)
    allowed: str = option(STANDARD_RESIDUES, "Residues that may be drawn", flag="allow", metavar="RESIDUES")
    common: bool = option(False, "Draw light chains that all heavy chains of the input share")
    order: Order = option("random", "Order in which a masked member fills positions")
    at_once: int = option(1, "Number of positions that a masked member fills in one pass", least=1)
    sweeps: int = option(0, "Number of times that a masked member draws every residue anew", least=0)
    any_sequence: bool = option(False, "Keep what is no complete V domain of the right chain, too")
    not_in: tuple[str, ...] = option(
        (),
        "Pairs whose chains must not come out again: files, builtin, or input for the record's own",
        metavar="FILE",
    )
    drop_lowest: float = option(
        0.0,
        "Share of a record's samples that is left out for the lowest likelihood, rounded up",
        least=0,
        below=1,
    )
    tries: int = option(10, "Number of draws for each sample that is wanted, at most", least=1)

    def __post_init__(self) -> None:
        check_types(self)
        if not self.allowed or set(self.allowed) - set(STANDARD_RESIDUES):
            raise OptionError(f"allowed must be some of {STANDARD_RESIDUES}; got {self.allowed!r}", "allowed")
        given = departures(self)
        starts = [parse_start(text, self.given) for text in self.start]
        cdrs = [parse_cdr(text) for text in self.cdr]
        named = {
            "fix": [parse_span(text)[0] for text in self.fix],
            "cdr": [chain for chain, *_ in cdrs],
            "start": [chain for chain, _ in starts],
            "v_gene": [chain_of_gene(gene) for gene in self.v_gene],
        }
        for name, chains in named.items():
            for chain in chains:
                if chain not in self.made:
                    message = f"{name} must be of a chain that is generated; the {chain} chain is given"
                    raise OptionError(message, name, "given")
        begun = [f"the {chain} chain" for chain in (*named["start"], *named["v_gene"])]
        _check_once(begun, (*self.start, *self.v_gene), "start", "v_gene")
        _check_once([f"{region} of the {chain} chain" for chain, region, _ in cdrs], self.cdr, "cdr")
        if "start_residues" in given and not self.v_gene:
            message = "start_residues must be left out without v_gene, of whose residues it is the number"
            raise OptionError(message, "start_residues", "v_gene")
        begins = {"start": max([0, *(len(letters) for _, letters in starts)])}
        begins["start_residues"] = self.start_residues if self.v_gene else 0
        for name, length in begins.items():
            if length > self.max_length:
                message = f"max_length must be as long as {name} at least, {length} residues"
                raise OptionError(f"{message}; got {self.max_length}", "max_length", name)
        for other in ("cdr", "start", "v_gene", "max_length", "length_from", "common"):
            if self.fix and other in given:
                message = f"{other} must be left out where fix keeps the record's own chain"
                raise OptionError(message, other, "fix")
        if self.given == "nothing" and (self.unique or "input" in self.not_in):
            message = "unique, and input in not_in, must be left out where nothing is given"
            raise OptionError(f"{message}: each pair is a record of its own", "unique", "not_in", "given")
        if self.fix and self.given == "nothing":
            raise OptionError("fix needs records: give the heavy or the light chain", "fix", "given")
        if self.drop_lowest and self.given == "nothing":
            message = "drop_lowest must be 0 where nothing is given, as each pair is a record of its own"
            raise OptionError(f"{message}; sort the output by perplexity", "drop_lowest", "given")
        if self.common and self.given != "heavy":
            raise OptionError(
                "common must be used with given heavy: it makes light chains", "common", "given"
            )

    @property
    def made(self) -> tuple[str, ...]:
        """The chains that are generated."""
        return tuple(chain for chain in CHAINS if chain != self.given)


def _check_once(places: Sequence[str], texts: Sequence[str], *fields: str) -> None:
    """Refuse two texts for one place, of which one would be used."""
    for place in places:
        if places.count(place) > 1:
            several = " and ".join(text for text, of in zip(texts, places, strict=True) if of == place)
            raise OptionError(f"{' or '.join(fields)} must be one for {place}; got {several}", *fields)


def parse_span(text: str) -> tuple[str, str | tuple[int, int]]:
    """The chain of `L:1-23`, `L:30` or `CDRL3`, and the positions or the region."""
    if text in CHAIN_REGIONS:
        return ("heavy" if text[3] == "H" else "light"), text
    match = re.fullmatch(r"([HL]):([1-9]\d*)(?:-([1-9]\d*))?", text)
    if match is None or int(match[3] or match[2]) < int(match[2]):
        raise OptionError(f"fix must be like L:1-23, L:30 or CDRL3; got {text!r}", "fix")
    return ("heavy" if match[1] == "H" else "light"), (int(match[2]), int(match[3] or match[2]))


def parse_cdr(text: str) -> tuple[str, str, str]:
    """Chain, region and residues of `L3=QQYNSYPLT` or `CDRL3=QQYNSYPLT`."""
    match = re.fullmatch(r"(?:CDR)?([HL])([123])=([A-Z]+)", text)
    if match is None or set(match[3]) - set(STANDARD_RESIDUES):
        raise OptionError(f"cdr must be like L3=QQYNSYPLT; got {text!r}", "cdr")
    return ("heavy" if match[1] == "H" else "light"), f"CDR{match[2]}", match[3]


def parse_start(text: str, given: Given) -> tuple[str, str]:
    """Chain and residues of `L:DIQMT`; the chain may be left out where one is given."""
    match = re.fullmatch(r"(?:([HL]):)?([A-Z]+)", text)
    if match is None or set(match[2]) - set(STANDARD_RESIDUES):
        raise OptionError(f"start must be residues, such as DIQMT or L:DIQMT; got {text!r}", "start")
    if match[1] is None and given == "nothing":
        raise OptionError(f"start must name its chain where nothing is given, as H:{match[2]}", "start")
    if match[1] is None:
        return ("light" if given == "heavy" else "heavy"), match[2]
    return ("heavy" if match[1] == "H" else "light"), match[2]


def chain_of_gene(gene: str) -> str:
    """The chain that a V gene, a family or a locus is of."""
    match = re.fullmatch(r"(?:IG)?([HKL])(?:V.*)?", gene.upper())
    if match is None:
        raise OptionError(f"v_gene must be like IGKV1-39, IGKV1 or IGK; got {gene!r}", "v_gene")
    return "heavy" if match[1] == "H" else "light"


@dataclass(frozen=True)
class GenerateSettings:
    """Settings of `curr-ab generate`."""

    plan: GenerationPlan = field(default_factory=GenerationPlan)
    references: ReferenceOptions = field(default_factory=ReferenceOptions)
    pairing_head: str | None = option(
        None, "Fine-tuned pairing head that judges each sample", shown="none", metavar="MODEL"
    )
    least_pairing: float = option(
        0.5, "Probability of a native pair below which pairing_head leaves a sample out", least=0, most=1
    )

    def __post_init__(self) -> None:
        check_types(self)
        if self.pairing_head is None and "least_pairing" in departures(self):
            message = "least_pairing must be left out without pairing_head, whose probability it limits"
            raise OptionError(message, "least_pairing", "pairing_head")


@dataclass(frozen=True, kw_only=True)
class DesignPlan:
    """The mutants that are searched for, and how."""

    objective: tuple[str, ...] = option(
        (),
        "What is maximised, with weights: likelihood, germline, human, or a fine-tuned head (its folder; "
        "FOLDER:LABEL for a class), such as likelihood=1 RUN/adapter:binder=2",
        shown="likelihood, where towards is not given",
        metavar="NAME=WEIGHT",
    )
    towards: tuple[Reference, ...] = option(
        (), "Adds germline=1 or human=1 to the objective: nearer to a V gene, or to a natural chain"
    )
    mode: Mode = option("group", f"{MODE_HELP}; of the likelihood of masked members")
    mutations: str = option("1-3", "Number of mutations, such as 3, or 1-5 for at most 5", metavar="N-M")
    positions: tuple[str, ...] = option(
        ("pair",),
        "Positions that may change: H:30-35, H:Y32, L:50, H:imgt:105-117, CDRH3, heavy, CDRs, FWRs",
        metavar="POSITIONS",
    )
    excluded: tuple[str, ...] = option(
        (), "Positions that may not change, written alike", flag="not", metavar="POSITIONS"
    )
    allowed: str = option(STANDARD_RESIDUES, "Residues that may be put in", flag="allow", metavar="RESIDUES")
    allowed_at: tuple[str, ...] = option(
        (), "Residues that alone may be put in at a position", flag="allow_at", metavar="H:101=AVL"
    )
    keep_cysteines: bool = option(True, "Neither lose nor add a cysteine")
    keep_essential: bool = option(True, "Keep the residues at IMGT's positions 23, 41, 104 and 118")
    from_germline: int | None = option(
        None,
        "Largest number of differences that a chain may have from its nearest V gene",
        shown="any",
        least=0,
    )
    search: Search = option("beam", "Search: greedy keeps the best one, beam the best few, stochastic draws")
    beam: int = option(8, "Number of mutants that are gone on with after each mutation", least=1)
    candidates: int | None = option(
        64, "Number of mutants that the objective judges after each mutation; none for all", least=1
    )
    temperature: float = option(1.0, "Temperature at which the stochastic search draws", above=0)
    seed: int = option(0, "Seed of the stochastic search", least=0)
    n: int = option(10, "Number of designs of each record", least=1)
    min_distance: int = option(1, "Least number of positions at which two designs differ", least=1)

    def __post_init__(self) -> None:
        check_types(self)
        self.num_mutations()
        self.weights()
        if not self.allowed or set(self.allowed) - set(STANDARD_RESIDUES):
            raise OptionError(f"allowed must be some of {STANDARD_RESIDUES}; got {self.allowed!r}", "allowed")
        given, most = departures(self), self.num_mutations()[1]
        for name, searches in _USED_BY.items():
            if name in given and self.search not in searches:
                users = " or ".join(searches)
                message = (
                    f"{name} must be left out for the search {self.search}; only {users} has a use for it"
                )
                raise OptionError(message, name, "search")
        if "min_distance" in given and self.n == 1:
            raise OptionError("min_distance must be 1 for one design (n 1)", "min_distance", "n")
        if self.min_distance > 2 * most:
            message = (
                f"min_distance must be at most {2 * most}, as two designs of {most} mutations differ no more"
            )
            raise OptionError(f"{message}; got {self.min_distance}", "min_distance", "mutations")

    def num_mutations(self) -> tuple[int, int]:
        """The least and the largest number."""
        least, _, most = self.mutations.partition("-")
        if least.isdecimal() and (most or least).isdecimal() and 1 <= int(least) <= int(most or least):
            return int(least), int(most or least)
        message = "mutations must be a number from 1, or two such as 1-5, the smaller first"
        raise OptionError(f"{message}; got {self.mutations!r}", "mutations")

    def weights(self) -> dict[str, float]:
        """The weight of each term of the objective."""
        weights: dict[str, float] = {}
        for text in self.objective or (() if self.towards else ("likelihood",)):
            name, separator, number = text.rpartition("=")
            try:
                weight = float(number) if separator else 1.0
            except ValueError:
                weight = math.nan
            name = name if separator else text
            if not name or not math.isfinite(weight) or not weight:
                message = "objective must be NAME or NAME=WEIGHT, with a number other than 0"
                raise OptionError(f"{message}; got {text!r}", "objective")
            weights[name] = weights.get(name, 0.0) + weight
        for name in self.towards:
            weights[name] = weights.get(name, 0.0) + 1.0
        for name, weight in weights.items():
            if not weight:
                message = f"objective must give {name} a weight other than 0; its weights add up to 0"
                raise OptionError(message, "objective", *["towards"] * (name in self.towards))
        return weights


@dataclass(frozen=True)
class DesignSettings:
    """Settings of `curr-ab design`."""

    plan: DesignPlan = field(default_factory=DesignPlan)
    references: ReferenceOptions = field(default_factory=ReferenceOptions)
