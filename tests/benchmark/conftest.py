"""Planted tasks and peers in the place of files and models."""

import pytest
from support.benchmarks import PlantedPeer

from curr_ab.benchmark import run as run_module
from curr_ab.benchmark import works as works_module
from curr_ab.benchmark.plan import BenchmarkPlan, Suite, TaskRequest


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """`bench(tasks, peers, **plan)` runs a benchmark of them in `tmp_path`; without baselines of residues."""

    def run(tasks, peers, out=tmp_path / "out", options=None, **plan):
        by_name = {peer.name: peer for peer in peers}
        monkeypatch.setattr(works_module, "read_task", lambda name, files, options: tuple(tasks))
        monkeypatch.setattr(run_module, "find_peer", lambda name, **options: by_name[name])
        monkeypatch.setattr(
            run_module, "BASELINES", dict.fromkeys(run_module.BASELINES, ("guess",)) | NO_GUESS
        )
        request = TaskRequest("planted", (), *([options] if options else []))
        return run_module.run_benchmark(Suite((request,)), list(by_name), out, BenchmarkPlan(**plan))

    return run


NO_GUESS = {"ranking": (), "loss": ()}


@pytest.fixture
def seeing():
    return PlantedPeer()


@pytest.fixture
def blind():
    return PlantedPeer("blind", sees=False)
