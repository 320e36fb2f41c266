"""Colours of data sets and sizes, safe for colour-blind readers, on light and on dark paper."""

from __future__ import annotations

# After Okabe and Ito, darker or lighter until each stands out from its paper by 3 to 1.
_DATA = (
    ("#c4500a", "#ff9a5c"),
    ("#00805d", "#3fd0a2"),
    ("#0068ad", "#6db9f2"),
    ("#a3457c", "#ee9fcb"),
    ("#6b6b6b", "#b9b9b9"),
    ("#8a6d00", "#e5cf58"),
)
# Sizes are ordered, so their colours are a ramp: the ends and the middle of it.
_SIZES = (("#c27800", "#ffe08a"), ("#b03a74", "#f58c6c"), ("#2b1b6b", "#b89bf2"))


def rules(num_data: int, num_sizes: int) -> str:
    """The classes d0, d1 … of data sets and s0, s1 … of sizes, as CSS."""
    data = [_DATA[index % len(_DATA)] for index in range(num_data)]
    sizes = [_ramp(index / max(1, num_sizes - 1)) for index in range(num_sizes)]
    light, dark = (
        "".join(
            f".{letter}{index}{{color:{pair[paper]}}}"
            for letter, pairs in (("d", data), ("s", sizes))
            for index, pair in enumerate(pairs)
        )
        for paper in (0, 1)
    )
    return f"{light}@media screen and (prefers-color-scheme:dark){{{dark}}}"


def _ramp(share: float) -> tuple[str, str]:
    first = min(int(share * 2), 1)
    between = share * 2 - first
    light, dark = (_mix(a, b, between) for a, b in zip(_SIZES[first], _SIZES[first + 1], strict=True))
    return light, dark


def _mix(one: str, other: str, share: float) -> str:
    pairs = ((int(one[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
