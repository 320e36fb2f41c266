"""Light chains ranked for each heavy chain: by conditional likelihood, or by a fine-tuned pairing head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from curr_ab.inference.marginals import Marginals
from curr_ab.inference.records import Record
from curr_ab.inference.scoring import score_window
from curr_ab.inference.settings import Ranking
from curr_ab.inference.token_batches import SequenceBatch, map_batches
from curr_ab.inference.tokens import tokenize
from curr_ab.modeling import CurrAbForSequenceClassification
from curr_ab.tokenization import CurrAbTokenizer

NATIVE_LABELS = ("native", "paired", "true", "yes", "1", "label_1")


class RankedLight(NamedTuple):
    """A light chain's rank among all for one heavy chain."""

    heavy: str  # ids
    light: str
    rank: int  # from 1
    score: float  # what the ranking goes by
    log_likelihood: float | None  # pseudo-log-likelihood of the light chain given the heavy one
    gain: float | None  # the same minus that of the light chain alone: what the heavy chain says about it

    def __repr__(self) -> str:
        pair = f"heavy={self.heavy!r}, light={self.light!r}"
        return f"RankedLight({pair}, rank {self.rank}, score {self.score:.3f})"


def check_ranking(model: Any, by: str | None) -> Ranking:
    """What the model ranks by where nothing is named; refuses what it cannot rank by."""
    choices: tuple[Ranking, ...] = ("likelihood", "gain") if _knows_lights(model) else ("likelihood",)
    if isinstance(model, CurrAbForSequenceClassification):
        choices = ("head",)
    for one in choices:
        if by in (None, one):
            return one
    raise ValueError(f"by must be {' or '.join(choices)} with {type(model).__name__}; got {by!r}")


def _knows_lights(model: Any) -> bool:
    """True for a model that has learnt light chains by themselves."""
    return not model.config.is_decoder or model.config.light_first > 0


def rank_window(
    marginals: Marginals, heavies: Sequence[Record], lights: Sequence[Record], *, by: Ranking
) -> Iterator[list[RankedLight]]:
    """All light chains for each heavy chain, best first; heavies one after the other."""
    if not heavies or not lights:
        raise ValueError(
            f"ranking needs at least one heavy and one light chain; got {len(heavies)} and {len(lights)}"
        )
    model: Any = marginals.model
    check_ranking(model, by)
    if by == "head":
        for heavy in heavies:
            scores = head_scores(model, marginals.tokenizer, _pairs(heavy, lights))
            yield _ranked(heavy, lights, scores, None, None)
        return
    singles = [light._replace(heavy=None) for light in lights] if _knows_lights(model) else []
    alone = torch.tensor([score.pll("light") for score in score_window(marginals, singles, alone=False)])
    for heavy in heavies:
        pair_scores = score_window(marginals, _pairs(heavy, lights), alone=False)
        likelihood = torch.tensor([score.pll("light") for score in pair_scores])
        gain = likelihood - alone if singles else None
        yield _ranked(heavy, lights, likelihood if by != "gain" or gain is None else gain, likelihood, gain)


def _pairs(heavy: Record, lights: Sequence[Record]) -> list[Record]:
    return [
        light._replace(id=f"{heavy.id}/{light.id}", heavy=heavy.heavy, number=number)
        for number, light in enumerate(lights, start=1)
    ]


def _ranked(
    heavy: Record,
    lights: Sequence[Record],
    scores: Tensor,
    likelihood: Tensor | None,
    gain: Tensor | None,
) -> list[RankedLight]:
    order = scores.argsort(descending=True, stable=True).tolist()
    return [
        RankedLight(
            heavy.id,
            lights[place].id,
            rank,
            float(scores[place]),
            None if likelihood is None else float(likelihood[place]),
            None if gain is None else float(gain[place]),
        )
        for rank, place in enumerate(order, start=1)
    ]


def head_scores(
    model: CurrAbForSequenceClassification, tokenizer: CurrAbTokenizer, pairs: Sequence[Record]
) -> Tensor:
    """The head's probability of a native pair [pairs]."""
    tokens = tokenize(tokenizer, pairs)
    num_labels = model.config.num_labels
    native = 0 if num_labels == 1 else _native_label(model)

    def run(batch: SequenceBatch) -> list[float]:
        logits = model(**batch.model_inputs).logits.float().cpu()
        scores = (logits.sigmoid() if num_labels == 1 else logits.softmax(-1))[:, native]
        return [float(score) for score in scores]

    return torch.tensor(map_batches(run, [one.input_ids for one in tokens], model))


def _native_label(model: CurrAbForSequenceClassification) -> int:
    labels = {int(index): str(label) for index, label in model.config.id2label.items()}
    native = [index for index, label in labels.items() if label.lower() in NATIVE_LABELS]
    if len(native) != 1:
        raise ValueError(
            f"one label of the head must mean a native pair; got {', '.join(labels.values())}; call one "
            "'native' in the configuration's id2label"
        )
    return native[0]
