"""Reading the table of runs: every defect gets an error that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curr_ab.quantities import format_quantity, parse_quantity
from curr_ab.scaling import Runs, make_runs, read_runs
from curr_ab.scaling.runs import COLUMNS, TEMPLATE, seed_noise


def _read(tmp_path: Path, text: str) -> Runs:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    return read_runs(path)


def test_numbers_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    runs = _read(tmp_path, 'parameters,sequences,loss\n650M,"1,648,726",0.24\n8e6,400k,0.25\n')
    assert runs.parameters.tolist() == [650e6, 8e6]
    assert runs.sequences.tolist() == [1_648_726, 400_000]
    assert np.isnan(runs.seen_tokens).all()


def test_a_loss_may_come_in_bits_or_as_a_perplexity(tmp_path: Path) -> None:
    for column, value in (("bits", 0.5), ("perplexity", 2**0.5)):
        runs = _read(tmp_path, f"parameters,{column}\n8M,{value}\n")
        assert runs.loss == pytest.approx([0.5 * np.log(2)])


def test_the_template_is_a_table_with_every_column(tmp_path: Path) -> None:
    assert TEMPLATE.splitlines()[0].split(",") == list(COLUMNS)
    assert len(_read(tmp_path, TEMPLATE)) == 2


def test_the_mark_of_a_spreadsheet_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert _read(tmp_path, "\ufeffparameters,loss\n8M,0.2\n").loss.tolist() == [0.2]


def test_flops_follow_from_size_and_tokens_where_the_column_is_absent(tmp_path: Path) -> None:
    runs = _read(tmp_path, "parameters,seen_tokens,loss\n1M,1B,2.5\n")
    assert runs.flops.tolist() == [6e15]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters,sequences\n8M,400k\n", "column 'loss' is missing"),
        ("loss,sequences\n0.2,400k\n", "column 'parameters' is missing"),
        ("parameters,loss\n8M,nan\n", "row 1: loss 'nan' must be a positive, finite"),
        ("parameters,loss\n8M,-0.2\n", "row 1: loss '-0.2' must be a positive"),
        ("parameters,loss\n8M,0.2\n-35M,0.2\n", "row 2: parameters '-35M' must be a positive"),
        ("parameters,loss\n8M,\n", "row 1: loss is empty"),
        ("parameters,loss\n8M,low\n", "'low' is not a number"),
        ('parameters,loss\n8M,"0,312"\n', "row 1: loss '0,312' has a comma that parts no thousands"),
        ('parameters,loss\n"1,64,000",0.2\n', "'1,64,000' has a comma that parts no thousands"),
        ("parameters,loss\n8M,0.2\n8M,0.3\n", "row 2 repeats row 1"),
        ("parameters,loss,epochs\n8M,0.2,3\n", "unknown column 'epochs'"),
        ("parameters,loss,loss\n8M,0.2,0.3\n", "occurs twice"),
        ("parameters,loss\n8M\n", "row 1: the row must have 2 columns"),
        ("parameters,loss,objective\n8M,0.2,gan\n", "objective must be mlm or clm; got 'gan'"),
        ("parameters,loss\n", "at least one run"),
        ("parameters,loss,bits\n8M,0.2,0.3\n", "row 1: the loss must be in one unit; got bits and loss"),
        ("parameters,perplexity\n8M,0.9\n", "row 1: perplexity must be above 1; got 0.9"),
        ("parameters,bits\n8M,\n", "row 1: bits is empty"),
    ],
)
def test_a_defect_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _read(tmp_path, text)


def test_a_column_that_is_half_filled_is_refused_by_the_law_that_needs_it() -> None:
    runs = make_runs([{"parameters": 1, "loss": 1, "sequences": 5}, {"parameters": 2, "loss": 1}])
    with pytest.raises(ValueError, match="row 2 has no 'sequences'"):
        runs.require("sequences", law="iso-data")


def test_seed_noise_is_pooled_over_repeated_cells() -> None:
    generator = np.random.default_rng(0)
    rows = [
        {"parameters": size, "seed": seed, "loss": 2 / size**0.1 + generator.normal(0, 0.003)}
        for size in (1e6, 1e7, 1e8, 1e9)
        for seed in range(50)
    ]
    assert seed_noise(make_runs(rows)) == pytest.approx(0.003, rel=0.15)
    assert seed_noise(make_runs(rows[::50])) is None


@pytest.mark.parametrize("text", ["", "M", "0", "-1", "inf", "1e400", "65OM"])
def test_text_that_is_not_a_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        parse_quantity(text)


def test_quantities_round_trip() -> None:
    for value in (8e6, 1.5e9, 250.0, 3.2e12):
        assert parse_quantity(format_quantity(value)) == pytest.approx(value, rel=0.005)
