"""Places of what is verified: a repository of the Hub, downloaded past the cache, or a folder on disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from curr_ab import __version__
from curr_ab.files import scratch_folder
from curr_ab.hub.manifest import REVISIONS
from curr_ab.hub.remote import is_transient, status_of, with_backoff
from curr_ab.reach import OutOfReach, downloads_explained

_PATIENCE_S = 4.0  # with a connection that breaks: the client itself resumes a download five times


@dataclass(frozen=True)
class HubPlace:
    """A repository of the Hub; a revision is downloaded, every byte of it, and deleted afterwards."""

    name: str
    scratch: str | None
    attempts: int
    repo_type: str = "model"

    def revisions(self) -> tuple[dict[str, str], dict[str, str]]:
        """The commits of the branches, and those of the tags."""
        from huggingface_hub import HfApi

        ask_refs = partial(HfApi().list_repo_refs, self.name, repo_type=self.repo_type)
        refs = with_backoff(self.name, self.attempts, ask_refs)
        branches, tags = (
            {ref.name: ref.target_commit for ref in some} for some in (refs.branches, refs.tags)
        )
        return branches, tags

    @contextmanager
    def folder(self, commit: str) -> Iterator[Path]:
        # Never out of the shared cache: what is served now is to be looked at.
        with scratch_folder("curr-ab-verify-", self.scratch) as place:
            target = f"{self.name} {commit[:12]}"
            yield Path(with_backoff(target, self.attempts, self._download, commit, place, time.monotonic()))

    def _download(self, commit: str, place: Path, began: float) -> str:
        """The folder; an error that the Hub answers, or that comes soon, is left for another attempt."""
        from huggingface_hub import snapshot_download

        try:
            return snapshot_download(
                self.name,
                repo_type=self.repo_type,
                revision=commit,
                cache_dir=place,
                library_name="curr-ab",
                library_version=__version__,
            )
        except Exception as error:
            soon = time.monotonic() - began < _PATIENCE_S
            if status_of(error) is not None or (soon and is_transient(error)):
                raise
            cause = error
        try:
            with downloads_explained(self.name, self.scratch or tempfile.gettempdir()):
                raise cause
        except OutOfReach as explained:
            raise OutOfReach(str(explained)) from None  # its cause would be taken for one that passes


@dataclass(frozen=True)
class DiskPlace:
    """An export or prepared data on disk, before they are published."""

    name: str

    def revisions(self) -> tuple[dict[str, str], dict[str, str]]:
        steps = Path(self.name) / REVISIONS
        names = sorted(entry.name for entry in steps.iterdir()) if steps.is_dir() else []
        return {"main": ".", **{name: f"{REVISIONS}/{name}" for name in names}}, {}

    @contextmanager
    def folder(self, commit: str) -> Iterator[Path]:
        yield Path(self.name) / commit


Place = HubPlace | DiskPlace
