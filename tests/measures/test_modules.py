"""The modules of the library `evaluate`, from a folder or a repository: each metric is a configuration."""

import functools
import http.server
import runpy
import socket
import sys
import threading
import tomllib
from pathlib import Path
from types import SimpleNamespace

import evaluate
import numpy as np
import pandas
import pytest
import yaml
from evaluate.utils.file_utils import DownloadConfig

from curr_ab.measures import MODULES, measure
from curr_ab.measures.metrics import metrics_for
from curr_ab.measures.modules.classification import core as classification
from curr_ab.measures.modules.regression import core as regression

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = {
    "classification": [
        *("accuracy", "aupr", "auroc", "calibration_error", "f1", "mcc", "precision", "recall"),
    ],
    "regression": ["pearson", "rmse", "spearman"],
}
LABELS = [0, 1, 1, 0, 1]
POSITIVE = [0.2, 0.9, 0.6, 0.7, 0.3]
PROBABILITIES = [[1 - p, p] for p in POSITIVE]


def load(module, configuration=None):
    return evaluate.load(str(MODULES / module), configuration, keep_in_memory=True)


def test_every_metric_is_a_configuration(monkeypatch, tmp_path):
    """Loaded as anybody does; it asks no network and writes nothing where it runs."""

    def no_network(*args, **kwargs):
        raise AssertionError("a metric asked the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.chdir(tmp_path)
    assert {path.parent.name for path in MODULES.glob("*/core.py")} == set(CONFIGURATIONS)
    kinds = [metrics_for("classes", 2), metrics_for("classes", 3), metrics_for("number", 0)]
    used = {metric.configuration for kind in kinds for metric in kind.values()}
    assert used == {name for names in CONFIGURATIONS.values() for name in names}
    known = measure("classes", LABELS, PROBABILITIES, ("HD", "CoV"))
    known |= measure("number", LABELS, POSITIVE)
    for module, names in CONFIGURATIONS.items():
        cache = str(tmp_path / "cache")
        predictions = PROBABILITIES if module == "classification" else POSITIVE
        together = evaluate.load(str(MODULES / module), keep_in_memory=True, cache_dir=cache)
        assert together.name == module and together.description and together.inputs_description
        every = together.compute(predictions=predictions, references=LABELS)
        assert set(every) == set(names)
        for name in names:
            alone = evaluate.load(str(MODULES / module), name, keep_in_memory=True, cache_dir=cache)
            if name in (*classification.OF_CHOICES, *classification.AVERAGED):
                shown = np.argmax(PROBABILITIES, axis=1)
            else:
                shown = predictions
            found = alone.compute(predictions=shown, references=LABELS)
            assert found == {name: every[name]} == {name: pytest.approx(known[name.replace("_", "-")])}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_several_classes_and_unknown_labels():
    labels, chosen = [0, 1, 2, 2, -100, 1], [0, 2, 2, 1, 0, 1]
    probabilities = np.full((6, 3), 0.1)
    probabilities[range(6), chosen] = 0.8
    found = load("classification").compute(predictions=probabilities, references=labels)
    kept = [0, 1, 2, 3, 5]
    known = measure("classes", np.array(labels)[kept], probabilities[kept], ("a", "b", "c"))
    for name in ("accuracy", "mcc", "auroc", "aupr"):
        assert found[name] == pytest.approx(known[name])
    for name in ("precision", "recall", "f1"):
        assert found[name] == pytest.approx(known[f"macro-{name}"])
    f1 = load("classification", "f1")
    assert f1.compute(predictions=chosen, references=labels) == {"f1": found["f1"]}
    micro = f1.compute(predictions=chosen, references=labels, average="micro")
    assert micro == {"f1": pytest.approx(known["micro-f1"])}


def test_what_the_modules_refuse():
    f1, accuracy = load("classification", "f1"), load("classification", "accuracy")
    with pytest.raises(ValueError, match=r"the configuration must be one of accuracy, .*; got accuracies"):
        load("classification", "accuracies")
    with pytest.raises(ValueError, match="the configuration must be one of spearman, pearson, rmse; got mcc"):
        load("regression", "mcc")
    with pytest.raises(ValueError, match="average must be macro or micro for 3 classes; got binary"):
        f1.compute(predictions=[0, 1, 2], references=[0, 1, 2], average="binary")
    with pytest.raises(ValueError, match="average is an option of precision, recall, f1; accuracy has none"):
        accuracy.compute(predictions=[0, 1], references=[0, 1], average="macro")
    with pytest.raises(ValueError, match="got none, or only -100"):
        accuracy.compute(predictions=[0, 1], references=[-100, -100])
    with pytest.raises(ValueError, match="classes must be numbers from 0 to 1"):
        accuracy.compute(predictions=[0, -1], references=[0, 1])
    with pytest.raises(ValueError, match="auroc needs items of class 1 and others; got 2 of 2"):
        load("classification", "auroc").compute(predictions=[[0.4, 0.6]] * 2, references=[1, 1])
    with pytest.raises(ValueError, match="pearson needs measurements that differ; all 2 are equal"):
        load("regression", "pearson").compute(predictions=[1, 2], references=[3, 3])


@pytest.mark.heavy
def test_a_repository_is_loaded_with_its_core(monkeypatch, tmp_path):
    """Over HTTP, where the library fetches nothing but the files that the module asks for."""
    asked = set()

    class Repository(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.add(self.path)

    handler = functools.partial(Repository, directory=MODULES / "classification")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(evaluate.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)  # which another server counts
    monkeypatch.setattr(
        evaluate.config, "HUB_EVALUATE_URL", f"http://127.0.0.1:{server.server_port}/{{name}}"
    )
    monkeypatch.chdir(tmp_path)
    try:
        downloads = DownloadConfig(cache_dir=tmp_path / "downloads")
        mcc = evaluate.load("brineylab/classification", "mcc", keep_in_memory=True, download_config=downloads)
    finally:
        server.shutdown()
        server.server_close()
    assert asked == {"/classification.py", "/core.py"}
    assert mcc.compute(predictions=[0, 1, 1], references=[0, 1, 0]) == {"mcc": pytest.approx(0.5)}


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of the library with newer pandas
@pytest.mark.parametrize("module", CONFIGURATIONS)
def test_the_folder_is_a_space(module, monkeypatch):
    """The page computes all metrics of the table that a visitor fills in."""
    pages = []

    def interface(fn, inputs, **shown):
        pages.append((fn, inputs, shown))
        return SimpleNamespace(launch=lambda: None)

    gradio = SimpleNamespace(
        Interface=interface,
        inputs=SimpleNamespace(Dataframe=lambda **shown: shown),
        outputs=SimpleNamespace(Textbox=lambda **shown: shown),
    )
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.chdir(MODULES / module)
    monkeypatch.syspath_prepend(MODULES / module)
    card = yaml.safe_load(Path("README.md").read_text().split("---")[1])
    runpy.run_path(card["app_file"], run_name="__main__")
    [(compute, inputs, shown)] = pages
    assert card["sdk"] == "gradio" and {"evaluate", "metric"} <= set(card["tags"])
    assert all(f"`{name}`" in shown["article"] for name in CONFIGURATIONS[module])
    probabilities = {"predictions": ["[0.8, 0.2]", "[0.3, 0.7]"], "references": [0, 1]}
    numbers = {"predictions": [1.0, 3.0], "references": [0.1, 0.2]}
    table = pandas.DataFrame(probabilities if module == "classification" else numbers)
    assert list(table) == list(inputs["headers"])
    assert set(compute(table)) == set(CONFIGURATIONS[module])


def test_the_core_needs_numpy_and_scipy_alone():
    """It travels into repositories, where this package is missing."""
    for module in CONFIGURATIONS:
        for path in (MODULES / module).glob("*.py"):
            assert "curr_ab" not in path.read_text(), path
    assert set(regression.METRICS) == set(CONFIGURATIONS["regression"])


def test_modules_are_shipped():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    shipped = {path for pattern in patterns["curr_ab.measures"] for path in MODULES.parent.glob(pattern)}
    assert {path for path in MODULES.glob("*/*") if path.is_file()} <= shipped
