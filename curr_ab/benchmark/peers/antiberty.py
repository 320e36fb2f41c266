"""AntiBERTy as a model of chains: Ruffolo et al. 2021, arXiv:2112.07782, a BERT of single antibody chains.

Its weights are those of a plain `BertForMaskedLM`, with heads besides that nothing here reads, and its
vocabulary has 25 tokens. So transformers loads it, and its own package is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from curr_ab.benchmark.peers.forms import Layers
from curr_ab.benchmark.peers.options import PeerOptions
from curr_ab.checkpoint_files import CONFIG, find_weights
from curr_ab.checkpoints import Checkpoint, load_weights
from curr_ab.files import read_object
from curr_ab.inference.marginals import NUM_GROUPS
from curr_ab.inference.token_batches import SequenceBatch, map_batches
from curr_ab.measures.metrics import Floats
from curr_ab.results import checkpoint_digest
from curr_ab.words import STANDARD_RESIDUES, Mode

NAME = "antiberty"
REPOSITORY, REVISION = "jeffruffolo/AntiBERTy", "d582006e0c7dc6917d26fa60740a357e8df7b466"
FOLDER_VARIABLE = "ANTIBERTY_WEIGHTS_DIR"  # as its own package calls it
PAD, UNKNOWN, CLS, SEP, MASK = range(5)
_ID_OF = {letter: number for number, letter in enumerate(STANDARD_RESIDUES, start=MASK + 1)}
VOCAB_SIZE = MASK + 1 + len(STANDARD_RESIDUES)
MAX_RESIDUES = 510  # 512 positions, of which the first and the last token take one each
# Of which all masked copies lie in memory at once.
_CHAINS_AT_ONCE: dict[Mode, int] = {"exact": 32, "group": 256, "unmasked": 1_024}


class Files(NamedTuple):
    """A folder, or a repository and its revision."""

    source: str
    revision: str | None


def find_files(name: str, revision: str | None = None) -> Files:
    """Where the weights are: the folder that is named, or that of the variable, or the repository."""
    if name.lower() != NAME:
        return Files(name, revision)
    if folder := os.environ.get(FOLDER_VARIABLE):
        if not is_antiberty(folder):
            raise ValueError(
                f"{FOLDER_VARIABLE} must name a folder with AntiBERTy's {CONFIG} and weights; got "
                f"{folder!r}; correct it, or unset it to take the weights from the Hub"
            )
        return Files(folder, None)
    return Files(REPOSITORY, revision or REVISION)


def is_antiberty(folder: str) -> bool:
    """True for a folder with a BERT of that vocabulary."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        return False
    config = read_object(path)
    return config.get("model_type") == "bert" and config.get("vocab_size") == VOCAB_SIZE


@dataclass(frozen=True, eq=False)
class AntibertyModel:
    """AntiBERTy's weights with the options of the peer, loaded when it is first asked."""

    files: Files
    options: PeerOptions
    name: str = "AntiBERTy"

    @cached_property
    def digest(self) -> str:
        return checkpoint_digest(*find_weights(self.files.source, revision=self.files.revision))

    @cached_property
    def loaded(self) -> Any:
        """The model, on its device, for evaluation."""
        from transformers import BertForMaskedLM

        checkpoint = Checkpoint(self.files.source, device=self.options.device, dtype=self.options.dtype)
        device = checkpoint.device_of()
        model: Any = load_weights(
            BertForMaskedLM,
            self.files.source,
            wanted="AntiBERTy's",
            revision=self.files.revision or "main",
            dtype=checkpoint.precision().dtype,
        )
        return model.eval().to(device)

    @property
    def num_parameters(self) -> int:
        return int(self.loaded.num_parameters())

    def layers(self, chains: Sequence[str]) -> list[Layers]:
        model = self.loaded
        middle = (model.config.num_hidden_layers + 1) // 2

        def run(batch: SequenceBatch) -> list[Layers]:
            states = self._encode(batch, output_hidden_states=True).hidden_states
            inside = _are_residues(batch.input_ids).cpu()
            last, at_middle = (states[at].float().cpu() for at in (-1, middle))
            rows = zip(last, at_middle, inside, strict=True)
            return [Layers(a[own].numpy(), b[own].numpy(), a[0].numpy().copy()) for a, b, own in rows]

        return self._map(run, _encoded(chains))

    def log_likelihoods(self, chains: Sequence[str]) -> list[Floats]:
        """The log-probability of each residue among the twenty; NaN where it is none of them."""
        mode, encoded = self.options.mode, _encoded(chains)
        found: list[Floats] = []
        for begin in range(0, len(encoded), _CHAINS_AT_ONCE[mode]):
            found += self._log_likelihoods(encoded[begin : begin + _CHAINS_AT_ONCE[mode]], mode)
        return found

    def _log_likelihoods(self, encoded: Sequence[Tensor], mode: Mode) -> list[Floats]:
        copies, places, owners = [], [], []
        for owner, ids in enumerate(encoded):
            for positions in _groups(torch.nonzero(ids > MASK)[:, 0], mode):
                copies.append(ids if mode == "unmasked" else ids.index_fill(0, positions, MASK))
                places.append(positions)
                owners.append(owner)

        def run(batch: SequenceBatch) -> Sequence[Tensor]:
            states = self._encode(batch).last_hidden_state
            rows = [torch.full_like(places[member], row) for row, member in enumerate(batch.members)]
            wanted = [places[member] for member in batch.members]
            own = [encoded[owners[member]][places[member]] for member in batch.members]
            logits = self.loaded.cls(states[torch.cat(rows), torch.cat(wanted)]).float()
            logits[:, : MASK + 1] = -torch.inf  # a residue is one of the twenty
            known = logits.log_softmax(-1).cpu().gather(1, torch.cat(own)[:, None])[:, 0]
            parts: Sequence[Tensor] = torch.split(known, [len(one) for one in wanted])
            return parts

        out = [np.full(len(ids) - 2, np.nan) for ids in encoded]
        for owner, at, values in zip(owners, places, self._map(run, copies), strict=True):
            out[owner][at.numpy() - 1] = values.double().numpy()
        return out

    def _encode(self, batch: SequenceBatch, **options: Any) -> Any:
        is_token = batch.input_ids != PAD
        mask = None if bool(is_token.all()) else is_token.long()
        return self.loaded.bert(input_ids=batch.input_ids, attention_mask=mask, **options)

    def _map(self, run: Callable[[SequenceBatch], Sequence[Any]], sequences: Sequence[Tensor]) -> list[Any]:
        return map_batches(run, sequences, self.loaded)


def _encoded(chains: Sequence[str]) -> list[Tensor]:
    """Token ids of each chain; letters that are no standard residue are unknown."""
    for number, chain in enumerate(chains, start=1):
        if not 0 < len(chain) <= MAX_RESIDUES:
            raise ValueError(
                f"chain {number:,} ({chain[:12]}...) must have 1 to {MAX_RESIDUES} residues for AntiBERTy; "
                f"got {len(chain)}; cut its variable domain out, as `curr-ab number` shows it"
            )
    return [torch.tensor([CLS, *(_ID_OF.get(letter, UNKNOWN) for letter in chain), SEP]) for chain in chains]


def _are_residues(input_ids: Tensor) -> Tensor:
    return (input_ids == UNKNOWN) | (input_ids >= MASK)


def _groups(positions: Tensor, mode: Mode) -> Iterator[Tensor]:
    """Positions that are masked together."""
    if mode == "unmasked":
        yield positions
    elif mode == "group":
        yield from (positions[group::NUM_GROUPS] for group in range(NUM_GROUPS))
    else:
        yield from positions[:, None]
