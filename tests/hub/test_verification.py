"""Faults that a Hub may serve, and `verify` must notice: over HTTP, with the real client."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from curr_ab.checkpoint_files import DEMO_FOLDERS
from curr_ab.cli.main import main
from curr_ab.hub.card import write_card
from curr_ab.hub.manifest import REVISIONS, file_table, read_manifest
from curr_ab.hub.repositories import describe_folder
from curr_ab.hub.verification import verify
from tests.hub.conftest import publish_family


def tag_other_code(hub, name):
    """A release that names a commit with other code, while `main` is whole again."""
    hub.python(f"""
from pathlib import Path
from huggingface_hub import HfApi
name, code, api = {name!r}, "modeling_curr_ab.py", HfApi()
whole = Path(api.hf_hub_download(name, code)).read_bytes()
changed = api.upload_file(path_or_fileobj=whole + b"\\n", path_in_repo=code, repo_id=name)
api.create_tag(name, tag="v9", revision=changed.oid)
api.upload_file(path_or_fileobj=whole, path_in_repo=code, repo_id=name)
""")


@pytest.fixture(scope="module")
def said(tmp_path_factory, family):
    """One run over a Hub on which eight repositories are damaged, each in one way, and one is not."""
    from tests.hub.conftest import running_hub

    with running_hub(tmp_path_factory.mktemp("damaged")) as hub:
        publish_family(hub, family)
        hub.damage("8M-F", path="model.safetensors", flip=-5)
        hub.damage("8M-H", path="modeling_curr_ab.py", flip=100)
        hub.damage("8M-Q", path="README.md", flip=200)  # in the header
        hub.damage("35M-F", path="tokenizer.json", gone=True)
        hub.damage("35M-H", path="README.md", gone=True)
        hub.damage("35M-Q", path="manifest.json", flip=2)
        hub.damage("350M-F", revision="step5000", serve="step10000")
        tag_other_code(hub, "brineylab/CurrAb-650M-H")
        names = ["8M-F", "8M-H", "8M-Q", "35M-F", "35M-H", "35M-Q", "350M-F", "650M-H", "650M-Q"]
        yield hub.run("verify", *names, code=2)


def test_a_flipped_byte_is_caught(said) -> None:
    for line in (
        "8M-F: main: model.safetensors is not what was exported: SHA-256",
        "8M-H: main: modeling_curr_ab.py is not what was exported: SHA-256",
        "35M-Q: main: ",
    ):
        assert line in said


def test_a_swapped_step_is_caught(said) -> None:
    assert "350M-F: step5000: its manifest is not the one that main lists (another step)" in said
    assert "350M-F: step10000 serves the weights of step5000" in said


def test_a_stale_card_is_caught(said) -> None:
    assert "8M-Q: main: README.md is stale: its header is not what the files beside it give" in said


def test_a_missing_file_is_caught(said) -> None:
    assert "35M-F: main: tokenizer.json is missing" in said
    assert "35M-H: main: README.md is missing" in said


def test_a_tag_on_another_commit_is_verified_too(said) -> None:
    assert "650M-H: v9: modeling_curr_ab.py is not what was exported: SHA-256" in said
    assert "650M-H: main: modeling_curr_ab.py" not in said


def test_what_is_whole_is_verified_and_the_rest_is_named_at_the_end(said) -> None:
    assert "\n650M-Q: verified\n" in said
    last = said.strip().splitlines()[-1]
    assert last == "curr-ab: not as exported: 8M-F, 8M-H, 8M-Q, 35M-F, 35M-H, 35M-Q, 350M-F, 650M-H"


def test_exports_on_disk_are_verified_too(family, tmp_path, fresh_process) -> None:
    """All that can be wrong with the steps, without a download."""
    source = family / "CurrAb-350M-F"
    cases = [
        "whole",
        "swapped",
        "swapped-last",
        "main-is-another",
        "missing-step",
        "unknown-step",
        "wrong-logits",
    ]
    folders = {case: tmp_path / case for case in cases}
    for folder in folders.values():
        shutil.copytree(source, folder)
    steps = {case: folder / REVISIONS for case, folder in folders.items()}
    shutil.rmtree(steps["swapped"] / "step5000")
    shutil.copytree(steps["swapped"] / "step10000", steps["swapped"] / "step5000")
    shutil.rmtree(steps["swapped-last"] / "step10000")
    shutil.copytree(steps["swapped-last"] / "step5000", steps["swapped-last"] / "step10000")
    for name in ("model.safetensors", "training.json"):
        shutil.copyfile(steps["main-is-another"] / "step5000" / name, folders["main-is-another"] / name)
    shutil.rmtree(steps["missing-step"] / "step5000")
    shutil.copytree(steps["unknown-step"] / "step5000", steps["unknown-step"] / "step7000")
    manifest = folders["wrong-logits"] / "manifest.json"
    content = json.loads(manifest.read_text())
    content["probe"]["logits"][0][0] += 0.01
    manifest.write_text(json.dumps(content))
    problems = {
        case: verify(folder, say=lambda line: None, fresh_process=fresh_process)
        for case, folder in folders.items()
    }
    assert problems["whole"] == []
    assert "step5000: its manifest is not the one that main lists (another step)" in problems["swapped"]
    assert "step10000 serves the weights of step5000" in problems["swapped"]
    assert any(
        problem.startswith("main: model.safetensors is not") for problem in problems["main-is-another"]
    )
    assert "main is not step10000, the last step" in problems["swapped-last"]
    assert problems["missing-step"] == ["step5000 is missing"]
    assert problems["unknown-step"] == ["step7000 is a revision that the manifest of main does not know"]
    assert any("(stock): logits differ from those recorded by" in text for text in problems["wrong-logits"])
    assert any("(remote): logits differ from those recorded by" in text for text in problems["wrong-logits"])


def test_a_small_model_under_a_members_name_is_found(family, tmp_path, fresh_process) -> None:
    """A rehearsal that no longer says so: files, logits and card are all in order."""
    folder = tmp_path / "forged"
    shutil.copytree(family / "CurrAb-8M-F", folder)
    replace(read_manifest(folder), rehearsal=False).write(folder)
    write_card(folder)
    problems = verify(folder, say=lambda line: None, fresh_process=fresh_process)
    assert any(one.startswith("main: config.json: num_hidden_layers is ") for one in problems)
    with pytest.raises(ValueError, match=r"config\.json: hidden_size is \d+, where 8M-F has 320"):
        describe_folder(folder, "brineylab")


def test_without_running_code_stock_esm_alone_loads(family, fresh_process, monkeypatch) -> None:
    ways = []
    load = fresh_process.load
    monkeypatch.setattr(fresh_process, "load", lambda *args: ways.append(args[1]) or load(*args))
    folder = family / "CurrAb-8M-F"
    assert verify(folder, run_code=False, say=lambda line: None, fresh_process=fresh_process) == []
    assert set(ways) == {"stock"}


def test_a_hostile_repository_does_not_speak_for_the_next(family, tmp_path, fresh_process) -> None:
    """Its code, which is run, changes the process that runs it so that all that comes is as recorded."""
    folders = {name: tmp_path / name for name in ("hostile", "damaged")}
    for folder in folders.values():
        shutil.copytree(family / "CurrAb-8M-F", folder, ignore=shutil.ignore_patterns(REVISIONS))
    recorded = """
import json, pathlib, __main__
def answer(request):
    probe = json.loads((pathlib.Path(request["folder"]) / "manifest.json").read_text())["probe"]
    rows = [row for row in probe["logits"] for _ in range(16)]
    return {"model_class": "x", "input_ids": probe["input_ids"], "logits": rows[: len(probe["input_ids"])]}
__main__.answer = answer
"""
    code = folders["hostile"] / "modeling_curr_ab.py"
    code.write_text(code.read_text() + recorded)
    manifest = read_manifest(folders["damaged"])
    manifest.probe.logits[0][0] += 0.5
    replace(manifest, revisions={}).write(folders["damaged"])
    manifest = read_manifest(folders["hostile"])
    replace(manifest, files=file_table(folders["hostile"]), revisions={}).write(folders["hostile"])
    problems = {
        name: verify(folder, say=lambda line: None, fresh_process=fresh_process)
        for name, folder in folders.items()
    }
    ways = [problem.partition(":")[0] for problem in problems["damaged"]]
    assert ways == ["main (stock)", "main (remote)"]


def test_code_of_another_version_is_named(family, tmp_path, fresh_process) -> None:
    folder, said = tmp_path / "other", []
    shutil.copytree(family / "CurrAb-8M-F", folder, ignore=shutil.ignore_patterns(REVISIONS))
    code = folder / "modeling_curr_ab.py"
    code.write_text(code.read_text() + "\n")
    content = read_manifest(folder)
    replace(content, files=file_table(folder), revisions={}).write(folder)
    verify(folder, run_code=False, say=said.append, fresh_process=fresh_process)
    assert any("main: modeling_curr_ab.py differ from those of curr-ab" in line for line in said)


@pytest.fixture
def copy(tmp_path):
    """A copy of `demo`, which is an export."""
    ignored = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(DEMO_FOLDERS["demo"], tmp_path / "copy", ignore=ignored)


def test_names_of_files_give_no_orders_to_a_terminal(copy, capsys) -> None:
    (copy / "a\x1b]0;mine\x07.txt").write_text("x")
    assert main(["verify", str(copy), "--no-run-code"]) == 2
    said = capsys.readouterr().out
    assert r"main: a\x1b]0;mine\x07.txt is not in the manifest" in said and "\x1b" not in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("member", ["demo"]),
        ("member", None),
        ("files", {"model.safetensors": {"size": 1, "sha256": 5}}),
        ("files", {}),
        ("revisions", {"step5": 7}),
        ("namespace", 3),
    ],
)
def test_a_manifest_of_other_types_is_a_problem(copy, name, value) -> None:
    content = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(content | {name: value}))
    (problem,) = verify(copy, run_code=False, say=lambda line: None)
    assert "manifest.json is not a valid manifest: " in problem
