"""What the app answers: the functions of its API, which programs and agents call, and their limits."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from curr_ab.inference.checks import Problem
from curr_ab.inference.generation import Generated
from curr_ab.inference.generation_tables import GenerateTask
from curr_ab.inference.heat_maps import Saturation
from curr_ab.inference.pairing import RankedLight
from curr_ab.inference.records import Record, reader
from curr_ab.inference.residue_charts import regions_of
from curr_ab.inference.restoration import Restoration
from curr_ab.inference.scoring import Score
from curr_ab.inference.settings import GenerationPlan
from curr_ab.inference.tasks import MutateTask, PairTask, RestoreTask, ScoreTask
from curr_ab.space.model import Model
from curr_ab.space.reference import MODE, PARTS, Reference
from curr_ab.words import CHAINS, STANDARD_RESIDUES

# What two cores answer within seconds; who has more takes the package.
MOST_RESIDUES, MOST_LIGHTS, MOST_SAMPLES, MOST_RECORDS = 400, 20, 10, 100
_MORE = "take the package for more"


class FileProblem(ValueError):
    """What is wrong with a visitor's file; the message begins with its name."""


class Answers:
    """Results of one model, for a visitor's chains; bad input is a ValueError of one line."""

    def __init__(self, model: Model, reference: Reference | None) -> None:
        self.model, self.reference = model, reference

    def scored(self, heavy: str, light: str) -> Score:
        scores: list[Score] = self.model.results(ScoreTask(mode=MODE), [_known(pair_record(heavy, light))])
        return scores[0]

    def saturated(self, heavy: str, light: str) -> Saturation:
        task = MutateTask(mode=MODE)
        saturations: list[Saturation] = self.model.results(task, [_known(pair_record(heavy, light))])
        return saturations[0]

    def restored(self, heavy: str, light: str) -> Restoration:
        done: list[Restoration] = self.model.results(RestoreTask(), [pair_record(heavy, light)])
        if not done[0].filled:
            raise ValueError("a chain must have unknown residues, written X, *, _ or <mask>; got none")
        return done[0]

    def ranked(self, heavy: str, lights: str) -> list[RankedLight]:
        candidates = candidates_of(lights)
        known = tuple(
            _known(Record(f"light {number}", None, text, number=number))
            for number, text in enumerate(candidates, start=1)
        )
        [ranking] = self.model.results(PairTask(lights=known, mode=MODE), [_known(heavy_record(heavy))])
        return [one._replace(light=candidates[int(one.light.split()[1]) - 1]) for one in ranking]

    def generated(
        self, heavy: str, num_samples: int | None, temperature: float | None, seed: int | None
    ) -> list[Generated]:
        if num_samples is None or temperature is None or seed is None:  # a visitor has emptied a field
            raise ValueError("a number of light chains, a temperature and a seed must be given; got none")
        if not 1 <= num_samples <= MOST_SAMPLES:
            raise ValueError(f"samples must be from 1 to {MOST_SAMPLES}; got {num_samples}; {_MORE}")
        plan = GenerationPlan(given="heavy", n=int(num_samples), temperature=temperature, seed=int(seed))
        return self.model.results(GenerateTask(plan=plan), [_known(heavy_record(heavy))])

    def scored_file(self, path: str | None) -> list[Score]:
        if not path:
            raise ValueError("a file of pairs must be chosen; got none")
        try:
            read = reader([path])
            records = list(islice(read(), MOST_RECORDS + 1))
            if len(records) > MOST_RECORDS:
                raise ValueError(f"a file must have {MOST_RECORDS} pairs at most; got more; {_MORE}")
            used = [record for record in records if not record.left_out]
            if not used:
                raise ValueError("a file must have a pair; got none")
            for record in used:
                read.check(record)
                _known(record)
            return self.model.results(ScoreTask(mode=MODE), used)
        except ValueError as error:  # it names the file as it lies on the server
            kind = FileProblem if str(error).startswith(path) else ValueError
            raise kind(str(error).replace(path, Path(path).name)) from None

    def percentiles(self, score: Score) -> dict[str, float]:
        """Shares of the reference, in percent, that are less natural than each part; none without it.

        The reference was scored as pairs: of a chain without its partner there is none, either.
        """
        parts = {part: score.perplexity(part) for part in parts_of(score)}
        if self.reference is None or "pair" not in parts:
            return {}
        return {part: self.reference.percentile(part, value) for part, value in parts.items()}

    def score(self, heavy: str = "", light: str = "") -> dict[str, Any]:
        """Score how natural an antibody is to the model.

        Gives log-likelihood and perplexity (1 is certain, 20 is a guess) of the pair and of each chain, the
        percentile among reference pairs (100 is the most natural; none for one chain alone), and a value for
        each residue.

        Args:
            heavy: Heavy chain as one-letter residues; empty for a light chain alone
            light: Light chain as one-letter residues; empty for a heavy chain alone
        """
        score = self.scored(heavy, light)
        parts = parts_of(score)
        return {
            "model": self.model.name,
            "checkpoint": self.model.digest,
            "mode": MODE,
            "reference": None if self.reference is None else self.reference.corpus,
            "log_likelihood": {part: score.pll(part) for part in parts},
            "perplexity": {part: score.perplexity(part) for part in parts},
            "percentile": self.percentiles(score),
            "residues": residues_of_score(score),
        }

    def mutate(self, heavy: str = "", light: str = "") -> list[dict[str, Any]]:
        """Score every single mutant of an antibody: log p(mutant) - log p(wild type), higher is more natural.

        Args:
            heavy: Heavy chain as one-letter residues; empty for a light chain alone
            light: Light chain as one-letter residues; empty for a heavy chain alone
        """
        rows = self.saturated(heavy, light).rows()
        return [{**site._asdict(), "mutant": mutant, "log_odds": value} for site, mutant, value in rows]

    def restore(self, heavy: str = "", light: str = "") -> dict[str, Any]:
        """Fill in the unknown residues of an antibody, the surest first.

        Args:
            heavy: Heavy chain as one-letter residues, unknown ones as X; empty for a light chain alone
            light: Light chain as one-letter residues, unknown ones as X; empty for a heavy chain alone
        """
        one = self.restored(heavy, light)
        filled = [
            {"chain": site.chain, "position": site.position, "residue": site.residue, "top": dict(site.top)}
            for site in one.filled
        ]
        return {"heavy": one.record.heavy, "light": one.record.light, "filled": filled}

    def pair(self, heavy: str, lights: str) -> list[dict[str, Any]]:
        """Rank light chains for a heavy chain, the likeliest first.

        Args:
            heavy: Heavy chain as one-letter residues
            lights: Light chains as one-letter residues, one in each line, or as FASTA
        """
        names = ("rank", "light", "log_likelihood", "gain")
        return [{name: getattr(one, name) for name in names} for one in self.ranked(heavy, lights)]

    def generate(
        self, heavy: str, num_samples: int = 3, temperature: float = 1.0, seed: int = 0
    ) -> list[dict[str, Any]]:
        """Generate light chains for a heavy chain.

        Args:
            heavy: Heavy chain as one-letter residues
            num_samples: Number of light chains
            temperature: Temperature of the residues that are drawn; below 1 the likely ones are likelier yet
            seed: Seed of the draws; the same seed gives the same chains
        """
        samples = self.generated(heavy, num_samples, temperature, seed)
        return [{"light": one.record.light, "perplexity": one.perplexity} for one in samples]

    def score_file(self, path: str) -> list[dict[str, Any]]:
        """Rows for the pairs of a file, with log-likelihoods and perplexities."""
        return [
            {
                "id": score.id,
                "log_likelihood": score.pll(),
                **{f"{part}_perplexity": score.perplexity(part) for part in parts_of(score)},
            }
            for score in self.scored_file(path)
        ]


def parts_of(score: Score) -> tuple[str, ...]:
    """The pair and its chains; of one chain alone just that."""
    chains = tuple(chain for chain in CHAINS if score.tokens.record.chain(chain))
    return PARTS if len(chains) == len(CHAINS) else chains


def residues_of_score(score: Score) -> list[dict[str, Any]]:
    """Chain, position, letter, region and log-probability of each residue; None where it is unknown."""
    rows = []
    for chain in CHAINS:
        letters = (score.tokens.record.chain(chain) or "").replace("<mask>", "X")
        regions = regions_of(score.tokens.record, chain) or [""] * len(letters)
        values = score.log_probabilities[score.tokens.residues(chain)].tolist()
        for place, (letter, region, value) in enumerate(zip(letters, regions, values, strict=True)):
            known = None if value != value else value  # NaN is none of JSON's numbers
            rows.append(
                {
                    "chain": chain,
                    "position": place + 1,
                    "residue": letter,
                    "region": region,
                    "log_probability": known,
                }
            )
    return rows


def one_line(error: ValueError) -> str:
    """The reason why input cannot be used, without the number of a record that the visitor did not give."""
    for number in range(1, MOST_LIGHTS + 1):
        name = Record(f"light {number}", None, None, number=number).name
        if str(error).startswith(name):
            return f"light chain {number}: {Problem(name, str(error)).reason}"
    reason = str(error)
    for pair in (("A", "A"), ("A", ""), ("", "A")):
        reason = Problem(pair_record(*pair).name, reason).reason
    if isinstance(error, FileProblem):
        return reason
    return reason[:1].upper() + reason[1:]


def pair_record(heavy: str, light: str) -> Record:
    """The visitor's pair, or one chain."""
    heavy, light = _chain(heavy, "heavy"), _chain(light, "light")
    if not heavy and not light:
        raise ValueError("a heavy chain, a light chain or both must be given; got neither")
    name = "pair" if heavy and light else "heavy chain" if heavy else "light chain"
    return Record(name, heavy or None, light or None, number=1)


def heavy_record(text: str) -> Record:
    """The visitor's heavy chain."""
    heavy = _chain(text, "heavy")
    if not heavy:
        raise ValueError("a heavy chain must be given; got none")
    return pair_record(heavy, "")


def candidates_of(lights: str) -> list[str]:
    """The light chains that are to be ranked, one in each line, or below each line of FASTA."""
    lines = (lights or "").splitlines()
    texts = _sequences(lights) if any(map(_is_header, lines)) else lines
    candidates = [chain for text in texts if (chain := _chain(text, "light"))]
    if not candidates:
        raise ValueError("light chains must be given, one in each line; got none")
    if len(candidates) > MOST_LIGHTS:
        raise ValueError(f"light chains must be {MOST_LIGHTS} at most; got {len(candidates)}; {_MORE}")
    return candidates


def _chain(text: str, chain: str) -> str:
    """A chain as people paste it: below a line of FASTA, in several lines, in lower case, with gaps."""
    sequences = _sequences(text)
    if len(sequences) > 1:
        raise ValueError(f"the {chain} chain must be one sequence; got {len(sequences)} of FASTA")
    residues = "".join("".join(sequences).split()).upper().replace("<MASK>", "<mask>")
    residues = residues.replace("-", "").replace(".", "")
    if (length := len(residues.replace("<mask>", "X"))) > MOST_RESIDUES:
        raise ValueError(
            f"the {chain} chain must have {MOST_RESIDUES} residues at most; got {length}; {_MORE}"
        )
    return residues


def _sequences(text: str | None) -> list[str]:
    """The text between the lines of FASTA, `>name`, each by itself; all of it where there are none."""
    sequences = [""]
    for line in (text or "").splitlines():
        if _is_header(line):
            sequences.append("")
        else:
            sequences[-1] += f"{line}\n"
    return [sequence for sequence in sequences if sequence.strip()]


def _is_header(line: str) -> bool:
    return line.lstrip().startswith(">")


def _known(record: Record) -> Record:
    """The record, each chain of which has a residue to compute with; of X alone nothing can be said."""
    for chain in CHAINS:
        letters = record.chain(chain)
        if letters and not set(letters.replace("<mask>", "").upper()) & {*STANDARD_RESIDUES}:
            raise ValueError(f"{record.name}: {chain} chain: a chain must have a known residue; got none")
    return record
