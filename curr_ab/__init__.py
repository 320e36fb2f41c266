"""Paired antibody language models: 15 checkpoints, from the data to the Hub."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from curr_ab.family import MEMBERS, Member, member, members

if TYPE_CHECKING:
    from curr_ab.loading import load
    from curr_ab.modeling import (
        CurrAbConfig,
        CurrAbForMaskedLM,
        CurrAbForSequenceClassification,
        CurrAbForTokenClassification,
        CurrAbModel,
    )
    from curr_ab.tokenization import CurrAbTokenizer

__version__ = "0.1.0"
__all__ = [
    "MEMBERS",
    "CurrAbConfig",
    "CurrAbForMaskedLM",
    "CurrAbForSequenceClassification",
    "CurrAbForTokenClassification",
    "CurrAbModel",
    "CurrAbTokenizer",
    "Member",
    "load",
    "member",
    "members",
]

# Imported when first asked for: `curr-ab models` needs neither torch nor transformers.
_LAZY = {
    "CurrAbConfig": "curr_ab.modeling",
    "CurrAbForMaskedLM": "curr_ab.modeling",
    "CurrAbForSequenceClassification": "curr_ab.modeling",
    "CurrAbForTokenClassification": "curr_ab.modeling",
    "CurrAbModel": "curr_ab.modeling",
    "CurrAbTokenizer": "curr_ab.tokenization",
    "load": "curr_ab.loading",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'curr_ab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
