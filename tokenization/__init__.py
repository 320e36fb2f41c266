"""Tokenizer of the family: pushed with every checkpoint."""

from .tokenization_curr_ab import CurrAbTokenizer

__all__ = ["CurrAbTokenizer"]
