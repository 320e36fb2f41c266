"""The part of the local Hub that runs jobs: it checks and keeps what it is sent, and starts nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from space_runs import DATE
from starlette.requests import Request
from starlette.responses import Response
from store import Refused

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
GPU = {"type": "gpu", "manufacturer": "Nvidia"}
# As the Hub describes its machines; the prices are those of no day.
HARDWARE = [
    {"name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "unitCostUSD": 0.001},
    {
        "name": "h200",
        "prettyName": "Nvidia H200",
        "cpu": "23 vCPU",
        "ram": "256 GB",
        "accelerator": {**GPU, "model": "H200", "quantity": "1", "vram": "141 GB"},
        "unitCostUSD": 0.1,
    },
    {
        "name": "a100x4",
        "prettyName": "4x Nvidia A100",
        "cpu": "48 vCPU",
        "ram": "568 GB",
        "accelerator": {**GPU, "model": "A100", "quantity": "4", "vram": "320 GB"},
        "unitCostUSD": 0.2,
    },
]
_KEYS = {"command", "arguments", "environment", "flavor", "secrets", "timeoutSeconds", "attempts", "labels"}
_KEYS |= {"volumes", "dockerImage", "spaceId"}


def at(minutes: int) -> str:
    return f"{BEGIN + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S.%fZ}"


async def hardware(hub: Any, request: Request) -> Any:
    costs = {"unitLabel": "minute", "ephemeralStorage": "20 GB"}
    return [{**one, **costs, "unitCostMicroUSD": int(one["unitCostUSD"] * 1e6)} for one in HARDWARE]


async def run_job(hub: Any, request: Request, namespace: str) -> Any:
    from huggingface_hub import Volume  # older clients have none, and no jobs with volumes

    user = hub.user(request)
    if user is None or namespace not in (user["name"], *(org["name"] for org in user["orgs"])):
        raise Refused(403, "You have no right to start jobs here")
    asked = await request.json()
    if unknown := set(asked) - _KEYS:
        raise Refused(400, f"unknown keys {sorted(unknown)}")
    if asked["flavor"] not in [one["name"] for one in HARDWARE]:
        raise Refused(400, f"unknown flavor {asked['flavor']}")
    for volume in map(Volume.to_dict, (Volume(**one) for one in asked.get("volumes", ()))):
        if volume["type"] == "bucket":
            require_bucket(hub, volume["source"])
        else:
            hub.store.repo(volume["type"] + "s", volume["source"])
    number = len(hub.jobs)
    job = {
        **{key: asked.get(key) for key in ("command", "arguments", "environment", "flavor", "labels")},
        "volumes": asked.get("volumes"),
        "dockerImage": asked.get("dockerImage"),
        # Of a secret the Hub gives back the name alone.
        "secrets": dict.fromkeys(asked.get("secrets", ()), ""),
        "id": f"{number:024x}",
        "createdAt": at(number),
        "owner": {"id": namespace, "name": namespace, "type": "user"},
        "status": {"stage": "SCHEDULING", "message": None},
    }
    hub.jobs.append({"shown": job, "asked": asked, "log": []})
    return job


def require_bucket(hub: Any, name: str) -> None:
    if name not in hub.buckets:
        raise Refused(404, f"no bucket {name}", "RepoNotFound")


async def list_jobs(hub: Any, request: Request, namespace: str) -> Any:
    wanted = [label.partition("=")[::2] for label in request.query_params.getlist("label")]
    stages = request.query_params.getlist("stage")
    return [
        job["shown"]
        for job in reversed(hub.jobs)  # the newest first
        if job["shown"]["owner"]["name"] == namespace
        and all((job["shown"]["labels"] or {}).get(key) == value for key, value in wanted)
        and (not stages or job["shown"]["status"]["stage"] in stages)
    ]


async def inspect_job(hub: Any, request: Request, namespace: str, job: str) -> Any:
    return hub.jobs[int(job, 16)]["shown"]


async def logs(hub: Any, request: Request, namespace: str, job: str) -> Any:
    lines = hub.jobs[int(job, 16)]["log"][-int(request.query_params.get("tail", 10**6)) :]
    events = [json.dumps({"data": line, "timestamp": at(0)}) for line in lines]
    return Response("".join(f"data: {event}\n\n" for event in events), media_type="text/event-stream")


async def bucket(hub: Any, request: Request, owner: str, name: str) -> Any:
    require_bucket(hub, f"{owner}/{name}")
    return {"id": f"{owner}/{name}", "private": True, "createdAt": DATE, "size": 0, "totalFiles": 0}


async def make_bucket(hub: Any, request: Request) -> Any:
    hub.buckets.add((await request.json())["name"])
    return {}


async def end_job(hub: Any, request: Request) -> Any:
    """A job gets another stage, a message and a log."""
    asked = await request.json()
    job = hub.jobs[asked["number"]]
    job["shown"]["status"] = {"stage": asked["stage"], "message": asked.get("message")}
    job["log"] = asked.get("log", [])
    return {}


async def jobs(hub: Any, request: Request) -> Any:
    """All that jobs were asked for, secrets among it."""
    return [job["asked"] for job in hub.jobs]


ROUTES = [
    ("GET", "/api/jobs/hardware", hardware),
    ("POST", "/api/jobs/{namespace}", run_job),
    ("GET", "/api/jobs/{namespace}", list_jobs),
    ("GET", "/api/jobs/{namespace}/{job}", inspect_job),
    ("GET", "/api/jobs/{namespace}/{job}/logs", logs),
    ("GET", "/api/buckets/{owner}/{name}", bucket),
    ("POST", "/_test/buckets", make_bucket),
    ("POST", "/_test/jobs", end_job),
    ("GET", "/_test/jobs", jobs),
]
