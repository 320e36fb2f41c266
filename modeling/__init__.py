"""Configuration and model of the family: the part of the code that is pushed with every checkpoint."""

from .configuration_curr_ab import CurrAbConfig
from .modeling_curr_ab import (
    CurrAbForCausalLM,
    CurrAbForMaskedLM,
    CurrAbForSequenceClassification,
    CurrAbForTokenClassification,
    CurrAbModel,
    CurrAbPreTrainedModel,
)

__all__ = [
    "CurrAbConfig",
    "CurrAbForCausalLM",
    "CurrAbForMaskedLM",
    "CurrAbForSequenceClassification",
    "CurrAbForTokenClassification",
    "CurrAbModel",
    "CurrAbPreTrainedModel",
]
