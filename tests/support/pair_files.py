"""Files of pairs in the formats of the field, and fixtures of the rows they are made of."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curr_ab.data import builtin_path

Row = dict[str, Any]
PIECES = ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4")
METADATA = {"Author": "Doe et al., 2020", "Subject": "Subject-1", "Disease": "None", "Isotype": "IGHG"}


@pytest.fixture(scope="session")
def corpus() -> list[Row]:
    """Pairs that differ from each other in residues."""
    rows = pq.read_table(builtin_path()).slice(0, 3_000).to_pylist()
    return list({(row["heavy"], row["light"]): row for row in rows}.values())


def oas_fields(row: Row, chain: str) -> dict[str, str]:
    """The columns of one chain in a paired data unit."""
    residues, mask = row[chain], row[f"region_mask_{chain}"]
    pieces = ["".join(r for r, m in zip(residues, mask, strict=True) if m == str(n)) for n in range(1, 8)]
    columns = {
        "sequence_id": row["id"],
        "sequence": "GCT" * len(residues),
        "productive": "T",
        "v_call": row[f"v_call_{chain}"],
        "v_identity": "97.5",
        "sequence_alignment_aa": residues,
        **{f"{name}_aa": piece for name, piece in zip(PIECES, pieces, strict=True)},
        "junction_aa": f"C{pieces[5]}W",
    }
    return {f"{name}_{chain}": value for name, value in columns.items()}


def oas_text(rows: Sequence[Row], metadata: str | None = None) -> str:
    """A paired data unit of the Observed Antibody Space."""
    records = [oas_fields(row, "heavy") | oas_fields(row, "light") for row in rows]
    quoted = json.dumps(METADATA).replace('"', '""')
    lines = [f'"{quoted}"' if metadata is None else metadata, ",".join(records[0])]
    lines += [",".join(record.values()) for record in records]
    return "\n".join(lines) + "\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Write a file, compressed where its name ends in .gz, and give its path."""

    def writer(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(path)

    return writer


def plain_text(rows: Sequence[Row], header: str = "id,heavy,light", newline: str = "\n") -> str:
    """A plain table of pairs."""
    lines = [header, *(f"{row['id']},{row['heavy']},{row['light']}" for row in rows)]
    return newline.join(lines) + newline


def pairs_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(row["heavy"], row["light"]) for row in rows]
