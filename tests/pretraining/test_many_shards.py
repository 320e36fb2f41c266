"""Twelve hundred shards where 256 files may be open: read, verified and trained on, as fast as twelve."""

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
assert not [one for one in Path("/proc/self/fd").iterdir() if ".npy" in str(one.resolve())]
"""

STEPS = """
import time
from pathlib import Path

from curr_ab.pretraining import resolve_plan
from curr_ab.pretraining.batches import TrainingData


def memory():
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0])  # kB that the system cannot drop


folders = ({few!r}, {many!r})
taken, grown = ([], []), []
for folder, times in zip(folders, taken):
    before = memory()
    data = TrainingData(resolve_plan(dict(data=folder, subset="F")))
    for step in range({steps}):
        data.step(step, 0, 1, 16)
    grown.append(memory() - before)
trainings = [TrainingData(resolve_plan(dict(data=folder, subset="F"))) for folder in folders]
for repetition in range(9):
    for data, times in zip(trainings, taken):
        began = time.process_time()
        for step in range({steps}):
            data.step(step, 0, 1, 16)
        if repetition:  # the first maps the shards
            times.append(time.process_time() - began)
ratio = min(taken[1]) / min(taken[0])
print(ratio, grown)
assert ratio < 1.4, taken
assert grown[1] - grown[0] < 10_000, grown
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
def test_all_is_read_with_few_files_open(folder) -> None:
    run_with_few_files(READ, folder=str(folder), pairs_per_shard=PAIRS_PER_SHARD)


@pytest.mark.heavy
def test_a_model_is_trained_with_few_files_open(folder, tmp_path) -> None:
    run_with_few_files(
        TRAIN, folder=str(folder), out=str(tmp_path / "run"), tests=str(Path(__file__).parents[1])
    )
    assert (tmp_path / "run" / "checkpoints" / "step2").is_dir()


@pytest.mark.heavy
def test_a_step_takes_the_time_and_memory_that_it_takes_from_twelve_shards(folder, made_once) -> None:
    few = made_once("few-shards", lambda path: write_many_shards(path, 12, 100 * PAIRS_PER_SHARD))
    run_with_few_files(STEPS, few=str(few), many=str(folder), steps=40)
