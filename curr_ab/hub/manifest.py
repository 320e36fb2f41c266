"""manifest.json: the content of an export, for anyone to check: SHA-256 of each file, logits of a probe."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from curr_ab.checkpoint_files import CONFIG, DEMO_FOLDERS
from curr_ab.family import SHAPE, find_member
from curr_ab.files import file_digest, read_object, write_json
from curr_ab.hub_results import EVAL_RESULTS, EVAL_RESULTS_FOLDER
from curr_ab.options import check_types
from curr_ab.quantities import largest_difference

FORMAT = "curr-ab export 1"
MANIFEST, CARD, RESULTS = "manifest.json", "README.md", "results.json"
WEIGHTS = "model.safetensors"
SIGNATURE = "model.sig"  # over this manifest and the files that it lists; the name is model-signing's
REVISIONS = "revisions"  # folder of the step checkpoints inside an export; not part of `main`
# Results come after the export and cards are improved: `verify` compares these with each other.
LIVING = (CARD, RESULTS, EVAL_RESULTS)
# What the Hub itself keeps in a repository.
HUB_FILES = (".gitattributes",)
POOLING_FOLDER = "1_Pooling"  # sentence-transformers' name for it, which other servers read, too
FOLDERS = (POOLING_FOLDER, EVAL_RESULTS_FOLDER)

RECORDED_EVERY = 16  # tokens; the logits of all of them would be most of the file
# Float32 of one machine and library against another's; a wrong model is off by orders of magnitude more.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class FileEntry:
    """Size and SHA-256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Probe:
    """The answer to a fixed pair: its ids, and the logits of every 16th token."""

    heavy: str
    light: str
    input_ids: list[int]
    logits: list[list[float]]

    def largest_difference(self, logits: list[list[float]]) -> float:
        """Between the recorded logits and those of all tokens."""
        return largest_difference(self.logits, logits[::RECORDED_EVERY])


@dataclass(frozen=True)
class Manifest:
    """One revision of one export.

    In `main` alone: `revisions`, the SHA-256 of each step's manifest, and the `namespace` that owns the
    repository.
    """

    member: str
    step: int | None
    rehearsal: bool
    code_version: str
    source: str
    probe: Probe
    files: dict[str, FileEntry]
    revisions: dict[str, str] = field(default_factory=dict)
    namespace: str | None = None

    @property
    def weights(self) -> str:
        return self.files[WEIGHTS].sha256

    def write(self, folder: Path) -> None:
        write_json(folder / MANIFEST, {"format": FORMAT, **asdict(self)})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export; anything that `Manifest.write` would not have written is refused."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is not an export: it has no {MANIFEST}; make one with `curr-ab export`")
    content = read_object(path)
    try:
        if content.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        if unknown := set(content) - {item.name for item in fields(Manifest)}:
            raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
        content["probe"] = Probe(**content["probe"])
        content["files"] = {name: FileEntry(**entry) for name, entry in content["files"].items()}
        # JSON keys are sorted as text, and step10000 comes before step5000.
        content["revisions"] = dict(sorted(content["revisions"].items(), key=lambda item: step_of(item[0])))
        manifest = Manifest(**content)
        for record in (manifest, manifest.probe, *manifest.files.values()):
            check_types(record)
        if WEIGHTS not in manifest.files:
            raise ValueError(f"files must name {WEIGHTS}")
        if not all(isinstance(digest, str) for digest in manifest.revisions.values()):
            raise ValueError("revisions must be digests")
        return manifest
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a valid manifest: {error}") from None


def revision_files(folder: Path) -> list[str]:
    """The files of one revision by their names on the Hub; a folder that exports do not have is a mistake."""
    # pip compiles the code of the models in the package. Elsewhere Python would run such a file in the
    # place of the one that was checked.
    in_package = folder.resolve() in (demo.resolve() for demo in DEMO_FOLDERS.values())
    apart = (REVISIONS, "__pycache__") if in_package else (REVISIONS,)
    names = []
    for entry in sorted(folder.iterdir()):
        if entry.name in apart and entry.is_dir():
            continue
        inside = sorted(entry.iterdir()) if entry.name in FOLDERS and entry.is_dir() else [entry]
        for path in inside:
            if not path.is_file():
                raise ValueError(f"{path} does not belong in an export; remove it")
            names.append(path.relative_to(folder).as_posix())
    return names


def payload_files(folder: Path) -> list[str]:
    """The files of one revision that its manifest lists; not those that come later, nor the Hub's own."""
    unlisted = (MANIFEST, SIGNATURE, *LIVING, *HUB_FILES)
    return [name for name in revision_files(folder) if name not in unlisted]


def file_table(folder: Path) -> dict[str, FileEntry]:
    return {
        name: FileEntry((folder / name).stat().st_size, file_digest(folder / name))
        for name in payload_files(folder)
    }


def differences(folder: Path, manifest: Manifest) -> list[str]:
    """The files of a folder that are missing, changed or too many, and a shape that is not the member's."""
    found = file_table(folder)
    problems = [f"{name} is missing" for name in manifest.files if name not in found]
    problems += [f"{name} is not in the manifest" for name in found if name not in manifest.files]
    for name, entry in manifest.files.items():
        if name in found and found[name] != entry:
            problems.append(
                f"{name} is not what was exported: SHA-256 {found[name].sha256[:12]}… instead of "
                f"{entry.sha256[:12]}…"
            )
    return problems or _other_shape(folder, manifest)


def _other_shape(folder: Path, manifest: Manifest) -> list[str]:
    """The ways in which the model is not of the member's shape; a rehearsal says itself that it is not."""
    named = find_member(manifest.member)
    if manifest.rehearsal or named is None:
        return []
    config, expected = read_object(folder / CONFIG), named.config()
    return [
        f"{CONFIG}: {name} is {config.get(name)}, where {named.name} has {expected[name]}"
        for name in SHAPE
        if config.get(name) != expected[name]
    ]


def step_of(name: str) -> int:
    """The step that a revision is named after."""
    if not (found := re.fullmatch(r"step(\d+)", name)):
        raise ValueError(f"a revision must be called stepN; got {name!r}")
    return int(found[1])


def step_name(step: int) -> str:
    """The revision of a step checkpoint."""
    return f"step{step}"
