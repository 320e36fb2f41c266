"""The suite `generation`: pairs that a model draws, or a file of them, judged against real pairs."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curr_ab.checkpoint_files import find_checkpoint
from curr_ab.checkpoints import load
from curr_ab.data.preparing.genes import gene_of
from curr_ab.evaluation.generation_pictures import draw_samples
from curr_ab.evaluation.measurement import Subject
from curr_ab.evaluation.pair_tables import PairTable, read_pair_table
from curr_ab.evaluation.plan import GeneratedPairsPlan
from curr_ab.files import replacing, write_parquet
from curr_ab.inference.functions import generate, score
from curr_ab.inference.pairing import head_scores
from curr_ab.inference.records import Record, records_of
from curr_ab.inference.scoring import Score
from curr_ab.inference.settings import GenerationPlan
from curr_ab.measures.generated import (
    Estimate,
    Reference,
    Sample,
    bootstrap_weights,
    mean_of,
    measure_sample,
    shuffled_within,
)
from curr_ab.measures.metrics import Floats
from curr_ab.measures.repertoires import Chains, read_chains
from curr_ab.options import OptionError
from curr_ab.randomness import random_stream
from curr_ab.results import Result
from curr_ab.words import CHAINS

if TYPE_CHECKING:
    from curr_ab.tokenization import CurrAbTokenizer

MEASURES = "measures.csv"
HELD_OUT, SHUFFLED = "held-out pairs", "shuffled within V gene"


@dataclass(frozen=True)
class GenerationData:
    """Held-out and training pairs, and the digests of all that judges beside them."""

    held_out: PairTable
    train: PairTable
    fingerprint: str
    judges: Mapping[str, str]  # digest of each other model, by option

    @property
    def name(self) -> str:
        return self.held_out.name

    @property
    def split(self) -> str:
        return self.held_out.split


def open_data(plan: GeneratedPairsPlan, sources: list[str]) -> GenerationData:
    """The held-out pairs, at least four; and the training pairs, which novelty and genes are from."""
    if plan.train is None:
        raise OptionError(
            "train must name the training pairs, a prepared folder or a table; got none: novelty and the "
            "usual genes are measured against them",
            "train",
        )
    held_out = read_pair_table(sources, plan.split, plan.columns)
    train = read_pair_table([plan.train], "train", plan.columns)
    if len(held_out.pairs) < 4:
        raise ValueError(f"{held_out.name} must have at least 4 pairs; got {len(held_out.pairs)}")
    others = {"judge": plan.judge, "pairing_head": plan.pairing_head}
    judges = {key: find_checkpoint(name).digest for key, name in others.items() if name is not None}
    parts = [held_out.fingerprint, train.fingerprint, *(f"{key} {judges[key]}" for key in sorted(judges))]
    return GenerationData(held_out, train, hashlib.sha256("\n".join(parts).encode()).hexdigest(), judges)


def measure(
    subject: Subject,
    plan: GeneratedPairsPlan,
    data: GenerationData,
    folder: Path,
    say: Callable[[str], None],
) -> list[Result]:
    """Estimates of every sample and of the two samples of real pairs; all of them are in `measures.csv`."""
    if data.judges.get("judge") == subject.digest:
        raise OptionError(
            f"judge must be another model than the generator; got the checkpoint {subject.digest[:12]} "
            "twice: what a model draws is always likely under itself",
            "judge",
        )
    say("number the real chains")
    real, reference = _real_pairs(data, plan)
    rows = np.flatnonzero(np.isin(real.groups, _half(real, plan.seed)))[: plan.pairs]
    known = reference.genes.get(("light", "v"))
    codes = np.where(real.light.numbered, 0, -1) if known is None else known.call(real.light)[0]
    shuffled = replace(real, light=real.light.take(shuffled_within(codes, plan.seed)))
    references = [real.take(rows, HELD_OUT), shuffled.take(rows, SHUFFLED)]
    model = tokenizer = None
    if subject.is_file:
        made = [_read_file(Path(subject.checkpoint.name), plan, real)]
    else:
        model, tokenizer = subject.load()
        made = list(_draw_all(model, tokenizer, plan, references[0], say))
    estimates: list[tuple[str, Estimate]] = []
    for sample in (*made, *references):
        say(f"measure {sample.name}: {len(sample):,} pairs")
        estimates += [(sample.name, one) for one in measure_sample(sample, reference, plan.seed)]
        _write_pairs(folder, sample)
    judged = _judged((*made, *references), model, tokenizer, plan)
    for name, measured, values, groups in judged:
        weights = bootstrap_weights(groups, plan.seed)
        means = mean_of(values)(weights)
        if np.isfinite(means).all():
            spread = float(means[1:].std(ddof=1))
            estimates.append((name, Estimate(*measured, float(means[0]), spread, len(values))))
    write_measures(folder / MEASURES, estimates)
    draw_samples(folder / "figures", [*made, *references], reference, estimates)
    about = subject.result_fields(plan.command("generation"))
    about |= {"task": "generation", "dataset": data.name, "split": data.split}
    return [_result(name, one, about) for name, one in estimates]


def _result(sample: str, estimate: Estimate, about: Mapping[str, Any]) -> Result:
    return Result(
        metric=estimate.measure,
        value=estimate.value,
        standard_error=estimate.standard_error,
        num_items=estimate.num_records,
        details={"sample": sample, "group": estimate.group},
        **about,
    )


def _real_pairs(data: GenerationData, plan: GeneratedPairsPlan) -> tuple[Sample, Reference]:
    """The held-out pairs, and what they are compared with: their other half, and the training pairs."""
    pairs = data.held_out.pairs
    clones = [clone or f"pair {row}" for row, clone in enumerate(pairs["clone"].to_pylist())]
    groups = np.unique(clones, return_inverse=True)[1]
    real = _sample(HELD_OUT, pairs["heavy"].to_pylist(), pairs["light"].to_pylist(), groups)
    real = replace(real, native=real.light)
    training = data.train.pairs
    train = _sample("training", training["heavy"].to_pylist(), training["light"].to_pylist())
    calls: dict[tuple[str, str], Sequence[str | None]] = {
        (chain, segment): [gene_of(call or "") for call in training[f"{segment}_call_{chain}"].to_pylist()]
        for chain in CHAINS
        for segment in ("v", "j")
    }
    target = real.take(np.flatnonzero(~np.isin(groups, _half(real, plan.seed))), "target")
    return real, Reference.of(target, train, calls)


def _half(real: Sample, seed: int) -> Any:
    """Half of the groups: what the generator is given, and what "held-out pairs" in the tables are."""
    count = int(real.groups.max()) + 1
    return random_stream(seed, "halves").permutation(count)[: count // 2]


def _sample(
    name: str, heavy: Sequence[str | None], light: Sequence[str | None], groups: Any = None
) -> Sample:
    own = np.arange(len(heavy)) if groups is None else groups
    return Sample(name, read_chains(heavy, "heavy"), read_chains(light, "light"), own)


def _read_file(path: Path, plan: GeneratedPairsPlan, real: Sample) -> Sample:
    """Pairs of a file; where all their heavy chains are held-out ones, the light chains are made for them."""
    pairs = read_pair_table([str(path)], plan.split, plan.columns).pairs
    heavy, light = pairs["heavy"].to_pylist(), pairs["light"].to_pylist()
    if len(heavy) < 2:
        raise ValueError(f"{path} must have at least 2 pairs to be judged; got {len(heavy)}")
    place = {text: row for row, text in enumerate(real.heavy.texts)}
    rows = [place.get(text) for text in heavy]
    if None in rows:
        return _sample(path.name, heavy, light)
    known = np.array(rows)
    return replace(_sample(path.name, heavy, light, known), native=real.light.take(known))


def _draw_all(
    model: Any, tokenizer: Any, plan: GeneratedPairsPlan, given: Sample, say: Callable[[str], None]
) -> Iterator[Sample]:
    """A sample for each way and temperature, without filters: what the model makes is what is measured."""
    for way in plan.given:
        for temperature in plan.temperatures:
            name = f"given {way}, temperature {temperature:g}"
            say(f"draw {len(given):,} pairs {name}")
            how = GenerationPlan(
                given=way,
                n=1 if way == "heavy" else len(given),
                temperature=temperature,
                seed=plan.seed,
                at_once=plan.at_once,
                any_sequence=True,
            )
            pairs = None if way == "nothing" else [(heavy, None) for heavy in given.heavy.texts]
            made = [one.record for one in generate(model, tokenizer, pairs, how)]
            light = read_chains([one.light for one in made], "light")
            if way == "heavy":
                yield Sample(name, given.heavy, light, given.groups, given.native)
            else:
                heavy = read_chains([one.heavy for one in made], "heavy")
                yield Sample(name, heavy, light, np.arange(len(made)))


def _judged(
    samples: Sequence[Sample], model: Any, tokenizer: Any, plan: GeneratedPairsPlan
) -> Iterator[tuple[str, tuple[str, str], Floats, Any]]:
    """Values of each record by models: the generator's gain, a judge's loss, a pairing head's scores."""
    if model is not None:
        for sample in samples:
            records = _records(sample)
            partners = np.roll(np.arange(len(sample)), 1 + len(sample) // 2)
            others = _records(replace(sample, heavy=sample.heavy.take(partners)))
            own, other = (
                np.array([one.pll("light") for one in _scores(model, tokenizer, some)])
                for some in (records, others)
            )
            measured = ("conditioning", "bits over a random partner")
            yield sample.name, measured, (own - other) / np.log(2), sample.groups
    if plan.judge is not None:
        judge, judge_tokenizer = load(plan.judge, device=str(model.device) if model is not None else None)
        for sample in samples:
            scored = _scores(judge, judge_tokenizer, _records(sample))
            losses = np.array([-float(one.log_probabilities.double().nanmean()) for one in scored])
            yield sample.name, ("judge", "loss under another model, nats"), losses, sample.groups
    if plan.pairing_head is not None:
        head, head_tokenizer = load(plan.pairing_head, head="sequence-classification")
        scores: dict[str, Floats] = {}
        for sample in samples:
            found = head_scores(head, head_tokenizer, list(_records(sample)))
            scores[sample.name] = found.double().numpy()
        for sample in samples:
            own = scores[sample.name]
            yield sample.name, ("pairing", "score of the pairing head"), own, sample.groups
            against = scores[SHUFFLED]
            wins = (own[:, None] > against).mean(axis=1) + (own[:, None] == against).mean(axis=1) / 2
            yield sample.name, ("pairing", "AUROC against shuffled within V gene"), wins, sample.groups


def _records(sample: Sample) -> list[Record]:
    """The pairs; an empty chain, which no model can read, is one unknown residue."""
    texts = zip(sample.heavy.texts, sample.light.texts, strict=True)
    return list(records_of([(heavy or "X", light or "X") for heavy, light in texts]))


def _scores(model: Any, tokenizer: CurrAbTokenizer, records: Sequence[Record]) -> Iterator[Score]:
    """Of a causal model the log-likelihood; of a masked one the pseudo-likelihood, in seven passes."""
    return score(model, tokenizer, records, mode="group")


def _write_pairs(folder: Path, sample: Sample) -> None:
    import pyarrow as pa

    name = "".join(letter if letter.isalnum() else "-" for letter in sample.name)
    chains: dict[str, Chains] = {"heavy": sample.heavy, "light": sample.light}
    table = pa.table({kind: pa.array(list(one.texts), pa.string()) for kind, one in chains.items()})
    write_parquet(folder / "pairs" / f"{name}.parquet", table)


def write_measures(path: Path, estimates: Sequence[tuple[str, Estimate]]) -> None:
    """The estimates as a table, intervals included."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "group", "measure", "value", "standard_error", "low", "high", "pairs"])
        for name, one in estimates:
            numbers = [one.value, one.standard_error, one.low, one.high, one.num_records]
            writer.writerow([name, one.group, one.measure, *numbers])


def table(folder: Path) -> str:
    """Tables of all measurements in the folder: a row for each sample, the two of real pairs below it."""
    lines = []
    for path in sorted(folder.glob(f"*/{MEASURES}")):
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        lines += [f"## {path.parent.name}", ""]
        samples = list(dict.fromkeys(row["sample"] for row in rows))
        cells = {(row["sample"], row["group"], row["measure"]): _cell(row) for row in rows}
        for title, measures in _columns(rows).items():
            lines += [f"| {title[1]} | " + " | ".join(title_of for _, title_of in measures) + " |"]
            lines += ["|---|" + "---:|" * len(measures)]
            for sample in samples:
                values = [cells.get((sample, title[0], name), "") for name, _ in measures]
                if any(values):
                    lines.append(f"| {sample} | " + " | ".join(values) + " |")
            lines.append("")
    return "\n".join([*lines, "In brackets half of the 95 % interval, from 500 drawings of records.", ""])


def _columns(rows: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """For each table its group and title, and its measures with their names in its head."""
    tables: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        chain, colon, rest = row["measure"].partition(": ")
        title, shown = (f"{row['group']}, {chain} chain", rest) if colon else (row["group"], row["measure"])
        if row["measure"].startswith("identity to native "):
            title, shown = "identity to native light chain", row["measure"].rsplit(" ", 1)[1]
        tables.setdefault((row["group"], title), {})[row["measure"]] = shown
    return {key: list(measures.items()) for key, measures in tables.items()}


def _cell(row: Mapping[str, str]) -> str:
    half = (float(row["high"]) - float(row["low"])) / 2
    return f"{float(row['value']):.3f} ({half:.3f})"
