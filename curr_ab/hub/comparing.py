"""What a repository on the Hub still lacks: local files compared with the remote tree, by content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from curr_ab.hub.manifest import HUB_FILES, sha256_of
from curr_ab.hub.repositories import Repository
from curr_ab.hub.retrying import with_backoff

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile


@dataclass(frozen=True)
class Changes:
    """What a revision needs to become what it shall be."""

    revision: str
    is_new: bool
    sent: dict[str, Path]
    deleted: list[str]

    @property
    def is_none(self) -> bool:
        return not (self.is_new or self.sent or self.deleted)


@dataclass(frozen=True)
class RemoteState:
    """A repository as it is: the commits of its branches and tags."""

    heads: dict[str, str]
    tags: dict[str, str]
    private: bool


def remote_state(api: HfApi, repository: Repository, attempts: int) -> RemoteState | None:
    from huggingface_hub.errors import RepositoryNotFoundError

    name, kind = repository.repo_id, repository.repo_type
    try:
        info = with_backoff(name, attempts, api.repo_info, name, repo_type=kind)
        refs = with_backoff(name, attempts, api.list_repo_refs, name, repo_type=kind)
    except RepositoryNotFoundError:
        return None
    return RemoteState(
        heads={ref.name: ref.target_commit for ref in refs.branches},
        tags={ref.name: ref.target_commit for ref in refs.tags},
        private=bool(info.private),
    )


def heads_of(api: HfApi, repository: Repository, attempts: int) -> dict[str, str]:
    """The branches as they are now."""
    name, kind = repository.repo_id, repository.repo_type
    refs = with_backoff(name, attempts, api.list_repo_refs, name, repo_type=kind)
    return {ref.name: ref.target_commit for ref in refs.branches}


def changes_of(api: HfApi, repository: Repository, revision: str, head: str | None, attempts: int) -> Changes:
    """Compare one revision; a revision without a head needs everything."""
    local = repository.revisions[revision]
    if head is None:
        return Changes(revision, is_new=True, sent=dict(local), deleted=[])
    remote = _tree(api, repository, head, attempts)
    sent = {name: path for name, path in local.items() if not _is_same(path, remote.get(name))}
    deleted = [name for name in remote if name not in local and name not in HUB_FILES]
    return Changes(revision, is_new=False, sent=sent, deleted=deleted)


def _tree(api: HfApi, repository: Repository, commit: str, attempts: int) -> dict[str, RepoFile]:
    from huggingface_hub.hf_api import RepoFile

    def read() -> dict[str, RepoFile]:
        entries = api.list_repo_tree(
            repository.repo_id, recursive=True, revision=commit, repo_type=repository.repo_type
        )
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    return with_backoff(repository.repo_id, attempts, read)


def _is_same(path: Path, remote: RepoFile | None) -> bool:
    if remote is None or path.stat().st_size != remote.size:
        return False
    if remote.lfs is not None:
        return digest(path) == remote.lfs.sha256
    return _git_digest(path) == remote.blob_id


def _git_digest(path: Path) -> str:
    content = path.read_bytes()  # the Hub keeps small files alone this way
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def digest(path: Path) -> str:
    """SHA-256, computed once for each state of a file."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)
