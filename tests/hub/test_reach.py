"""What stands between a user and a checkpoint is named in one line, within seconds, with the way out."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile

import pytest
import torch
from safetensors.torch import save_file
from support.tiny_models import PAIRS
from support.warm import run_warm

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
    others = shutil.copytree(member, home / "other-weights")
    save_file({"encoder.block.0.weight": torch.zeros(3)}, others / "model.safetensors", {"format": "pt"})
    bare = shutil.copytree(member, home / "no-weights")
    (bare / "model.safetensors").unlink()
    folders |= {"brineylab/no-tokenizer": headless, "brineylab/no-weights": bare}
    folders |= {"brineylab/other-weights": others}
    with running_hub(home) as hub:
        repos = json.dumps({name: folder and str(folder) for name, folder in folders.items()})
        assert run_warm(FILL, [repos], environment=hub.environment()).returncode == 0
        yield hub


def last_line(said: str) -> str:
    """The error; before it stands at most what the Hub's library says of downloads that it repeats."""
    *before, last = said.strip().splitlines()
    repeats = ("Error while downloading", "Trying to resume", "Max retries")
    assert all(line.startswith(repeats) for line in before), said
    return last


DOORS = '''
import importlib, json, socket, sys, time
from curr_ab.checkpoints import load
from curr_ab.cli.main import main


def queued():
    """Seconds in which this thread had work and other programs had the processors, where Linux tells."""
    try:
        with open("/proc/self/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


limit, hang, modules, *commands = json.loads(sys.argv[1])
for module in ("curr_ab.inference.tasks", *modules):
    importlib.import_module(module)
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
if hang:
    socket.getaddrinfo = lambda *args, **options: time.sleep(300)
for command in commands:
    began = time.monotonic() - queued()
    try:
        code = main(command) if len(command) > 1 else load(*command, device="cpu") and 0
    except ValueError as error:
        code = print(error, file=sys.stderr) or 2
    print(json.dumps([code, time.monotonic() - queued() - began]), flush=True)
    print(flush=True, file=sys.stderr)
'''
# What a command imports at its first use, which is no part of its seconds.
IMPORTS = {"finetune": "curr_ab.finetuning.cross_validation", "verify": "curr_ab.hub.verification"}


@pytest.fixture
def knock(door, tmp_path):
    """`knock(model, *doors)`: what `load` or a command says of a model; errors within 10 seconds.

    With a cache of the test's own; the seconds are those without the imports, and without those that other
    programs took from the command's thread; `code` is that of the command.
    """
    pairs = tmp_path / "pairs.csv"
    light = PAIRS[0][1]
    pairs.write_text(f"heavy,light,label,donor\n{HEAVY},{light},A,x\n{HEAVY},{light},B,y\n")

    def words(name: str, model: str, more: tuple[str, ...], out: str) -> list[str]:
        quiet = ("--quiet", "--device", "cpu")
        match name:
            case "load":
                return [model]
            case "verify":
                return ["verify", model, *more]
            case "finetune":
                data = ("--data", str(pairs), "--out", str(tmp_path / "run"))
                return ["finetune", "specificity-binary", "--model", model, *data, *more]
            case _:
                return [name, model, str(pairs), "--out", str(tmp_path / out), *quiet, *more]

    def knock(
        model, *doors, more=(), out="x.csv", code=2, token=None, limit=0, hang=False, faults=(), **environment
    ):
        commands = [words(name, model, more, out) for name in doors]
        modules = [IMPORTS[name] for name in doors if name in IMPORTS]
        door.faults(*faults)
        done = run_warm(
            DOORS,
            [json.dumps([limit, hang, modules, *commands])],
            environment=door.environment(token, **{"HF_HOME": str(tmp_path / "cache"), **environment}),
        )
        door.faults()
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
        said = done.stderr.split("\n\n")[: len(answers)]
        assert len(said) == len(answers) == len(doors), done
        for name, (status, seconds), text in zip(doors, answers, said, strict=True):
            assert status == code, (name, text)
            assert code == 0 or seconds < 10, (name, seconds)
        return said if code == 0 else [last_line(text) for text in said]

    return knock


NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}


def refusal(status: int, code: str | None = None) -> dict:
    """A Hub that answers in this way whatever file is asked for."""
    fault = {"method": "HEAD", "path": "json$", "kind": "status", "status": status, "times": 99}
    return {"faults": [fault | ({"code": code} if code else {})]}


PROXY = {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": "http://me:secret@127.0.0.1:9"}
CAUSES = {
    "no network": (
        "8M-F",
        NO_HUB,
        f"{NAME} is not on this machine, and http://127.0.0.1:9 cannot be reached (Connection",
    ),
    "offline": ("8M-F", {"HF_HUB_OFFLINE": "1"}, f"{NAME} is not in the cache"),
    "proxy": ("8M-F", PROXY, "through the proxy http://127.0.0.1:9); connect and run it again"),
    "proxy without http": (
        "8M-F",
        PROXY | {"HTTP_PROXY": "me:secret@127.0.0.1:9"},
        "through the proxy 127.0.0.1:9); connect and run it again",
    ),
    "401": (
        "8M-F",
        {"token": "hf_unknown"},
        f"refuses access to {NAME} (401); log in with `hf auth login`",
    ),
    "403": ("8M-F", refusal(403), f"refuses access to {NAME} (403); log in with `hf auth login`, or give a"),
    "gated, no token": ("8M-F", refusal(401, "GatedRepo"), f"{NAME} is gated: ask for access on"),
    "gated, not granted": ("8M-F", refusal(403, "GatedRepo"), f"{NAME} is gated: ask for access on"),
    "server error": ("8M-F", refusal(500), "cannot be reached (it answers 500); connect and run it again"),
    "private": (
        "brineylab/private",
        {},
        "is called brineylab/private, or it is private; correct the name, or log in",
    ),
    "no such repository": (
        "brineylab/nothing",
        {},
        "no folder and no repository of the Hub is called brineylab/nothing",
    ),
    "no name": ("a/b/c", {}, "a/b/c is neither a folder nor the name of a repository, which is owner/name"),
    "no such revision": ("8m-f", {"more": ("--revision", "v9")}, f"{NAME} has no revision 'v9'; it has main"),
    "no weights": (
        "brineylab/no-weights",
        {},
        "brineylab/no-weights has no model in it (none of model.safetensors",
    ),
    "empty": ("brineylab/empty", {}, "brineylab/empty is no checkpoint: it has no config.json"),
    "another architecture": (
        "brineylab/bert",
        {},
        "brineylab/bert holds a model of the type bert; name a checkpoint of this family",
    ),
    "weights of another": (
        "brineylab/other-weights",
        {},
        "the weights of brineylab/other-weights must be those of its config.json, all of them; got none of",
    ),
    "no tokenizer": (
        "brineylab/no-tokenizer",
        {},
        "has no tokenizer files to say how its chains were joined; name the",
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize("cause", CAUSES)
def test_the_cause_is_named(knock, cause):
    model, options, says = CAUSES[cause]
    [said] = knock(model, "score", **options)
    assert says in said and "secret" not in said


@pytest.mark.heavy
def test_a_gated_repository_says_where_to_ask(door, knock):
    [said] = knock("8M-F", "score", **refusal(403, "GatedRepo"))
    assert f"ask for access on {door.endpoint}/{NAME}, then log in" in said


@pytest.mark.heavy
def test_the_cache_serves_without_network(knock, tmp_path):
    knock("8M-F", "score", code=0, out="online.csv")
    online = (tmp_path / "online.csv").read_bytes()
    [said] = knock("8M-F", "score", code=0, out="again.csv", **NO_HUB)
    assert f"http://127.0.0.1:9 cannot be reached (Connection refused); {NAME} is read from the cache" in said
    assert "thrown while requesting" not in said
    assert (tmp_path / "again.csv").read_bytes() == online
    [said] = knock("8M-F", "score", code=0, out="off.csv", HF_HUB_OFFLINE="1")
    assert "cannot be reached" not in said


CUT = {"method": "GET", "path": "^/lfs/", "kind": "cut", "after": 3_000, "times": 99}


@pytest.mark.heavy
def test_a_download_that_breaks_is_one_line_and_the_next_one_finishes(knock):
    for said in knock("8M-F", "score", "verify", faults=[CUT]):
        assert (
            f"the download of {NAME} broke off (" in said and "run the same command again, it goes on" in said
        )
    knock("8M-F", "score", code=0)


@pytest.mark.heavy
def test_a_full_cache_says_where_it_is(knock, tmp_path):
    [said, verified] = knock("8M-F", "score", "verify", limit=10_000)
    assert f"cannot write into the cache ({tmp_path / 'cache'}" in said and "set HF_HOME" in said
    assert f"cannot write into {tempfile.gettempdir()}: File too large; make room, or set scratch" in verified


@pytest.fixture
def silent():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.heavy
@pytest.mark.parametrize(
    "case",
    ["refused", "proxy", "silent", "silent name server", "gated", "unknown", "empty", "cut", "full", "base"],
)
def test_every_door_says_it_within_ten_seconds(knock, tmp_path, silent, case):
    """Python, and the commands that read a model."""
    model, options, doors = "8M-F", {}, ("load", "score", "finetune", "verify")
    match case:
        case "refused":
            options, says = (
                NO_HUB,
                "cannot be reached (Connection refused); connect and run it again, or name",
            )
        case "proxy":
            options, says = PROXY, "through the proxy http://127.0.0.1:9); connect and run it again"
        case "silent":
            options, says, doors = {"HF_ENDPOINT": silent}, "cannot be reached (no answer)", doors[:2]
        case "silent name server":
            options, says = (
                {"HF_ENDPOINT": "http://hub.invalid", "hang": True},
                "cannot be reached (no answer)",
            )
            doors = doors[2:]  # each of them waits for seconds
        case "gated":
            options, says = refusal(403, "GatedRepo"), f"{NAME} is gated: ask for access on"
        case "unknown":
            model, says = "650M-F", "no repository of the Hub is called brineylab/CurrAb-650M-F"
        case "empty":
            model, says, doors = "brineylab/empty", "; name a ", doors[:3]  # in two ways
        case "cut":
            options, says = {"faults": [CUT]}, f"the download of {NAME} broke off ("
        case "full":
            options, says = {"limit": 10_000}, "cannot write into "
        case "base":
            adapter = tmp_path / "adapter"
            adapter.mkdir()
            config = {"peft_type": "LORA", "base_model_name_or_path": "brineylab/CurrAb-650M-F"}
            (adapter / "adapter_config.json").write_text(json.dumps(config))
            (adapter / "config.json").write_text('{"architectures": ["CurrAbForSequenceClassification"]}')
            CurrAbTokenizer().save_pretrained(adapter)
            model, doors = str(adapter), ("load", "score", "predict")
            says = "no repository of the Hub is called brineylab/CurrAb-650M-F"
    for said in knock(model, *doors, **options):
        assert says in said


@pytest.mark.parametrize("name", ["8M", "8m", "CurrAb-8M"])
def test_a_size_alone_asks_which_data_set(name):
    with pytest.raises(ValueError, match=r"8M comes in three, .*: name 8M-F \(full, .*, 8M-H .* or 8M-Q "):
        resolve(name)
    with pytest.raises(ValueError, match="CLM-8M-F"):
        resolve(f"clm-{name.lower().removeprefix('currab-')}")
