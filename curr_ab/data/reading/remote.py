"""Files on other machines: S3, Google Cloud, web servers, the Hub and whatever else fsspec opens.

A reader opens a file more than once, for its head, its first rows and the line of an error. So a file is
copied to this machine for as long as it is read: that asks for it once, and servers need not be able to seek.
"""

from __future__ import annotations

import glob
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from curr_ab.extras import MissingExtra, needs_extra
from curr_ab.reach import without_secrets

HUB = "hf://"
_OPTIONS = {"split", "config", "revision"}  # of a data set on the Hub
_COMMIT = re.compile(r"@[0-9a-f]{40}(/|$)")
_AT_COMMIT = re.compile(re.escape(HUB) + r"([^@]+@[0-9a-f]{40})/")
# What tells a version of a file from another, by the names that file systems have for it.
_VERSION = ("ETag", "etag", "md5Hash", "LastModified", "Last-Modified", "mtime", "created")


def shown(text: str) -> str:
    """The text with addresses as others may see them: without user, password and query."""
    text = re.sub(r"(?<=://)[^/\s'\"]*@", "", text)
    return re.sub(r"(\w://[^\s'\"?]*)\?[^\s'\"#]*", r"\1", text)


class RemoteFile(str):
    """Name of a file elsewhere in errors and records; beside it its address, and the path of a copy here."""

    address: str
    part: str | None  # of an archive or a workbook
    path: str | None

    def __new__(cls, address: str, part: str | None = None) -> RemoteFile:
        self = super().__new__(cls, shown(address) + (f"#{part}" if part is not None else ""))
        self.address, self.part, self.path = address, part, None
        return self

    def identity(self) -> list[Any]:
        """Name, size and version, by which a change is noticed; what is of a commit cannot change."""
        if self.startswith(HUB) and _COMMIT.search(self):
            return [str(self), 0, 0]
        system, path = _file_system(self.address)
        with _reaching(self.address):
            system.invalidate_cache()
            try:
                info = system.info(path)
            except FileNotFoundError:
                return [str(self), 0, 0]
        version = next((str(info[name]) for name in _VERSION if info.get(name)), 0)
        return [str(self), info.get("size") or 0, version]

    def copied(self, folder: Path | None = None, *, num_bytes: int | None = None) -> RemoteFile:
        """The same with a copy on this machine, which goes when nobody holds the name of it any more.

        With `num_bytes` it is a copy of no more than the first of them.
        """
        if self.path is not None:
            return self
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        place = tempfile.mkdtemp(prefix="curr_ab_copy_", dir=folder)
        copy = RemoteFile(self.address, self.part)
        weakref.finalize(copy, shutil.rmtree, place, ignore_errors=True)
        copy.path = str(Path(place, "copy"))
        system, path = _file_system(self.address)
        with _reaching(self.address):
            if num_bytes is not None:
                Path(copy.path).write_bytes(system.cat_file(path, end=num_bytes)[:num_bytes])
                return copy
            size = system.info(path).get("size")  # some servers do not say it
        free = shutil.disk_usage(place).free
        if size is not None and size > free:
            needed = f"a copy of {self} of {size / 1e6:,.1f} MB"
            raise OSError(
                f"{Path(place).parent} must have room for {needed}; it has {free / 1e6:,.1f}; make room there"
            )
        with _reaching(self.address):
            system.get_file(path, copy.path)
            received = Path(copy.path).stat().st_size
            if size is not None and received != size:
                raise EOFError(f"{received:,} of {size:,} bytes came")
        return copy


def here(source: Any, folder: Path | None = None) -> Any:
    """The source, as a copy on this machine if it is a file elsewhere."""
    return source.copied(folder) if isinstance(source, RemoteFile) else source


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    """One OSError for those of all libraries: the file may be good. Theirs hold the whole address."""
    try:
        yield
    except Exception as error:  # each library has its own
        reason = without_secrets(shown(str(error))) or type(error).__name__
        message = f"{shown(address)} cannot be fetched ({reason}); run the same command again when it can"
        raise OSError(message) from None


def _file_system(address: str) -> tuple[Any, str]:
    import fsspec

    protocol = address.partition("://")[0]
    if protocol.rpartition("::")[2] not in fsspec.available_protocols():
        known = "s3, gs, https, hf, or another that fsspec knows"
        raise ValueError(f"{shown(address)}: the protocol must be {known}; got {protocol!r}")
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(address)
    except ImportError as error:
        cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
        library = (cause.name or protocol).partition(".")[0]
        raise MissingExtra(f"{library} is missing for {shown(address)}: pip install {library}") from None
    except Exception as error:  # each library has its own
        raise OSError(f"{shown(address)} cannot be opened ({without_secrets(shown(str(error)))})") from None
    return found


Commits = dict[tuple[str, str, str], str]  # kind, name and revision of a repository → its commit


def find_remote(name: str, commits: Commits | None = None) -> list[str]:
    """Files of a data set, an address or a pattern, in alphabetical order; none where there are none.

    Names of one command share `commits`, so that all of a repository is of one commit.
    """
    address, _, part = name.partition("#")
    if _is_data_set(address):
        return _files_of_data_set(address, commits)
    system, path = _file_system(address)
    with _reaching(address):
        try:
            if address.startswith(HUB) and not _COMMIT.search(address):
                address = _with_commit(system, path, commits)
                path = address.removeprefix(HUB)
            # In an address of the web a question mark begins the query.
            if "*" in path if address.startswith("http") else glob.has_magic(path):
                found = system.glob(path, detail=True)
                files = sorted(file for file, info in found.items() if info["type"] == "file")
                start = address.removesuffix(path)  # protocol, and where paths do not hold it the host
                return [RemoteFile(start + file, part or None) for file in files]
            kind = system.info(path)["type"]
        except FileNotFoundError:
            return []
    if kind == "directory":
        folder = shown(address)
        raise ValueError(f"{folder} is a folder; name its files with a pattern, such as '{folder}/*.csv.gz'")
    return [RemoteFile(address, part or None)]


def file_of_data_set(address: str, name: str) -> RemoteFile | None:
    """A file of a whole data set on the Hub, with the commit that it is of now; None where it has none."""
    path, _, query = address.removeprefix(HUB).removeprefix("datasets/").partition("?")
    options = dict(parse_qsl(query))
    if not _is_data_set(address) or path.startswith("/") or set(options) - {"revision"}:
        return None
    path, _, revision = path.partition("@")
    revision = quote(options.get("revision", revision), safe="")
    system, file = _file_system(f"{HUB}datasets/{path}{f'@{revision}' if revision else ''}/{name}")
    with _reaching(address):
        try:
            found = RemoteFile(_with_commit(system, file))
            return found if system.exists(found.address.removeprefix(HUB)) else None
        except FileNotFoundError:  # of a data set that is not there, too; who reads it says so
            return None


def hub_commits(names: Iterable[str]) -> list[str]:
    """Repositories of the Hub that the files are of, each with its commit."""
    return sorted({found[1] for name in names if (found := _AT_COMMIT.match(name))})


def _with_commit(system: Any, path: str, commits: Commits | None = None) -> str:
    """The address on the Hub with the commit that its revision is now, or was when it was asked for first."""
    place = system.resolve_path(path)
    if not hasattr(place, "revision"):  # a bucket has no commits
        return HUB + path
    commit = _commit(system, (place.repo_type, place.repo_id, place.revision), commits)
    return f"{HUB}{place.repo_type}s/{place.repo_id}@{commit}/{place.path_in_repo}"


def _commit(system: Any, repository: tuple[str, str, str], commits: Commits | None) -> str:
    """The commit of a repository's revision, as it was when it was asked for first."""
    from huggingface_hub import HfApi

    commits = {} if commits is None else commits
    if repository not in commits:
        kind, name, revision = repository
        api = HfApi(endpoint=system.endpoint, token=system.token)
        commits[repository] = str(api.repo_info(name, repo_type=kind, revision=revision).sha)
    return commits[repository]


def _is_data_set(address: str) -> bool:
    """True for `hf://owner/name`, also as `hf://datasets/owner/name`, and for a folder laid out like one."""
    path = address.removeprefix(HUB).removeprefix("datasets/").partition("?")[0]
    is_name = path.count("/") <= 1 and not path.startswith(("buckets/", "models/", "spaces/"))
    return address.startswith(HUB) and (is_name or path.startswith("/"))


def _files_of_data_set(source: str, commits: Commits | None) -> list[str]:
    """Files of one split, with their commit in their names: that which other names are of, or that of now."""
    with needs_extra("hub-data"):
        from datasets import load_dataset_builder
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
    name, _, query = source.removeprefix(HUB).removeprefix("datasets/").partition("?")
    options = dict(parse_qsl(query))
    if not name.startswith("/"):
        name, _, revision = name.partition("@")
        options |= {"revision": revision} if revision else {}
    if unknown := set(options) - _OPTIONS:
        choices = ", ".join(sorted(_OPTIONS))
        raise ValueError(f"{shown(source)}: unknown option {min(unknown)!r}; choose from {choices}")
    if not name.startswith("/"):
        system, _ = _file_system(f"{HUB}datasets/{name}")
        repository = ("dataset", name, options.get("revision", "main"))
        # What is not there `datasets` says below, as of folders.
        with _reaching(source), suppress(RepositoryNotFoundError, RevisionNotFoundError):
            options["revision"] = _commit(system, repository, commits)
    builder = load_dataset_builder(name, options.get("config"), revision=options.get("revision"))
    splits, wanted = builder.config.data_files or {}, options.get("split", "train")
    if wanted not in splits:
        held = ", ".join(map(str, splits)) or "none"
        raise ValueError(f"{shown(source)}: the data set must have the split {wanted!r}; it has {held}")
    return [RemoteFile(file) if "://" in file else file for file in splits[wanted]]
