"""Measured numbers, each with its data and its error: evaluation writes them, cards and fits read them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from curr_ab.files import file_digest, read_object, remove_half_written, write_json
from curr_ab.quantities import format_value

FORMAT = "curr-ab results 1"
Detail = str | int | float | bool


@dataclass(frozen=True)
class Result:
    """One number measured on one checkpoint; `task` and `metric` use the words of `curr_ab.published`.

    `model` is the member's name where it is one, else what was loaded. `num_items` counts what was averaged
    over: residues of a loss, pairs of a classification. `details` tells numbers of one task and metric apart:
    `{"region": "CDRH3"}`, `{"fold": 3}`. `checkpoint` is `checkpoint_digest` of what was measured, and
    `source` is how to measure it again: the command, or the file that the number was taken from.
    """

    model: str
    task: str
    metric: str
    value: float
    num_items: int
    dataset: str
    split: str
    checkpoint: str
    source: str
    code_version: str
    standard_error: float | None = None
    step: int | None = None
    details: Mapping[str, Detail] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = f"result {self.model} {self.task} {self.metric}"
        for text in ("model", "task", "metric", "dataset", "split", "checkpoint", "source", "code_version"):
            if not isinstance(getattr(self, text), str) or not getattr(self, text):
                raise ValueError(f"{name}: {text} must be text, not {getattr(self, text)!r}")
        numbers = {"value": self.value, "standard_error": self.standard_error}
        for key, number in numbers.items():
            if number is None and key == "standard_error":
                continue
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise ValueError(f"{name}: {key} must be a finite number, not {number!r}")
        if self.standard_error is not None and self.standard_error < 0:
            raise ValueError(f"{name}: standard_error is negative: {self.standard_error}")
        for key, count in {"num_items": self.num_items, "step": self.step}.items():
            if count is None and key == "step":
                continue
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ValueError(f"{name}: {key} must be a count, not {count!r}")
        if not isinstance(self.details, Mapping):
            raise ValueError(f"{name}: details must be values by name, not {self.details!r}")
        for key, detail in self.details.items():
            is_flat = isinstance(key, str) and isinstance(detail, str | int | float | bool)
            if not is_flat or (isinstance(detail, float) and not math.isfinite(detail)):
                raise ValueError(f"{name}: details hold text and finite numbers: {key!r} is {detail!r}")

    @property
    def identity(self) -> tuple[object, ...]:
        """The fields that tell numbers apart: two results of one identity repeat or contradict each other."""
        details = tuple(sorted((key, str(detail)) for key, detail in self.details.items()))
        return (self.model, self.task, self.metric, self.dataset, self.split, self.checkpoint, details)

    @property
    def shown(self) -> str:
        """The number as people read it, with its error where it is known."""
        return format_value(self.value, self.standard_error)


# The regions of the paper's figure, in which a chain's framework is one.
_PAPER_REGIONS = ("FWR", "CDR1", "CDR2", "CDR3")


HELD_OUT = "held-out pairs"  # the sample of real pairs that generated ones stand beside
# Of the many measures of generated pairs one of each kind, and none by the generator itself: its own samples
# always have the bits that it drew them by.
_OF_GENERATION = (
    *("heavy: numbered as this chain", "light: numbered as this chain"),
    *("heavy: V usage, total variation", "light: V usage, total variation"),
    *("heavy: CDR3 length, Wasserstein", "light: CDR3 length, Wasserstein"),
    "preferred light V family, above chance",
    *("light: unique", "light: in training"),
)


def is_headline(row: Result) -> bool:
    """True where cards and tables show it: not for single folds, nor regions that the paper does not have."""
    place = str(row.details.get("place", "all"))
    if row.task == "regions":
        of_paper = place.startswith("CDRH3") or place.partition(" ")[2] in _PAPER_REGIONS
        return row.metric == "median-loss" and of_paper and "residues" not in str(row.details["group"])
    if row.task == "generation":
        sample = str(row.details["sample"])
        drawn = sample.endswith("temperature 1")
        is_given = row.metric.startswith("heavy: ") and sample.startswith("given heavy")
        return row.metric in _OF_GENERATION and not is_given and (drawn or sample == HELD_OUT)
    return place == "all" and "fold" not in row.details


def write_results(path: str | Path, results: Iterable[Result]) -> None:
    """Replace the file, atomically; equal results give equal files, whatever their order."""
    rows = _distinct(results, str(path)).values()
    ordered = sorted(rows, key=lambda row: tuple(map(str, row.identity)))
    write_json(Path(path), {"format": FORMAT, "results": [asdict(row) for row in ordered]})


def read_results(path: str | Path) -> list[Result]:
    """All results of a file; anything that `write_results` would not have written is refused."""
    content = read_object(Path(path))
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a results file: its `format` is not {FORMAT!r}")
    if set(content) != {"format", "results"} or not isinstance(content["results"], list):
        raise ValueError(f"{path}: a results file holds `format` and the list `results`, nothing else")
    known = {item.name for item in fields(Result)}
    results = []
    for number, row in enumerate(content["results"], start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, result {number}: expected an object, found {row!r}")
        if unknown := sorted(set(row) - known):
            raise ValueError(
                f"{path}, result {number}: unknown key {unknown[0]!r}; the keys are {sorted(known)}"
            )
        try:
            results.append(Result(**row))
        except (TypeError, ValueError) as error:  # a missing key is a TypeError
            raise ValueError(f"{path}, result {number}: {error}") from None
    return list(_distinct(results, str(path)).values())


def add_results(path: str | Path, results: Iterable[Result]) -> None:
    """Add to a file, which need not exist; a number measured again replaces the earlier one.

    Whoever calls it holds the folder.
    """
    remove_half_written(Path(path))
    known = _distinct(read_results(path) if Path(path).exists() else [], str(path))
    write_results(path, {**known, **_distinct(results, str(path))}.values())


def checkpoint_digest(*weights: str | Path) -> str:
    """SHA-256 of a checkpoint's weights, in hexadecimal: what `Result.checkpoint` holds.

    `weights` is a file, or a folder that stands for its model.safetensors. Several files (an adapter and its
    base, or shards) give the digest of their digests.
    """
    paths = (path / "model.safetensors" if path.is_dir() else path for path in map(Path, weights))
    return joined_digest([file_digest(path) for path in paths])


def joined_digest(digests: Sequence[str]) -> str:
    """`checkpoint_digest` of files that have these."""
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _distinct(results: Iterable[Result], source: str) -> dict[tuple[object, ...], Result]:
    by_identity: dict[tuple[object, ...], Result] = {}
    for row in results:
        if row.identity in by_identity:
            raise ValueError(
                f"{source}: {row.model} {row.task} {row.metric} {dict(row.details)} occurs twice; "
                "keep one, or tell them apart in `details`"
            )
        by_identity[row.identity] = row
    return by_identity
