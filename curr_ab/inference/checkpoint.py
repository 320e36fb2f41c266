"""A model by name and the number type to run it in, so that every process can load the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

from curr_ab.family import NAMESPACE
from curr_ab.inference.precision import Precision, choose_precision
from curr_ab.loading import load
from curr_ab.modeling import CurrAbPreTrainedModel
from curr_ab.tokenization import CurrAbTokenizer


@dataclass(frozen=True)
class Checkpoint:
    """What to load and how; `device` names a kind, and process n takes the n-th of several GPUs."""

    name: str
    head: str = "masked-lm"
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    namespace: str = NAMESPACE
    separator: str | None = None

    def place(self, process: int = 0) -> torch.device:
        if self.device != "auto":
            return torch.device(self.device)
        if torch.cuda.is_available():
            return torch.device("cuda", process % torch.cuda.device_count())
        return torch.device("cpu")

    def precision(self) -> Precision:
        return choose_precision(self.place(), self.dtype)

    def load(self, process: int = 0) -> tuple[CurrAbPreTrainedModel, CurrAbTokenizer]:
        return load(
            self.name,
            head=self.head,
            revision=self.revision,
            device=self.place(process),
            dtype=self.precision().dtype,
            namespace=self.namespace,
            separator=self.separator,
        )


def fingerprint(model: Any, tokenizer: CurrAbTokenizer) -> str:
    """A digest of weights, number type and separator: results of another model must not be mixed in."""
    digest = hashlib.sha256(tokenizer.separator.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
