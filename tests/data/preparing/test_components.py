"""Rows of equal keys are found whatever fits into memory."""

from __future__ import annotations

import numpy as np
import pytest

from curr_ab.data.preparing import components
from curr_ab.data.preparing.components import repeated


@pytest.mark.parametrize("block", [1 << 22, 100, 7])  # one file of keys, several, and many
@pytest.mark.parametrize("num_values", [1, 30, 1 << 60])
def test_repeated_keys(tmp_path, monkeypatch, block, num_values) -> None:
    monkeypatch.setattr(components, "BLOCK", block)
    draws = np.random.default_rng(0)
    keys = draws.integers(0, num_values, 1_000, np.uint64) * np.uint64((1 << 64) // num_values - 1)
    keys[-1] = keys[0]
    first_of: dict[int, int] = {}
    expected = {row: first_of.setdefault(key, row) for row, key in enumerate(keys.tolist())}
    found: dict[int, int] = {}
    for rows, firsts in repeated(keys, tmp_path / "work"):
        found.update(zip(rows.tolist(), firsts.tolist(), strict=True))
    assert found == {row: first for row, first in expected.items() if row != first}
    assert found[len(keys) - 1] == 0
    assert not any((tmp_path / "work").iterdir())


def test_each_key_is_sorted_once(tmp_path, monkeypatch) -> None:
    """Ten times the keys are ten times the work: no key is looked at once for each part of them."""
    monkeypatch.setattr(components, "BLOCK", 100)
    sorted_rows = []
    argsort = np.argsort
    monkeypatch.setattr(
        np, "argsort", lambda keys, **options: sorted_rows.append(len(keys)) or argsort(keys, **options)
    )
    keys = np.random.default_rng(0).integers(0, 1 << 63, 10_000, np.uint64) * np.uint64(2)
    assert not any(len(rows) for rows, _ in repeated(keys, tmp_path))
    assert sum(sorted_rows) == 2 * len(keys)  # to spread it over the files, and within its file
    assert max(sorted_rows) < 300
