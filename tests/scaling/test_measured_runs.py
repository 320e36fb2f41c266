"""The scaling fit reads what the suite `loss` wrote."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curr_ab.cli.main import main
from curr_ab.results import Result, write_results
from curr_ab.scaling import make_runs, read_measured_runs
from curr_ab.scaling.runs import seed_noise

SIZES = (1e6, 4e6, 16e6, 64e6)


def _loss(parameters: float, sequences: int, **changes: Any) -> Result:
    best = 3.0 * sequences**0.9
    details = {"place": "all", "objective": "mlm", "mask_seed": 0, "training_seed": 42}
    details |= {"parameters": int(parameters), "sequences": sequences, "unique_tokens": 240 * sequences}
    details |= {"seen_tokens": 10**9, "flops": 6e9 * parameters}
    row = Result(
        model=f"{parameters:.0e}-{sequences}",
        task="test-loss",
        metric="loss",
        value=0.3 + 0.01 * math.log10(parameters / best) ** 2,
        standard_error=1e-4,
        num_items=1000,
        dataset="corpus abc",
        split="test",
        checkpoint=f"{parameters}{sequences}",
        source="curr-ab evaluate loss",
        code_version="1",
        step=100,
        details=details,
    )
    return replace(row, **changes)


@pytest.fixture
def measured() -> list[Result]:
    return [_loss(size, sequences) for size in SIZES for sequences in (10**6, 2 * 10**6, 4 * 10**6)]


def test_the_rows_are_those_of_the_table(tmp_path: Path, measured: list[Result]) -> None:
    regions = [replace(row, details=row.details | {"place": "heavy CDR3"}) for row in measured]
    earlier = [replace(row, step=50, value=9.0, checkpoint="early") for row in measured[:3]]
    write_results(tmp_path / "a.json", [*measured[:7], *regions, *earlier])
    write_results(tmp_path / "b.json", measured[5:])
    runs = read_measured_runs([tmp_path / "a.json", tmp_path / "b.json"])
    table = make_runs(
        {
            "parameters": row.details["parameters"],
            "sequences": row.details["sequences"],
            "unique_tokens": row.details["unique_tokens"],
            "seen_tokens": row.details["seen_tokens"],
            "flops": row.details["flops"],
            "loss": row.value,
        }
        for row in measured
    )
    for name in ("parameters", "sequences", "unique_tokens", "seen_tokens", "flops", "loss"):
        assert sorted(getattr(runs, name)) == pytest.approx(sorted(getattr(table, name))), name


def test_the_command_fits_them(
    tmp_path: Path, measured: list[Result], capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "results.json", measured)
    arguments = ["scaling", "fit", str(tmp_path / "results.json"), "--law", "iso-data", "--noise", "1e-5"]
    assert main([*arguments, "--draws", "20", "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["estimates"]["exponent"] == pytest.approx(1 / 0.9, rel=1e-6)


def test_losses_that_do_not_compare_are_refused(tmp_path: Path, measured: list[Result]) -> None:
    path = tmp_path / "results.json"
    write_results(path, [*measured, replace(measured[0], task="validation-loss")])
    with pytest.raises(ValueError, match="task must be one of test-loss, validation-loss; got none"):
        read_measured_runs([path])
    assert len(read_measured_runs([path], "validation-loss")) == 1
    with pytest.raises(ValueError, match="no train-loss; there are"):
        read_measured_runs([path], "train-loss")
    write_results(path, [*measured, replace(measured[0], dataset="other")])
    with pytest.raises(ValueError, match="do not compare"):
        read_measured_runs([path])
    for setting in ({"mask_seed": 1}, {"pairs": 400}, {"dtype": "bfloat16"}):
        [(key, value)] = setting.items()
        write_results(path, [*measured, replace(measured[0], details=measured[0].details | setting)])
        with pytest.raises(ValueError, match=rf"{key.replace('_', ' ')} {value}.* do not compare"):
            read_measured_runs([path])
    stock = replace(measured[0], model="esm2", details={"place": "all", "objective": "mlm", "mask_seed": 0})
    write_results(path, [*measured, stock])
    with pytest.raises(ValueError, match="the training of esm2 is not recorded"):
        read_measured_runs([path])
    write_results(path, [])
    with pytest.raises(ValueError, match="no overall loss"):
        read_measured_runs([path])


def test_seeds_of_one_training_are_repeats_although_they_saw_other_numbers_of_tokens(tmp_path: Path) -> None:
    def row(size: float, seed: int, seen: int, value: float) -> Result:
        loss = _loss(size, 10**6, value=value, checkpoint=f"{size} {seed}")
        return replace(
            loss,
            details=loss.details | {"training_seed": seed, "seen_tokens": seen, "flops": 6 * size * seen},
        )

    rows = [row(1e6, 1, 10**9, 0.30), row(1e6, 2, 10**9 + 4_321, 0.32), row(4e6, 1, 10**9, 0.2)]
    write_results(tmp_path / "results.json", rows)
    assert seed_noise(read_measured_runs([tmp_path / "results.json"])) == pytest.approx(0.02 / math.sqrt(2))
    # Twice the training is another cell, whatever its seed.
    write_results(tmp_path / "longer.json", [rows[0], row(1e6, 2, 2 * 10**9, 0.28)])
    assert seed_noise(read_measured_runs([tmp_path / "longer.json"])) is None
