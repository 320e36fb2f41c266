"""Log-probabilities of every residue given the rest, or what precedes: all scores are built on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from curr_ab.inference.masked_rows import masked_logits
from curr_ab.inference.records import Record, windows
from curr_ab.inference.token_batches import (
    BatchLayout,
    SequenceBatch,
    budget,
    map_batches,
    map_over_threads,
)
from curr_ab.inference.tokens import TokenRecord, tokenize
from curr_ab.modeling import CurrAbForCausalLM, CurrAbForMaskedLM
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import MODES, Mode

NUM_GROUPS = 7  # every 7th residue masked at once: 14 %, about what training masked
# Exact marginals take long and gain nothing from other pairs in the batch: an interruption loses less of
# a small window.
WINDOW: dict[Mode, int] = {"exact": 32, "group": 256, "unmasked": 1024}


def require_masked(model: Any, what: str) -> None:
    """Refuse a causal model, which knows nothing of what follows."""
    if model.config.is_decoder:
        raise ValueError(
            f"{what} must have a masked model; got a causal one, which does not see what follows; name a "
            "masked checkpoint, or use score or generate"
        )


class Marginals:
    """Log-probabilities [R, V] over the vocabulary for the residues of each pair, in one of the modes.

    `exact` masks each residue alone. `group` masks every seventh at once, in seven passes. `unmasked` shows
    all of them, and so each residue to its own prediction, in one pass. Results are float32 whatever the
    model computes in.

    A causal model has one way and no modes: each residue given what precedes it, in one pass.
    """

    def __init__(
        self,
        model: CurrAbForMaskedLM | CurrAbForCausalLM,
        tokenizer: CurrAbTokenizer,
        mode: Mode = "exact",
        *,
        tokens_per_batch: int | None = None,
        layout: BatchLayout | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
        self.model, self.tokenizer, self.mode = model, tokenizer, mode
        self.layout, self.tokens_per_batch = layout, tokens_per_batch

    def __repr__(self) -> str:
        return f"Marginals({type(self.model).__name__}, mode={self.mode!r})"

    def stream(self, records: Iterable[Record]) -> Iterator[tuple[TokenRecord, Tensor]]:
        """Each record with its log-probabilities, in input order and constant memory."""
        for window in windows(records, WINDOW[self.mode]):
            tokens = tokenize(self.tokenizer, window)
            yield from zip(tokens, self.of(tokens), strict=True)

    def of(self, tokens: Sequence[TokenRecord]) -> list[Tensor]:
        """The same for records that are tokenized already, all at once."""
        if self.model.config.is_decoder:  # the logits of a token are those of the next
            return self.read_off([one.input_ids for one in tokens], [one.positions - 1 for one in tokens])
        if self.mode == "exact":
            return self._exact(tokens)
        if self.mode == "group":
            return self._grouped(tokens)
        return self.read_off([one.input_ids for one in tokens], [one.positions for one in tokens])

    def read_off(self, sequences: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Log-probabilities at `positions` of each sequence as it stands: one ordinary pass."""

        def run(batch: SequenceBatch) -> Sequence[Tensor]:
            wanted = [positions[member] + batch.starts[place] for place, member in enumerate(batch.members)]
            logits = self.model(
                **batch.model_inputs,
                output_positions=torch.cat(wanted).to(batch.input_ids.device),
            ).logits
            rows: Sequence[Tensor] = logits.float().log_softmax(-1).cpu().split([len(one) for one in wanted])
            return rows

        options: dict[str, Any] = {"tokens_per_batch": self.tokens_per_batch, "layout": self.layout}
        return map_batches(run, sequences, self.model, **options)

    def _exact(self, tokens: Sequence[TokenRecord]) -> list[Tensor]:
        device = self.model.device
        num_shares = torch.get_num_threads() if device.type == "cpu" else 1  # of the positions of each pair
        shares = [
            (one.input_ids.to(device), positions.to(device))
            for one in tokens
            for positions in one.positions.tensor_split(num_shares)
        ]

        def run(share: tuple[Tensor, Tensor]) -> Tensor:
            input_ids, positions = share
            rows = max(1, budget(device, self.tokens_per_batch) // len(input_ids))
            batches = [
                logits.float().log_softmax(-1).cpu()
                for logits in masked_logits(self.model, input_ids, positions, rows)
            ]
            return torch.cat(batches) if batches else torch.empty(0, self.model.config.vocab_size)

        rows = list(map_over_threads(run, shares, device))
        return [torch.cat(rows[at : at + num_shares]) for at in range(0, len(rows), num_shares)]

    def _grouped(self, tokens: Sequence[TokenRecord]) -> list[Tensor]:
        copies, masked = [], []
        for one in tokens:
            for group in range(NUM_GROUPS):
                positions = one.positions[group::NUM_GROUPS]
                copies.append(one.input_ids.index_fill(0, positions, self.model.config.mask_token_id))
                masked.append(positions)
        rows = self.read_off(copies, masked)
        out = []
        for number, one in enumerate(tokens):
            whole = torch.empty(len(one.positions), self.model.config.vocab_size)
            for group in range(NUM_GROUPS):
                whole[group::NUM_GROUPS] = rows[number * NUM_GROUPS + group]
            out.append(whole)
        return out
