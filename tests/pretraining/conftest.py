"""A small prepared corpus, and plans of seconds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan

TINY = {"hidden_size": 80, "intermediate_size": 160, "num_hidden_layers": 2, "initializer_range": 0.1}


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all test processes of a run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def prepared(shared: Path, name: str, rows: slice, chains: str) -> Path:
    folder = shared / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            source = shared / f"{name}.parquet"
            table = pq.read_table(builtin_path()).slice(rows.start, rows.stop - rows.start)
            if chains == "unpaired":
                table = table.drop_columns([name for name in table.column_names if "light" in name])
            pq.write_table(table, source)
            prepare([str(source)], folder, PreparationPlan(cluster="exact", chains=chains))
    return folder


@pytest.fixture(scope="session")
def corpus(shared_folder: Path) -> Path:
    """Pairs with region, segment and mutation masks, split and sharded."""
    return prepared(shared_folder, "pretraining-corpus", slice(0, 1_200), "paired")


@pytest.fixture(scope="session")
def single_chains(shared_folder: Path) -> Path:
    """Heavy chains alone, for curricula."""
    return prepared(shared_folder, "single-chains", slice(1_200, 2_000), "unpaired")


@pytest.fixture(scope="session")
def make_plan(corpus: Path) -> Callable[..., PretrainingPlan]:
    """A plan of a few seconds, with whatever is to differ."""

    def make(**changes: Any) -> PretrainingPlan:
        config = TINY | changes.pop("config", {})
        values = {
            "data": str(corpus),
            "steps": 6,
            "warmup_steps": 2,
            "pairs_per_step": 8,
            "pairs_per_micro_batch": 2,
            "peak_learning_rate": 3e-3,
            "precision": "fp32",
            "log_every": 1,
            "save_every": 2,
            "evaluate_every": 100,
            "evaluation_pairs": 10,
        }
        return resolve_plan({**values, **changes, "config": config})

    return make
