"""Numbers as people write them: 650M, 2.5e9, 1,648,726."""

from __future__ import annotations

import math

_SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}


def parse_quantity(text: str) -> float:
    """The number that `text` means; only positive, finite numbers are quantities."""
    written = text.strip().replace(",", "").replace("_", "")
    factor = _SUFFIXES.get(written[-1:].upper(), 1.0)
    try:
        value = float(written[:-1] if factor != 1.0 else written) * factor
    except ValueError:
        raise ValueError(f"{text!r} is not a number; write it as 650M, 2.5e9 or 1,648,726") from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{text!r} must be a positive, finite number")
    return value


def format_quantity(value: float) -> str:
    """`value` with three significant digits and the usual suffix."""
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "unbounded" if value > 0 else "-unbounded"
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if factor <= abs(value) < 1e15:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.4g}"


def format_duration(seconds: float) -> str:
    """Such as 42 s, 3 min 5 s, 2 h 10 min or 12 days 4 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days:,} days {hours} h"
