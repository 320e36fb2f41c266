"""Pages in a real browser: they render, complain of nothing, load nothing, fit their window."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import studies
from support.chromium import OVERFLOW, SCROLLS, chromium, look

from curr_ab.data import PreparationPlan, builtin_path, describe, prepare
from curr_ab.data.description import write_report as write_data_report
from curr_ab.inference.heat_maps import Saturation, Site
from curr_ab.inference.records import Record
from curr_ab.study.report import write_report
from curr_ab.words import CHAINS, STANDARD_RESIDUES

pytestmark = pytest.mark.browser

CELLS = """[...document.querySelectorAll("#cells tbody tr")]
  .filter(row => row.checkVisibility() && row.getBoundingClientRect().height > 0)
  .map(row => row.cells[0].textContent)"""
CHARTS = """[...document.querySelectorAll("figure svg")].map(picture => {
  const box = picture.getBoundingClientRect(), marks = picture.querySelectorAll("circle, polygon, rect");
  return box.width > 100 && box.height > 60 && marks.length > 0 && picture.getAttribute("role") === "img"
    && document.getElementById(picture.getAttribute("aria-labelledby")).textContent.length > 0;
})"""
SMALLEST_WORDS = """Math.min(...[...document.querySelectorAll("figure svg text")].map(word =>
  parseFloat(getComputedStyle(word).fontSize) * word.ownerSVGElement.getScreenCTM().a))"""
OVERLAPS = """[...document.querySelectorAll("figure svg")].flatMap(picture => {
  const words = [...picture.querySelectorAll("text")].map(word => [word, word.getBoundingClientRect()]);
  const name = picture.querySelector("title").textContent;
  return words.flatMap(([one, a], place) => words.slice(place + 1).filter(([other, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4
  ).map(([other]) => `${name}: ${one.textContent} | ${other.textContent}`));
})"""
POINT = """(() => {
  const mark = document.querySelector("#law [data-tip].dot");
  mark.scrollIntoView({block: "center", behavior: "instant"});
  const box = mark.getBoundingClientRect();
  const at = {bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2};
  mark.dispatchEvent(new PointerEvent("pointermove", at));
  const tip = document.getElementById("tip"), shown = tip.getBoundingClientRect();
  const inside = shown.left >= 0 && shown.right <= innerWidth;
  return [mark.dataset.tip, tip.hidden ? null : tip.textContent, inside];
})()"""
HIDDEN_COLUMNS = """[...document.querySelectorAll(".scroll")]
  .filter(box => !box.closest("details") && box.scrollWidth > box.clientWidth)
  .map(box => box.getAttribute("aria-label"))"""
COMMITTED = Path(__file__).parents[2] / "docs" / "study" / "report.html"
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def browser() -> Iterator[str]:
    with chromium() as address:
        yield address


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", studies.ALL)
def test_page_renders(browser: str, tmp_path: Path, name: str, width: int) -> None:
    study = studies.ALL[name]()
    page = write_report(study, tmp_path)
    questions = (OVERFLOW, SCROLLS, CELLS, CHARTS, SMALLEST_WORDS, OVERLAPS, "document.title")
    seen = look(browser, page, width, questions)
    overflow, scrolls, cells, charts, smallest, overlaps, title = seen.answers
    assert seen.complaints == []
    assert seen.requests == [page.as_uri()]
    assert (overflow, scrolls) == ([], False)
    assert sorted(cells) == sorted(cell.member for cell in study.cells)
    assert len(cells) == (84 if name in ("small", "drawn") else 15)
    assert all(charts) and len(charts) >= (0 if name == "untouched" else 24)
    assert overlaps == []
    assert title == study.title
    if charts:
        assert smallest > 8.5


@pytest.mark.parametrize("name", [*studies.ALL, "committed"])
def test_tables_need_no_scrolling_on_a_desktop(browser: str, tmp_path: Path, name: str) -> None:
    """The last column is the most data: it must not hide."""
    page = COMMITTED if name == "committed" else write_report(studies.ALL[name](), tmp_path)
    seen = look(browser, page, 1280, (HIDDEN_COLUMNS,))
    assert seen.answers == [[]]


def test_marks_are_named_where_one_points(browser: str, tmp_path: Path) -> None:
    seen = look(browser, write_report(studies.mini(), tmp_path), 400, (POINT,))
    meant, shown, inside = seen.answers[0]
    assert meant == shown and inside and "loss" not in meant and "±" in meant
    assert seen.complaints == []


def test_paper_is_dark_where_the_reader_wants_it(browser: str, tmp_path: Path) -> None:
    page = write_report(studies.mini(), tmp_path)
    light, dark = (look(browser, page, 1280, (PAPER,), dark=dark).answers[0] for dark in (False, True))
    assert (light, dark) == ("rgb(253, 252, 250)", "rgb(21, 23, 27)")


def test_the_browser_complains_of_what_the_page_forbids(browser: str, tmp_path: Path) -> None:
    """Else the silence of the other tests would prove nothing."""
    page = write_report(studies.mini(), tmp_path)
    text = page.read_text()
    for bad in (
        "<img src=x onerror='document.title=1'>",
        "<script>document.title = 1</script>",
        "<link rel=stylesheet href='https://example.org/a.css'>",
        "<p style='color:red'>",
        "<img src='data:image/png;base64,AAAA'>",
    ):
        page.write_text(text.replace("<main>", f"<main>{bad}"))
        seen = look(browser, page, 1280, ("document.title",))
        assert any("Content Security Policy" in complaint for complaint in seen.complaints), bad
        assert seen.answers == [studies.mini().title], bad


FIELD = """(() => {
  const map = document.querySelector("canvas"), box = map.getBoundingClientRect();
  const at = {bubbles: true, clientX: box.x + 18 + 11 * 4 + 3, clientY: box.y + 4 + 11 * 2 + 3};
  map.dispatchEvent(new PointerEvent("pointermove", at));
  const tip = document.getElementById("tip");
  return [tip.hidden, tip.textContent, document.querySelectorAll("canvas").length];
})()"""


def test_a_heat_map_says_what_is_under_the_pointer(browser: str, tmp_path: Path) -> None:
    sites = [Site(chain, at, "E") for chain in CHAINS for at in range(1, 9)]
    odds = torch.arange(16 * 20).reshape(16, 20) / 100
    page = tmp_path / "map.html"
    Saturation(Record("<b>", None, None), sites, odds).heat_map().save(page)
    for dark in (False, True):
        seen = look(browser, page, 1280, (FIELD, OVERFLOW, "document.title"), dark=dark)
        hidden, words, maps = seen.answers[0]
        value = odds[4, STANDARD_RESIDUES.index("S")].item()  # the third of the rows
        assert (hidden, maps) == (False, 2) and words == f"heavy E5S: {value:g}"
        assert seen.answers[1:] == [[], "<b>: single mutants"]
        assert seen.complaints == [] and seen.requests == [page.as_uri()]


def test_the_report_of_data_shows_its_pictures(browser: str, tmp_path: Path) -> None:
    prepare([str(builtin_path())], tmp_path / "corpus", PreparationPlan(cluster="source", subsets={"F": 150}))
    page = write_data_report(describe(tmp_path / "corpus"), tmp_path)
    loaded = "[...document.images].map(image => image.naturalWidth > 500 && image.alt !== '')"
    for width in (1280, 400):
        seen = look(browser, page, width, (loaded, OVERFLOW, SCROLLS))
        assert seen.answers == [[True] * 6, [], False]
        assert seen.complaints == []
        assert [address for address in seen.requests if not address.startswith("data:")] == [page.as_uri()]
