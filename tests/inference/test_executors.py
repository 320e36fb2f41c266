"""Bulk commands by workers that are not their own."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.dask_cluster import dask_client
from support.tiny_models import PAIRS

from curr_ab.checkpoints import Checkpoint
from curr_ab.inference import run_bulk
from curr_ab.inference.tasks import ScoreTask

__all__ = ["dask_client"]


@pytest.mark.heavy
def test_same_table_by_two_workers_of_dask_and_by_threads(folder, tmp_path, dask_client):
    pairs = [{"id": str(i), "heavy": heavy, "light": light} for i, (heavy, light) in enumerate(PAIRS * 4)]
    checkpoint = Checkpoint(str(folder), device="cpu", dtype="float32")

    def table(name, executor=None):
        options = {"records_per_part": 4, "progress": False, "executor": executor}
        run_bulk(ScoreTask(mode="unmasked"), checkpoint, pairs, tmp_path / name, **options)
        return (tmp_path / name).read_bytes()

    expected = table("alone.csv")
    with dask_client.get_executor() as executor:
        assert table("dask.csv", executor) == expected
    with ThreadPoolExecutor(2) as executor:
        assert table("threads.csv", executor) == expected
