"""A small prepared corpus, and plans of seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.tiny_models import TINY

from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan

MadeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def corpus(made_once: MadeOnce) -> Path:
    """Pairs with region, segment and mutation masks, split and sharded."""

    def make(folder: Path) -> None:
        source = folder.with_suffix(".parquet")
        pq.write_table(pq.read_table(builtin_path()).slice(0, 1_200), source)
        prepare([str(source)], folder, PreparationPlan(cluster="exact"))

    return made_once("pretraining-corpus", make)


@pytest.fixture(scope="session")
def single_chains(made_once: MadeOnce) -> Path:
    """Heavy chains alone, for curricula."""

    def make(folder: Path) -> None:
        source = folder.with_suffix(".parquet")
        table = pq.read_table(builtin_path()).slice(1_200, 800)
        pq.write_table(table.drop_columns([name for name in table.column_names if "light" in name]), source)
        prepare([str(source)], folder, PreparationPlan(cluster="exact", chains="unpaired"))

    return made_once("single-chains", make)


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
