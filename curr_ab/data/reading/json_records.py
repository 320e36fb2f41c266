"""JSON as tables: AIRR rearrangements, contigs of Cell Ranger, JSON lines, lists and columns of records."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from curr_ab.data.reading.sources import MalformedSource
from curr_ab.data.reading.streams import open_text
from curr_ab.data.reading.table import Table, check_names, text_batches

_CHUNK = 1 << 20
_VALUE_LETTERS = 256 << 20
_NAMING_RECORDS = 1_000  # as many are looked through for names: a record may leave out what it lacks
_REARRANGEMENTS = "Rearrangement"
_BESIDE = {"Info", "Repertoire", "RepertoireGroup", "DataFile", "Clone", "Cell", "CellExpression"}
_BESIDE |= {"CellReactivity", "Receptor", "GermlineSet", "GenotypeSet"}  # what else AIRR files hold
# Numbers stay as they are written: an id of digits keeps its zeros, and no number is too long.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_BLANKS = re.compile(r"[\s,]*")
_REGIONS = ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "fwr4")
_GENES = {"V": "v_gene", "D": "d_gene", "J": "j_gene", "C": "c_gene"}


def is_json(head: bytes) -> bool:
    """True of JSON, false of a text table, above which a line of JSON may stand."""
    text = head.lstrip()
    if re.match(rb"\[\s*[{\[\]]", text):
        return True
    if not text.startswith(b"{"):
        return False
    first, _, rest = text.partition(b"\n")
    following = rest.lstrip()
    if not following or following.startswith(b"{"):
        return True
    # A value of several lines breaks off within itself; metadata ends with its line.
    return first.rstrip()[-1:] in b"{[,:" and following[:1] in b'"{[}]' and b'"' in following[:2]


def _after_blanks(text: str, place: int) -> int:
    match = _BLANKS.match(text, place)
    assert match is not None
    return match.end()


class _Values:
    """Values of a JSON text one after another, of which memory holds one."""

    def __init__(self, source: str, text: io.TextIOWrapper) -> None:
        self._source, self._text = source, text
        self._letters, self._place, self._ended = "", 0, False
        self._lines = 0  # before the letters

    def fail(self, problem: str, at: int | None = None) -> MalformedSource:
        """Make the error with the line of a place, or of the last value."""
        line = 1 + self._lines + self._letters.count("\n", 0, self._place if at is None else at)
        return MalformedSource(self._source, problem, line)

    def _damaged(self, problem: str, at: int) -> MalformedSource:
        return self.fail(f"the JSON is damaged or cut off: {problem}", at)

    def _more(self) -> bool:
        """Read on: as much again as is there, so that a long value is not tried too often."""
        self._lines += self._letters.count("\n", 0, self._place)
        self._letters = self._letters[self._place :]
        self._place = 0
        read = "" if self._ended else self._text.read(max(_CHUNK, len(self._letters)))
        self._ended = not read
        self._letters += read
        return not self._ended

    def peek(self) -> str:
        """The next letter that is neither blank nor comma; nothing at the end."""
        while True:
            end = _after_blanks(self._letters, self._place)
            if end < len(self._letters):
                self._place = end
                return self._letters[self._place]
            if not self._more():
                return ""

    def take(self, letter: str) -> None:
        if self.peek() != letter:
            raise self._damaged(f"{letter!r} is missing", self._place)
        self._place += 1

    def holds_objects(self) -> bool:
        """True before a list of objects, or an empty one."""
        if self.peek() != "[":
            return False
        while (end := _after_blanks(self._letters, self._place + 1)) == len(self._letters):
            if not self._more():
                return False
        return self._letters[end] in "{]"

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._letters, self._place)
            except RecursionError as error:
                raise self._damaged("it is nested too deeply", self._place) from error
            except json.JSONDecodeError as error:
                is_cut = error.pos > len(self._letters) - 16 or error.msg.startswith("Unterminated")
                behind = error.pos - self._place
                if not is_cut or len(self._letters) > _VALUE_LETTERS or not self._more():
                    raise self._damaged(error.msg, self._place + behind) from error
                continue
            if end == len(self._letters) and self._more():
                continue  # a number may go on
            self._place = end
            return value


def _array(values: _Values) -> Iterator[Any]:
    values.take("[")
    while values.peek() != "]":
        yield values.value()
    values.take("]")


def _columns(source: str, whole: Mapping[str, Any]) -> Iterator[Any]:
    """Records of an object that holds columns, or one record."""
    names, rows = whole.get("columns"), whole.get("data")
    if isinstance(names, list) and isinstance(rows, list):  # as pandas writes them with orient="split"
        if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
            raise MalformedSource(source, "the rows of the JSON must be as long as its columns")
        yield from (dict(zip(names, row, strict=True)) for row in rows)
        return
    for name, records in whole.items():
        if name not in _BESIDE and isinstance(records, list) and records and isinstance(records[0], dict):
            yield from records
            return
    columns = [list(column.values()) if isinstance(column, dict) else column for column in whole.values()]
    if set(whole) & _BESIDE or not whole:
        problem = f"the JSON must hold a list of records, such as {_REARRANGEMENTS}"
        raise MalformedSource(source, f"{problem}; it holds {', '.join(whole) or 'nothing'}")
    if any(map(_is_plain, columns)):
        yield whole
        return
    if len(set(map(len, columns))) > 1:
        raise MalformedSource(source, "the columns of the JSON must be equally long")
    yield from (dict(zip(whole, row, strict=True)) for row in zip(*columns, strict=True))


def _object(source: str, values: _Values) -> Iterator[Any]:
    """Records of the list that an object holds, without reading it whole; else its columns, or JSON lines."""
    whole: dict[str, Any] = {}
    values.take("{")
    while values.peek() != "}":
        name = values.value()
        values.take(":")
        if name not in _BESIDE and values.holds_objects() and not any(map(_is_plain, whole.values())):
            yield from _array(values)
            return
        whole[name] = values.value()
    values.take("}")
    if values.peek():  # JSON lines, of which this was the first
        yield whole
        while values.peek():
            yield values.value()
    else:
        yield from _columns(source, whole)


def _is_plain(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _records(source: str) -> Iterator[Mapping[str, Any]]:
    """Fields of each record."""
    with open_text(source) as stream:
        values = _Values(source, io.TextIOWrapper(io.BufferedReader(stream), "utf-8"))
        records = _array(values) if values.peek() == "[" else _object(source, values)
        for record in records:
            if not isinstance(record, dict):
                raise values.fail(f"a record must be an object with names; got {json.dumps(record)[:60]}")
            try:
                yield _flat(record) if "contig_name" in record else record
            except (AttributeError, TypeError) as error:
                problem = f"a contig must be as Cell Ranger writes it; got another ({error})"
                raise values.fail(problem) from error


def _flat(contig: Mapping[str, Any]) -> dict[str, Any]:
    """A contig of Cell Ranger's JSON under the columns of its CSV, with its residues and nucleotides."""
    info, genes, chains = contig.get("info") or {}, dict[str, Any](), Counter[str]()
    for annotation in contig.get("annotations") or ():
        feature = annotation.get("feature") or {}
        kind = str(feature.get("region_type", ""))
        column = (
            "v_gene" if kind.startswith("L-REGION+V") else _GENES.get(kind[:1] if "-REGION" in kind else "")
        )
        if column:
            genes.setdefault(column, feature.get("gene_name"))
            if feature.get("chain"):
                chains[feature["chain"]] += 1
    flat = {
        "barcode": contig.get("barcode"),
        "is_cell": contig.get("is_cell"),
        "contig_id": contig.get("contig_name"),
        "high_confidence": contig.get("high_confidence"),
        "length": str(len(contig.get("sequence") or "")),
        "chain": next(iter(chains)) if len(chains) == 1 else "Multi" if chains else None,
        **{column: genes.get(column) for column in _GENES.values()},
        "full_length": contig.get("full_length"),
        "productive": contig.get("productive"),
        "cdr3": contig.get("cdr3"),
        "cdr3_nt": contig.get("cdr3_seq"),
        "reads": contig.get("read_count"),
        "umis": contig.get("umi_count"),
        "raw_clonotype_id": contig.get("clonotype") or info.get("raw_clonotype_id"),
        "raw_consensus_id": info.get("raw_consensus_id"),
        "aa_sequence": contig.get("aa_sequence"),
        "sequence": contig.get("sequence"),
    }
    for name in ("sample", "sample_id", "donor", "origin"):
        if contig.get(name) is not None:
            flat[name] = contig[name]
    for region in _REGIONS:  # since Cell Ranger 5
        if isinstance(piece := contig.get(region), dict):
            flat[region], flat[f"{region}_nt"] = piece.get("aa_seq"), piece.get("nt_seq")
    return flat


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)  # true, false, and what is nested


def open_json(source: str) -> Table:
    """Open JSON: the names are those of the first records."""
    names: dict[str, None] = {}
    not_text: dict[str, str] = {}
    is_contigs = False
    for record in islice(_records(source), _NAMING_RECORDS):
        names.update(dict.fromkeys(record))
        not_text |= {
            name: "lists or objects" for name, value in record.items() if isinstance(value, dict | list)
        }
        is_contigs = is_contigs or {"contig_id", "aa_sequence"} <= set(record)
    check_names(source, list(names))

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        rows = ([_text(record.get(name)) for name in wanted] for record in _records(source))
        return text_batches(wanted, rows)

    form = "Cell Ranger JSON" if is_contigs else "JSON"
    return Table(source, form, tuple(names), read, not_text=not_text)
