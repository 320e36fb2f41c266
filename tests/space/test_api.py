"""The API of the running app, as programs call it; and what its server says of itself."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from support.apps import running_app, write_app
from support.tiny_models import TESTS

from curr_ab.space.answers import Answers
from curr_ab.space.examples import LIGHTS
from curr_ab.words import EXAMPLE_PAIR

HEAVY, LIGHT = EXAMPLE_PAIR
QUIET = {"verbose": False, "analytics_enabled": False, "token": False}

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with running_app(write_app(tmp_path_factory.mktemp("masked"), "demo")) as address:
        yield Client(address, **QUIET)


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    with running_app(write_app(tmp_path_factory.mktemp("causal"), "CLM-demo")) as address:
        yield Client(address, **QUIET)


def names_of(client: Client) -> set[str]:
    return set(client.view_api(return_format="dict", print_info=False)["named_endpoints"])


def test_each_use_has_its_name(client, causal) -> None:
    assert names_of(client) == {"/score", "/score_file", "/mutate", "/restore", "/pair"}
    assert names_of(causal) == {"/score", "/score_file", "/pair", "/generate"}


def test_every_name_answers(client, causal, tmp_path) -> None:
    score = client.predict(HEAVY, LIGHT, api_name="/score")
    assert score["model"] == "demo" and set(score["percentile"]) == {"pair", "heavy", "light"}
    assert len(score["residues"]) == len(HEAVY + LIGHT)
    assert client.predict(heavy=HEAVY, api_name="/score")["log_likelihood"].keys() == {"heavy"}
    assert len(client.predict(HEAVY, LIGHT, api_name="/mutate")) == 19 * len(HEAVY + LIGHT)
    restored = client.predict(HEAVY.replace("SRW", "XXX"), LIGHT, api_name="/restore")
    assert len(restored["filled"]) == 3 and len(restored["heavy"]) == len(HEAVY)
    assert len(client.predict(HEAVY, "\n".join(LIGHTS), api_name="/pair")) == len(LIGHTS)
    (tmp_path / "pairs.csv").write_text(f"id,heavy,light\nmine,{HEAVY},{LIGHT}\n")
    (row,) = client.predict(handle_file(tmp_path / "pairs.csv"), api_name="/score_file")
    assert row["id"] == "mine"
    assert row["log_likelihood"] == pytest.approx(score["log_likelihood"]["pair"], rel=1e-4)
    assert causal.predict(HEAVY, LIGHT, api_name="/score")["model"] == "CLM-demo"
    samples = causal.predict(HEAVY, 1, api_name="/generate")
    assert len(samples) <= 1 and all(one["light"] for one in samples)


def test_bad_input_is_refused_in_one_line(client, causal) -> None:
    for call, wanted in (
        (
            lambda: client.predict("", "", api_name="/score"),
            "a light chain or both must be given",
        ),
        (lambda: client.predict("EVQ1", "", api_name="/mutate"), "position 4: '1' is not a residue"),
        (lambda: client.predict(HEAVY, LIGHT, api_name="/restore"), "must have unknown residues"),
        (lambda: client.predict(HEAVY, "", api_name="/pair"), "must be given, one in each line"),
        (lambda: causal.predict(HEAVY, 50, api_name="/generate"), "Samples must be from 1 to 10; got 50"),
    ):
        with pytest.raises(AppError, match=wanted) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_no_other_file_of_the_server_is_read(client) -> None:
    """A program may name any path; only what was uploaded counts."""
    for path in ("/etc/passwd", "app.py", "builtin", "hf://datasets/a/b"):
        body = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
        address = f"{client.src}/gradio_api/call/score_file".replace("//gradio", "/gradio")
        post = urllib.request.Request(
            address, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(post) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{address}/{event}") as answer:
            said = answer.read().decode()
        assert said.startswith("event: error") and "root" not in said, said


def test_the_example_of_the_page_runs(client, capsys) -> None:
    document = (TESTS.parent / "docs" / "how-to" / "space.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    exec(block.replace("http://127.0.0.1:7860", client.src), {})
    assert "'heavy': " in capsys.readouterr().out


def test_functions_are_described_for_agents(client) -> None:
    """What MCP makes tools of: names, types and sentences of the parameters."""
    api = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    parameters = {one["parameter_name"]: one for one in api["/score"]["parameters"]}
    assert parameters["heavy"]["python_type"]["type"] == "str"
    assert parameters["light"]["parameter_has_default"]


def test_agents_find_each_use_as_a_tool(client) -> None:
    """Through the client of MCP: what is there, what it says of itself, and an answer."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def asked() -> tuple[Any, Any]:
        address = f"{client.src.rstrip('/')}/gradio_api/mcp/"
        async with streamable_http_client(address) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            tools = (await session.list_tools()).tools
            (name,) = [tool.name for tool in tools if tool.name.endswith("pair")]
            return tools, await session.call_tool(name, {"heavy": HEAVY, "lights": "\n".join(LIGHTS[:2])})

    tools, answer = asyncio.run(asked())
    said = {tool.name: tool.description for tool in tools}
    for name in ("score", "mutate", "restore", "pair"):
        (description,) = [text for tool, text in said.items() if tool.endswith(name)]
        assert description and getattr(Answers, name).__doc__.split(".")[0].split(":")[0] in description
    assert len(said) == 5
    assert not answer.isError and all(light in answer.content[0].text for light in LIGHTS[:2])
