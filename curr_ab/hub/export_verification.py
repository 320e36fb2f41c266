"""Verification of an export, in a folder or on the Hub: every revision, file by file and logit by logit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from curr_ab import __version__
from curr_ab.checkpoint_files import DEMO_FOLDERS
from curr_ab.family import DEMO, find_member, member
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


@dataclass(frozen=True)
class Check:
    """Comparison of an export with what it says of itself."""

    place: Place
    signed_by: tuple[str | None, str | None]  # identity and issuer
    fresh_process: FreshProcess
    run_code: bool
    say: Say

    def main(self, folder: Path, name: str = "main") -> tuple[list[str], Manifest | None]:
        """The problems of `main`, which lies in the folder, and its manifest where it can be gone on with.

        A tag is a `main` of an earlier time under its own `name`.
        """
        if unsigned := self._signature(folder, name):
            return unsigned, None
        try:
            main = read_manifest(folder)
        except ValueError as error:
            return [f"{name}: {error}"], None
        owner = self.place.name.partition("/")[0] if isinstance(self.place, HubPlace) else None
        problems = self._revision(name, folder, main)
        problems += [f"{name}: {problem}" for problem in _check_card(folder, main, owner)]
        if owner is not None and owner != owner_of(main):
            problems.append(f"{name}: {MANIFEST} names the owner {owner_of(main)}")
        claimed = find_member(main.member)
        if owner is not None and (claimed is None or claimed.repo_id(owner) != self.place.name):
            problems.append(f"{name}: it is an export of {main.member}")
        return problems, main

    def steps(self, heads: Mapping[str, str], main: Manifest) -> list[str]:
        """The problems of the other revisions, of which `heads` has the commits."""
        problems: list[str] = []
        weights: dict[str, str] = {}
        for name, expected in main.revisions.items():
            if name not in heads:
                problems.append(f"{name} is missing")
                continue
            with self.place.folder(heads[name]) as folder:
                problems += self._step(name, expected, folder, main, weights)
        problems += _check_order(main, weights)
        extra = [name for name in heads if name != "main" and name not in main.revisions]
        problems += [f"{name} is a revision that the manifest of main does not know" for name in extra]
        return problems

    def tags(self, heads: Mapping[str, str], tags: Mapping[str, str]) -> list[str]:
        """The problems of the tags: who names a release gets what it says, wherever `main` is now."""
        problems: list[str] = []
        for name, commit in tags.items():
            if commit not in heads.values():
                with self.place.folder(commit) as folder:
                    problems += self.main(folder, name)[0]
        return problems

    def _signature(self, folder: Path, name: str) -> list[str]:
        """Whether the named one has signed it; where nobody is named, nothing is asked of it."""
        identity, issuer = self.signed_by
        if identity is None:
            if (folder / SIGNATURE).is_file():
                self.say(f"{name}: {SIGNATURE} is not checked; say by whom it must be signed (--identity)")
            return []
        problems = [f"{name}: {problem}" for problem in signature_problems(folder, identity, issuer)]
        if not problems:
            self.say(f"{name}: signed by {identity}")
        return problems

    def _step(
        self, name: str, expected: str, folder: Path, main: Manifest, weights: dict[str, str]
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
            other = manifest.step is None or step_name(manifest.step) != name
            said = "another step" if other else "changed"
            problems.append(f"{name}: its manifest is not the one that main lists ({said})")
        if manifest.member != main.member:
            problems.append(f"{name}: it is an export of {manifest.member}")
        # The signature of main covers a step by its manifest alone: what has another one is not run.
        return problems or self._revision(name, folder, manifest)

    def _revision(self, name: str, folder: Path, manifest: Manifest) -> list[str]:
        """Files and logits of one revision."""
        try:
            problems = [f"{name}: {problem}" for problem in differences(folder, manifest)]
        except ValueError as error:
            problems = [f"{name}: {error}"]
        if problems:
            return problems  # what is not as exported is not run
        if other := [
            file for file in manifest.files if file.endswith(".py") and _is_other_code(folder / file)
        ]:
            self.say(
                f"{name}: {', '.join(other)} differ from those of curr-ab {__version__}; read them first"
            )
            self.fresh_process.forget_code()  # it runs in a process that has run no other code
        probe = manifest.probe
        for way in ("stock", "remote") if self.run_code else ("stock",):
            try:
                seen = self.fresh_process.load(folder, way, (probe.heavy, probe.light), None)
            except ValueError as error:
                problems.append(f"{name}: {error}")
                continue
            if seen.input_ids != probe.input_ids:
                problems.append(f"{name} ({way}): the tokenizer gives other ids than those recorded")
            difference = probe.largest_difference(seen.logits)
            if not difference <= TOLERANCE:
                problems.append(f"{name} ({way}): logits differ from those recorded by {difference:.2g}")
            self.say(f"{name}: {len(manifest.files)} files, {way} logits within {difference:.1g}")
        if other:
            self.fresh_process.forget_code()
        return problems


def _is_other_code(path: Path) -> bool:
    """True where the file is not the one that this version writes into every export."""
    own = DEMO_FOLDERS[DEMO] / path.name
    return not own.is_file() or file_digest(own) != file_digest(path)


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
