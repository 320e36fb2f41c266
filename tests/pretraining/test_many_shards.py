"""Twelve hundred shards where 256 files may be open: reading, verifying and training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.many_shards import write_many_shards

NUM_SHARDS, PAIRS_PER_SHARD = 1_200, 8

READ = """
from pathlib import Path

import numpy as np

from curr_ab.data import TokenDataset

data = TokenDataset({folder!r})
everything = data.gather(range(len(data)), ["region_mask"])
assert everything.lengths.tolist() == data.lengths().tolist()
assert data.num_tokens == len(everything.tokens) == len(everything.masks[0])
first = data.gather(range({pairs_per_shard}))
for pair in range(0, len(data), 97):
    start = first.lengths[: pair % {pairs_per_shard}].sum()
    assert np.array_equal(data[pair], first.tokens[start :][: len(data[pair])])
    assert data.heavy_length(pair) and data.mask(pair, "region_mask").any()
data.verify()
assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if ".npy" in line]
"""

TRAIN = """
import sys

sys.path.insert(0, {tests!r})
from support.tiny_models import TINY

from curr_ab.pretraining import resolve_plan
from curr_ab.pretraining.loop import pretrain

values = dict(data={folder!r}, steps=2, warmup_steps=0, pairs_per_step=64, precision="fp32", log_every=1)
pretrain(resolve_plan(values | dict(evaluation_pairs=4, config=TINY)), {out!r})
"""


@pytest.fixture(scope="module")
def folder(made_once) -> Path:
    return made_once("many-shards", lambda path: write_many_shards(path, NUM_SHARDS, PAIRS_PER_SHARD))


def run_with_few_files(script: str, **values: object) -> None:
    """Run a script that may have 256 files open."""
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
    command = [sys.executable, "-c", limit + script.format(**values)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as in the tests themselves
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.heavy
def test_all_is_read_with_few_files_open_and_nothing_mapped(folder) -> None:
    run_with_few_files(READ, folder=str(folder), pairs_per_shard=PAIRS_PER_SHARD)


@pytest.mark.heavy
def test_a_model_is_trained_with_few_files_open(folder, tmp_path) -> None:
    run_with_few_files(
        TRAIN, folder=str(folder), out=str(tmp_path / "run"), tests=str(Path(__file__).parents[1])
    )
    assert (tmp_path / "run" / "checkpoints" / "step2").is_dir()
