"""Verification of an export, in a folder or on the Hub: every revision, file by file and logit by logit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from curr_ab.family import find_member, member
from curr_ab.files import file_digest
from curr_ab.hub.card import owner_of, stale_files
from curr_ab.hub.fresh_process import FreshProcess
from curr_ab.hub.manifest import (
    CARD,
    MANIFEST,
    RESULTS,
    SIGNATURE,
    TOLERANCE,
    WEIGHTS,
    Manifest,
    differences,
    read_manifest,
    step_name,
)
from curr_ab.hub.places import HubPlace, Place
from curr_ab.hub.signatures import signature_problems
from curr_ab.results import read_results

Say = Callable[[str], None]


def check_main(
    place: Place,
    folder: Path,
    signed_by: tuple[str | None, str | None],
    fresh_process: FreshProcess,
    say: Say,
) -> tuple[list[str], Manifest | None]:
    """The problems of `main`, which lies in the folder, and its manifest where there is one to go on with."""
    if unsigned := _check_signature(folder, *signed_by, say):
        return unsigned, None
    try:
        main = read_manifest(folder)
    except ValueError as error:
        return [f"main: {error}"], None
    owner = place.name.partition("/")[0] if isinstance(place, HubPlace) else None
    problems = _check_revision("main", folder, main, fresh_process, say)
    problems += [f"main: {problem}" for problem in _check_card(folder, main, owner)]
    claimed = find_member(main.member)
    if owner is not None and (claimed is None or claimed.repo_id(owner) != place.name):
        problems.append(f"main: it is an export of {main.member}")
    return problems, main


def check_steps(
    place: Place, heads: Mapping[str, str], main: Manifest, fresh_process: FreshProcess, say: Say
) -> list[str]:
    """The problems of the other revisions, of which `heads` has the commits."""
    problems: list[str] = []
    weights: dict[str, str] = {}
    for name, expected in main.revisions.items():
        if name not in heads:
            problems.append(f"{name} is missing")
            continue
        with place.folder(heads[name]) as folder:
            problems += _check_step(name, expected, folder, main, weights, fresh_process, say)
    problems += _check_order(main, weights)
    extra = [name for name in heads if name != "main" and name not in main.revisions]
    problems += [f"{name} is a revision that the manifest of main does not know" for name in extra]
    return problems


def _check_signature(folder: Path, identity: str | None, issuer: str | None, say: Say) -> list[str]:
    """Whether the named one has signed `main`; where nobody is named, nothing is asked of it."""
    if identity is None:
        if (folder / SIGNATURE).is_file():
            say(f"main: {SIGNATURE} is not checked; say by whom it must be signed (--identity)")
        return []
    problems = [f"main: {problem}" for problem in signature_problems(folder, identity, issuer)]
    if not problems:
        say(f"main: signed by {identity}")
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
    if (folder / WEIGHTS).is_file():
        weights[name] = file_digest(folder / WEIGHTS)
    problems = []
    if file_digest(folder / MANIFEST) != expected:
        step = "another step" if manifest.step is None or step_name(manifest.step) != name else "changed"
        problems.append(f"{name}: its manifest is not the one that main lists ({step})")
    if manifest.member != main.member:
        problems.append(f"{name}: it is an export of {manifest.member}")
    # The signature of main covers a step by its manifest alone: what has another one is not run.
    return problems or _check_revision(name, folder, manifest, fresh_process, say)


def _check_order(main: Manifest, weights: dict[str, str]) -> list[str]:
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
    if not (folder / CARD).is_file():
        return [f"{CARD} is missing"]
    try:
        if (folder / RESULTS).is_file():
            for row in read_results(folder / RESULTS):
                same_model = row.model == main.member or member(row.model).name == main.member
                if row.checkpoint != main.weights or not same_model:
                    return [f"{RESULTS}: {row.task} {row.metric} was measured on another checkpoint"]
        return stale_files(folder, owner or owner_of(main))
    except ValueError as error:
        return [str(error)]
