"""Publication against a Hub on this machine, with the real client over HTTP in processes of its own."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.tiny_models import PAIRS
from support.warm import run_warm

from curr_ab import MEMBERS, member
from curr_ab.files import file_digest
from curr_ab.hub import remote
from curr_ab.hub.exports import export
from curr_ab.hub.manifest import REVISIONS, TOLERANCE, read_manifest, revision_files
from curr_ab.hub.publication import Order, _carry_out, _plan_text, publish, refuse_foreign_namespace
from curr_ab.hub.remote import Changes, HubError, Remote, RemoteState, digest, git_blob_id
from curr_ab.hub.repositories import Repository, describe_dataset, describe_folder
from curr_ab.measures import MODULES
from curr_ab.options import OptionError
from curr_ab.quantities import largest_difference
from tests.hub.conftest import STRANGER, WRITER, publish_family, save_tiny


def local_files(folder: Path) -> dict[str, str]:
    """Names and digests of the files that the Hub should hold of a folder."""
    large = (".safetensors", ".npy", ".parquet")
    files = {name: folder / name for name in revision_files(folder)}
    return {n: file_digest(p) if n.endswith(large) else git_blob_id(p) for n, p in files.items()}


def remote_files(state: dict, member: str, revision: str = "main") -> dict[str, str]:
    files = dict(state["repos"][f"brineylab/CurrAb-{member}"]["branches"][revision])
    assert files.pop(".gitattributes")
    return files


def writes(log: list[list]) -> list[str]:
    """Requests of a client that change something."""
    reading = re.compile(r"^/api/(validate-yaml|collections)$")
    return [path for method, path, _ in log if method not in ("GET", "HEAD") and not reading.match(path)]


def test_a_dry_run_shows_the_plan_and_sends_nothing(world) -> None:
    assert world.before["repos"] == {} and world.before["collections"] == {}
    assert writes(world.before["log"]) == []
    plan = world.said["dry"]
    for name in MEMBERS:
        assert f"brineylab/CurrAb-{name}: model, new, public\n" in plan
    assert re.search(r"  2 revisions step5000 … step10000: 34 files, 1\.\d+ MB\n", plan)
    assert re.search(r"to send: 2\d\d files, 12(\.\d)? MB; large files go through LFS", plan)
    assert "    sends 1_Pooling/config.json, README.md, " in plan and re.search(r" and \d+ more\n", plan)
    assert world.said["publish"].startswith(plan.strip())  # before anything is sent


def test_all_members_are_there_with_revisions_tags_and_collection(world, family) -> None:
    state = world.after
    assert len(state["repos"]) == 15
    for name in MEMBERS:
        folder = family / f"CurrAb-{name}"
        steps = {"step5000", "step10000"} if name == "350M-F" else set()
        repo = state["repos"][f"brineylab/CurrAb-{name}"]
        assert set(repo["branches"]) == {"main", *steps}
        assert remote_files(state, name) == local_files(folder)
        for step in steps:
            assert remote_files(state, name, step) == local_files(folder / REVISIONS / step)
        assert list(repo["tags"]) == ["v0.1.0"]
        assert not repo["private"]
    (collection,) = state["collections"].values()
    assert collection["title"] == "CurrAb" and collection["owner"]["name"] == "brineylab"
    assert [item["id"] for item in collection["items"]] == [f"brineylab/CurrAb-{name}" for name in MEMBERS]
    assert all(item["note"]["text"].startswith("rehearsal of ") for item in collection["items"])


def test_large_files_go_to_the_storage_once_and_without_a_token(world) -> None:
    """350M-F's `main` is its last step: its weights are not sent twice."""
    log = world.after["log"]
    uploads = [path for method, path, _ in log if method == "PUT"]
    assert len({path.split("/")[2] for path in uploads}) == 16  # 15 members, and one earlier step
    assert len(uploads) == len(set(uploads))
    assert {status for _, path, status in log if path.startswith("/lfs/")} == {200}


def test_a_second_publish_uploads_nothing(world, family) -> None:
    before = world.state()
    said = publish_family(world, family)
    after = world.state()
    assert writes(after["log"]) == []
    assert after["repos"] == before["repos"] and after["collections"] == before["collections"]
    assert "to send: 0 files, 0 B" in said and "sent 0 files in 0 commits" in said


def test_a_changed_card_is_one_file(hub, family, tmp_path) -> None:
    folder = tmp_path / "CurrAb-8M-F"
    shutil.copytree(family / "CurrAb-8M-F", folder)
    hub.run("publish", folder, "--namespace", "brineylab")
    before = hub.state()
    with (folder / "README.md").open("a") as card:
        card.write("\nThanks to all who donated.\n")
    said = hub.run("publish", folder, "--namespace", "brineylab")
    after = hub.state()
    sent = [path for path in writes(after["log"]) if "/commit/" in path or path.startswith("/lfs/")]
    assert sent == ["/api/models/brineylab/CurrAb-8M-F/commit/main"]
    old, new = remote_files(before, "8M-F"), remote_files(after, "8M-F")
    assert {name for name in new if new[name] != old[name]} == {"README.md"} and set(old) == set(new)
    assert (
        "main: 1 files" in said
        and "\n    sends README.md\n" in said
        and "tag v0.1.0 stays where it is" in said
    )
    # What the export no longer has goes.
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text())
    (folder / "results.json").write_text('{"format": "curr-ab results 1", "results": []}')
    hub.run("publish", folder, "--namespace", "brineylab")
    (folder / "results.json").unlink()
    said = hub.run("publish", folder, "--namespace", "brineylab")
    assert "1 to delete" in said and "\n    deletes results.json\n" in said
    assert "main: 0 files, 1 deleted\nsent 0 files in 1 commits\n" in said
    assert remote_files(hub.state(), "8M-F") == local_files(folder)


LOAD = """
import json, sys
sys.modules["curr_ab"] = None
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
found = {}
for key, options in json.loads(sys.argv[2]).items():
    tokenizer = AutoTokenizer.from_pretrained("brineylab/CurrAb-350M-F", **options)
    model = AutoModelForMaskedLM.from_pretrained("brineylab/CurrAb-350M-F", **options).eval()
    inputs = tokenizer(*json.loads(sys.argv[1]), return_tensors="pt")
    with torch.no_grad():
        found[key] = [type(model).__name__, model(**inputs).logits[0].tolist()]
print(json.dumps(found))
"""


def test_a_stranger_loads_it_by_name_and_by_revision(world, family) -> None:
    """Stock and remote code, without the package and without a token, over HTTP."""
    ways = {
        "main stock": {},
        "main remote": {"trust_remote_code": True},
        "step5000 stock": {"revision": "step5000"},
        "v0.1.0 stock": {"revision": "v0.1.0"},
    }
    folder = family / "CurrAb-350M-F"
    main, step = read_manifest(folder), read_manifest(folder / REVISIONS / "step5000")
    pair = [main.probe.heavy, main.probe.light]
    environment = world.environment(token=None, HF_MODULES_CACHE=str(world.home / "modules"))
    shown = run_warm(LOAD, [json.dumps(pair), json.dumps(ways)], environment=environment)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout.splitlines()[-1])
    for key, (name, logits) in found.items():
        assert name == ("CurrAbForMaskedLM" if "remote" in key else "EsmForMaskedLM")
        expected = step if key.startswith("step") else main
        assert expected.probe.largest_difference(logits) < TOLERANCE, key
    # The steps are told apart by far more than what is tolerated.
    assert largest_difference(main.probe.logits, step.probe.logits) > 100 * TOLERANCE


def test_private_repositories_adapters_and_data(hub, family, tmp_path) -> None:
    """Created as private, refused to others; another owner needs cards of its own."""
    folder = tmp_path / "CurrAb-8M-Q"
    shutil.copytree(family / "CurrAb-8M-Q", folder)
    assert "--namespace curator" in hub.run("publish", folder, "--namespace", "curator", code=2)
    hub.run("card", folder, "--namespace", "curator")
    adapter, data = tmp_path / "specificity-adapter", tmp_path / "CurrAb-pairs"
    (adapter).mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (data / "shards").mkdir(parents=True)
    (data / "dataset.json").write_text("{}")
    (data / "shards" / "train-0.tokens.npy").write_bytes(b"tokens")
    command = ("publish", folder, adapter, "--dataset", data, "--namespace", "curator", "--private")
    assert "private" in hub.run(*command)
    state = hub.state()
    assert {name: repo["private"] for name, repo in state["repos"].items()} == {
        "curator/CurrAb-8M-Q": True,
        "curator/specificity-adapter": True,
        "curator/CurrAb-pairs": True,
    }
    files = state["repos"]["curator/CurrAb-pairs"]["branches"]["main"]
    assert set(files) == {".gitattributes", "dataset.json", "shards/train-0.tokens.npy"}
    assert hub.run(*command).endswith("sent 0 files in 0 commits\n")
    for token in (None, STRANGER):
        said = hub.run("verify", "curator/CurrAb-8M-Q", token=token, code=2, HF_TOKEN_PATH="/nowhere")
        assert "or it is private" in said and said.count("\n") == 1


METRIC = """
import evaluate

mcc = evaluate.load("curator/classification", "mcc", keep_in_memory=True)
print(mcc.compute(predictions=[0, 1, 1], references=[0, 1, 0]))
"""


def test_metrics_are_published_as_spaces_and_load_from_there(hub, tmp_path) -> None:
    """By name, in a process that has neither the package nor its folders."""
    folder = MODULES / "classification"
    said = hub.run("publish", folder, "--namespace", "curator")
    assert "curator/classification: space, new, public\n" in said
    files = set(hub.state()["repos"]["curator/classification"]["branches"]["main"])
    shipped = {"README.md", "__init__.py", "app.py", "classification.py", "core.py", "requirements.txt"}
    assert files == {".gitattributes", *shipped}
    shown = subprocess.run(
        [sys.executable, "-P", "-c", METRIC],
        env=hub.environment(
            token=None, HF_MODULES_CACHE=str(hub.home / "modules"), HF_UPDATE_DOWNLOAD_COUNTS="0"
        ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == "{'mcc': 0.5}\n"


@pytest.mark.parametrize(
    ("token", "namespace", "complaint"),
    [
        (None, "brineylab", "not logged in to the Hub; run `hf auth login`, or set HF_TOKEN"),
        (STRANGER, "brineylab", "stranger may not write to brineylab; choose one of its names: stranger"),
        (WRITER[:-1], "brineylab", "Invalid user token"),
    ],
)
def test_who_may_not_write_is_told(hub, family, token, namespace, complaint) -> None:
    said = hub.run("publish", family / "CurrAb-8M-F", "--namespace", namespace, token=token, code=2)
    assert complaint in said and said.count("\n") == 1
    assert hub.state()["repos"] == {}
    if token:
        assert token not in said


@pytest.mark.heavy
def test_a_header_that_the_hub_refuses_ends_in_one_line(hub, tmp_path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "README.md").write_text("---\nlicense: 7\npipeline_tag: 8\n---\n")
    said = hub.run("publish", adapter, "--namespace", "brineylab", code=2)
    last = said.splitlines()[-1]
    assert (
        last == "curr-ab: Invalid metadata in README.md. - license must be text - pipeline_tag must be text"
    )


def test_a_public_repository_is_not_taken_for_a_private_one(world, family) -> None:
    said = world.run("publish", family / "CurrAb-8M-F", "--namespace", "brineylab", "--private", code=2)
    assert "CurrAb-8M-F, which is public already (--private)" in said


def test_pickles_are_refused_by_name_and_by_content(tmp_path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    described = describe_folder(adapter, "brineylab")
    assert described.repo_id == "brineylab/adapter" and list(described.revisions["main"]) == [
        "adapter_config.json"
    ]
    torch.save({"weight": torch.zeros(1)}, tmp_path / "new")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    contents = {"training_args.bin": b"", "head.PT": b"", "disguised.json": (tmp_path / "new").read_bytes()}
    contents["older.safetensors"] = (tmp_path / "old").read_bytes()
    for name, content in contents.items():
        (adapter / name).write_bytes(content)
        for describe in (describe_folder, describe_dataset):
            with pytest.raises(ValueError, match=rf"{name} is a pickle"):
                describe(adapter, "brineylab")
        (adapter / name).unlink()


class Caller:
    def __reduce__(self):
        return print, ("run",)


def test_pickles_of_any_protocol_and_under_any_name_are_refused(tmp_path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    pickled = [pickle.dumps(Caller(), protocol) for protocol in range(6)]
    objects = io.BytesIO()
    np.save(objects, np.array([Caller()]), allow_pickle=True)
    for content in (*pickled, gzip.compress(pickled[0]), objects.getvalue()):
        (folder / "table.csv").write_bytes(content)
        with pytest.raises(ValueError, match=r"table\.csv is a pickle"):
            describe_dataset(folder, "brineylab")
    harmless = io.BytesIO()
    np.save(harmless, np.zeros(3))
    for content in (
        b"heavy,light\nEVQL,DIQM\n",
        b"I1\n.",
        b"curr-ab @ https://x\ngradio\n.",
        b"torch==2.13.0\n",
        gzip.compress(b"id,label\n"),
        harmless.getvalue(),
    ):
        (folder / "table.csv").write_bytes(content)
        assert list(describe_dataset(folder, "brineylab").revisions["main"]) == ["table.csv"]


def test_links_out_of_a_folder_are_refused_and_hidden_files_stay_here(family, tmp_path) -> None:
    folder, secret = tmp_path / "data", tmp_path / "secret.txt"
    (folder / "inner").mkdir(parents=True)
    secret.write_text("never-to-be-seen")
    for name in (".env", "a.csv.tmp", ".lock", "inner/.hidden.csv"):
        (folder / name).write_text("x")
    (folder / "a.csv").write_text("id\n1\n")
    (folder / "b.csv").symlink_to(folder / "a.csv")
    assert list(describe_dataset(folder, "brineylab").revisions["main"]) == ["a.csv", "b.csv"]
    (folder / "inner" / "x.csv").symlink_to(secret)
    with pytest.raises(ValueError, match=r"x\.csv must be a file of .*; it is a link to .*secret\.txt"):
        describe_dataset(folder, "brineylab")
    export = tmp_path / "export"
    shutil.copytree(family / "CurrAb-8M-F", export)
    shutil.move(export / "config.json", tmp_path / "config.json")
    (export / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"config\.json must be a file of .*; it is a link to"):
        describe_folder(export, "brineylab")


def test_an_export_that_was_changed_is_not_published(family, tmp_path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(family / "CurrAb-350M-F", folder)
    assert set(describe_folder(folder, "brineylab").revisions) == {"step5000", "step10000", "main"}
    (folder / ".gitattributes").write_text("the Hub keeps its own")
    assert ".gitattributes" not in describe_folder(folder, "brineylab").revisions["main"]
    (folder / REVISIONS / "step5000" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"step5000: config\.json is not what was exported"):
        describe_folder(folder, "brineylab")
    (folder / REVISIONS / "step5000" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"step5000: config\.json is missing"):
        describe_folder(folder, "brineylab")
    with pytest.raises(ValueError, match=r"must be an export .*, an adapter .* or a folder of metrics"):
        describe_folder(tmp_path, "brineylab")


def test_the_pairs_of_the_tests_are_not_the_probe() -> None:
    """The probe is data of the package; the tests' pairs may change."""
    assert len(PAIRS) > 1


def test_a_file_is_hashed_once_for_each_state_of_it(tmp_path, monkeypatch):
    """Weights of 15 members and their steps take minutes; they are compared, planned and sent."""
    hashed = []
    monkeypatch.setattr(remote, "file_digest", lambda path: hashed.append(path) or file_digest(path))
    path = tmp_path / "weights"
    path.write_bytes(b"before")
    assert digest(path) == digest(path) == file_digest(path)
    path.write_bytes(b"afterwards")
    assert digest(path) == digest(path) == file_digest(path)
    assert hashed == [path, path]


def test_of_two_publications_at_once_one_works_and_the_other_says_so(
    hub, family, run_folder, fresh_process, tmp_path
) -> None:
    """Of one member with other weights: both see that the repository is new, and then create it."""
    weights, other = tmp_path / "weights", tmp_path / "other"
    for step in (5000, 10000):
        shutil.copytree(run_folder / "checkpoints" / f"step{step}", weights / "checkpoints" / f"step{step}")
        save_tiny(weights / "checkpoints" / f"step{step}", step + 1)
    export(member("350M-F"), weights, other, rehearsal=True, fresh_process=fresh_process)
    hub.faults({"method": "POST", "path": "repos/create", "kind": "meet", "times": 2})
    folders = (family / "CurrAb-350M-F", other)
    processes = [hub.start("publish", folder, "--namespace", "brineylab") for folder in folders]
    said = [process.communicate()[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], said
    works = processes[0].returncode != 0  # as a place in the lists
    lines = said[not works].splitlines()
    assert len(lines) == 1 and "another publication has " in lines[0], lines
    state = hub.state()
    repo = state["repos"]["brineylab/CurrAb-350M-F"]
    for revision in ("main", "step5000", "step10000"):
        local = folders[works] if revision == "main" else folders[works] / REVISIONS / revision
        assert remote_files(state, "350M-F", revision) == local_files(local)
    assert repo["tags"] == {"v0.1.0": repo["heads"]["main"]}
    # Whoever knows of the other may replace it.
    hub.run("publish", folders[not works], "--namespace", "brineylab", "--release", "v2")
    assert remote_files(hub.state(), "350M-F") == local_files(folders[not works])


class TakenMeanwhile:
    """The API of a Hub on which another publication has tagged its own commit between two of our calls."""

    def __init__(self) -> None:
        self.asked_for, self.main = None, "before"

    def list_repo_refs(self, name: str, **options: object) -> SimpleNamespace:
        def ref(name: str, commit: str) -> SimpleNamespace:
            return SimpleNamespace(name=name, target_commit=commit)

        return SimpleNamespace(branches=[ref("main", self.main)], tags=[ref("v1", "theirs")])

    def create_commit(self, *args: object, **options: object) -> SimpleNamespace:
        self.main = "ours"
        return SimpleNamespace(oid="ours")

    def create_tag(self, *args: object, revision: str, **options: object) -> None:
        self.asked_for = revision

    def list_repo_tree(self, *args: object, **options: object) -> list:
        return []


def test_a_release_is_tagged_where_it_was_sent_or_somebody_else_is_named(tmp_path) -> None:
    """Two publications of one repository at once: the tag of one must not be taken for the other's."""
    (tmp_path / "a.txt").write_text("x")
    files = {"main": {"a.txt": tmp_path / "a.txt"}}
    api = TakenMeanwhile()
    place = Remote(api, Repository("a/b", "model", "", files), 1)
    changes = [Changes("main", is_new=False, sent=files["main"], deleted=[])]
    order = Order(place, RemoteState({"main": "before"}, {}, False), changes, "v1")
    with pytest.raises(HubError, match="a/b: v1 is at theirs, where another publication has put it, and not"):
        _carry_out(order, False, lambda line: None)
    assert api.asked_for == "ours"


def test_a_step_that_the_export_no_longer_has_is_named_with_the_way_out(tmp_path) -> None:
    repository = Repository("a/b", "model", "", {"step10": {}, "main": {}})
    state = RemoteState(dict.fromkeys(("main", "step10", "step5", "mine"), "x"), {"v1": "x"}, False)
    main = Changes("main", is_new=False, sent={}, deleted=[])
    order = Order(Remote(None, repository, 1), state, [main], "v1")
    lines = _plan_text([order], private=False, collection=None).splitlines()
    stays = "  step5 stays, which is not in this export, and verify refuses it: "
    assert [line for line in lines if "stays" in line] == [f"{stays}hf repos branch delete a/b step5"]


@pytest.mark.parametrize("release", ["step5000", "main", "a b", "../x", "", "-x"])
def test_a_release_that_is_no_tag_is_refused_before_anything_is_read(release) -> None:
    with pytest.raises(OptionError, match="release must be letters") as refused:
        publish(["nowhere"], namespace="a", release=release)
    assert refused.value.fields == ("release",)


def test_an_answer_of_something_else_is_one_line() -> None:
    """A proxy or a page for logging in answers in the place of the Hub."""
    with pytest.raises(HubError, match=r"a/b: the answer of the Hub cannot be read \(KeyError: 'branches'\)"):
        Remote(None, Repository("a/b", "model", "", {}), 1).call(lambda *_, **__: {}["branches"])
    with pytest.raises(HubError, match="login: the answer of the Hub has no name"):
        refuse_foreign_namespace(SimpleNamespace(whoami=dict), "a", 1)
