"""Data from a user's files to the trainer: reading, cleaning, splits, shards, simulation, description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.data.description import describe
    from curr_ab.data.preparing.plan import CleaningLimits, PreparationPlan
    from curr_ab.data.preparing.prepare import prepare
    from curr_ab.data.reading.column_names import ColumnNames
    from curr_ab.data.reading.formats import builtin_path
    from curr_ab.data.reading.pairs import read_pairs
    from curr_ab.data.reading.sources import MalformedSource
    from curr_ab.data.schema import PAIR_SCHEMA
    from curr_ab.data.shards import TokenDataset
    from curr_ab.data.simulation import simulate_pairs
    from curr_ab.data.tokens import decode_pair, encode_pairs

# Imported when first asked for: the command line lists its commands without pyarrow.
_LAZY = {
    "PAIR_SCHEMA": "schema",
    "CleaningLimits": "preparing.plan",
    "ColumnNames": "reading.column_names",
    "MalformedSource": "reading.sources",
    "PreparationPlan": "preparing.plan",
    "TokenDataset": "shards",
    "builtin_path": "reading.formats",
    "decode_pair": "tokens",
    "describe": "description",
    "encode_pairs": "tokens",
    "prepare": "preparing.prepare",
    "read_pairs": "reading.pairs",
    "simulate_pairs": "simulation",
}
__all__ = [
    "PAIR_SCHEMA",
    "CleaningLimits",
    "ColumnNames",
    "MalformedSource",
    "PreparationPlan",
    "TokenDataset",
    "builtin_path",
    "decode_pair",
    "describe",
    "encode_pairs",
    "prepare",
    "read_pairs",
    "simulate_pairs",
]

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
