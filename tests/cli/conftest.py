"""Pairs of the built-in corpus as rows, and a writer of files."""

from support.pair_files import corpus, write

__all__ = ["corpus", "write"]
