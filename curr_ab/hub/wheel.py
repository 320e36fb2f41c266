"""The wheel of this package as it is installed here: the same files give the same bytes on every machine."""

from __future__ import annotations

import base64
import hashlib
import os
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
    contents = dict(_package_files())
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


def _package_files() -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of the package, in the order of the names; links are followed."""
    package = Path(__file__).parents[1]
    found = [
        Path(place, name)
        for place, _, names in os.walk(package, followlinks=True)
        for name in names
        if "__pycache__" not in place and not name.startswith(".")
    ]
    for path in sorted(found):
        yield path.relative_to(package.parent).as_posix(), path.read_bytes()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def _entry_points() -> str:
    return "[console_scripts]\ncurr-ab = curr_ab.cli.main:main\n"
