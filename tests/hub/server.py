"""A Hub on this machine that the unmodified client accepts: `python server.py PORT`.

Large files are served from another origin (localhost instead of 127.0.0.1), as the real Hub does. Tests
inject faults, break what is stored and read the log of requests under `/_test/`.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from copy import deepcopy
from typing import Any
from urllib.parse import unquote

import jobs_api
import uvicorn
import yaml
from space_runs import DATE
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from store import Entry, Refused, Repo, Store, is_large
from xet import Xet

# Who a token belongs to. The tests search everything that is written for these very strings.
TOKENS = {
    "hf_WriterTokenThatMustNeverBeSeen": {"name": "curator", "orgs": [{"name": "brineylab"}]},
    "hf_StrangerTokenThatMustNeverBeSeen": {"name": "stranger", "orgs": []},
}
PART_SIZE = 1 << 18
ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = []


def route(method: str, path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`{kind}` is models, datasets or spaces, `{repo}` owner/name, others one raw segment of the path."""
    pattern = path.replace("{kind}", "(?P<kind>models|datasets|spaces)")
    pattern = pattern.replace("{prefix}", "(?P<prefix>datasets/|spaces/)?").replace(
        "{repo}", "(?P<repo>[^/]+/[^/]+?)"
    )
    pattern = re.sub(r"\{(\w+):rest\}", r"(?P<\1>.+)", pattern)
    pattern = re.sub(r"(?<!\()\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


class Cut(Response):
    """An answer of which the beginning arrives."""

    def __init__(self, whole: Response, after: int) -> None:
        super().__init__(whole.body, headers=dict(whole.headers))
        self.after = after


class Hub:
    """The application: authentication, faults, routes, log."""

    def __init__(self, port: int) -> None:
        self.endpoint, self.storage = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        self.store, self.kept, self.xet = Store(), Store(), Xet()
        self.faults: list[dict[str, Any]] = []
        self.log: list[list[Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.buckets: set[str] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = scope["raw_path"].decode().partition("?")[0]
        try:
            response = await self._answer(request, path, send)
        except ClientDisconnect:  # a client that was killed waits for no answer
            self.log.append([request.method, path, 0])
            return
        except Refused as refusal:
            headers = {"X-Error-Code": refusal.code} if refusal.code else {}
            headers["X-Error-Message"] = refusal.message
            headers |= refusal.headers
            response = JSONResponse(refusal.body or {"error": refusal.message}, refusal.status, headers)
        if not path.startswith("/_test/"):
            self.log.append([request.method, path, response.status_code if response else 0])
        if response is None:
            send.__self__.transport.abort()  # the connection is cut
        elif isinstance(response, Cut):
            await send({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
            await send(
                {"type": "http.response.body", "body": response.body[: response.after], "more_body": True}
            )
            await asyncio.sleep(0.2)  # what was sent arrives
            send.__self__.transport.abort()
        else:
            await response(scope, receive, send)

    async def _answer(self, request: Request, path: str, send: Any) -> Response | None:
        fault = None if path.startswith("/_test/") else self._fault(request.method, path)
        if fault and fault["kind"] == "cut" and request.method != "GET":
            seen = 0
            async for block in request.stream():
                seen += len(block)
                if seen >= fault.get("after", 0):
                    return None
            return None
        if fault and fault["kind"] == "slow":
            await asyncio.sleep(fault["seconds"])
        while fault and fault["kind"] == "meet" and fault["times"] > 0:  # until all that shall meet are here
            await asyncio.sleep(0.02)
        if fault and fault["kind"] == "status":
            await request.body()
            raise_with = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
            raise_with |= {"X-Error-Code": fault["code"]} if "code" in fault else {}
            said = f"injected, for {request.headers.get('authorization')}"
            return JSONResponse({"error": said}, fault["status"], raise_with)
        if fault and fault["kind"] == "race":  # somebody else commits just before
            repo = self.store.repo("models", fault["name"])
            files = {**repo.commit("main").files, "theirs.txt": Entry(b"hello", None)}
            repo.add(repo.branches["main"], "theirs", files, "main")
        for method, pattern, function in ROUTES:
            head = method == "GET" and request.method == "HEAD"
            if (method == request.method or head) and (match := pattern.fullmatch(path)):
                found = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                self.check_access(request, found)
                result = await function(self, request, **found)
                response = result if isinstance(result, Response) else JSONResponse(result)
                if fault and fault["kind"] == "lost":  # it was done, but the answer does not arrive
                    return None
                if fault and fault["kind"] == "cut":
                    return Cut(response, fault["after"])
                return response
        raise Refused(404, f"the local Hub has no {request.method} {path}")

    def _fault(self, method: str, path: str) -> dict[str, Any] | None:
        for fault in self.faults:
            if fault["times"] > 0 and fault["method"] == method and re.search(fault["path"], path):
                fault["times"] -= 1
                return fault
        return None

    def user(self, request: Request) -> dict[str, Any] | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise Refused(401, "Invalid credentials in Authorization header")
        return TOKENS.get(token)

    def check_access(self, request: Request, found: dict[str, str]) -> None:
        """Private repositories do not exist for others; nobody writes without the right to."""
        if "repo" not in found or request.url.path.startswith("/lfs/"):  # a signed address is enough
            return
        user = self.user(request)
        owner = found["repo"].partition("/")[0]
        may_write = user is not None and owner in (user["name"], *(org["name"] for org in user["orgs"]))
        own = "spaces" if request.url.path.startswith("/api/spaces/") else "models"
        kind = (found.get("prefix") or found.get("kind", own)).rstrip("/")
        repo = self.store.repo(kind, found["repo"])
        if repo.private and not may_write:
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        if request.method not in ("GET", "HEAD") and "paths-info" not in request.url.path and not may_write:
            raise Refused(403, "You have no right to write here")


@route("GET", "/api/whoami-v2")
async def whoami(hub: Hub, request: Request) -> Any:
    user = hub.user(request)
    if user is None:
        raise Refused(401, "Invalid username or password.")
    return {"type": "user", **user}


@route("POST", "/api/repos/create")
async def create_repo(hub: Hub, request: Request) -> Any:
    asked, user = await request.json(), hub.user(request)
    owner = asked.get("organization") or (user or {}).get("name")
    if user is None or owner not in (user["name"], *(org["name"] for org in user["orgs"])):
        raise Refused(403, "You don't have the rights to create a repository here")
    kind, name = asked.get("type", "model") + "s", f"{owner}/{asked['name']}"
    if kind == "spaces" and not asked.get("sdk"):
        raise Refused(400, "A Space needs an sdk")
    url = f"{hub.endpoint}/{'' if kind == 'models' else f'{kind}/'}{name}"
    try:
        hub.store.create(kind, name, asked.get("private") or asked.get("visibility") == "private")
    except Refused as refusal:
        refusal.body = {"error": refusal.message, "url": url}
        raise
    return {"url": url}


@route("POST", "/api/validate-yaml")
async def validate_yaml(hub: Hub, request: Request) -> Any:
    """The checks of the Hub that a card can fail."""
    content = (await request.json())["content"]
    found = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    header = yaml.safe_load(found[1]) if found else None
    errors = []
    if not isinstance(header, dict):
        errors.append("empty or missing yaml metadata in repo card")
    else:
        errors += [
            f"{key} must be text"
            for key in ("license", "library_name", "pipeline_tag")
            if not isinstance(header.get(key, ""), str)
        ]
        for index in header.get("model-index", []):
            for result in index["results"]:
                if not {"task", "dataset", "metrics"} <= set(result):
                    errors.append("model-index: a result needs task, dataset and metrics")
                elif not {"name", "type"} <= set(result["dataset"]):
                    errors.append("model-index: a data set needs name and type")
    if errors:
        raise Refused(400, "invalid metadata", body={"errors": [{"message": text} for text in errors]})
    return {"errors": [], "warnings": []}


@route("GET", "/api/{kind}/{repo}")
@route("GET", "/api/{kind}/{repo}/revision/{revision}")
async def info(hub: Hub, request: Request, kind: str, repo: str, revision: str = "main") -> Any:
    place = hub.store.repo(kind, repo)
    commit = place.commit(revision)
    space = {"host": place.run.host, "subdomain": repo.replace("/", "-"), "sdk": "gradio"}
    return {
        **(space if kind == "spaces" else {}),
        "_id": repo,
        "id": repo,
        "modelId": repo,
        "author": repo.partition("/")[0],
        "sha": commit.oid,
        "private": place.private,
        "lastModified": DATE,
        "createdAt": DATE,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "disabled": False,
        "gated": False,
        "siblings": [{"rfilename": path} for path in commit.files],
    }


@route("GET", "/api/spaces/{repo}/runtime")
async def space_runtime(hub: Hub, request: Request, repo: str) -> Any:
    place = hub.store.repo("spaces", repo)
    return place.run.runtime(place.branches["main"])


@route("POST", "/api/spaces/{repo}/hardware")
async def space_hardware(hub: Hub, request: Request, repo: str) -> Any:
    place = hub.store.repo("spaces", repo)
    place.run.restart()
    place.run.hardware = (await request.json())["flavor"]
    return place.run.runtime(place.branches["main"], is_look=False)


@route("GET", "/api/spaces/{repo}/variables")
async def space_variables(hub: Hub, request: Request, repo: str) -> Any:
    return hub.store.repo("spaces", repo).run.listed_variables()


@route("POST", "/api/spaces/{repo}/variables")
async def set_space_variable(hub: Hub, request: Request, repo: str) -> Any:
    run, asked = hub.store.repo("spaces", repo).run, await request.json()
    run.restart()
    run.variables[asked["key"]] = asked["value"]
    return run.listed_variables()


@route("GET", "/api/{kind}/{repo}/tree/{revision}")
@route("GET", "/api/{kind}/{repo}/tree/{revision}/{folder:rest}")
async def tree(hub: Hub, request: Request, kind: str, repo: str, revision: str, folder: str = "") -> Any:
    files = hub.store.repo(kind, repo).commit(revision).files
    inside = {path: entry for path, entry in files.items() if not folder or path.startswith(folder + "/")}
    if not inside:
        raise Refused(404, f"{folder} does not exist", "EntryNotFound")
    start = len(folder) + 1 if folder else 0
    if request.query_params.get("recursive", "").lower() not in ("true", "1"):
        folders = {path[: path.index("/", start)] for path in inside if "/" in path[start:]}
        inside = {path: entry for path, entry in inside.items() if "/" not in path[start:]}
        return [*map(a_folder, sorted(folders)), *(described(*item) for item in inside.items())]
    return [described(path, entry) for path, entry in inside.items()]


def a_folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}


def described(path: str, entry: Entry) -> dict[str, Any]:
    large = {"oid": entry.sha256, "size": len(entry.content), "pointerSize": 134}
    return {
        "type": "file",
        "path": path,
        "size": len(entry.content),
        "oid": entry.oid,
        **({"lfs": large} if entry.sha256 else {}),
    }


@route("POST", "/api/{kind}/{repo}/paths-info/{revision}")
async def paths_info(hub: Hub, request: Request, kind: str, repo: str, revision: str) -> Any:
    files = hub.store.repo(kind, repo).commit(revision).files
    form = await request.form()
    asked = form.getlist("paths") if form else (await request.json())["paths"]
    return [described(path, files[path]) for path in asked if path in files]


@route("GET", "/api/{kind}/{repo}/refs")
async def refs(hub: Hub, request: Request, kind: str, repo: str) -> Any:
    place = hub.store.repo(kind, repo)

    def named(prefix: str, heads: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": n, "ref": f"refs/{prefix}/{n}", "targetCommit": oid} for n, oid in heads.items()]

    return {"branches": named("heads", place.branches), "tags": named("tags", place.tags), "converts": []}


@route("GET", "/api/{kind}/{repo}/commits/{revision}")
async def commits(hub: Hub, request: Request, kind: str, repo: str, revision: str) -> Any:
    return [
        {"id": one.oid, "title": one.title, "message": "", "date": DATE, "authors": [{"user": "curator"}]}
        for one in hub.store.repo(kind, repo).history(revision)
    ]


@route("POST", "/api/{kind}/{repo}/branch/{branch}")
async def create_branch(hub: Hub, request: Request, kind: str, repo: str, branch: str) -> Any:
    place = hub.store.repo(kind, repo)
    if branch in place.branches:
        raise Refused(409, "Reference already exists")
    start = (await request.json()).get("startingPoint", "main")
    place.branches[branch] = place.commit(start).oid
    return {}


@route("POST", "/api/{kind}/{repo}/tag/{revision}")
async def create_tag(hub: Hub, request: Request, kind: str, repo: str, revision: str) -> Any:
    place, tag = hub.store.repo(kind, repo), (await request.json())["tag"]
    if tag in place.tags:
        raise Refused(409, "Tag already exists")
    place.tags[tag] = place.commit(revision).oid
    return {}


@route("POST", "/api/{kind}/{repo}/preupload/{revision}")
async def preupload(hub: Hub, request: Request, kind: str, repo: str, revision: str) -> Any:
    files = hub.store.repo(kind, repo).commit(revision).files
    return {
        "files": [
            {
                "path": asked["path"],
                "uploadMode": "lfs" if is_large(asked["path"], asked["size"]) else "regular",
                "shouldIgnore": False,
                "oid": files[asked["path"]].etag if asked["path"] in files else None,
            }
            for asked in (await request.json())["files"]
        ]
    }


@route("POST", "/{prefix}{repo}\\.git/info/lfs/objects/batch")
async def lfs_batch(hub: Hub, request: Request, repo: str, prefix: str = "") -> Any:
    """Without Xet among the transfers: this Hub has none."""
    asked = await request.json()
    assert asked["operation"] == "upload" and asked["hash_algo"] == "sha256"
    objects = []
    for one in asked["objects"]:
        oid, size = one["oid"], one["size"]
        if oid not in hub.store.objects:
            number = -(-size // PART_SIZE)
            if size > PART_SIZE and "multipart" in asked["transfers"]:
                parts = {
                    f"{n:05}": f"{hub.storage}/lfs/{oid}/{n}?signed=secret" for n in range(1, number + 1)
                }
                upload = {
                    "href": f"{hub.endpoint}/lfs/{oid}/complete",
                    "header": {"chunk_size": str(PART_SIZE), **parts},
                }
            else:
                upload = {"href": f"{hub.storage}/lfs/{oid}?signed=secret"}
            verify = {"href": f"{hub.endpoint}/{prefix}{repo}.git/info/lfs/verify"}
            one = {**one, "actions": {"upload": upload, "verify": verify}}
        objects.append(one)
    return {"transfer": "multipart", "objects": objects}


def refuse_token(request: Request) -> None:
    """A signed address needs no token, and the storage is none of the Hub's."""
    if "authorization" in request.headers:
        raise Refused(400, "a token was sent to the storage")


@route("PUT", "/lfs/{oid}")
async def put_object(hub: Hub, request: Request, oid: str) -> Any:
    refuse_token(request)
    hub.store.put_object(oid, await request.body())
    return {}


@route("PUT", "/lfs/{oid}/{part}")
async def put_part(hub: Hub, request: Request, oid: str, part: str) -> Any:
    refuse_token(request)
    hub.store.parts.setdefault(oid, {})[int(part)] = await request.body()
    return Response(headers={"ETag": f'"{oid[:8]}-{part}"'})


@route("POST", "/lfs/{oid}/complete")
async def complete(hub: Hub, request: Request, oid: str) -> Any:
    parts = hub.store.parts.pop(oid)
    asked = [part["partNumber"] for part in (await request.json())["parts"]]
    hub.store.put_object(oid, b"".join(parts[number] for number in asked))
    return {}


@route("POST", "/{prefix}{repo}\\.git/info/lfs/verify")
async def lfs_verify(hub: Hub, request: Request, repo: str, prefix: str = "") -> Any:
    if (await request.json())["oid"] not in hub.store.objects:
        raise Refused(404, "the object was not uploaded")
    return {}


@route("GET", "/lfs/{oid}/of/{kind}/{repo}/{revision}/{path:rest}")
async def get_object(
    hub: Hub, request: Request, oid: str, kind: str, repo: str, revision: str, path: str
) -> Any:
    refuse_token(request)
    return ranged(
        request, hub.store.repo(kind, repo).commit(revision).files[path].content, {"ETag": f'"{oid}"'}
    )


def ranged(request: Request, content: bytes, headers: dict[str, str]) -> Response:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    headers = {**headers, "Accept-Ranges": "bytes"}
    if not found:
        return Response(content, headers={**headers, "Content-Length": str(len(content))})
    start, stop = int(found[1]), int(found[2] or len(content) - 1)
    headers["Content-Range"] = f"bytes {start}-{stop}/{len(content)}"
    return Response(content[start : stop + 1], 206, headers)


@route("POST", "/api/{kind}/{repo}/commit/{revision}")
async def commit(hub: Hub, request: Request, kind: str, repo: str, revision: str) -> Any:
    made = hub.store.apply(hub.store.repo(kind, repo), revision, await request.body())
    return {"success": True, "commitOid": made.oid, "commitUrl": f"{hub.endpoint}/{repo}/commit/{made.oid}"}


@route("GET", "/{prefix}{repo}/resolve/{revision}/{path:rest}")
async def resolve(hub: Hub, request: Request, repo: str, revision: str, path: str, prefix: str = "") -> Any:
    kind = (prefix or "models").rstrip("/")
    commit = hub.store.repo(kind, repo).commit(revision)
    if path not in commit.files:
        # The client writes this commit into its cache as what the revision stands for.
        raise Refused(404, f"no {path}", "EntryNotFound", headers={"X-Repo-Commit": commit.oid})
    entry = commit.files[path]
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{entry.oid}"'}
    if entry.sha256 is None:
        return ranged(request, entry.content, headers)
    headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(len(entry.content))}
    if entry.sha256 in hub.xet.names:
        headers["X-Xet-Hash"] = hub.xet.names[entry.sha256]
        token = f"{hub.endpoint}/api/{kind}/{repo}/xet-read-token/{commit.oid}"
        headers["Link"] = f'<{token}>; rel="xet-auth"'
    headers["Location"] = f"{hub.storage}/lfs/{entry.sha256}/of/{kind}/{repo}/{commit.oid}/{path}"
    return Response(status_code=302, headers=headers)


@route("GET", "/api/{kind}/{repo}/xet-(write|read)-token/{revision}")
async def xet_token(hub: Hub, request: Request, kind: str, repo: str, revision: str) -> Any:
    """Address of the content-addressed storage, and a key to it that is not the user's."""
    place, key, until = f"{hub.storage}/xet", "short-lived", 4_000_000_000
    headers = {"X-Xet-Cas-Url": place, "X-Xet-Access-Token": key, "X-Xet-Token-Expiration": str(until)}
    return JSONResponse({"casUrl": place, "accessToken": key, "exp": until}, headers=headers)


@route("POST", "/xet/v1/xorbs/default/{name}")
async def put_xorb(hub: Hub, request: Request, name: str) -> Any:
    return {"was_inserted": hub.xet.put_xorb(name, await request.body())}


@route("GET", "/xet/v1/reconstructions/{name}")
async def reconstruction(hub: Hub, request: Request, name: str) -> Any:
    return hub.xet.reconstruction(name, f"{hub.storage}/xet/bytes")


@route("GET", "/xet/bytes/{name}")
async def xorb_bytes(hub: Hub, request: Request, name: str) -> Any:
    return ranged(request, hub.xet.xorbs[name], {})


@route("POST", "/xet/v1/shards")
async def put_shard(hub: Hub, request: Request) -> Any:
    hub.store.objects |= hub.xet.put_shard(await request.body())
    return {"result": 1}


@route("POST", "/api/collections")
async def create_collection(hub: Hub, request: Request) -> Any:
    asked = await request.json()
    slug = f"{asked['namespace']}/{asked['title'].lower().replace(' ', '-')}-0123456789abcdef01234567"
    if slug in hub.store.collections:
        raise Refused(409, "This collection already exists", body={"slug": slug, "error": "exists"})
    hub.store.collections[slug] = {
        "slug": slug,
        "title": asked["title"],
        "private": bool(asked.get("private")),
        "items": [],
        "owner": {"name": asked["namespace"]},
        "lastUpdated": DATE,
        "position": 0,
        "theme": "blue",
        "upvotes": 0,
    }
    return hub.store.collections[slug]


@route("GET", "/api/collections/{owner}/{slug}")
async def get_collection(hub: Hub, request: Request, owner: str, slug: str) -> Any:
    return hub.store.collections[f"{owner}/{slug}"]


@route("POST", "/api/collections/{owner}/{slug}/items")
async def add_item(hub: Hub, request: Request, owner: str, slug: str) -> Any:
    found, asked = hub.store.collections[f"{owner}/{slug}"], await request.json()
    if any(
        (old["id"], old["type"]) == (asked["item"]["id"], asked["item"]["type"]) for old in found["items"]
    ):
        raise Refused(409, "Item already in the collection")
    hub.store.repo(asked["item"]["type"] + "s", asked["item"]["id"])
    position = len(found["items"])
    note = {"note": {"text": asked["note"]}} if "note" in asked else {}
    found["items"].append({"_id": f"item{position}", **asked["item"], "position": position, **note})
    return found


@route("PATCH", "/api/collections/{owner}/{slug}/items/{item}")
async def change_item(hub: Hub, request: Request, owner: str, slug: str, item: str) -> Any:
    for old in hub.store.collections[f"{owner}/{slug}"]["items"]:
        if old["_id"] == item:
            old["note"] = {"text": (await request.json())["note"]}
    return {"success": True}


@route("POST", "/_test/faults")
async def set_faults(hub: Hub, request: Request) -> Any:
    """Replace the faults that are still to come; those that did not happen come back."""
    left = [fault for fault in hub.faults if fault["times"]]
    hub.faults = await request.json()
    return left


@route("POST", "/_test/break")
async def break_file(hub: Hub, request: Request) -> Any:
    """Flip a byte, take a file away, or let one branch serve another: without a trace in the digests."""
    asked = await request.json()
    place = hub.store.repo(asked.get("kind", "models"), asked["name"])
    if "serve" in asked:
        place.branches[asked["revision"]] = place.branches[asked["serve"]]
    elif asked.get("gone"):
        place.replace_file(asked["revision"], asked["path"], None)
    else:
        content = bytearray(place.commit(asked["revision"]).files[asked["path"]].content)
        content[asked["flip"]] ^= 1
        place.replace_file(asked["revision"], asked["path"], bytes(content))
    return {}


@route("POST", "/_test/space")
async def set_space(hub: Hub, request: Request) -> Any:
    """What becomes of a Space when it is built next, and where its app can be reached."""
    asked = await request.json()
    run = hub.store.repo("spaces", asked.pop("name")).run
    for key, value in asked.items():
        setattr(run, key, value)
    if "stages" in asked:
        run.built = None
    return {}


@route("POST", "/_test/keep")
async def keep(hub: Hub, request: Request) -> Any:
    """Remember what is stored now."""
    hub.kept = deepcopy(hub.store)
    return {}


@route("POST", "/_test/forget")
async def forget(hub: Hub, request: Request) -> Any:
    """Nothing is stored but what was remembered."""
    hub.store = deepcopy(hub.kept)
    return {}


@route("GET", "/_test/state")
async def state(hub: Hub, request: Request) -> Any:
    """Everything that tests look at; reading it empties the log."""
    log, hub.log = hub.log, []

    def described_repo(place: Repo) -> dict[str, Any]:
        return {
            "private": place.private,
            "tags": place.tags,
            "heads": place.branches,
            "commits": len(place.commits),
            "hardware": place.run.hardware,
            "variables": place.run.variables,
            "branches": {
                name: {path: entry.etag for path, entry in place.commits[oid].files.items()}
                for name, oid in place.branches.items()
            },
        }

    return {
        "log": log,
        "repos": {name: described_repo(place) for (_, name), place in hub.store.repos.items()},
        "collections": hub.store.collections,
    }


for method, path, function in jobs_api.ROUTES:
    route(method, path)(function)


if __name__ == "__main__":
    number = int(sys.argv[1])
    uvicorn.run(Hub(number), host="127.0.0.1", port=number, log_level="warning", lifespan="off")
