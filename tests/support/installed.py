"""A Python that has some of the installed packages, as a fresh environment has after `pip install`."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

import curr_ab

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(extras: Sequence[str] = ()) -> list[Requirement]:
    """What `pip install "curr-ab[EXTRA]"` names itself, with what its extras name of each other."""
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    wanted = [Requirement(line) for line in lines]
    own = [one for one in wanted if one.name == PROJECT["name"]]
    more = [found for one in own for found in requirements(sorted(one.extras))]
    return [one for one in wanted if one.name != PROJECT["name"]] + more


def with_their_own(wanted: Sequence[Requirement]) -> dict[str, Distribution]:
    """Their packages, and all that these require."""
    found: dict[str, Distribution] = {}
    seen, waiting = set(), [*wanted]
    while waiting:
        one = waiting.pop()
        extras = frozenset(one.extras) | {""}
        if (one.name, extras) in seen:
            continue
        seen.add((one.name, extras))
        found[one.name] = distribution(one.name)
        for line in found[one.name].requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return found


def _top_level(one: Distribution) -> Iterator[tuple[str, Path]]:
    for name in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
        yield name, Path(str(one.locate_file(name)))


class Environment:
    """A folder of links to the packages of some extras, from which programs import."""

    def __init__(self, folder: Path, extras: Sequence[str] = ()) -> None:
        self.folder = folder
        folder.mkdir()
        for one in with_their_own(requirements(extras)).values():
            for name, path in _top_level(one):
                if not (folder / name).exists():
                    (folder / name).symlink_to(path)
        (folder / "curr_ab").symlink_to(Path(curr_ab.__file__).parent)
        (folder / "curr_ab.dist-info").mkdir()
        text = f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n"
        (folder / "curr_ab.dist-info" / "METADATA").write_text(text, encoding="utf-8")

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of Python that sees these packages, ours, and no others."""
        return subprocess.run(
            [sys.executable, "-S", "-c", program, *arguments],
            env=os.environ | {"PYTHONPATH": str(self.folder), "ACCELERATE_USE_CPU": "true"},
            cwd=self.folder.parent,
            capture_output=True,
            text=True,
            check=False,
        )
