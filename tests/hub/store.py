"""Store of the local Hub: repositories with commits, branches, tags, files; large objects; collections."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace

from space_runs import SpaceRun

# As on the Hub: these suffixes are large files whatever their size.
LFS_SUFFIXES = (".safetensors", ".parquet", ".npy", ".whl")
LFS_SIZE = 10_000_000


class Refused(Exception):
    """An answer other than success: status, error code of the Hub, message."""

    def __init__(
        self, status: int, message: str, code: str = "", body: dict | None = None, headers: dict | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body
        self.headers = headers or {}


@dataclass(frozen=True)
class Entry:
    """One file of one commit; `content` may be changed behind the back of its digests."""

    content: bytes
    sha256: str | None  # of large files

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    files: dict[str, Entry]


@dataclass
class Repo:
    """One repository; it begins with the Hub's own .gitattributes."""

    name: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    run: SpaceRun = field(default_factory=SpaceRun)  # of a Space

    def __post_init__(self) -> None:
        attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
        self.add(None, "initial commit", {".gitattributes": Entry(attributes, None)}, "main")

    def add(self, parent: str | None, title: str, files: dict[str, Entry], branch: str) -> Commit:
        oid = hashlib.sha1(f"{self.name} {branch} {len(self.commits)}".encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, files)
        self.branches[branch] = oid
        return self.commits[oid]

    def commit(self, revision: str) -> Commit:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise Refused(404, f"no revision {revision}", "RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str) -> list[Commit]:
        commits, oid = [], self.commit(revision).oid
        while oid is not None:
            commits.append(self.commits[oid])
            oid = commits[-1].parent
        return commits

    def replace_file(self, revision: str, path: str, content: bytes | None) -> None:
        """Serve other bytes, or none, under the digests of before: what a broken storage does."""
        oid = self.branches[revision]
        files = dict(self.commits[oid].files)
        if content is None:
            del files[path]
        else:
            files[path] = replace(files[path], content=content)
        self.commits[oid] = replace(self.commits[oid], files=files)


@dataclass
class Store:
    """Everything, in memory, and a count of the bytes that came for each large object."""

    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    collections: dict[str, dict] = field(default_factory=dict)

    def repo(self, kind: str, name: str) -> Repo:
        if (kind, name) not in self.repos:
            raise Refused(404, "Repository not found", "RepoNotFound")
        return self.repos[kind, name]

    def create(self, kind: str, name: str, private: bool) -> Repo:
        if (kind, name) in self.repos:
            raise Refused(409, "You already created this repo")
        self.repos[kind, name] = Repo(name, private)
        return self.repos[kind, name]

    def put_object(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, "the content is not what its name says")
        self.objects[oid] = content

    def apply(self, repo: Repo, branch: str, ndjson: bytes) -> Commit:
        """One commit as the client sends it; it is refused when the branch has moved on."""
        head = repo.commit(branch)
        files, title = dict(head.files), ""
        for line in ndjson.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, head.oid):
                    raise Refused(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = Entry(base64.b64decode(value["content"]), None)
            elif key == "lfsFile":
                if value["oid"] not in self.objects:
                    raise Refused(400, f"large object {value['oid']} was never uploaded")
                files[value["path"]] = Entry(self.objects[value["oid"]], value["oid"])
            elif key == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
            else:
                raise Refused(400, f"unknown operation {key}")
        return repo.add(head.oid, title, files, branch)


def is_large(path: str, size: int) -> bool:
    return path.endswith(LFS_SUFFIXES) or size > LFS_SIZE
