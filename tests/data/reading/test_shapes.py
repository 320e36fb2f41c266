"""Files and objects in the shapes that people have give the V domains that they hold, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# Each fills the table of shapes.
from support.shapes.damaged import DAMAGED, make_damaged
from support.shapes.drawing import SHAPES, Pair, draw_shape

from curr_ab.cli.main import main
from curr_ab.data import MalformedSource, read_pairs

VARIANTS = (0, 1)
Row = dict[str, Any]


def key(pair: Pair | Row) -> tuple[str, str]:
    heavy, light = (pair.heavy, pair.light) if isinstance(pair, Pair) else (pair["heavy"], pair["light"])
    return heavy or "", light or ""


def rows_read(sources: Any, unpaired: bool, **options: Any) -> list[Row]:
    """The records that hold all the chains that they should."""
    rows = [row for batch in read_pairs(sources, **options) for row in batch.to_pylist()]
    if unpaired:
        return [row for row in rows if row["heavy"] or row["light"]]
    return [row for row in rows if row["heavy"] and row["light"]]


def check(rows: list[Row], pairs: list[Pair]) -> None:
    """The rows are these pairs, whatever their order; residues first, for they say most when they differ."""
    rows, pairs = sorted(rows, key=key), sorted(pairs, key=key)
    assert [key(row) for row in rows] == [key(pair) for pair in pairs]
    names = [(row["id"], pair.names) for row, pair in zip(rows, pairs, strict=True) if pair.names]
    assert [name for name in names if name[0] not in name[1]] == []
    annotation = [(row, pair.annotation) for row, pair in zip(rows, pairs, strict=True)]
    assert [{name: row[name] for name in known} for row, known in annotation] == [
        known for _, known in annotation
    ]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", SHAPES)
def test_shape_is_read(name, variant, tmp_path) -> None:
    shape = draw_shape(name, variant, tmp_path)
    unpaired = shape.options.get("chains") == "unpaired"
    check(rows_read(shape.sources, unpaired, **shape.options), [*shape.pairs, *shape.dropped])


PREPARED = [
    "tenx_3_annotations_and_contigs",
    "tenx_7_annotations",
    "tenx_all_contig_json",
    "tenx_airr_tsv",
    "tenx_samples_share_barcodes",
    "airr_file_per_locus",
    "immcantation",
    "bd_rhapsody",
    "oas_paired",
    "oas_paired_older",
    "excel_title_and_two_sheets",
    "cov_abdab",
    "developability",
    "scfv_any_order",
    "fasta_prefix",
    "nanobodies",
    "mixcr_whole_targets",
    "sheet_with_groups",
    "fasta_file_per_chain",
    "anarci_numbers",
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", PREPARED)
@pytest.mark.heavy
def test_shape_is_prepared(name, variant, tmp_path, capsys) -> None:
    shape = draw_shape(name, variant, tmp_path)
    sources = shape.sources if isinstance(shape.sources, list) else [shape.sources]
    command = ["data", "prepare", *map(str, sources), "--out", str(tmp_path / "out"), "--cluster", "exact"]
    command += ["--unpaired"] * (shape.options.get("chains") == "unpaired")
    code = main(
        [*command, "--test", "1", "--validation", "1", "--processes", "1", "--keep-dropped", "--quiet"]
    )
    assert (code, capsys.readouterr().err) == (0, "")
    shards = map(pq.read_table, (tmp_path / "out").glob("*-*.parquet"))
    check(pa.concat_tables(shards).to_pylist(), list(shape.pairs))
    dropped = json.loads((tmp_path / "out" / "dataset.json").read_text())["report"]["dropped"]
    # What is no chain of the cell at all may be left out before; a reader says so in its own words.
    kinds = ["several_chains"] if shape.of_cells else list(shape.left_out)
    assert {kind: dropped.get(kind, 0) for kind in kinds} == {
        kind: shape.left_out.get(kind, 0) for kind in kinds
    }


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_file_is_named_with_the_place(name, variant, tmp_path) -> None:
    path, place = make_damaged(name, variant, tmp_path)
    with pytest.raises(MalformedSource, match=place) as caught:
        list(read_pairs(path))
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
