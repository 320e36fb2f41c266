"""Names of the features that a probe may see, without torch: recipes and the command line check them."""

from __future__ import annotations

MIDDLE = "middle-layer-"
CLS = "cls"
_OF_A_LAYER = ("mean-per-chain", "cdrs", "cdr3s", "mean")
MEMBER_FEATURES = (*_OF_A_LAYER, *(f"{MIDDLE}{name}" for name in _OF_A_LAYER), CLS)
RESIDUE_FEATURES = ("residue", f"{MIDDLE}residue")
CDRS, CDR3 = "246", "6"  # letters of region masks that these features are of
JOIN = "+"  # between the names of sets that stand side by side


def features_for(*, causal: bool) -> tuple[str, ...]:
    """The sets of a pair that a choice is made of; the first token of a causal member sees no residue."""
    return tuple(name for name in MEMBER_FEATURES if not (causal and name == CLS))
