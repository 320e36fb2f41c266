"""Paired antibody language models: 15 checkpoints, from the data to the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names
from curr_ab.family import MEMBERS, Member, member, members

if TYPE_CHECKING:
    from curr_ab.checkpoint_files import resolve
    from curr_ab.checkpoints import load
    from curr_ab.modeling import (
        CurrAbConfig,
        CurrAbForCausalLM,
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
    "CurrAbForCausalLM",
    "CurrAbForMaskedLM",
    "CurrAbForSequenceClassification",
    "CurrAbForTokenClassification",
    "CurrAbModel",
    "CurrAbTokenizer",
    "Member",
    "load",
    "member",
    "members",
    "resolve",
]

# Imported when first asked for: `curr-ab models` needs neither torch nor transformers.
_LAZY = {
    "CurrAbConfig": "modeling",
    "CurrAbForCausalLM": "modeling",
    "CurrAbForMaskedLM": "modeling",
    "CurrAbForSequenceClassification": "modeling",
    "CurrAbForTokenClassification": "modeling",
    "CurrAbModel": "modeling",
    "CurrAbTokenizer": "tokenization",
    "load": "checkpoints",
    "resolve": "checkpoint_files",
}

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
