"""Every number of the report stands in the file that it names."""

import csv
import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from support.benchmarks import PlantedPeer, planted

from curr_ab.benchmark.report import write_report
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.results import read_results

NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?")


class Sourced(HTMLParser):
    """Texts of table cells, list items and pictures, with the file that each names."""

    def __init__(self):
        super().__init__()
        self.found, self._open, self._figure = [], None, ""

    def handle_starttag(self, tag, attributes):
        about = dict(attributes)
        if tag == "figure":
            self._figure = about["data-source"]
        if "data-tip" in about:
            self.found.append((about["data-tip"], self._figure))
        if tag in ("td", "li", "span", "p"):
            self._open = about.get("data-source", "")

    def handle_data(self, data):
        if self._open is not None and data.strip():
            self.found.append((data, self._open))

    def handle_endtag(self, tag):
        if tag in ("td", "li", "span", "p"):
            self._open = None


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def value_of(folder, source):
    """What stands in the file at the place that the source names."""
    name, _, place = source.partition("#")
    path = folder / name
    assert path.is_file(), source
    if path.suffix == ".csv":
        *keys, column = map(unquote, place.split("/"))
        own = [
            row
            for row in rows(path)
            if keys == [row[name] for name in ("model", "first", "second") if name in row]
        ]
        assert len(own) == 1, source
        return own[0][column]
    content = json.loads(path.read_text())
    for key in place.split("/"):
        content = content[int(key) if isinstance(content, list) else key]
    return content


def is_written(text, value):
    """True where the text is the value, rounded to the digits that it shows."""
    if isinstance(value, list):
        return text in ("; ".join(map(str, value)), ", ".join(map(str, value)))
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        return text == value or text.endswith(f": {value}")
    shown, exact = float(text.replace(",", "")), float(value)
    mantissa, _, power = text.partition("e")
    unit = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
    return abs(shown - exact) <= 0.501 * unit


@pytest.fixture
def found(bench, seeing, blind):
    tasks = [planted("classes"), planted("number"), planted("ranking"), planted("residues")]
    return bench(
        [replace(one, leaks=("pair0 and pair7 (kept)",)) for one in tasks],
        [seeing, blind, PlantedPeer("broken", fails=True)],
        shots=(8,),
        repeats=2,
    )


def test_every_number_is_in_the_file_that_it_names(found):
    page = Sourced()
    page.feed(write_report(found).read_text())
    sourced = [(text, source) for text, source in page.found if source]
    unsourced = [text for text, source in page.found if not source and NUMBER.search(text.replace("95%", ""))]
    assert unsourced == []
    checked = 0
    for text, source in sourced:
        if "#" in source:
            assert is_written(text, value_of(found.folder, source)), (text, source)
        else:  # the words of a point of a picture
            name, _, numbers = text.partition(": ")
            [row] = [row for row in rows(found.folder / source) if row["model"] == name]
            value, _, low, high = (float(one.rstrip("%")) for one in re.findall(r"-?\d+\.?\d*%?", numbers))
            assert (value, low, high) == tuple(round(float(row[key]), 3) for key in ("value", "low", "high"))
        checked += 1
    assert checked > 150


@pytest.fixture
def ladder(bench):
    """Six members, measured by a metric of which less is better in one task."""
    names = [f"{size}-{data}" for size in ("8M", "35M", "150M") for data in "FQ"]
    peers = [PlantedPeer(name, sees=place > 2) for place, name in enumerate(names)]
    return bench([planted("number"), planted("loss")], [*peers, PlantedPeer("CLM-8M-F")], shots=(), repeats=1)


def test_members_by_size_and_data_stand_in_a_ladder(ladder):
    text = write_report(ladder).read_text()
    page = Sourced()
    page.feed(text)
    for standing in ladder.standings:
        folder = ladder.folder / standing.task
        kept = json.loads((folder / "ladder.json").read_text())
        assert kept["num_models"] == 6 and "CLM-8M-F" not in kept["models"]
        found = [one for one, source in page.found if source == f"{standing.task}/ladder.json"]
        tips = [re.fullmatch(r"(\S+): (\S+) (-?[\d.]+), .*", one) for one in found]
        points = [one for one in tips if one and one[1] in kept["models"]]
        # The loss of the other task is what the score is drawn against, as well as size and data.
        wanted = {"ladder-parameters", "ladder-pairs"}
        if standing.task != "planted-loss":
            wanted.add("ladder-loss")
        assert len(points) == 6 * len(wanted)
        for one in points:
            assert is_written(one[3], kept["models"][one[1]]["score"])
        pictures = {path.name for path in folder.glob("ladder-*.svg")}
        assert pictures == {f"{name}.svg" for name in wanted}
        assert all(f"({standing.task}/{name})" in (folder / "../report.md").read_text() for name in pictures)
        assert ".s2{" in (folder / "ladder-pairs.svg").read_text()
        assert text.count(kept["sentence"]) == 1 and ("minus the loss" in kept["sentence"]) == (
            standing.task == "planted-loss"
        )
    assert len(re.findall(r' id="([^"]+)"', text)) == len(set(re.findall(r' id="([^"]+)"', text)))
    assert ".s4{" in text


def test_the_losses_of_a_ladder_are_those_of_the_task_of_losses(ladder):
    write_report(ladder)
    scored, lost = ladder.standings
    kept = json.loads((ladder.folder / scored.task / "ladder.json").read_text())["models"]
    losses = {one.name: one.interval.value for one in lost.entries}
    assert {name: one["loss"] for name, one in kept.items()} == {name: losses[name] for name in kept}
    picture = (ladder.folder / scored.task / "ladder-loss.svg").read_text()
    assert "loss in the task planted-loss" in picture
    alone = json.loads((ladder.folder / lost.task / "ladder.json").read_text())["models"]
    assert {one["loss"] for one in alone.values()} == {None}


def test_the_gain_of_a_loss_is_what_it_falls_by(ladder):
    """Larger members have the smaller loss here and the larger correlation: both gains are above 0."""
    for standing in ladder.standings:
        write_report(ladder)
        kept = json.loads((ladder.folder / standing.task / "ladder.json").read_text())
        assert kept["size_with_most_data"]["value"] > 0


@dataclass
class SkilledPeer(PlantedPeer):
    """A peer that sees some of the signal, and whose loss is the lower the more it sees."""

    skill: float = 0.0

    def features(self, pairs):
        rows = super().features(pairs)
        rows["mean"][:, 0] += (1 - self.skill) * rows["noise"][:, 1]
        return rows

    def log_likelihoods(self, pairs):
        return [found - (1 - self.skill) for found in super().log_likelihoods(pairs)]


def test_ten_members_have_curves_by_loss_and_size(bench):
    names = [f"{size}-{data}" for size in ("8M", "35M", "150M", "350M", "650M") for data in "FQ"]
    peers = [SkilledPeer(name, skill=place / 10) for place, name in enumerate(names)]
    found = bench([planted("number"), planted("loss")], peers, shots=(), repeats=1)
    text = write_report(found).read_text()
    page = Sourced()
    page.feed(text)
    for standing, wanted in zip(found.standings, (("loss", "parameters"), ("parameters",)), strict=True):
        folder = found.folder / standing.task
        curves = json.loads((folder / "ladder.json").read_text())["curves"]
        assert tuple(curves) == wanted
        for against, curve in curves.items():
            assert curve["num_cells"] == 10 and curve["knows_examples"]
            source = f"{standing.task}/ladder.json#curves/{against}/sentence"
            assert page.found.count((curve["sentence"], source)) == 1
            assert curve["sentence"] in (found.folder / "report.md").read_text().replace("\\", "")
            assert 'class="band ink"' in (folder / f"ladder-{against}.svg").read_text()
            assert curve["lower_is_better"] == (standing.task == "planted-loss")
        assert "band ink" not in (folder / "ladder-pairs.svg").read_text()


def test_the_options_of_a_task_are_told(bench, seeing):
    found = bench([planted("number")], [seeing], options=TaskOptions(seed=11, direction="lower"))
    page = Sourced()
    page.feed(write_report(found).read_text())
    told = {place: text for text, place in page.found if "#tasks/0/options/" in place}
    assert all(is_written(text, value_of(found.folder, place)) for place, text in told.items())
    assert told["benchmark.json#tasks/0/options/seed"] == "11"
    assert "| planted | 5 | 11 | lower |" in (found.folder / "report.md").read_text()


def test_few_members_are_no_ladder(bench):
    found = bench([planted("number")], [PlantedPeer("8M-F"), PlantedPeer("35M-F"), PlantedPeer("8M-Q")])
    assert "Size and data" not in write_report(found).read_text()
    assert not (found.folder / "planted-number" / "ladder.json").exists()


def test_a_number_that_is_changed_is_seen(found):
    """The check above is worth something: it finds a report that says another number."""
    entry = found.standings[0].entries[0]
    changed = replace(entry, interval=replace(entry.interval, value=0.123))
    standing = replace(found.standings[0], entries=(changed, *found.standings[0].entries[1:]))
    page = Sourced()
    page.feed(write_report(replace(found, standings=(standing, *found.standings[1:]))).read_text())
    [(text, source)] = [
        one for one in page.found if one[1].endswith(f"#{entry.name}/value") and "classes" in one[1]
    ]
    assert text == "0.123" and not is_written(text, value_of(found.folder, source))


def test_a_model_with_a_slash_in_its_name_is_found(bench):
    """As models have on the Hub, and in folders."""
    names = ["of/a #model", "of-a--model"]
    found = bench([planted("number")], [PlantedPeer(names[0]), PlantedPeer(names[1], sees=False)])
    page = Sourced()
    page.feed(write_report(found).read_text())
    places = [(text, place) for text, place in page.found if ".csv#" in place]
    assert len(places) > 20
    for text, place in places:
        assert is_written(text, value_of(found.folder, place)), (text, place)
    cards = {path.parent for path in (found.folder / "cards").rglob("results.json")}
    models = [{row.model for row in read_results(card / "results.json")} for card in cards]
    assert sorted(map(sorted, models)) == [[name] for name in sorted(names)]


def test_the_words_of_models_cannot_break_the_page(bench):
    name = '<script>alert("x")</script>|a'
    found = bench([planted("number")], [PlantedPeer(name)])
    page = write_report(found).read_text()
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    assert "<script>alert" not in (found.folder / "report.md").read_text().replace("\\<", "")


def test_pictures_and_tables_are_files(found):
    write_report(found)
    folder = found.folder / "planted-number"
    assert (folder / "forest.png").read_bytes().startswith(b"\x89PNG")
    assert "seeing" in (folder / "forest.svg").read_text()
    assert rows(folder / "table.csv")[0]["model"] == "seeing"
    assert len(rows(folder / "comparisons.csv")) == 3  # two models and a guess: baselines are not compared
    text = (found.folder / "report.md").read_text()
    for row in rows(folder / "comparisons.csv"):
        line = f"| {row['first']} | {row['second']} | {float(row['difference']):.3f} |"
        assert line in text
    assert "(planted-number/forest.svg)" in text and Path(found.folder / "planted-number/forest.svg").exists()


def test_what_failed_is_said(found):
    page = write_report(found).read_text()
    assert page.count("broken: out of memory on the device") == 4


def test_no_model_is_called_better_than_chance_allows(bench, blind):
    found = bench([planted("classes", shuffled=True)], [blind])
    page = write_report(found).read_text()
    assert "but by no more than chance would do" in page or "No model is better" in page
