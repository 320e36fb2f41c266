"""The wheel of this package as it is installed here: the same files give the same bytes on every machine."""

from __future__ import annotations

import base64
import hashlib
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from curr_ab import __version__
from curr_ab.files import replacing

_NAME = f"curr_ab-{__version__}"
WHEEL = f"{_NAME}-py3-none-any.whl"
_TAG = "Wheel-Version: 1.0\nGenerator: curr-ab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_OLDEST = (1980, 1, 1, 0, 0, 0)  # a date that says nothing; ZIP knows none before


def write_wheel(folder: Path) -> Path:
    """Write the wheel into a folder; a checkout needs no build, and an installed package no checkout."""
    path = folder / WHEEL
    information = distribution("curr-ab")
    metadata = information.read_text("METADATA") or information.read_text("PKG-INFO") or ""
    entries = {"METADATA": metadata, "WHEEL": _TAG, "entry_points.txt": _entry_points()}
    contents = dict(_package_files(Path(__file__).parents[2]))
    contents |= {f"{_NAME}.dist-info/{name}": text.encode() for name, text in entries.items()}
    record = f"{_NAME}.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in contents.items()]
    contents[record] = "".join([*lines, f"{record},,\n"]).encode()
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as wheel:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, _OLDEST)  # stored as it is: compression differs between machines
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, content)
    return path


def is_from_index() -> bool:
    """False for a checkout and for what was installed from a file: no index need have this version."""
    try:
        return distribution("curr-ab").read_text("direct_url.json") is None
    except PackageNotFoundError:
        return False


def _package_files(place: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of the package and its licence, in the order of the names.

    Of a checkout those that its build would take, and of an installed package those that were installed:
    whatever else lies beside them is nobody's business.
    """
    project = place / "pyproject.toml"
    is_checkout = project.is_file()
    found = _built(project) if is_checkout else _installed(place)
    if not found:
        raise ValueError(f"curr-ab must be installed, or be a checkout; {place} is neither")
    for path in sorted(found):
        yield path.relative_to(place).as_posix(), path.read_bytes()
    licences = [place / "LICENSE"] if is_checkout else place.glob(f"{_NAME}.dist-info/**/LICENSE")
    for path in licences:
        yield f"{_NAME}.dist-info/licenses/LICENSE", path.read_bytes()


def _built(project: Path) -> set[Path]:
    """Modules of the packages, and what package-data names; links are followed."""
    setuptools = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = {package: ["*.py"] for package in setuptools["packages"]}
    for package, data in setuptools["package-data"].items():
        patterns[package] = [*patterns[package], *data]
    found = (
        path
        for package, globs in patterns.items()
        for pattern in globs
        for path in project.parent.joinpath(*package.split(".")).glob(pattern)
    )
    return {
        path
        for path in found
        if path.is_file() and path.name[0] != "." and path.name[-1] != "~" and "__pycache__" not in path.parts
    }


def _installed(place: Path) -> set[Path]:
    names = [str(name) for name in distribution("curr-ab").files or ()]
    return {place / name for name in names if name.startswith("curr_ab/") and "__pycache__" not in name}


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def _entry_points() -> str:
    return "[console_scripts]\ncurr-ab = curr_ab.cli.main:main\n"
