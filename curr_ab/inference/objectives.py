"""What designs are judged by: likelihood, a fine-tuned head, nearness to references, or a mix of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from curr_ab.checkpoint_files import CONFIG, find_file, resolve
from curr_ab.checkpoints import load
from curr_ab.family import NAMESPACE
from curr_ab.files import read_object
from curr_ab.inference.marginals import Marginals
from curr_ab.inference.records import Record
from curr_ab.inference.references import Germline, Natural, References
from curr_ab.inference.scoring import own_residues
from curr_ab.inference.settings import DesignPlan
from curr_ab.inference.sites import Choice
from curr_ab.inference.token_batches import SequenceBatch, map_batches
from curr_ab.inference.tokens import tokenize
from curr_ab.options import OptionError
from curr_ab.words import CHAINS, STANDARD_RESIDUES

Array = npt.NDArray[np.float64]
TERMS = ("likelihood", "germline", "human")


class Term(Protocol):
    """One part of an objective."""

    def values(self, records: Sequence[Record]) -> Array:
        """A number for each pair; more is better."""
        ...

    def gains(self, record: Record, choices: Sequence[Choice]) -> Array | None:
        """About what each residue [choices, 20] would add; None where nothing cheap can say it."""
        ...


class Likelihood:
    """Pseudo-log-likelihood of a masked member, log-likelihood of a causal one, in nats."""

    def __init__(self, marginals: Marginals) -> None:
        self.marginals = marginals
        self.ids = torch.tensor(marginals.tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES)))

    def values(self, records: Sequence[Record]) -> Array:
        tokens = tokenize(self.marginals.tokenizer, records)
        rows = zip(tokens, self.marginals.of(tokens), strict=True)
        return np.array([float(own_residues(*one, self.ids).double().nansum()) for one in rows])

    def gains(self, record: Record, choices: Sequence[Choice]) -> Array:
        [tokens] = tokenize(self.marginals.tokenizer, [record])
        offset = {"heavy": -1, "light": tokens.num_heavy - 1}
        places = [offset[one.chain] + one.position for one in choices]
        rows = self.marginals.of([tokens._replace(positions=tokens.positions[places])])[0][:, self.ids]
        own = [STANDARD_RESIDUES.index((record.chain(one.chain) or "")[one.position - 1]) for one in choices]
        log_odds = rows - rows[torch.arange(len(own)), torch.tensor(own)][:, None]
        return np.asarray(log_odds.double().numpy())


class Towards:
    """Minus the number of differences from the nearest germline gene or natural chain, over both chains."""

    def __init__(self, references: Germline | Natural) -> None:
        self.references = references

    def values(self, records: Sequence[Record]) -> Array:
        total = np.zeros(len(records))
        for chain in CHAINS:
            texts = list(dict.fromkeys(text for one in records if (text := one.chain(chain))))
            known = dict(zip(texts, self.references.distances(texts, chain), strict=True))
            for row, one in enumerate(records):
                if text := one.chain(chain):
                    # A mutant that is no domain any more must not be the nearest of all.
                    number = known[text]
                    total[row] -= len(text) if number is None else number
        return total

    def gains(self, record: Record, choices: Sequence[Choice]) -> Array:
        out = np.zeros((len(choices), len(STANDARD_RESIDUES)))
        texts = {chain: text for chain in CHAINS if (text := record.chain(chain))}
        nearest = {chain: self.references.residues(text, chain) for chain, text in texts.items()}
        for row, one in enumerate(choices):
            wanted, own = nearest[one.chain][one.position - 1], texts[one.chain][one.position - 1]
            if wanted in STANDARD_RESIDUES and wanted:
                out[row] -= wanted == own
                out[row, STANDARD_RESIDUES.index(wanted)] += 1
        return out


class Head:
    """The number that a fine-tuned head predicts, or its log-probability of a class."""

    def __init__(self, model: Any, tokenizer: Any, label: int | None, tokens_per_batch: int | None) -> None:
        self.model, self.tokenizer, self.label = model, tokenizer, label
        self.tokens_per_batch = tokens_per_batch

    def values(self, records: Sequence[Record]) -> Array:
        def run(batch: SequenceBatch) -> list[float]:
            logits = self.model(**batch.model_inputs).logits.float().cpu()
            own = logits[:, 0] if self.label is None else logits.log_softmax(-1)[:, self.label]
            return [float(value) for value in own]

        sequences = [one.input_ids for one in tokenize(self.tokenizer, records)]
        return np.array(map_batches(run, sequences, self.model, tokens_per_batch=self.tokens_per_batch))

    def gains(self, record: Record, choices: Sequence[Choice]) -> None:
        return None


class Objective:
    """Terms with their weights; `proposer` says what is likely good where no term says it cheaply."""

    def __init__(
        self, terms: Mapping[str, Term], weights: Mapping[str, float], proposer: Term | None = None
    ) -> None:
        self.terms, self.weights, self.proposer = dict(terms), dict(weights), proposer

    def values(self, records: Sequence[Record]) -> dict[str, Array]:
        """The value of each term for each pair."""
        return {name: term.values(records) for name, term in self.terms.items()}

    def gains(self, record: Record, choices: Sequence[Choice]) -> Array:
        """About what each residue would add to the weighted sum."""
        total = np.zeros((len(choices), len(STANDARD_RESIDUES)))
        is_known = False
        for name, term in self.terms.items():
            if (own := term.gains(record, choices)) is not None:
                total, is_known = total + self.weights[name] * own, True
        if (
            not is_known
            and self.proposer is not None
            and (own := self.proposer.gains(record, choices)) is not None
        ):
            return own
        return total


def build_objective(
    plan: DesignPlan,
    likelihood: Likelihood,
    references: References,
    *,
    device: Any = "cpu",
    tokens_per_batch: int | None = None,
) -> Objective:
    """The objective of a plan; an error names a term that cannot be had."""
    check_references(plan, references)
    weights, terms = plan.weights(), dict[str, Term]()
    for name in weights:
        if name == "likelihood":
            terms[name] = likelihood
        elif name == "germline" and references.germline is not None:
            terms[name] = Towards(references.germline)
        elif name == "human" and references.natural is not None:
            terms[name] = Towards(references.natural)
        else:
            terms[name] = find_head(name, str(device), tokens_per_batch)
    return Objective(terms, weights, likelihood)


def check_references(plan: DesignPlan, references: References) -> None:
    """Refuse a term or a limit without the references that it is measured by."""
    weights = plan.weights()
    if "germline" in weights and references.germline is None:
        raise OptionError("v_genes must be a FASTA of germline V genes to design towards germline", "v_genes")
    if "human" in weights and references.natural is None:
        raise OptionError("natural must be a file of natural chains to design towards human", "natural")
    if plan.from_germline is not None and references.germline is None:
        raise OptionError("v_genes must be given to limit from_germline", "v_genes", "from_germline")


def find_head(name: str, device: str, tokens_per_batch: int | None = None) -> Head:
    """The head of a term such as FOLDER or FOLDER:LABEL."""
    folder, _, label = name.rpartition(":")
    if not folder or Path(name).exists() or "/" in label or "\\" in label:
        folder, label = name, ""
    model, tokenizer = load_head(folder, device)
    names = {str(text): int(number) for number, text in model.config.id2label.items()}
    if model.config.num_labels == 1:
        if label:
            message = f"objective must be {folder} alone, which predicts a number; got {name}"
            raise OptionError(message, "objective")
        return Head(model, tokenizer, None, tokens_per_batch)
    if label not in names:
        labels = ", ".join(names)
        example = f"{folder}:{next(iter(names))}"
        message = f"objective must name a class of {folder} ({labels}), such as {example}; got {name}"
        raise OptionError(message, "objective")
    return Head(model, tokenizer, names[label], tokens_per_batch)


@lru_cache(maxsize=4)
def load_head(name: str, device: str) -> tuple[Any, Any]:
    """A fine-tuned member with a head for pairs, or an adapter of one; once in a process."""
    try:
        source = resolve(name, NAMESPACE)
        path = find_file(source, CONFIG)
        heads = [] if path is None else read_object(path).get("architectures") or []
    except (OSError, ValueError) as error:
        advice = f"objective must be {', '.join(TERMS)} or the folder of a fine-tuned head"
        raise OptionError(f"{advice}; {name}: {error}", "objective") from error
    if not any(head.endswith("ForSequenceClassification") for head in heads):
        message = f"objective must be {', '.join(TERMS)} or a head that predicts a label of pairs"
        raise OptionError(f"{message}; {name} has {', '.join(heads) or 'none'}", "objective")
    return load(name, head="sequence-classification", device=device)
