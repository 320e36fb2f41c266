"""Exports as sentence-transformers and Inference Endpoints take them, in processes without this package."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_models import PAIRS
from transformers import AutoModel, AutoTokenizer

import curr_ab
from curr_ab.checkpoint_files import DEMO_FOLDERS
from curr_ab.family import CAUSAL_DEMO, DEMO
from curr_ab.inference import embed, saturate, score
from curr_ab.words import STANDARD_RESIDUES

SEPARATOR = "<cls><cls>"
HEAVY, LIGHT = PAIRS[0]
# As text with the separator, as tuples, and chains alone.
FORMS = {
    "text": [heavy + SEPARATOR + light for heavy, light in PAIRS[:3]],
    "tuples": [list(pair) for pair in PAIRS[:3]],
    "chains": [HEAVY, LIGHT, PAIRS[1][0]],
    "mixed": [HEAVY + SEPARATOR + LIGHT, HEAVY],
}


def run_without_package(program: str, folder: Path, *more: str) -> dict:
    """What a program prints as JSON in a process that cannot import the package, from any other folder."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    environment.pop("PYTHONPATH", None)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # what would be written does not belong in an export
    environment["HF_MODULES_CACHE"] = str(folder / "modules")
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import sys; sys.modules['curr_ab'] = None\n" + program, *more],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SENTENCE_TRANSFORMERS = """
import json
from sentence_transformers import SentenceTransformer

forms = json.loads(sys.argv[1])
found = {}
for folder in sys.argv[2:]:
    for trust in (False, True):
        model = SentenceTransformer(folder, trust_remote_code=trust)
        own = {
            name: model.encode([tuple(text) if isinstance(text, list) else text for text in texts]).tolist()
            for name, texts in forms.items()
        }
        own |= {"class": type(model[0].auto_model).__name__, "longest": model.max_seq_length}
        heavy, light, other = 3 * forms["chains"][0], forms["chains"][1], forms["chains"][1][::-1]
        own["long chain"] = model.encode(heavy).tolist()
        try:
            own["long pairs"] = model.encode([f"{heavy}<cls><cls>{one}" for one in (light, other)]).tolist()
        except ValueError as error:
            own["long pairs"] = str(error)
        found[f"{folder} {trust}"] = own
print(json.dumps(found))
"""
NAMES = (DEMO, CAUSAL_DEMO, "350M-F")


@pytest.fixture(scope="module")
def embedded(family, tmp_path_factory):
    """What one process made of a demo of either kind and of an export, by folder and trust."""
    pytest.importorskip("sentence_transformers")
    folders = [str(DEMO_FOLDERS.get(name) or family / f"CurrAb-{name}") for name in NAMES]
    scratch = tmp_path_factory.mktemp("sentence-transformers")
    found = run_without_package(SENTENCE_TRANSFORMERS, scratch, json.dumps(FORMS), *folders)
    return dict(zip(NAMES, folders, strict=True)), found


@cache
def stock(folder: Path):
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def mean_of_all_tokens(folder: Path, text: str | list[str]) -> np.ndarray:
    """The documented pooling, by stock transformers."""
    chains = [text] if isinstance(text, str) else text
    tokenizer, model = stock(folder)
    with torch.no_grad():
        return model(**tokenizer(*chains, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()


@pytest.mark.heavy
@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_sentence_transformers_gives_the_mean_of_all_tokens(embedded, name, trust) -> None:
    folders, found = embedded
    own = found[f"{folders[name]} {trust}"]
    assert (own["class"], own["longest"]) == ("CurrAbModel" if trust else "EsmModel", 320)
    for form, texts in FORMS.items():
        for text, vector in zip(texts, own[form], strict=True):
            expected = mean_of_all_tokens(Path(folders[name]), text)
            np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-6)
    assert own["text"] == own["tuples"]


@pytest.mark.heavy
@pytest.mark.parametrize("name", NAMES)
def test_what_is_too_long_is_as_the_page_says(embedded, name) -> None:
    """Stock ESM cuts a text at its end, and with it the light chain; the code of the repository refuses."""
    folders, found = embedded
    stock, remote = (found[f"{folders[name]} {trust}"] for trust in (False, True))
    np.testing.assert_allclose(stock["long chain"], remote["long chain"], rtol=0, atol=1e-6)
    one, other = stock["long pairs"]
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert (
        "more than 320; a pair" in remote["long pairs"] and "as one text is not cut" in remote["long pairs"]
    )


@pytest.mark.heavy
def test_it_differs_from_the_mean_over_residues_by_the_special_tokens() -> None:
    """As docs/how-to/serve.md says: 4 of a pair's tokens, 2 of a single chain's."""
    model, tokenizer = curr_ab.load("demo", device="cpu")
    states = next(iter(embed(model, tokenizer, [(HEAVY, LIGHT)], pooling="none")))
    mean = next(iter(embed(model, tokenizer, [(HEAVY, LIGHT)])))
    with torch.no_grad():
        ids = tokenizer(HEAVY, LIGHT, return_tensors="pt")["input_ids"]
        everything = model.esm(ids).last_hidden_state[0].numpy()
    special = everything[[0, 1 + len(HEAVY), 2 + len(HEAVY), -1]]
    expected = (states.sum(0) + special.sum(0)) / (len(states) + 4)
    theirs = mean_of_all_tokens(DEMO_FOLDERS[DEMO], [HEAVY, LIGHT])
    np.testing.assert_allclose(theirs, expected, rtol=0, atol=2e-6)
    assert 1e-3 < np.abs(theirs - mean).max() < 0.1
    assert np.dot(theirs, mean) / np.linalg.norm(theirs) / np.linalg.norm(mean) > 0.999


def handler_of(folder: Path):
    """The handler as Inference Endpoints make it: the file's class, with the folder."""
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)  # compiled code does not belong in an export
        spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


@pytest.fixture(scope="module")
def handler():
    return handler_of(DEMO_FOLDERS[DEMO])


@pytest.fixture(scope="module")
def causal_handler():
    return handler_of(DEMO_FOLDERS[CAUSAL_DEMO])


def ask(handler, inputs, task="embed", **more):
    return handler({"inputs": inputs, "parameters": {"task": task, **more}})


RECORDS = [(HEAVY[:50], LIGHT[:30]), (PAIRS[1][0][:40], PAIRS[1][1][:60]), (HEAVY[:45], None)]
INPUTS = [
    {chain: text for chain, text in zip(("heavy", "light"), pair, strict=True) if text} for pair in RECORDS
]


@pytest.mark.heavy
@pytest.mark.parametrize("demo", [DEMO, CAUSAL_DEMO])
def test_the_handler_gives_the_package_s_numbers(demo, handler, causal_handler) -> None:
    model, tokenizer = curr_ab.load(demo, device="cpu")
    own = handler if demo == DEMO else causal_handler
    for answer, expected in zip(ask(own, INPUTS), embed(model, tokenizer, RECORDS), strict=True):
        np.testing.assert_allclose(answer["embedding"], expected, rtol=0, atol=2e-6)
    for modes in ({}, {"mode": "unmasked"}) if demo == DEMO else ({},):
        answers = ask(own, INPUTS, "score", **modes)
        for answer, expected in zip(answers, score(model, tokenizer, RECORDS, **modes), strict=True):
            assert answer["log_likelihood"] == pytest.approx(expected.pll(), abs=1e-3)
            assert answer["perplexity"] == pytest.approx(expected.perplexity(), rel=1e-5)


@pytest.mark.heavy
def test_the_handler_s_mutants_are_the_package_s(handler) -> None:
    model, tokenizer = curr_ab.load("demo", device="cpu")
    heavy = "X" + HEAVY[1:30] + "<mask>" + HEAVY[31:]
    [expected] = saturate(model, tokenizer, [(heavy, LIGHT)], mode="unmasked")
    answer = ask(handler, {"heavy": heavy, "light": LIGHT}, "mutate", mode="unmasked")
    assert answer["residues"] == STANDARD_RESIDUES and list(answer) == ["residues", "heavy", "light"]
    assert (len(answer["heavy"]), len(answer["light"])) == (len(HEAVY), len(LIGHT))
    assert [place for place, row in enumerate(answer["heavy"]) if row is None] == [0, 30]
    known = [row for chain in ("heavy", "light") for row in answer[chain] if row is not None]
    np.testing.assert_allclose(known, np.asarray(expected.log_odds), rtol=0, atol=1e-4)
    assert list(ask(handler, {"light": LIGHT}, "mutate", mode="unmasked")) == ["residues", "light"]


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ([], "a request must be an object of `inputs`"),
        ({"text": "EVQL"}, "a request must be an object of `inputs`"),
        ({"inputs": "EVQL"}, r"pair 1 must be an object of `heavy`, `light`; got 'EVQL'"),
        ({"inputs": []}, "inputs must be 1 to 256 pairs; got 0"),
        ({"inputs": [{"heavy": "EVQL"}] * 257}, "inputs must be 1 to 256 pairs; got 257; split the request"),
        ({"inputs": {"heavy": None}}, "pair 1 must be an object"),
        ({"inputs": {"heavy": "EVQL", "vhh": "EV"}}, "pair 1 must be an object"),
        ({"inputs": {}}, "pair 1 must be an object"),
        ({"inputs": [{"heavy": "EVQL"}, {"light": "D QM"}]}, "pair 2, light chain, position 2: ' ' is not a"),
        (
            {"inputs": {"heavy": HEAVY * 3}},
            r"pair 1 has \d+ tokens with its separators, more than 320; shorten it$",
        ),
        (
            {"inputs": {"heavy": "evql"}},
            "pair 1, heavy chain, position 1: 'e' is not a residue; residues are upper-case$",
        ),
        ({"inputs": {"heavy": "E"}, "parameters": ["embed"]}, "parameters must be an object of `task` and"),
        ({"inputs": {"heavy": "E"}, "parameters": {"mood": 1}}, "parameters must be an object of `task` and"),
        ({"inputs": {"heavy": "E"}, "parameters": {"task": ["score"]}}, "task must be one of embed, score"),
        (
            {"inputs": {"heavy": "E"}, "parameters": {"task": "score", "mode": "group"}},
            "mode must be one of exact, unmasked; got 'group'",
        ),
        ({"inputs": {"heavy": "E"}, "parameters": {"mode": "exact"}}, "mode must be left out with embed"),
        ({"inputs": {"heavy": "XX"}, "parameters": {"task": "score"}}, "a pair must have a known residue"),
    ],
)
def test_what_is_no_request_is_one_clear_line(handler, request_, complaint) -> None:
    with pytest.raises(ValueError, match=complaint) as error:
        handler(request_)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_causal_model_refuses_what_it_cannot(causal_handler) -> None:
    with pytest.raises(ValueError, match="mutate must have a masked model"):
        ask(causal_handler, {"heavy": "EVQL"}, "mutate")
    with pytest.raises(ValueError, match="mode must be left out"):
        ask(causal_handler, {"heavy": "EVQL"}, "score", mode="unmasked")


HANDLER = """
import json
sys.path.insert(0, sys.argv[1])
from handler import EndpointHandler

ask = EndpointHandler(sys.argv[1])
inputs = json.loads(sys.argv[2])
tasks = ("embed", "score", "mutate")
print(json.dumps({task: ask({"inputs": inputs, "parameters": {"task": task}}) for task in tasks}))
"""


@pytest.mark.heavy
def test_the_handler_of_an_export_runs_without_the_package(family, tmp_path) -> None:
    folder, inputs = family / "CurrAb-350M-F", {"heavy": HEAVY[:40], "light": LIGHT[:30]}
    found = run_without_package(HANDLER, tmp_path, str(folder), json.dumps(inputs))
    handler = handler_of(folder)
    assert found["score"] == pytest.approx(ask(handler, inputs, "score"), abs=1e-3)
    own = ask(handler, inputs)["embedding"]
    np.testing.assert_allclose(found["embed"]["embedding"], own, rtol=0, atol=1e-5)
    assert len(found["embed"]["embedding"]) == 80
    assert (len(found["mutate"]["heavy"]), len(found["mutate"]["light"])) == (40, 30)
