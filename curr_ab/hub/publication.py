"""Publication of local folders on the Hub: a plan of what it lacks, and the commits that send just that."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab import __version__
from curr_ab.hub.remote import (
    Changes,
    HubError,
    Remote,
    RemoteState,
    digest,
    status_of,
    told_in_one_line,
    with_backoff,
)
from curr_ab.hub.repositories import Repository, describe_dataset, describe_folder
from curr_ab.hub.space_settings import SpaceSettings
from curr_ab.hub.spaces import WHY_PUBLIC, start_space
from curr_ab.options import OptionError
from curr_ab.quantities import format_bytes

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Say = Callable[[str], None]
_SHOWN = 12  # names of files that a plan says
# Attempts at a revision that somebody, or our own commit with a lost answer, moves meanwhile.
_RACES = 5
_OURS = "curr-ab "  # beginning of the messages of publications' commits


@dataclass(frozen=True)
class Sent:
    """Numbers of files and commits that `publish` has sent."""

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
    space_settings: SpaceSettings | None = None,
    say: Say = print,
) -> Sent:
    """Publish exports, adapters and data sets; `say` gets the plan, then each step, line by line.

    `private` is the visibility of new repositories; that of an existing one is never changed. `release` is
    the tag on `main`; an existing tag stays where it is. Repeating the command is always safe.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="curr-ab", library_version=__version__)
    _refuse_release(release)
    repositories = [describe_folder(Path(folder), namespace) for folder in folders]
    repositories += [describe_dataset(Path(folder), namespace) for folder in datasets]
    _refuse_duplicates(repositories)
    if space_settings and not any(repository.is_app for repository in repositories):
        refuse_space_settings(space_settings)
    with told_in_one_line():
        if not dry_run:
            refuse_foreign_namespace(api, namespace, attempts)
        orders = [_order_for(Remote(api, repository, attempts), release) for repository in repositories]
        if private:
            _refuse_public(orders)
            _refuse_app(repositories)
        _refuse_private_app(orders)
        say(_plan_text(orders, private=private, collection=collection))
        if dry_run:
            return Sent(0, 0)
        sent = [_carry_out(order, private, say) for order in orders]
        if collection:
            _collect(api, collection, namespace, repositories, private, attempts, say)
        for order in orders:
            if order.remote.repository.is_app:
                start_space(order.remote, space_settings or SpaceSettings(), say)
    total = Sent(sum(part.files for part in sent), sum(part.commits for part in sent))
    say(f"sent {total.files} files in {total.commits} commits")
    return total


def _refuse_release(release: str) -> None:
    """Refuse a tag that git does not take, or that reads like a step: both would come after the upload."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", release) or re.fullmatch(r"main|step\d+", release):
        raise OptionError(
            f"release must be letters, digits, '.' and '-', and no branch such as step500; got {release!r}",
            "release",
        )


def _refuse_duplicates(repositories: Sequence[Repository]) -> None:
    """Refuse folders that would become one repository, and no folders at all."""
    seen = set()
    for repository in repositories:
        key = (repository.repo_type, repository.repo_id)
        if key in seen:
            raise ValueError(f"two folders would become {repository.repo_id}; publish one of them")
        seen.add(key)
    if not repositories:
        raise OptionError("there is nothing to publish: name an export, an adapter or a dataset", "dataset")


def refuse_space_settings(settings: SpaceSettings) -> None:
    """Refuse settings of a Space where nothing is one."""
    for known in fields(settings):
        if getattr(settings, known.name) != getattr(SpaceSettings(), known.name):
            raise OptionError(f"{known.name} must be left out, as there is no Space; name one", known.name)


def refuse_foreign_namespace(api: HfApi, namespace: str, attempts: int) -> None:
    """Refuse a namespace to which the account may not write."""
    from huggingface_hub.errors import LocalTokenNotFoundError

    try:
        account: dict[str, Any] = with_backoff("login", attempts, api.whoami)
    except LocalTokenNotFoundError:
        raise ValueError("not logged in to the Hub; run `hf auth login`, or set HF_TOKEN") from None
    if "name" not in account:
        raise HubError("login: the answer of the Hub has no name of an account")
    owners = [account["name"], *(org["name"] for org in account.get("orgs", []))]
    if namespace not in owners:
        raise ValueError(
            f"{account['name']} may not write to {namespace}; choose one of its names: {', '.join(owners)}"
        )


def _refuse_public(orders: Sequence[Order]) -> None:
    for order in orders:
        if order.state is not None and not order.state.private:
            name = order.remote.repository.repo_id
            raise OptionError(f"private must be no for {name}, which is public already", "private")


def _refuse_app(repositories: Sequence[Repository]) -> None:
    for repository in repositories:
        if repository.is_app:
            raise OptionError(f"private must be no for {repository.repo_id}: {WHY_PUBLIC}", "private")


def _refuse_private_app(orders: Sequence[Order]) -> None:
    for order in orders:
        if order.remote.repository.is_app and order.state is not None and order.state.private:
            name = order.remote.repository.repo_id
            raise ValueError(
                f"{name} must be public, as {WHY_PUBLIC}; it is private; change that in its settings"
            )


def _carry_out(order: Order, private: bool, say: Say) -> Sent:
    """Create what is missing, commit what has changed, and tag."""
    remote, repository = order.remote, order.remote.repository
    if order.state is None:
        sdk = "gradio" if repository.repo_type == "space" else None
        remote.call(remote.api.create_repo, space_sdk=sdk, private=private, exist_ok=True)
    files = commits = 0
    heads = {} if order.state is None else dict(order.state.heads)
    for change in order.changes:
        if change.is_empty:
            continue
        # A repository that has just been created has a `main`, with the Hub's own files in it.
        if change.is_new and change.revision != "main":
            # From the first commit, so that the branch holds nothing but its own files.
            first = remote.call(remote.api.list_repo_commits)[-1].commit_id
            remote.call(remote.api.create_branch, branch=change.revision, revision=first, exist_ok=True)
        made, heads[change.revision] = _push(remote, change.revision, heads.get(change.revision))
        if made:
            deleted = f", {len(made.deleted)} deleted" if made.deleted else ""
            say(f"{repository.repo_id} {change.revision}: {len(made.sent)} files{deleted}")
            files, commits = files + len(made.sent), commits + 1
    if commits:
        now = _heads(remote)
        for revision in repository.revisions:
            _refuse_others(remote, revision, heads[revision], now[revision])
    if order.needs_tag:
        # The commit that was sent, not what `main` may have become meanwhile.
        head = heads["main"]
        remote.call(remote.api.create_tag, tag=order.tag, revision=head, exist_ok=True)
        tags = {ref.name: ref.target_commit for ref in remote.call(remote.api.list_repo_refs).tags}
        if tags.get(order.tag, head) != head:
            raise HubError(
                f"{repository.repo_id}: {order.tag} is at {tags[order.tag][:12]}, where another publication "
                f"has put it, and not at {head[:12]}, which was sent; name another release"
            )
    return Sent(files, commits)


def _push(remote: Remote, revision: str, planned: str | None) -> tuple[Changes | None, str]:
    """Commit what the revision lacks; compare anew when it has moved, maybe by a commit of ours.

    `planned` is where it was when the plan was made. What was committed, and the commit that the revision is
    at.
    """
    target, made = f"{remote.repository.repo_id} {revision}", None
    for _ in range(_RACES):
        head = _heads(remote)[revision]
        change = remote.changes(revision, head)
        if change.is_empty:
            return made, head  # it was our own commit that moved the branch
        _refuse_others(remote, revision, planned, head)
        made = change
        try:
            return made, with_backoff(target, remote.attempts, _commit, remote, change, head)
        except Exception as error:
            if status_of(error) not in (409, 412):  # the branch has moved since it was compared
                raise
    raise HubError(f"{target}: other commits came in between {_RACES} times; run the same command again")


def _heads(remote: Remote) -> dict[str, str]:
    return {ref.name: ref.target_commit for ref in remote.call(remote.api.list_repo_refs).branches}


def _refuse_others(remote: Remote, revision: str, known: str | None, head: str) -> None:
    """Refuse to stand over, or under, what another publication has sent since `known`."""
    if head == known:
        return
    for commit in remote.call(remote.api.list_repo_commits, revision=head):
        if commit.commit_id == known:
            return
        if commit.title.startswith(_OURS):
            raise HubError(
                f"{remote.repository.repo_id} {revision}: another publication has sent "
                f"{commit.commit_id[:12]} meanwhile; look at it, and run the same command again to replace it"
            )


def _commit(remote: Remote, change: Changes, head: str) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    made = remote.api.create_commit(
        remote.repository.repo_id,
        [
            *(CommitOperationAdd(name, str(path)) for name, path in change.sent.items()),
            *(CommitOperationDelete(name, is_folder=False) for name in change.deleted),
        ],
        commit_message=f"{_OURS}{__version__}: {change.revision}",
        repo_type=remote.repository.repo_type,
        revision=change.revision,
        parent_commit=head,
    )
    return str(made.oid)


def _collect(
    api: HfApi,
    title: str,
    namespace: str,
    repositories: Sequence[Repository],
    private: bool,
    attempts: int,
    say: Say,
) -> None:
    """Put all repositories into the collection of that title; update notes that have changed."""
    target = f"collection {title!r}"
    collection = with_backoff(
        target, attempts, api.create_collection, title, namespace=namespace, private=private, exists_ok=True
    )
    items = {(item.item_type, item.item_id): item for item in collection.items}
    for repository in repositories:
        name, kind, note = repository.repo_id, repository.repo_type, repository.note
        item = items.get((kind, name))
        if item is None:
            add = api.add_collection_item
            with_backoff(target, attempts, add, collection.slug, name, kind, note=note, exists_ok=True)
        elif item.note != note:
            update = api.update_collection_item
            with_backoff(target, attempts, update, collection.slug, item.item_object_id, note=note)
    say(f"collection: {collection.url}")


@dataclass(frozen=True)
class Order:
    """Repository with its state on the Hub and the changes that it needs."""

    remote: Remote
    state: RemoteState | None
    changes: list[Changes]
    tag: str

    @property
    def needs_tag(self) -> bool:
        return self.state is None or self.tag not in self.state.tags


def _order_for(remote: Remote, tag: str) -> Order:
    """Compare a repository with its state on the Hub."""
    state = remote.state()
    heads = state.heads if state else {}
    changes = [remote.changes(revision, heads.get(revision)) for revision in remote.repository.revisions]
    return Order(remote, state, changes, tag)


def transfer() -> str:
    """Protocol for large files, by the client as it is installed and configured."""
    from importlib.metadata import PackageNotFoundError, version

    from huggingface_hub.constants import HF_HUB_DISABLE_XET

    if HF_HUB_DISABLE_XET:
        return "LFS (HF_HUB_DISABLE_XET is set)"
    try:
        return f"Xet (hf_xet {version('hf_xet')})"
    except PackageNotFoundError:
        return "LFS (hf_xet is not installed)"


def _plan_text(orders: Sequence[Order], *, private: bool, collection: str | None) -> str:
    """Plan of the publication in lines, with sizes."""
    lines = []
    total_files, total_bytes = 0, 0
    for order in orders:
        repository, state = order.remote.repository, order.state
        visibility = "private" if (private if state is None else state.private) else "public"
        kind = "new" if state is None else "exists"
        lines.append(f"{repository.repo_id}: {repository.repo_type}, {kind}, {visibility}")
        # Content that several revisions share is sent once.
        contents = {digest(path): path.stat().st_size for c in order.changes for path in c.sent.values()}
        for label, group in _groups(order.changes):
            files = sum(len(change.sent) for change in group)
            size = sum(path.stat().st_size for change in group for path in change.sent.values())
            deleted = sum(len(change.deleted) for change in group)
            is_empty = all(change.is_empty for change in group)
            content = "unchanged" if is_empty else f"{files} files, {format_bytes(size)}"
            lines.append(f"  {label}: {content}" + (f", {deleted} to delete" if deleted else ""))
            if label == "main":
                lines += _named_files(group[0])
            total_files += files
        lines += [
            f"  {name} stays, which is not in this export, and verify refuses it: "
            f"hf repos branch delete {repository.repo_id} {name}"
            for name in sorted(state.heads if state else (), key=len)
            if re.fullmatch(r"step\d+", name) and name not in repository.revisions
        ]
        if order.needs_tag:
            lines.append(f"  tag {order.tag}")
        elif any(change.sent or change.deleted for change in order.changes if change.revision == "main"):
            lines.append(f"  tag {order.tag} stays where it is; name another release")
        total_bytes += sum(contents.values())
    if collection:
        lines.append(f"collection {collection!r}: {len(orders)} items")
    lines.append(
        f"to send: {total_files} files, {format_bytes(total_bytes)}; large files go through {transfer()}"
    )
    return "\n".join(lines)


def _named_files(changes: Changes) -> list[str]:
    """What is sent to a revision and deleted from it, by name."""
    lines = []
    for verb, names in (("sends", sorted(changes.sent)), ("deletes", sorted(changes.deleted))):
        if names:
            more = len(names) - _SHOWN
            shown = ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
            lines.append(f"    {verb} {shown}")
    return lines


def _groups(changes: Sequence[Changes]) -> list[tuple[str, list[Changes]]]:
    """Group the revisions for the plan: `main`, and all steps in one line, as there may be a hundred."""
    steps = [change for change in changes if change.revision != "main"]
    label = f"{len(steps)} revisions {steps[0].revision} … {steps[-1].revision}" if steps else ""
    groups = [(label, steps)] if steps else []
    return [*groups, ("main", [change for change in changes if change.revision == "main"])]
