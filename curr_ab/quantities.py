"""Numbers as people write them: 650M, 0.2868 ± 0.0012, 3 h 12 min, 1.3 GB; and how far tables are apart."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

_GROUPED = re.compile(r"[1-9]\d{0,2}(,\d{3})+(?![,\d])")
_SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}


def parse_quantity(text: str) -> float:
    """The number that `text` means; only positive, finite numbers are quantities."""
    written = text.strip().replace("_", "")
    if "," in written and not _GROUPED.match(written):  # 0,312 is what half of the world writes for 0.312
        raise ValueError(f"{text!r} has a comma that parts no thousands; write it as 0.312 or 1,648,726")
    written = written.replace(",", "")
    factor = _SUFFIXES.get(written[-1:].upper(), 1.0)
    try:
        value = float(written[:-1] if factor != 1.0 else written) * factor
    except ValueError:
        raise ValueError(f"{text!r} is not a number; write it as 650M, 2.5e9 or 1,648,726") from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{text!r} must be a positive, finite number")
    return value


def largest_difference(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], *, relative: bool = False
) -> float:
    """Between two tables, `relative` for large numbers; infinite where shapes differ or one is not finite."""
    if [len(row) for row in first] != [len(row) for row in second]:
        return math.inf
    pairs = [
        (a, b) for left, right in zip(first, second, strict=True) for a, b in zip(left, right, strict=True)
    ]
    if not all(math.isfinite(a) and math.isfinite(b) for a, b in pairs):
        return math.inf
    return max((abs(a - b) / (max(1.0, abs(a)) if relative else 1.0) for a, b in pairs), default=math.inf)


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


def format_value(value: float, error: float | None = None, *, digits: int | None = None) -> str:
    """A measured number, with its standard error where that is known.

    Without `digits` each has four decimals, or the leading digits where these would say nothing.
    """
    numbers = [value] if error is None else [value, error]
    if digits is not None:
        return " ± ".join(f"{number:.{digits}f}" for number in numbers)
    return " ± ".join(
        f"{number:.4f}" if number == 0 or abs(number) >= 0.01 else f"{number:.3g}" for number in numbers
    )


def format_setting(value: object) -> str:
    """A value of a plan or a record, of any type, as people write it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_setting(item)}" for key, item in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(format_setting, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else f"{value:g}"


def format_duration(seconds: float) -> str:
    """Seconds in the two units in which people speak of so many: `42 s`, `3 h 12 min`, `26 days 4 h`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days:,} days {hours} h"


def format_bytes(num_bytes: float) -> str:
    """Bytes with three significant digits in decimal units, as disks and the Hub count them."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
