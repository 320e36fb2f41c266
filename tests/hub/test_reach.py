"""What stands between a user and a checkpoint is named in one line, within seconds, with the way out."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time

import pytest
from support.tiny_models import PAIRS

from curr_ab import CurrAbTokenizer
from curr_ab.checkpoint_files import resolve
from tests.hub.conftest import running_hub, save_tiny

HEAVY = PAIRS[0][0]
NAME = "brineylab/CurrAb-8M-F"
FILL = """
import json, sys
from huggingface_hub import HfApi
api = HfApi()
for name, folder in json.loads(sys.argv[1]).items():
    api.create_repo(name, private=name.endswith("private"))
    if folder:
        api.upload_folder(repo_id=name, folder_path=folder)
"""


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    """A Hub with a member, an empty and a private repository, and one of another architecture."""
    home = tmp_path_factory.mktemp("door")
    member, bert, headless = save_tiny(home / "member", 1), home / "bert", home / "no-tokenizer"
    shutil.copytree(member, headless)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        (headless / name).unlink(missing_ok=True)
    config = json.loads((member / "config.json").read_text()) | {"model_type": "bert"}
    bert.mkdir()
    (bert / "config.json").write_text(json.dumps(config))
    folders = {NAME: member, "brineylab/empty": None, "brineylab/private": member, "brineylab/bert": bert}
    bare = shutil.copytree(member, home / "no-weights")
    (bare / "model.safetensors").unlink()
    folders |= {"brineylab/no-tokenizer": headless, "brineylab/no-weights": bare}
    with running_hub(home) as hub:
        repos = json.dumps({name: folder and str(folder) for name, folder in folders.items()})
        subprocess.run([sys.executable, "-c", FILL, repos], env=hub.environment(), check=True)
        yield hub


def last_line(said: str) -> str:
    """The error; before it stands at most what the Hub's library says of downloads that it repeats."""
    *before, last = said.splitlines()
    repeats = ("Error while downloading", "Trying to resume", "Max retries")
    assert all(line.startswith(repeats) for line in before), said
    return last


@pytest.fixture
def score(door, tmp_path):
    """`curr-ab score` of one pair with a cache of its own, what it says, and how long it took."""
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"heavy\n{HEAVY}\n")

    def score(model, *more, code=2, out="scores.csv", **environment):
        environment = {"HF_HOME": str(tmp_path / "cache"), "token": None, **environment}
        began = time.perf_counter()
        command = ("score", model, pairs, "--unpaired", "--quiet", "--out", tmp_path / out, *more)
        said = door.run(*command, code=code, **environment)
        score.seconds = time.perf_counter() - began
        return said if code == 0 else last_line(said)

    return score


NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("model", "environment", "says"),
    [
        (
            "8M-F",
            NO_HUB,
            f"{NAME} is not on this machine, and http://127.0.0.1:9 cannot be reached (Connection",
        ),
        ("8M-F", {"HF_HUB_OFFLINE": "1"}, f"{NAME} is not in the cache"),
        (
            "8M-F",
            {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": "http://me:secret@127.0.0.1:9"},
            "through the proxy http://127.0.0.1:9); connect and run it again",
        ),
        (
            "8M-F",
            {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": "me:secret@127.0.0.1:9"},
            "through the proxy 127.0.0.1:9); connect and run it again",
        ),
        ("8M-F", {"token": "hf_unknown"}, f"refuses access to {NAME} (401); log in with `hf auth login`"),
        (
            "brineylab/private",
            {},
            "is called brineylab/private, or it is private; correct the name, or log in",
        ),
        ("brineylab/nothing", {}, "no folder and no repository of the Hub is called brineylab/nothing"),
        ("a/b/c", {}, "a/b/c is neither a folder nor the name of a repository, which is owner/name"),
        ("brineylab/no-weights", {}, "brineylab/no-weights"),
        ("brineylab/empty", {}, "brineylab/empty is no checkpoint: it has no config.json"),
        (
            "brineylab/bert",
            {},
            "brineylab/bert holds a model of the type bert; name a checkpoint of this family",
        ),
        ("brineylab/no-tokenizer", {}, "has no tokenizer files to say how its chains were joined; name the"),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value and " " not in value else "",
)
def test_the_cause_is_named(score, model, environment, says):
    said = score(model, **environment)
    assert says in said and "secret" not in said
    assert score.seconds < 60  # four minutes and more where transformers retries


@pytest.mark.heavy
def test_a_wrong_revision_is_told_with_those_there_are(score):
    assert score("8m-f", "--revision", "v9").endswith(f"{NAME} has no revision 'v9'; it has main")


@pytest.mark.heavy
def test_a_gated_repository_says_where_to_ask(door, score):
    gated = {"kind": "status", "status": 403, "code": "GatedRepo"}
    door.faults({"method": "HEAD", "path": "config.json", **gated})
    said = score("8M-F")
    assert f"{NAME} is gated: ask for access on {door.endpoint}/{NAME}, then log in" in said


@pytest.mark.heavy
def test_the_cache_serves_without_network(score, tmp_path):
    score("8M-F", code=0)
    online = (tmp_path / "scores.csv").read_bytes()
    said = score("8M-F", code=0, out="again.csv", **NO_HUB)
    assert f"http://127.0.0.1:9 cannot be reached (Connection refused); {NAME} is read from the cache" in said
    assert "thrown while requesting" not in said
    assert (tmp_path / "again.csv").read_bytes() == online
    assert "cannot be reached" not in score("8M-F", code=0, out="off.csv", HF_HUB_OFFLINE="1")


@pytest.mark.heavy
def test_a_download_that_breaks_is_one_line_and_the_next_one_finishes(door, score):
    door.faults({"method": "GET", "path": "^/lfs/", "kind": "cut", "after": 3_000, "times": 99})
    said = score("8M-F")
    assert f"the download of {NAME} broke off (" in said and "run the same command again, it goes on" in said
    door.faults()
    score("8M-F", code=0)


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
from curr_ab.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.heavy
def test_a_full_cache_says_where_it_is(door, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"heavy\n{HEAVY}\n")
    cache = tmp_path / "cache"
    command = [sys.executable, "-P", "-c", FULL, "score", "8M-F", pairs, "--unpaired", "--quiet"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "x.csv"],
        env=door.environment(None, HF_HOME=str(cache)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    said = last_line(done.stderr)
    assert f"cannot write into the cache ({cache}" in said and "set HF_HOME" in said


DOORS = """
import json, socket, sys, time
import curr_ab
from curr_ab.checkpoints import load
from curr_ab.cli.main import main
import curr_ab.finetuning.cross_validation, curr_ab.hub.verification, curr_ab.inference.tasks
limit, hang, *commands = json.loads(sys.argv[1])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
if hang:
    socket.getaddrinfo = lambda *args, **options: time.sleep(300)
for command in commands:
    began = time.monotonic()
    try:
        code = main(command[1:]) if command[0] else load(command[1], device="cpu") and 0
    except ValueError as error:
        code = print(error, file=sys.stderr) or 2
    print(json.dumps([code, time.monotonic() - began]), flush=True)
    print(flush=True, file=sys.stderr)
"""


@pytest.fixture
def silent():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.heavy
@pytest.mark.parametrize(
    "case", ["refused", "silent", "silent name server", "unknown", "cut", "full", "base"]
)
def test_every_door_says_it_within_ten_seconds(door, tmp_path, silent, case):
    """Python, and the commands that read a model; seconds without those of the imports."""
    model, environment, limit, hang, doors = "8M-F", {}, 0, False, ("load", "score", "finetune", "verify")
    if case == "refused":
        environment, says = (
            NO_HUB,
            "cannot be reached (Connection refused); connect and run it again, or name",
        )
    elif case == "silent":
        environment, says = {"HF_ENDPOINT": silent}, "cannot be reached (no answer)"
    elif case == "silent name server":
        environment, hang, says = {"HF_ENDPOINT": "http://hub.invalid"}, True, "cannot be reached (no answer)"
    elif case == "unknown":
        model, says = "650M-F", "no repository of the Hub is called brineylab/CurrAb-650M-F"
    elif case == "cut":
        door.faults({"method": "GET", "path": "^/lfs/", "kind": "cut", "after": 3_000, "times": 99})
        says, doors = f"the download of {NAME} broke off (", ("load", "score", "finetune")
    elif case == "full":
        limit, says, doors = 10_000, "cannot write into the cache (", ("load", "score", "finetune")
    else:
        assert case == "base"
        adapter = tmp_path / "adapter"
        adapter.mkdir()
        config = {"peft_type": "LORA", "base_model_name_or_path": "brineylab/CurrAb-650M-F"}
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        (adapter / "config.json").write_text('{"architectures": ["CurrAbForSequenceClassification"]}')
        CurrAbTokenizer().save_pretrained(adapter)
        model, doors = str(adapter), ("load", "score", "predict")
        says = "no repository of the Hub is called brineylab/CurrAb-650M-F"
    pairs, quiet = tmp_path / "pairs.csv", ("--quiet", "--device", "cpu")
    pairs.write_text("heavy,light,label,donor\n" + f"{HEAVY},{PAIRS[0][1]},A,x\n{HEAVY},{PAIRS[0][1]},B,y\n")
    fine_tune = ("curr-ab", "finetune", "specificity-binary")
    commands = {
        "load": ["", model],
        "score": ["curr-ab", "score", model, str(pairs), "--out", str(tmp_path / "s.csv"), *quiet],
        "predict": ["curr-ab", "predict", model, str(pairs), "--out", str(tmp_path / "p.csv"), *quiet],
        "finetune": [*fine_tune, "--model", model, "--data", str(pairs), "--out", str(tmp_path / "run")],
        "verify": ["curr-ab", "verify", model],
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", DOORS, json.dumps([limit, hang, *(commands[name] for name in doors)])],
        env=door.environment(None, HF_HOME=str(tmp_path / "cache"), **environment),
        capture_output=True,
        text=True,
        check=False,
    )
    door.faults()
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for name, (code, seconds), said in zip(doors, answers, done.stderr.split("\n\n"), strict=False):
        assert code == 2 and says in last_line(said), (name, said)
        assert seconds < 10, name
    assert len(answers) == len(doors)


@pytest.mark.parametrize("name", ["8M", "8m", "CurrAb-8M"])
def test_a_size_alone_asks_which_data_set(name):
    with pytest.raises(ValueError, match=r"8M comes in three, .*: name 8M-F \(full, .*, 8M-H .* or 8M-Q "):
        resolve(name)
    with pytest.raises(ValueError, match="CLM-8M-F"):
        resolve(f"clm-{name.lower().removeprefix('currab-')}")
