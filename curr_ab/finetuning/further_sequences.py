"""Sequences without labels, from any file that the readers take, for the masked training before a head."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from curr_ab.data.preparing.clean import REASONS, drop_reasons
from curr_ab.data.preparing.plan import CleaningLimits
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.objects import tables_of
from curr_ab.data.reading.pairs import read_source
from curr_ab.data.reading.samples import group_sources
from curr_ab.finetuning.adapter import without_folders
from curr_ab.finetuning.examples import Examples, Indices
from curr_ab.finetuning.labelled_pairs import Example
from curr_ab.finetuning.recipe import Recipe
from curr_ab.options import OptionError

_TOO_LONG = "more residues than max_residues"


@dataclass(frozen=True, eq=False)
class FurtherSequences:
    """Pairs and single chains to train on; none is the same as no files."""

    items: tuple[Example, ...] = ()
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    _beside: dict[bytes, tuple[Example, ...]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of the chains, in order; None where there are none."""
        if not self.items:
            return None
        digest = hashlib.sha256()
        for item in self.items:
            digest.update(repr(item.chains).encode())
        return digest.hexdigest()

    @property
    def num_residues(self) -> int:
        return sum(item.num_residues for item in self.items)

    @property
    def facts(self) -> dict[str, Any]:
        """What the record of a fine-tuning says of them; nothing where there are none."""
        if not self.items:
            return {}
        return {"adapted on, beside the training part": list(self.sources), "its records": len(self.items)}

    def beside(self, examples: Examples, train: Indices) -> tuple[Example, ...]:
        """Those that share no chain with an example outside this training part."""
        key = train.tobytes()
        if key not in self._beside:
            inside = set(train.tolist())
            others = [example for index, example in enumerate(examples) if index not in inside]
            held_out = {chain for example in others for chain in example.chains if chain}
            self._beside[key] = tuple(item for item in self.items if held_out.isdisjoint(item.chains))
        return self._beside[key]


def read_further(given: Any, recipe: Recipe) -> FurtherSequences:
    """The sequences of files or objects, each once; what `prepare` would drop is dropped, and counted."""
    if isinstance(given, Sequence) and not given:
        return FurtherSequences()
    tables = tables_of(given)
    if not recipe.adapt_epochs:
        raise OptionError(
            "adapt_epochs must be 1 or more with adapt_data, which is for masked training; got 0",
            *("adapt_epochs", "adapt_data"),
        )
    found: dict[tuple[str | None, str | None], Example] = {}
    dropped: Counter[str] = Counter()
    for sample in group_sources(tables, ColumnNames()):
        for batch in read_source(sample, ColumnNames(), "either"):
            reasons = drop_reasons(batch, CleaningLimits(), paired=False).to_pylist()
            chains = zip(batch["heavy"].to_pylist(), batch["light"].to_pylist(), strict=True)
            for (heavy, light), reason in zip(chains, reasons, strict=True):
                item = Example("", heavy, light, 0, None, len(found))
                if reason is None and item.num_residues > recipe.max_residues:
                    reason = _TOO_LONG
                if reason is None and item.chains in found:
                    reason = "duplicate"
                if reason is None:
                    found[item.chains] = item
                else:
                    dropped[REASONS.get(reason, reason)] += 1
    named = ", ".join(f"{count:,} ({reason})" for reason, count in dropped.most_common())
    if not found:
        got = f"none, but {named}" if dropped else "none"
        raise OptionError(f"adapt_data must hold a record that can be trained on; got {got}", "adapt_data")
    notes = [f"{len(found):,} further records for the masked training"]
    if dropped:
        notes.append(f"{dropped.total():,} further records are dropped: {named}")
    sources = (without_folders(str(getattr(table, "source", table))) for table in tables)
    return FurtherSequences(tuple(found.values()), tuple(sources), tuple(notes))
