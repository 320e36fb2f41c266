"""The page about money in a real browser: it renders, complains of nothing, fits its window."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chromium import OVERFLOW, SCROLLS, chromium, look
from support.simulated_runs import fitted_law

from curr_ab.scaling import Prices, spend
from curr_ab.scaling.spending_page import write_spending

pytestmark = pytest.mark.browser
TIP = """(() => {
  const mark = document.querySelector("figure [data-tip]");
  mark.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: 9, clientY: 9}));
  return [mark.dataset.tip, document.getElementById("tip").textContent];
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[str]:
    with chromium() as address:
        yield address


@pytest.mark.parametrize("width", [1280, 400])
def test_page_fits_its_window(browser: str, width: int, tmp_path: Path) -> None:
    spending = spend(fitted_law(), Prices(0.0005, 5e-18, 1e6), budget=5e4)
    page = write_spending(spending, "No runs are planned.", tmp_path)
    seen = look(browser, page, width, (OVERFLOW, SCROLLS, TIP))
    overflow, scrolls, (meant, shown) = seen.answers
    assert seen.complaints == [] and seen.requests == [page.as_uri()]
    assert (overflow, scrolls) == ([], False)
    assert meant == shown and "95 %" in shown
