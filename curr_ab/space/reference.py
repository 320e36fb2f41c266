"""Perplexities of a model on pairs of the package's own corpus, among which the app places a pair."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from curr_ab.data import builtin_path
from curr_ab.files import as_written, read_object, write_json
from curr_ab.inference.records import Record
from curr_ab.inference.scoring import Score
from curr_ab.inference.tasks import ScoreTask
from curr_ab.space.model import Model
from curr_ab.words import CHAINS, Mode

FORMAT = "curr-ab reference 2"
MODE: Mode = "group"  # of all scores of the app: they are compared with each other
PARTS = ("pair", *CHAINS)


@dataclass(frozen=True)
class Reference:
    """Perplexities of some pairs, each part's in ascending order, and the model that gave them."""

    model: str
    checkpoint: str
    corpus: str
    mode: Mode
    perplexities: Mapping[str, tuple[float, ...]]

    def percentile(self, part: str, perplexity: float) -> float:
        """The share of the pairs, in percent, that the model finds less natural than this perplexity."""
        known = self.perplexities[part]
        return 100 * (len(known) - bisect.bisect_right(known, perplexity)) / len(known)


def measure(model: Model, num_pairs: int) -> Reference:
    """Score the first pairs of the test split, which `demo` was not trained on."""
    import pyarrow.parquet as pq

    rows = pq.read_table(
        builtin_path(), columns=["id", "heavy", "light"], filters=[("split", "==", "test")]
    ).slice(0, num_pairs)
    records = [Record(**row, number=number) for number, row in enumerate(rows.to_pylist(), start=1)]
    scores: list[Score] = model.results(ScoreTask(mode=MODE), records)
    return Reference(
        model=model.name,
        checkpoint=model.digest,
        corpus=f"{len(records)} simulated pairs of the package's corpus (the first of its test split)",
        mode=MODE,
        # Rounded, so that the same file comes out on a machine whose last digits differ.
        perplexities={
            part: tuple(sorted(round(score.perplexity(part), 4) for score in scores)) for part in PARTS
        },
    )


def write_reference(reference: Reference, path: Path) -> None:
    """A file that lies beside the app, so that a Space starts without scoring the corpus."""
    write_json(path, {"format": FORMAT, **asdict(reference)})


def read_reference(path: Path) -> Reference:
    """The reference in a file; one of another format is refused."""
    content = read_object(path)
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"{path} must be in the format {FORMAT!r}; publish the Space anew")
    with as_written(path):
        parts = {part: tuple(map(float, content["perplexities"][part])) for part in PARTS}
        reference = Reference(**{**content, "perplexities": parts})
    if not all(parts.values()):
        raise ValueError(f"{path} must have a perplexity of each part; it has none; publish the Space anew")
    return reference
