"""Everything of one release at once, from folders to the Hub and back; and killed on the way, often."""

from __future__ import annotations

import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.finetuned_models import save_tuned, tune

from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.hub.card import write_card
from curr_ab.measures import MODULES
from tests.hub.conftest import WRITER, LocalHub, assert_no_token, running_hub
from tests.hub.test_publishing import writes

BASE = "brineylab/CurrAb-350M-F"
ADAPTER = f"{BASE}-classes-of-pairs"
DATA, METRIC, APP = "brineylab/CurrAb-pairs", "brineylab/classification", "brineylab/CurrAb-demo"
KILLS = 10


@dataclass(frozen=True)
class Release:
    """The command that publishes a model, adapter, data, metric and app, and what comes of it."""

    command: tuple[str | Path, ...]
    state: dict  # of a Hub to which it was published undisturbed
    num_writes: int  # that it took


def without_log(state: dict) -> dict:
    """What a Hub holds, but for what is another on each: numbers of commits, and the address of its wheel."""
    repos = {name: {**repo, "tags": sorted(repo["tags"])} for name, repo in state["repos"].items()}
    for app in (repos[APP],) if APP in repos else ():
        files = app["branches"].get("main", {})
        app["branches"] = {"main": {**files, "requirements.txt": "requirements.txt" in files}}
    return {"repos": repos, "collections": state["collections"]}


@pytest.fixture(scope="module")
def release(family, tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    model = family / "CurrAb-350M-F"
    adapter = save_tuned(tune(model), root / "adapter", model)
    write_card(adapter, base_model=BASE)
    pq.write_table(pq.read_table(builtin_path()).slice(0, 200), root / "pairs.parquet")
    data = root / "CurrAb-pairs"
    prepare([str(root / "pairs.parquet")], data, PreparationPlan(cluster="exact"))
    write_card(data, namespace="brineylab", license="cc-by-4.0")
    metric = shutil.copytree(MODULES / "classification", root / "classification")
    command = ("publish", model, adapter, metric, "--dataset", data, "--space", "demo")
    command += ("--reference-pairs", "2", "--namespace", "brineylab", "--collection", "CurrAb")
    with running_hub(root) as hub:
        hub.run(*command)
        state = hub.state()
        again = hub.run(*command)
        after = hub.state()
        # A second publication sends nothing and changes nothing.
        assert "to send: 0 files, 0 B" in again and again.endswith("sent 0 files in 0 commits\n")
        assert writes(after["log"]) == [] and without_log(after) == without_log(state)
        names = (BASE, ADAPTER, f"datasets/{DATA}")
        said = hub.run("verify", *names)
        assert all(f"{name}: verified" in said for name in names)
    assert_no_token(root)
    return Release(command, without_log(state), len(writes(state["log"])))


@pytest.mark.heavy
def test_model_adapter_data_set_metric_app_and_collection(release) -> None:
    repos = release.state["repos"]
    assert set(repos) == {BASE, ADAPTER, DATA, METRIC, APP}
    assert set(repos[BASE]["branches"]) == {"main", "step5000", "step10000"}
    # The Hub's own commit, and one for each revision.
    assert {name: repo["commits"] for name, repo in repos.items()} == {
        name: 1 + len(repo["branches"]) for name, repo in repos.items()
    }
    assert all(repo["tags"] == ["v0.1.0"] for repo in repos.values())
    (collection,) = release.state["collections"].values()
    kinds = {(item["type"], item["id"]) for item in collection["items"]}
    assert kinds == {
        *(("model", BASE), ("model", ADAPTER), ("dataset", DATA)),
        *(("space", METRIC), ("space", APP)),
    }


def is_killed(hub: LocalHub, command: tuple[str | Path, ...], moment: int, wait: float) -> bool:
    """Kill the command so long after so many of its requests that write; False where it ends before."""
    process, seen = hub.start(*command), 0
    while seen < moment and process.poll() is None:
        seen += len(writes(hub.state()["log"]))
        time.sleep(0.01)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    said = "".join(process.communicate())
    assert WRITER not in said and "Traceback" not in said
    assert process.returncode in (0, -signal.SIGKILL), said
    return process.returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_killed_at_ten_random_moments_nothing_is_missing_or_doubled(release, tmp_path, seed) -> None:
    """Each run goes on where the one before was killed; after the last, or the end, on another Hub."""
    chance, kills, rounds = random.Random(seed), 0, 0
    while kills < KILLS:
        place = tmp_path / f"hub-{rounds}"
        place.mkdir()
        rounds += 1
        with running_hub(place) as hub:
            while kills < KILLS:
                moment = chance.randint(1, release.num_writes // 3)
                if not is_killed(hub, release.command, moment, chance.uniform(0, 0.02)):
                    break
                kills += 1
            unfinished = without_log(hub.state())
            hub.run(*release.command)
            assert without_log(hub.state()) == release.state, (kills, unfinished)
            assert hub.run(*release.command).endswith("sent 0 files in 0 commits\n")
    print(f"{kills} kills of {rounds} publications of {release.num_writes} writing requests")
