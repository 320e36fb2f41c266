"""What the model says of every residue given the rest: the three ways on which all scores are built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from curr_ab.inference.masked_rows import masked_logits
from curr_ab.inference.records import Record, TokenRecord, tokenize, windows
from curr_ab.inference.threads import spread
from curr_ab.inference.token_batches import Layout, TokenBatch, budget, token_batches
from curr_ab.modeling import CurrAbForMaskedLM
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import MODES, Mode

NUM_GROUPS = 7  # every 7th residue masked at once: 14 %, about what training masked
# Exact marginals take long and gain nothing from other pairs in the batch: small pieces lose less.
WINDOW: dict[Mode, int] = {"exact": 32, "group": 256, "unmasked": 1024}


class Marginals:
    """Log-probabilities [R, V] over the vocabulary for the residues of each pair, in one of the modes.

    `exact` masks each residue alone. `group` masks every seventh at once, in seven passes. `unmasked` shows
    all of them, and so each residue to its own prediction, in one pass. Results are float32 whatever the
    model computes in.
    """

    def __init__(
        self,
        model: CurrAbForMaskedLM,
        tokenizer: CurrAbTokenizer,
        mode: Mode = "exact",
        *,
        tokens_per_batch: int | None = None,
        layout: Layout | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; choose one of {', '.join(MODES)}")
        self.model, self.tokenizer, self.mode = model, tokenizer, mode
        self.layout, self.tokens_per_batch = layout, tokens_per_batch

    def stream(self, records: Iterable[Record]) -> Iterator[tuple[TokenRecord, Tensor]]:
        """Each record with its log-probabilities, in input order and constant memory."""
        for window in windows(records, WINDOW[self.mode]):
            tokens = tokenize(self.tokenizer, window)
            yield from zip(tokens, self.of(tokens), strict=True)

    def of(self, tokens: Sequence[TokenRecord]) -> list[Tensor]:
        """The same for records that are tokenized already, all at once."""
        if self.mode == "exact":
            return self._exact(tokens)
        if self.mode == "group":
            return self._grouped(tokens)
        return self.read_off([one.input_ids for one in tokens], [one.positions for one in tokens])

    def read_off(self, sequences: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Log-probabilities at `positions` of each sequence as it stands: one ordinary pass."""
        out: list[Tensor] = [torch.empty(0)] * len(sequences)

        def run(batch: TokenBatch) -> list[tuple[int, Tensor]]:
            wanted = [positions[member] + batch.starts[place] for place, member in enumerate(batch.members)]
            logits = self.model(
                input_ids=batch.input_ids,
                position_ids=batch.position_ids,
                output_positions=torch.cat(wanted).to(batch.input_ids.device),
            ).logits
            found = logits.float().log_softmax(-1).cpu().split([len(one) for one in wanted])
            return list(zip(batch.members, found, strict=True))

        device, pad_id = self.model.device, self.model.config.pad_token_id
        batches = token_batches(
            sequences, device, pad_id=pad_id, tokens_per_batch=self.tokens_per_batch, layout=self.layout
        )
        for found in spread(run, batches, device):
            for member, log_probabilities in found:
                out[member] = log_probabilities
        return out

    def _exact(self, tokens: Sequence[TokenRecord]) -> list[Tensor]:
        device = self.model.device
        num_pieces = torch.get_num_threads() if device.type == "cpu" else 1
        pieces = [
            (one.input_ids.to(device), piece.to(device))
            for one in tokens
            for piece in one.positions.tensor_split(num_pieces)
        ]

        def run(piece: tuple[Tensor, Tensor]) -> Tensor:
            input_ids, positions = piece
            rows = max(1, budget(device, self.tokens_per_batch) // len(input_ids))
            parts = [
                logits.float().log_softmax(-1).cpu()
                for logits in masked_logits(self.model, input_ids, positions, rows)
            ]
            return torch.cat(parts) if parts else torch.empty(0, self.model.config.vocab_size)

        found = list(spread(run, pieces, device))
        return [torch.cat(found[at : at + num_pieces]) for at in range(0, len(found), num_pieces)]

    def _grouped(self, tokens: Sequence[TokenRecord]) -> list[Tensor]:
        copies, places = [], []
        for one in tokens:
            for group in range(NUM_GROUPS):
                positions = one.positions[group::NUM_GROUPS]
                copies.append(one.input_ids.index_fill(0, positions, self.model.config.mask_token_id))
                places.append(positions)
        found = self.read_off(copies, places)
        out = []
        for number, one in enumerate(tokens):
            whole = torch.empty(len(one.positions), self.model.config.vocab_size)
            for group in range(NUM_GROUPS):
                whole[group::NUM_GROUPS] = found[number * NUM_GROUPS + group]
            out.append(whole)
        return out
