"""The uses of a model from Python: results one by one, or as the table that the command writes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from curr_ab.inference.design_tables import DesignTask
from curr_ab.inference.designs import Designed
from curr_ab.inference.embedding import Array
from curr_ab.inference.generation import Generated
from curr_ab.inference.generation_tables import GenerateTask
from curr_ab.inference.heat_maps import Saturation
from curr_ab.inference.marginals import Marginals
from curr_ab.inference.mutation import score_mutants_of
from curr_ab.inference.pairing import RankedLight, check_ranking
from curr_ab.inference.records import BlankReader, Record, records_of
from curr_ab.inference.references import References
from curr_ab.inference.restoration import Restoration
from curr_ab.inference.results import MutantScores, Results
from curr_ab.inference.scoring import Score
from curr_ab.inference.settings import (
    By,
    DesignPlan,
    EmbeddingPlan,
    GenerationPlan,
    Pooling,
    ReferenceOptions,
    RestorationPlan,
)
from curr_ab.inference.tasks import EmbedTask, MutateTask, PairTask, RestoreTask, ScoreTask
from curr_ab.inference.token_batches import BatchLayout
from curr_ab.modeling import CurrAbForCausalLM, CurrAbForMaskedLM, CurrAbForSequenceClassification
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import Mode


def embed(
    model: Any,
    tokenizer: CurrAbTokenizer,
    pairs: Any,
    *,
    pooling: Pooling = "mean",
    part: str = "pair",
    layers: int | Sequence[int] = -1,
    tokens_per_batch: int | None = None,
    layout: BatchLayout | None = None,
) -> Results[Array]:
    """One array for each pair; special tokens are never inside.

    `[width]` pooled, `[residues, width]` with `pooling="none"`; several `layers` are stacked in front.
    `pooling="cls"` is the first token's state. `np.stack(list(embed(...)))` makes a matrix.
    """
    wanted = (layers,) if isinstance(layers, int) else tuple(layers)
    plan = EmbeddingPlan(poolings=(pooling,), parts=(part,), layers=wanted)
    task = EmbedTask(plan=plan, tokens_per_batch=tokens_per_batch, layout=layout)

    def form(features: dict[str, Array]) -> Array:
        arrays = [features[name] for name in plan.names().values()]
        return arrays[0] if isinstance(layers, int) else np.stack(arrays)

    return Results(task, model, tokenizer, pairs, form=form)


def score(
    model: CurrAbForMaskedLM | CurrAbForCausalLM,
    tokenizer: CurrAbTokenizer,
    pairs: Any,
    *,
    mode: Mode = "exact",
    alone: bool = False,
    tokens_per_batch: int | None = None,
    layout: BatchLayout | None = None,
) -> Results[Score]:
    """The score of each pair; `alone` adds each chain by itself.

    Probabilities are over the whole vocabulary. With a causal model each residue is given what precedes it,
    and the sum of a pair is its log-likelihood, without the tokens that end chains. The modes are those of
    `Marginals`.
    """
    task = ScoreTask(mode=mode, alone=alone, tokens_per_batch=tokens_per_batch, layout=layout)
    return Results(task, model, tokenizer, pairs)


def saturate(
    model: CurrAbForMaskedLM,
    tokenizer: CurrAbTokenizer,
    pairs: Any,
    *,
    mode: Mode = "exact",
    part: str = "pair",
    tokens_per_batch: int | None = None,
    layout: BatchLayout | None = None,
) -> Results[Saturation]:
    """log p(mutant) - log p(wild type) at every known residue of a part, in the context of the pair.

    With `mode="exact"` these are masked marginals, with `mode="unmasked"` wild-type marginals, one pass for
    all.
    """
    task = MutateTask(mode=mode, part=part, tokens_per_batch=tokens_per_batch, layout=layout)
    return Results(task, model, tokenizer, pairs)


def score_mutants(
    model: CurrAbForMaskedLM,
    tokenizer: CurrAbTokenizer,
    pair: Any,
    mutants: Sequence[str],
    *,
    by: By = "marginals",
    mode: Mode = "exact",
    tokens_per_batch: int | None = None,
    layout: BatchLayout | None = None,
) -> MutantScores:
    """The effect of each mutant, such as `H:Y32A;L:S50T`, on one pair; higher is more natural.

    `by="marginals"` adds the log-odds of the substitutions, each in the context of the wild type.
    `by="sequence"` is the pseudo-log-likelihood of the mutant minus that of the wild type, which sees how
    mutations act together, and which insertions and deletions need.
    """
    record = next(records_of([pair]))
    marginals = Marginals(model, tokenizer, mode, tokens_per_batch=tokens_per_batch, layout=layout)
    return MutantScores(score_mutants_of(marginals, record, mutants, by), record, mutants)


def restore(
    model: CurrAbForMaskedLM,
    tokenizer: CurrAbTokenizer,
    pairs: Any,
    plan: RestorationPlan | None = None,
    *,
    ends: bool = False,
    tokens_per_batch: int | None = None,
) -> Results[Restoration]:
    """Each pair with its unknown residues filled in, `plan.variants` times; `ends` completes ends, too.

    `greedy` takes the best residue everywhere from one pass; `confident` fills the surest position, looks
    again, and goes on; `sample` draws in a random order, each residue given those drawn before.
    """
    task = RestoreTask(plan=plan or RestorationPlan(), ends=ends, tokens_per_batch=tokens_per_batch)
    return Results(task, model, tokenizer, pairs)


def rank_lights(
    model: CurrAbForMaskedLM | CurrAbForCausalLM | CurrAbForSequenceClassification,
    tokenizer: CurrAbTokenizer,
    heavies: Any,
    lights: Any,
    *,
    by: str | None = None,
    mode: Mode = "group",
    tokens_per_batch: int | None = None,
    layout: BatchLayout | None = None,
) -> Results[list[RankedLight]]:
    """All light chains for each heavy chain, best first; chains as text, or records of them.

    `by="likelihood"` (the rule where none is named) prefers light chains that are common by themselves;
    `by="gain"` subtracts that, for which a causal model must have learnt light chains first, too. A model
    with a sequence-classification head ranks by its probability of a native pair (`by="head"`).
    """
    known = tuple(_chains(lights, "light"))
    if not known:
        raise ValueError("ranking needs at least one heavy and one light chain; got no light chain")
    how: dict[str, Any] = {"by": check_ranking(model, by), "mode": mode}
    task = PairTask(lights=known, tokens_per_batch=tokens_per_batch, layout=layout, **how)
    return Results(task, model, tokenizer, heavies, read=partial(_chains, chain="heavy"))


def generate(
    model: Any,
    tokenizer: CurrAbTokenizer,
    pairs: Any = None,
    plan: GenerationPlan | None = None,
    *,
    v_genes: tuple[Path, ...] = (),
    tokens_per_batch: int | None = None,
) -> Results[Generated]:
    """Samples of each record; a causal or a masked model.

    `pairs` are chains as text, or anything that has records of the given chain; none where the plan gives
    nothing. `v_genes` are FASTA files of the genes that the plan's `v_gene` names.
    """
    plan = plan or GenerationPlan()
    if plan.given == "nothing" and pairs is not None:
        raise ValueError("pairs must be left out where nothing is given")
    if plan.given != "nothing" and pairs is None:
        raise ValueError(f"give {plan.given} chains, or a plan in which nothing is given")
    references = ReferenceOptions(v_genes=v_genes)
    task = GenerateTask(plan=plan, references=references, tokens_per_batch=tokens_per_batch)

    def read(pairs: Any) -> Iterator[Record]:
        if plan.given == "nothing":
            return BlankReader((), wanted=(), count=plan.n)()
        return _chains(pairs, plan.given)

    return Results(task, model, tokenizer, pairs, read=read)


def _chains(chains: Any, chain: str) -> Iterator[Record]:
    """The records; chains as text are those of the kind that is asked for."""
    if isinstance(chains, list) and all(isinstance(one, str) for one in chains):
        chains = [(one, None) if chain == "heavy" else (None, one) for one in chains]
    return records_of(chains)


def design(
    model: Any,
    tokenizer: CurrAbTokenizer,
    pairs: Any,
    plan: DesignPlan | None = None,
    *,
    references: References | ReferenceOptions | None = None,
    tokens_per_batch: int | None = None,
) -> Results[Designed]:
    """The best mutants of each pair, best first; fewer than `plan.n` where no more can be had.

    Mutations are added one by one. After each, the whole neighbourhood of the mutants at hand is ranked by
    what the model's log-odds, and cheap terms, promise; the objective judges the `candidates` best, and the
    search goes on with `beam` of these. Every mutant that was judged may be a result.
    """
    known: Any = references or ReferenceOptions()
    task = DesignTask(plan=plan or DesignPlan(), references=known, tokens_per_batch=tokens_per_batch)
    return Results(task, model, tokenizer, pairs)
