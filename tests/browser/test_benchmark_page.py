"""The report of a benchmark in a real browser: it renders, complains of nothing, fits its window."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.benchmarks import PlantedPeer, planted
from support.chromium import OVERFLOW, SCROLLS, chromium, look

from curr_ab.benchmark import run as run_module
from curr_ab.benchmark import works as works_module
from curr_ab.benchmark.plan import BenchmarkPlan, Suite, TaskRequest
from curr_ab.benchmark.report import write_report

pytestmark = pytest.mark.browser

ROWS = """[...document.querySelectorAll("section .scroll")].filter(box => !box.closest("details"))
  .map(box => box.querySelectorAll("tbody tr").length)"""
HIDDEN_COLUMNS = """[...document.querySelectorAll(".scroll")]
  .filter(box => !box.closest("details") && box.scrollWidth > box.clientWidth).length"""
PAPER = "getComputedStyle(document.body).backgroundColor"
TIP = """(() => {
  const mark = document.querySelector("figure [data-tip].dot"), box = mark.getBoundingClientRect();
  mark.scrollIntoView({block: "center", behavior: "instant"});
  const at = {bubbles: true, clientX: box.x, clientY: box.y};
  mark.dispatchEvent(new PointerEvent("pointermove", at));
  return [mark.dataset.tip, document.getElementById("tip").textContent];
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: Any) -> Iterator[Path]:
    """Three tasks, models that see and do not see, one that fails, and a long name."""
    names = {"seeing": True, "blind": False, "a-model-with-a-name-that-is-long/and-a-folder": True}
    peers = {name: PlantedPeer(name, sees=sees) for name, sees in names.items()}
    peers["broken"] = PlantedPeer("broken", fails=True)
    with pytest.MonkeyPatch.context() as patch:
        tasks = (planted("classes"), planted("number"), planted("ranking"))
        patch.setattr(works_module, "read_task", lambda name, files, options: tasks)
        patch.setattr(run_module, "find_peer", lambda name, **options: peers[name])
        patch.setattr(
            run_module, "BASELINES", dict.fromkeys(run_module.BASELINES, ("guess",)) | {"ranking": ()}
        )
        suite = Suite((TaskRequest("planted", ()),))
        out = tmp_path_factory.mktemp("benchmark")
        yield write_report(
            run_module.run_benchmark(suite, list(peers), out, BenchmarkPlan(shots=(8,), repeats=1))
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[str]:
    with chromium() as address:
        yield address


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_page_renders(browser: str, page: Path, width: int, dark: bool) -> None:
    questions = (OVERFLOW, SCROLLS, ROWS, HIDDEN_COLUMNS, PAPER, TIP)
    seen = look(browser, page, width, questions, dark=dark, picture=True)
    overflow, scrolls, rows, hidden, paper, (meant, shown) = seen.answers
    assert seen.complaints == []
    assert seen.requests == [page.as_uri()]
    assert (overflow, scrolls) == ([], False)
    assert rows == [4, 4, 3, 2, 1]  # models and guess of each task, the settings, options of tasks
    if width == 1280:
        assert hidden == 0
    assert (np.mean([int(part) for part in paper[4:-1].split(",")]) < 60) == dark
    assert meant == shown and "95% interval" in shown
