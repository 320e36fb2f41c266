"""Verify: download every revision and prove it, file by file and logit by logit, against its manifest."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from curr_ab import __version__
from curr_ab.checkpoint_files import resolve
from curr_ab.family import NAMESPACE, find_member, member
from curr_ab.files import file_digest
from curr_ab.hub.card import namespace_of, rendered, stale_parts
from curr_ab.hub.fresh_process import FreshProcess
from curr_ab.hub.manifest import (
    CARD,
    MANIFEST,
    RESULTS,
    REVISIONS,
    TOLERANCE,
    WEIGHTS,
    Manifest,
    differences,
    read_manifest,
    step_name,
)
from curr_ab.hub.remote import HubError, is_transient, one_line, status_of, with_backoff
from curr_ab.reach import NoAnswer, OutOfReach, ask, downloads_explained
from curr_ab.results import read_results

Say = Callable[[str], None]
_PATIENCE_S = 4.0  # with a connection that breaks: the client itself resumes a download five times


@dataclass(frozen=True)
class _Hub:
    """A repository of the Hub; a revision is downloaded, every byte of it, and deleted afterwards."""

    name: str
    scratch: str | None
    attempts: int

    def branches(self) -> dict[str, str]:
        from huggingface_hub import HfApi

        refs = with_backoff(self.name, self.attempts, HfApi().list_repo_refs, self.name)
        return {ref.name: ref.target_commit for ref in refs.branches}

    @contextmanager
    def folder(self, commit: str) -> Iterator[Path]:
        # Never out of the shared cache: what is served now is to be looked at.
        with tempfile.TemporaryDirectory(prefix="curr-ab-verify-", dir=self.scratch) as place:
            target = f"{self.name} {commit[:12]}"
            yield Path(with_backoff(target, self.attempts, self._download, commit, place, time.monotonic()))

    def _download(self, commit: str, place: str, began: float) -> str:
        """The folder; an error that the Hub answers, or that comes soon, is left for another attempt."""
        from huggingface_hub import snapshot_download

        try:
            return snapshot_download(
                self.name,
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
class _Local:
    """An export on disk, before it is published."""

    name: str

    def branches(self) -> dict[str, str]:
        steps = Path(self.name) / REVISIONS
        names = sorted(entry.name for entry in steps.iterdir()) if steps.is_dir() else []
        return {"main": ".", **{name: f"{REVISIONS}/{name}" for name in names}}

    @contextmanager
    def folder(self, commit: str) -> Iterator[Path]:
        yield Path(self.name) / commit


def verify(
    name: str | Path,
    *,
    namespace: str = NAMESPACE,
    scratch: str | Path | None = None,
    attempts: int = 8,
    say: Say = print,
    fresh_process: FreshProcess | None = None,
) -> list[str]:
    """The problems of a repository (a member or its id), of `demo`, or of an export; empty where all is well.

    It runs the code that the repository holds, as `trust_remote_code=True` does. `scratch` is where one
    revision at a time is downloaded to; `fresh_process` verifies several in one process.
    """
    place: _Hub | _Local
    source = str(name) if Path(name).is_dir() else resolve(name, namespace)
    if Path(source).is_dir():
        place, owner = _Local(source), None
    else:
        owner = source.partition("/")[0]
        place = _Hub(source, str(scratch) if scratch else None, attempts)
        try:
            ask(source, (MANIFEST,))
        except NoAnswer as error:
            if error.status is None:  # a Hub that answers, if only with an error, is asked again
                raise
    try:
        with nullcontext(fresh_process) if fresh_process else FreshProcess() as process:
            return _verify(place, owner, process, lambda line: say(f"{name} {line}"))
    except (HubError, ValueError):
        raise
    except Exception as error:
        if status_of(error) is None and not is_transient(error) and not isinstance(error, OSError):
            raise
        raise HubError(f"{place.name}: {one_line(error)}") from None


def _verify(place: _Hub | _Local, owner: str | None, fresh_process: FreshProcess, say: Say) -> list[str]:
    heads = place.branches()
    problems: list[str] = []
    weights: dict[str, str] = {}
    with place.folder(heads["main"]) as folder:
        try:
            main = read_manifest(folder)
        except ValueError as error:
            return [f"main: {error}"]
        problems += _check_revision("main", folder, main, fresh_process, say)
        problems += [f"main: {problem}" for problem in _check_card(folder, main, owner)]
    claimed = find_member(main.member)
    if owner is not None and (claimed is None or claimed.repo_id(owner) != place.name):
        problems.append(f"main: it is an export of {main.member}")
    for name, expected in main.revisions.items():
        if name not in heads:
            problems.append(f"{name} is missing")
            continue
        with place.folder(heads[name]) as folder:
            problems += _check_step(name, expected, folder, main, weights, fresh_process, say)
    problems += _check_steps(main, weights)
    extra = [name for name in heads if name != "main" and name not in main.revisions]
    problems += [f"{name} is a revision that the manifest of main does not know" for name in extra]
    return problems


def _check_step(
    name: str,
    expected: str,
    folder: Path,
    main: Manifest,
    weights: dict[str, str],
    fresh_process: FreshProcess,
    say: Say,
) -> list[str]:
    """One step; its weights are noted for the comparison of all."""
    try:
        manifest = read_manifest(folder)
    except ValueError as error:
        return [f"{name}: {error}"]
    problems = []
    if file_digest(folder / MANIFEST) != expected:
        step = "another step" if manifest.step is None or step_name(manifest.step) != name else "changed"
        problems.append(f"{name}: its manifest is not the one that main lists ({step})")
    if manifest.member != main.member:
        problems.append(f"{name}: it is an export of {manifest.member}")
    if (folder / WEIGHTS).is_file():
        weights[name] = file_digest(folder / WEIGHTS)
    return problems + _check_revision(name, folder, manifest, fresh_process, say)


def _check_steps(main: Manifest, weights: dict[str, str]) -> list[str]:
    """All steps are distinct, and `main` is the last."""
    by_weights: dict[str, str] = {}
    problems = []
    for name, digest in weights.items():
        if digest in by_weights:
            problems.append(f"{name} serves the weights of {by_weights[digest]}")
        by_weights.setdefault(digest, name)
    last = next(reversed(main.revisions), None)
    if last in weights and weights[last] != main.weights:
        problems.append(f"main is not {last}, the last step")
    return problems


def _check_revision(
    name: str, folder: Path, manifest: Manifest, fresh_process: FreshProcess, say: Say
) -> list[str]:
    """Files and logits of one revision."""
    try:
        problems = [f"{name}: {problem}" for problem in differences(folder, manifest)]
    except ValueError as error:
        problems = [f"{name}: {error}"]
    if problems:
        return problems  # what is not as exported is not run
    probe = manifest.probe
    for way in ("stock", "remote"):
        try:
            seen = fresh_process.load(folder, way, (probe.heavy, probe.light), None)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        if seen.input_ids != probe.input_ids:
            problems.append(f"{name} ({way}): the tokenizer gives other ids than those recorded")
        difference = probe.largest_difference(seen.logits)
        if not difference <= TOLERANCE:
            problems.append(f"{name} ({way}): logits differ from those recorded by {difference:.2g}")
        say(f"{name}: {len(manifest.files)} files, {way} logits within {difference:.1g}")
    return problems


def _check_card(folder: Path, main: Manifest, owner: str | None) -> list[str]:
    """The card's numbers are those of the files beside it, which were measured on these weights."""
    card = folder / CARD
    if not card.is_file():
        return [f"{CARD} is missing"]
    text = card.read_text(encoding="utf-8")
    try:
        if (folder / RESULTS).is_file():
            for row in read_results(folder / RESULTS):
                same_model = row.model == main.member or member(row.model).name == main.member
                if row.checkpoint != main.weights or not same_model:
                    return [f"{RESULTS}: {row.task} {row.metric} was measured on another checkpoint"]
        expected = rendered(folder, owner or namespace_of(folder))
    except ValueError as error:
        return [str(error)]
    return [
        f"{CARD} is stale: {part} is not what the files beside it give"
        for part in stale_parts(text, expected)
    ]
