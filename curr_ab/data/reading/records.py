"""Text of a table as blocks of whole records; quotes that do not balance are errors."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_BYTES = 4 << 20
_RECORD_BYTES = 64 << 20
_QUOTE = ord('"')
_NEWLINE = re.compile(rb"\r\n|\n|\r")
# Behind an opening quote, up to the closing one; a doubled quote is a letter of the field.
_QUOTED = re.compile(rb'[^"]*+(?:""[^"]*+)*+"')


class BadText(ValueError):
    """Fault in the text, and its place in bytes."""

    def __init__(self, problem: str, place: int) -> None:
        super().__init__(problem)
        self.place = place


def num_lines(text: bytes, end: int | None = None) -> int:
    """Number of newlines of any kind, up to a place."""
    newlines, returns = text.count(b"\n", 0, end), text.count(b"\r", 0, end)
    return newlines + returns - text.count(b"\r\n", 0, end) if returns else newlines


class QuotedFields:
    """Begin and end of the quoted fields of a block, which begins with a record."""

    def __init__(self, block: bytes | bytearray, delimiter: bytes) -> None:
        self.starts: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.ends = self.starts  # behind the closing quotes
        self.open: int | None = None  # the field that the block's end cuts off
        if b'"' in block and not self._find_balanced(block, delimiter):
            self._find(block, delimiter)

    def _find_balanced(self, block: bytes | bytearray, delimiter: bytes) -> bool:
        """The fast way, for text in which each quote opens or closes a field, or is doubled within one."""
        text = np.frombuffer(block, np.uint8)
        quotes = np.flatnonzero(text == _QUOTE)
        opening, closing = quotes[::2], quotes[1::2]
        first = np.ones(len(opening), np.bool_)  # not the second of a doubled quote
        first[1:] = opening[1:] != closing[: len(opening) - 1] + 1
        fields = np.flatnonzero(first)
        starts = opening[fields]
        breaks = np.zeros(256, np.bool_)
        breaks[list(b"\r\n" + delimiter)] = True
        last = np.append(fields[1:], len(opening)) - 1  # the closing quote of each field
        if is_open := bool(len(quotes) % 2 or quotes[-1] == len(block) - 1):  # the next block may double it
            last = last[:-1]
        ends = closing[last] + 1
        if not (breaks[text[starts[starts > 0] - 1]].all() and breaks[text[ends]].all()):
            return False
        if is_open:
            self.open, starts = int(starts[-1]), starts[:-1]
        self.starts, self.ends = starts, ends
        return True

    def _find(self, block: bytes | bytearray, delimiter: bytes) -> None:
        """The sure way: a quote within a field that does not begin with one is a letter."""
        opening = re.compile(rb"(?:\A|(?<=[\r\n" + re.escape(delimiter) + rb']))"')
        breaks, fields, position = b"\r\n" + delimiter, list[tuple[int, int]](), 0
        while found := opening.search(block, position):
            closed = _QUOTED.match(block, found.end())
            if closed is None or closed.end() == len(block):
                self.open = found.start()
                break
            position = closed.end()
            if block[position] not in breaks:
                rest = block[position : position + 20].decode(errors="replace")
                problem = (
                    f"a quoted field must end with its quote; got {rest!r} behind it; double the quotes in it"
                )
                raise BadText(problem, position)
            fields.append((found.start(), position))
        places = np.array(fields, np.int64).reshape(-1, 2)
        self.starts, self.ends = places[:, 0], places[:, 1]

    def field_at(self, place: int) -> int | None:
        """Start of the quoted field that the place lies in."""
        if self.open is not None and place >= self.open:
            return self.open
        index = int(np.searchsorted(self.starts, place, side="right")) - 1
        return int(self.starts[index]) if index >= 0 and place < self.ends[index] else None


def _end_of_records(block: bytes | bytearray, fields: QuotedFields) -> int:
    """Place behind the last newline that ends a record."""
    place = len(block) - block.endswith(b"\r")  # whose newline may go on
    while True:
        place = max(block.rfind(b"\n", 0, place), block.rfind(b"\r", 0, place))
        if place < 0:
            return 0
        field = fields.field_at(place)
        if field is None:
            return place + 1
        place = field


def whole_records(stream: Any, delimiter: bytes) -> Iterator[tuple[memoryview, int]]:
    """Blocks of whole records, and the place in the stream where each begins.

    All are read into one buffer, so that a block lasts until the next: copies of it took longer than to find
    the quotes.
    """
    stream = io.BufferedReader(stream)  # whose reads end with the buffer or with the stream
    buffer, num_held, place = bytearray(BLOCK_BYTES), 0, 0
    unclosed = "the quote that opens here must be closed"
    while True:
        size = num_held + stream.readinto(memoryview(buffer)[num_held:])
        is_last = size < len(buffer)
        block = buffer[:size] if is_last else buffer
        try:
            fields = QuotedFields(block, delimiter)
        except BadText as error:
            raise BadText(str(error), place + error.place) from error
        end = size if is_last else _end_of_records(block, fields)
        if is_last and fields.open is not None and not _QUOTED.fullmatch(block, fields.open + 1):
            raise BadText(unclosed, place + fields.open)
        if end:
            yield memoryview(block)[:end], place
        if is_last:
            return
        num_held, place = size - end, place + end
        if num_held > _RECORD_BYTES:
            if fields.open is not None:
                raise BadText(unclosed, place - end + fields.open)
            raise BadText(f"a record must be shorter than {_RECORD_BYTES >> 20} MB; is this a table?", place)
        if num_held > len(buffer) // 2:
            buffer = bytearray(2 * len(buffer))
        buffer[:num_held] = block[end:]


def line_of_record(block: bytes, delimiter: bytes, number: int) -> int:
    """Line, from 0, of a record of the block; blank lines are no records."""
    fields = QuotedFields(block, delimiter)
    start = line = 0
    for newline in _NEWLINE.finditer(block):
        if fields.field_at(newline.start()) is not None:
            continue
        if newline.start() > start:
            number -= 1
            if number == 0:
                break
        line += num_lines(block[start : newline.end()])
        start = newline.end()
    return line
