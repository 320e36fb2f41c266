"""Published figures of each member with their source: for comparison, never as our own measurement."""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "bioRxiv 2025.09.02.673765"
REPOSITORY = "github.com/brineylab/AbLMs-scaling-laws"
PAPER_PLOT = f"{PAPER}, figure (read off a plot, good to 0.00003)"

_SIZES = ("8M", "35M", "150M", "350M", "650M")


@dataclass(frozen=True)
class PublishedFigure:
    """Published number of a member; `part` names the part of the task where it is not of the whole."""

    member: str
    task: str
    metric: str
    value: float
    source: str
    part: str = ""


# (task, metric, source, data letter, one value for each size; None where the paper keeps no point)
_ROWS: tuple[tuple[str, str, str, str, tuple[float | None, ...]], ...] = (
    ("test-loss-2025-05", "loss", REPOSITORY, "F", (0.2903, 0.2868, 0.2857, 0.2859, 0.2866)),
    ("test-loss-2025-05", "loss", REPOSITORY, "H", (0.2925, 0.2884, 0.2902, 0.2905, 0.2895)),
    ("test-loss-2025-05", "loss", REPOSITORY, "Q", (0.2932, 0.2920, 0.2937, 0.2938, 0.2942)),
    ("test-loss-2025-09", "loss", PAPER_PLOT, "F", (None, 0.24016, 0.23945, 0.23978, 0.24010)),
    ("test-loss-2025-09", "loss", PAPER_PLOT, "H", (0.24502, 0.24165, 0.24300, 0.24328, None)),
    ("test-loss-2025-09", "loss", PAPER_PLOT, "Q", (0.24542, 0.24458, 0.24594, None, None)),
    ("specificity-binary", "accuracy", PAPER, "F", (0.6762, 0.6877, 0.7000, 0.7152, 0.7089)),
    ("specificity-binary", "accuracy", PAPER, "H", (0.6732, 0.6869, 0.6974, 0.7042, 0.6990)),
    ("specificity-binary", "accuracy", PAPER, "Q", (0.6740, 0.6820, 0.6884, 0.6945, 0.6909)),
    ("specificity-binary", "auroc", PAPER, "F", (0.7424, 0.7542, 0.7680, 0.7858, 0.7814)),
    ("specificity-binary", "aupr", PAPER, "F", (0.7334, 0.7495, 0.7668, 0.7877, 0.7858)),
    ("specificity-binary", "mcc", PAPER, "F", (0.3560, 0.3766, 0.4010, 0.4307, 0.4186)),
    ("specificity-binary", "f1", PAPER, "F", (0.6975, 0.6992, 0.7100, 0.7124, 0.7158)),
    ("specificity-multiclass", "accuracy", PAPER, "F", (0.6073, 0.6257, 0.6583, 0.6762, 0.6612)),
    ("specificity-multiclass", "macro-f1", PAPER, "F", (0.6059, 0.6257, 0.6583, 0.6768, 0.6617)),
    ("specificity-multiclass", "mcc", PAPER, "F", (0.4171, 0.4462, 0.4932, 0.5172, 0.4923)),
    ("pairing", "accuracy", PAPER, "F", (0.6573, 0.6833, 0.6696, 0.7047, 0.6915)),
    ("pairing", "accuracy", PAPER, "H", (0.6479, 0.6651, 0.6700, 0.6774, 0.6426)),
    ("pairing", "accuracy", PAPER, "Q", (0.6540, 0.6664, 0.6665, 0.6535, 0.6169)),
)

FIGURES: tuple[PublishedFigure, ...] = tuple(
    PublishedFigure(f"{size}-{letter}", task, metric, value, source)
    for task, metric, source, letter, values in _ROWS
    for size, value in zip(_SIZES, values, strict=True)
    if value is not None
)

# Each residue masked alone, in mutated heavy chains of the F members: median loss by region or segment.
_MEDIANS: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("heavy CDR3", (1.204, 1.153, 1.098, 1.102, 1.149)),
    ("CDRH3 D", (1.344, 1.289, 1.258, 1.266, 1.329)),
    ("CDRH3 N", (2.531, 2.516, 2.492, 2.500, 2.484)),
)
_BY_STATUS = (("both mutated", 0.667), ("both unmutated", 0.643), ("only one mutated", 0.824))

PART_FIGURES: tuple[PublishedFigure, ...] = (
    *(
        PublishedFigure(
            f"{size}-F", "regions", "median-loss", value, f"{PAPER}, figure (read off a plot)", part
        )
        for part, values in _MEDIANS
        for size, value in zip(_SIZES, values, strict=True)
    ),
    *(PublishedFigure("350M-F", "pairing", "accuracy", value, PAPER, part) for part, value in _BY_STATUS),
)


def figures_of(member: str) -> tuple[PublishedFigure, ...]:
    """All published figures of the member called `member`, such as `350M-F`."""
    return tuple(figure for figure in FIGURES if figure.member == member)
