"""Publish: bring the Hub to the state of local folders, sending only what it lacks, as often as it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab import __version__
from curr_ab.hub.remote import (
    Changes,
    HubError,
    RemoteState,
    changes_of,
    digest,
    heads_of,
    one_line,
    remote_state,
    status_of,
    with_backoff,
)
from curr_ab.hub.repositories import Repository, describe_dataset, describe_folder
from curr_ab.options import OptionError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Say = Callable[[str], None]
# How often a revision is compared anew because somebody, or our own lost answer, has moved it meanwhile.
_RACES = 5


@dataclass(frozen=True)
class Sent:
    """What a run of `publish` did."""

    files: int
    commits: int


def publish(
    folders: Sequence[str | Path],
    *,
    namespace: str,
    datasets: Sequence[str | Path] = (),
    dry_run: bool = False,
    private: bool = False,
    collection: str | None = None,
    release: str = f"v{__version__}",
    attempts: int = 8,
    say: Say = print,
) -> Sent:
    """Publish exports, adapters and data sets; `say` gets the plan, and then what happens, line by line.

    `private` is how repositories are created; the visibility of one that exists is never changed. `release`
    is the tag on `main`; a tag that exists stays where it is. Repeating the command is always safe.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="curr-ab", library_version=__version__)
    repositories = [describe_folder(Path(folder), namespace) for folder in folders]
    repositories += [describe_dataset(Path(folder), namespace) for folder in datasets]
    _refuse_doubles(repositories)
    try:
        if not dry_run:
            _refuse_strangers(api, namespace, attempts)
        orders = [order_for(api, repository, release, attempts) for repository in repositories]
        if private:
            _refuse_public(orders)
        say(plan_text(orders, private=private, collection=collection))
        if dry_run:
            return Sent(0, 0)
        sent = [_carry_out(api, order, private, attempts, say) for order in orders]
        if collection:
            _collect(api, collection, namespace, repositories, private, attempts, say)
    except HubError:
        raise
    except Exception as error:
        # The client's errors are many lines long, and show addresses with signatures.
        if status_of(error) is None and not isinstance(error, OSError | RuntimeError | ValueError):
            raise
        raise (ValueError if isinstance(error, ValueError) else HubError)(one_line(error)) from None
    total = Sent(sum(one.files for one in sent), sum(one.commits for one in sent))
    say(f"sent {total.files} files in {total.commits} commits")
    return total


def _refuse_doubles(repositories: Sequence[Repository]) -> None:
    seen = set()
    for repository in repositories:
        key = (repository.repo_type, repository.repo_id)
        if key in seen:
            raise ValueError(f"two folders would become {repository.repo_id}; publish one of them")
        seen.add(key)
    if not repositories:
        raise OptionError("there is nothing to publish: name an export, an adapter or a dataset", "dataset")


def _refuse_strangers(api: HfApi, namespace: str, attempts: int) -> None:
    from huggingface_hub.errors import LocalTokenNotFoundError

    try:
        who: dict[str, Any] = with_backoff("who am I", attempts, api.whoami)
    except LocalTokenNotFoundError:
        raise ValueError("not logged in to the Hub; run `hf auth login`, or set HF_TOKEN") from None
    owners = [who["name"], *(org["name"] for org in who.get("orgs", []))]
    if namespace not in owners:
        raise ValueError(
            f"you are {who['name']} and may not write to {namespace}; your names: {', '.join(owners)}"
        )


def _refuse_public(orders: Sequence[Order]) -> None:
    for order in orders:
        if order.state is not None and not order.state.private:
            raise OptionError(
                f"private must be no for {order.repository.repo_id}, which is public already", "private"
            )


def _carry_out(api: HfApi, order: Order, private: bool, attempts: int, say: Say) -> Sent:
    repository = order.repository
    name, kind = repository.repo_id, repository.repo_type
    if order.state is None:
        with_backoff(name, attempts, api.create_repo, name, repo_type=kind, private=private, exist_ok=True)
    files = commits = 0
    for change in order.changes:
        if change.is_none:
            continue
        # A repository that has just been created has a `main`, with the Hub's own files in it.
        if change.is_new and change.revision != "main":
            _branch(api, repository, change.revision, attempts)
        sent = _push(api, repository, change.revision, attempts)
        if sent:
            say(f"{name} {change.revision}: {sent} files")
            files, commits = files + sent, commits + 1
    if order.needs_tag:
        with_backoff(name, attempts, api.create_tag, name, repo_type=kind, tag=order.tag, exist_ok=True)
    return Sent(files, commits)


def _branch(api: HfApi, repository: Repository, branch: str, attempts: int) -> None:
    """A branch from the first commit, so that it holds nothing but its own files."""
    name, kind = repository.repo_id, repository.repo_type
    first = with_backoff(name, attempts, api.list_repo_commits, name, repo_type=kind)[-1].commit_id
    with_backoff(
        name, attempts, api.create_branch, name, branch=branch, revision=first, repo_type=kind, exist_ok=True
    )


def _commit(api: HfApi, repository: Repository, change: Changes, head: str) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(name, str(path)) for name, path in change.sent.items()
    ]
    operations += [CommitOperationDelete(name, is_folder=False) for name in change.deleted]
    api.create_commit(
        repository.repo_id,
        operations,
        commit_message=f"curr-ab {__version__}: {change.revision}",
        repo_type=repository.repo_type,
        revision=change.revision,
        parent_commit=head,
    )


def _push(api: HfApi, repository: Repository, revision: str, attempts: int) -> int:
    """Commit what the revision lacks, and compare anew when it has moved: our own answer may be lost."""
    what = f"{repository.repo_id} {revision}"
    sent = 0
    for _ in range(_RACES):
        head = heads_of(api, repository, attempts)[revision]
        change = changes_of(api, repository, revision, head, attempts)
        if change.is_none:
            return sent  # it was our own commit that moved it
        sent = len(change.sent) + len(change.deleted)
        try:
            with_backoff(what, attempts, _commit, api, repository, change, head)
            return sent
        except Exception as error:
            if status_of(error) not in (409, 412):  # the branch has moved since it was compared
                raise
    raise HubError(f"{what}: somebody else commits there all the time; run the same command again")


def _collect(
    api: HfApi,
    title: str,
    namespace: str,
    repositories: Sequence[Repository],
    private: bool,
    attempts: int,
    say: Say,
) -> None:
    """A collection of that title with all repositories in it; notes that have changed are written anew."""
    what = f"collection {title!r}"
    found = with_backoff(
        what, attempts, api.create_collection, title, namespace=namespace, private=private, exists_ok=True
    )
    known = {(item.item_type, item.item_id): item for item in found.items}
    for repository in repositories:
        name, kind, note = repository.repo_id, repository.repo_type, repository.note
        item = known.get((kind, name))
        if item is None:
            add = api.add_collection_item
            with_backoff(what, attempts, add, found.slug, name, kind, note=note, exists_ok=True)
        elif item.note != note:
            update = api.update_collection_item
            with_backoff(what, attempts, update, found.slug, item.item_object_id, note=note)
    say(f"collection: {found.url}")


@dataclass(frozen=True)
class Order:
    """One repository, what is there of it, and what it lacks."""

    repository: Repository
    state: RemoteState | None
    changes: list[Changes]
    tag: str

    @property
    def needs_tag(self) -> bool:
        return self.state is None or self.tag not in self.state.tags


def order_for(api: HfApi, repository: Repository, tag: str, attempts: int) -> Order:
    state = remote_state(api, repository, attempts)
    heads = state.heads if state else {}
    changes = [
        changes_of(api, repository, revision, heads.get(revision), attempts)
        for revision in repository.revisions
    ]
    return Order(repository, state, changes, tag)


def transfer() -> str:
    """The way that large files take with the client as it is installed and configured."""
    from importlib.metadata import PackageNotFoundError, version

    from huggingface_hub.constants import HF_HUB_DISABLE_XET

    if HF_HUB_DISABLE_XET:
        return "LFS (HF_HUB_DISABLE_XET is set)"
    try:
        return f"Xet (hf_xet {version('hf_xet')})"
    except PackageNotFoundError:
        return "LFS (hf_xet is not installed)"


def plan_text(orders: Sequence[Order], *, private: bool, collection: str | None) -> str:
    """What is going to happen, with sizes, before it does."""
    lines = []
    total_files, total_bytes = 0, 0
    for order in orders:
        visibility = private if order.state is None else order.state.private
        kind = "new" if order.state is None else "exists"
        lines.append(
            f"{order.repository.repo_id}: {order.repository.repo_type}, {kind}, "
            f"{'private' if visibility else 'public'}"
        )
        # Content that several revisions share is sent once.
        contents = {digest(path): path.stat().st_size for c in order.changes for path in c.sent.values()}
        for label, group in _groups(order.changes):
            files = sum(len(change.sent) for change in group)
            size = sum(path.stat().st_size for change in group for path in change.sent.values())
            deleted = sum(len(change.deleted) for change in group)
            what = "unchanged" if all(change.is_none for change in group) else f"{files} files, {_size(size)}"
            lines.append(f"  {label}: {what}" + (f", {deleted} to delete" if deleted else ""))
            total_files += files
        if order.needs_tag:
            lines.append(f"  tag {order.tag}")
        elif any(change.sent or change.deleted for change in order.changes if change.revision == "main"):
            lines.append(f"  tag {order.tag} stays where it is; name another release")
        total_bytes += sum(contents.values())
    if collection:
        lines.append(f"collection {collection!r}: {len(orders)} items")
    lines.append(f"to send: {total_files} files, {_size(total_bytes)}; large files go through {transfer()}")
    return "\n".join(lines)


def _groups(changes: Sequence[Changes]) -> list[tuple[str, list[Changes]]]:
    """`main` by itself, and all steps in one line: there may be a hundred."""
    steps = [change for change in changes if change.revision != "main"]
    label = f"{len(steps)} revisions {steps[0].revision} … {steps[-1].revision}" if steps else ""
    groups = [(label, steps)] if steps else []
    return [*groups, ("main", [change for change in changes if change.revision == "main"])]


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
