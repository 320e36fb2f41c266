"""The plan of a publication: what is on the Hub, what it lacks, and how that is shown before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curr_ab.hub.comparing import Changes, RemoteState, changes_of, digest, remote_state
from curr_ab.hub.repositories import Repository

if TYPE_CHECKING:
    from huggingface_hub import HfApi


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
            lines.append(f"  tag {order.tag} stays where it is; name another with --release")
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
