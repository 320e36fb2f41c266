"""Tables of runs simulated from known laws."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import simulated_runs

from curr_ab.scaling import Runs

Simulate = Callable[..., Runs]


@pytest.fixture
def parametric_runs() -> Simulate:
    return simulated_runs.parametric_runs


@pytest.fixture
def repeated_runs() -> Simulate:
    return simulated_runs.repeated_runs
