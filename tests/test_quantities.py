"""Numbers as text: one form each in cards, reports, plans and messages."""

from __future__ import annotations

import pytest

from curr_ab.quantities import (
    format_bytes,
    format_duration,
    format_quantity,
    format_setting,
    format_value,
    largest_difference,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_quantity(355_252_514), "355M"),
        (format_quantity(250), "250"),
        (format_quantity(float("inf")), "unbounded"),
        (format_value(0.28684), "0.2868"),
        (format_value(0.28684, 0.00123), "0.2868 ± 0.00123"),
        (format_value(0.0, 0.01), "0.0000 ± 0.0100"),
        (format_value(0.28684, 0.00123, digits=3), "0.287 ± 0.001"),
        (format_value(1.5, digits=1), "1.5"),
        (format_setting(500_000), "500,000"),
        (format_setting(128), "128"),
        (format_setting(1e-4), "0.0001"),
        (format_setting(True), "True"),
        (format_setting({"a": 1, "b": [2, "c|d"]}), "a 1, b 2, c|d"),
        (format_setting(()), ""),
        (format_duration(42.4), "42 s"),
        (format_duration(59.7), "1 min 0 s"),
        (format_duration(3599), "59 min 59 s"),
        (format_duration(3 * 3600 + 12 * 60 + 29), "3 h 12 min"),
        (format_duration(626 * 3600), "26 days 2 h"),
        (format_bytes(999), "999 B"),
        (format_bytes(12_345_678), "12.3 MB"),
        (format_bytes(2.6e15), "2.6e+03 TB"),
    ],
)
def test_numbers_are_written_as_people_write_them(text: str, expected: str) -> None:
    assert text == expected


def test_the_largest_difference_is_infinite_where_there_is_none():
    nan, inf = float("nan"), float("inf")
    assert largest_difference([[1.0, 2.0]], [[1.5, 2.0]]) == 0.5
    assert largest_difference([[100.0]], [[101.0]], relative=True) == 0.01
    for first, second in (
        ([[nan]], [[1.0]]),
        ([[1.0]], [[nan]]),
        ([[inf]], [[inf]]),
        ([[1.0]], [[1.0, 2.0]]),
        ([], []),
    ):
        assert largest_difference(first, second) == largest_difference(second, first) == inf
        assert largest_difference(first, second, relative=True) == inf
