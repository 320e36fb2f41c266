"""Streams of files: decompressed bytes, and text as UTF-8; their content decides, not their names."""

from __future__ import annotations

import io
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from curr_ab.data.reading.sources import MalformedSource, locate

HEAD_BYTES = 1 << 18
MOST_UNPACKED = 1 << 30  # bytes of what must be in memory whole; a small file can hold any number of them
_CODECS = {
    rb"\x1f\x8b": "gzip",
    rb"\x28\xb5\x2f\xfd": "zstd",
    rb"\x04\x22\x4d\x18": "lz4",
    rb"\xfd7zXZ\x00": "xz",
    rb"BZh[1-9]1AY&SY": "bz2",
    rb"PK(\x03\x04|\x05\x06)": "zip",
}
# What zipfile raises of a damaged archive; ValueError of names in no encoding and of places before the start.
OF_ARCHIVES = (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, struct.error)
_BESIDE_TABLES = re.compile(
    r"(^|/)(__MACOSX/|\.|readme|licen[sc]e)|/$|\.(md|pdf|html?|docx?|png|jpe?g)$", re.IGNORECASE
)
# Files that hold what no reader of tables can take, by patterns of their first bytes.
_NO_TABLES = {
    rb"(?s:.{257})ustar": "a tar archive; unpack it",
    rb"(?i)\s*<(!doctype html|html)": "a web page; download the file itself",
    rb"\s*<\?xml": "an XML document; save the table in it as CSV",
    rb"@[^\n]+\n[A-Za-z]+\r?\n\+": "reads in FASTQ; give the assembled and annotated sequences",
    rb"%PDF": "a PDF document; save the table in it as CSV",
    rb"{\\rtf": "an RTF document; save the table in it as CSV",
    rb"\x89PNG|\xff\xd8\xff": "a picture",
    rb"\x89HDF": "an HDF5 file, such as AnnData; write its table as CSV or Parquet",
    rb"RDX|X\n\x00\x00": "data of R; write the table with write.csv",
    rb"\x80[\x04\x05]\x95": "a Python pickle; write its table as Parquet",
    rb"\x93NUMPY": "an array of NumPy; write a table with the residues",
    rb"SQLite format 3": "a database of SQLite; write its table as CSV",
    rb"ORC": "an ORC file; write it as Parquet",
    rb"Obj\x01": "an Avro file; write it as Parquet",
    rb"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    rb"Rar!": "a RAR archive; unpack it",
    rb"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with git lfs pull",
}


class _Unpacked(io.RawIOBase):
    """Stream of a decompressor of the standard library, whose errors become OSError, as Arrow's are."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return bytes(self._stream.read(size))
        except (
            lzma.LZMAError, zlib.error, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError,
        ) as error:  # fmt: skip
            raise OSError(str(error)) from error

    def close(self) -> None:
        self._stream.close()
        super().close()


def _member(source: str, path: str, part: str | None) -> str | None:
    """The table in a zip archive; None where the archive itself is a document, such as a workbook."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except OF_ARCHIVES as error:
        raise MalformedSource(source, f"the zip archive is damaged or cut off ({error})") from error
    if {"[Content_Types].xml", "mimetype", "Index/Document.iwa"} & set(names):
        return None
    tables = [name for name in names if not _BESIDE_TABLES.search(name)]
    if part is not None and part not in names:
        raise MalformedSource(source, f"the zip archive must hold {part!r}; it holds {', '.join(tables)}")
    if part is None and len(tables) > 1:
        problem = f"the zip archive must hold one table; it holds {', '.join(tables)}"
        raise MalformedSource(source, f"{problem}; name one as {path}#{tables[0]}")
    if part is None and not tables:
        raise MalformedSource(source, "the zip archive holds no table")
    return part or tables[0]


def _found(start: bytes, kinds: Mapping[bytes, str]) -> str | None:
    return next((kind for pattern, kind in kinds.items() if re.match(pattern, start)), None)


def _open_member(stream: pa.NativeFile, member: str) -> Any:
    try:
        return zipfile.ZipFile(stream).open(member)
    except OF_ARCHIVES as error:
        raise OSError(str(error)) from error


def _unpack(path: str, layers: list[tuple[str, str]]) -> pa.NativeFile:
    stream = pa.OSFile(path)
    for codec, member in layers:
        if codec == "zip":
            stream = pa.PythonFile(_Unpacked(_open_member(stream, member)), mode="r")
        elif codec == "xz":
            stream = pa.PythonFile(_Unpacked(lzma.LZMAFile(stream)), mode="r")  # noqa: SIM115
        else:
            stream = pa.CompressedInputStream(stream, codec)
    return stream


def _layers(source: str) -> tuple[str, list[tuple[str, str]]]:
    """Path of a source, and what packed it, the outermost first, with the name in an archive."""
    path, part = locate(source)
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):
            problem = "the source must be a file, for it is read more than once; got a pipe or device"
            raise MalformedSource(source, f"{problem}: write it to a file first")
        layers: list[tuple[str, str]] = []
        while len(layers) < 3:
            with _unpack(path, layers) as stream:
                codec = _found(bytes(stream.read(10)), _CODECS)
            if codec is None or (codec == "zip" and layers):
                break
            member = _member(source, path, part) if codec == "zip" else ""
            if member is None:
                break
            layers.append((codec, member))
    except OSError as error:
        if error.errno is None:  # of a decompressor
            raise _broken(source, error, 1) from error
        raise MalformedSource(source, f"the file cannot be read ({os.strerror(error.errno)})") from error
    except RuntimeError as error:  # zipfile's of an encrypted member
        raise MalformedSource(source, f"the zip archive cannot be read ({error})") from error
    return path, layers


def open_stream(source: str) -> pa.NativeFile:
    """Open a file as decompressed bytes, from the first on."""
    return _unpack(*_layers(source))


def open_seekable(source: str) -> pa.NativeFile:
    """Open a file in which a reader goes to and fro; one that is packed comes into memory for that."""
    path, layers = _layers(source)
    if not layers:
        return pa.OSFile(path)
    blocks, size = list[bytes](), 0
    with _unpack(path, layers) as stream:
        while block := stream.read(HEAD_BYTES):
            blocks.append(block)
            size += len(block)
            refuse_size(source, size)
    return pa.BufferReader(b"".join(blocks))


def refuse_size(source: str, size: int) -> None:
    """Refuse what takes more memory, once it is unpacked, than a reader should ask for."""
    if size > MOST_UNPACKED:
        problem = f"what is packed in it must be at most {MOST_UNPACKED / 2**30:g} GiB to be read at once"
        raise MalformedSource(source, f"{problem}; unpack it, or save its table as CSV")


def _encoding(start: bytes) -> str | None:
    """UTF-16, by its mark or, without one, by the zeros in Latin text; None for all else."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    start = start[: len(start) // 2 * 2]
    for encoding, zeros, letters in (
        ("utf-16-le", start[1::2], start[::2]),
        ("utf-16-be", start[::2], start[1::2]),
    ):
        if zeros and zeros.count(0) > 0.9 * len(zeros) and letters.count(0) == 0:
            return encoding
    return None


@contextmanager
def open_text(source: str) -> Iterator[pa.NativeFile]:
    """Open a text file as UTF-8 without a byte-order mark; where it breaks off, the error says it."""
    packed = _layers(source)
    try:
        with _unpack(*packed) as stream:
            start = bytes(stream.read(1 << 12))
        with _unpack(*packed) as stream:
            if encoding := _encoding(start):
                stream = pa.transcoding_input_stream(stream, encoding, "utf-8")
            elif start.startswith(b"\xef\xbb\xbf"):
                stream.read(3)
            yield stream
    except (OSError, UnicodeError) as error:
        raise _damaged(source, error) from error


def read_head(source: str, size: int = HEAD_BYTES) -> bytes:
    """Read the first bytes: of text as UTF-8 without a byte-order mark."""
    with open_text(source) as stream:
        head = bytes(stream.read(size))
    if not head.strip():
        raise MalformedSource(source, "the file is empty; copy it again, or name another")
    return head


def refuse_documents(source: str, head: bytes) -> None:
    """Raise the error of a file that holds no table at all, and say what it is."""
    if kind := _found(head, _NO_TABLES):
        raise MalformedSource(source, f"the source must be a table or FASTA; got {kind}")


def _broken(source: str, error: Exception, line: int) -> MalformedSource:
    problem = f"the compressed file is damaged or cut off ({error}); copy or download it again"
    return MalformedSource(source, problem, line)


def _damaged(source: str, error: Exception) -> MalformedSource:
    """Make the error for a stream that breaks off, with the first line that cannot be read."""
    if isinstance(error, UnicodeError):
        return MalformedSource(
            source, f"the text is not {getattr(error, 'encoding', 'utf-8').upper()} ({error})"
        )
    line = 1
    try:
        with open_stream(source) as stream:
            while block := stream.read(1 << 12):  # what a larger read holds before the damage is lost with it
                line += block.count(b"\n")
    except OSError:
        return _broken(source, error, line)
    return MalformedSource(source, str(error))
