"""`curr-ab scaling`: what it prints, what it refuses, what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import matplotlib.image
import numpy as np
import pytest
from support.simulated_runs import repeated_runs

import curr_ab.scaling
from curr_ab.cli.main import main
from curr_ab.cli.scaling import Gpu
from curr_ab.scaling import published_runs
from curr_ab.scaling.laws import DATA_CONSTRAINED_LAW
from curr_ab.training.costs import PEAK_FLOPS


@pytest.fixture
def results(tmp_path: Path) -> Path:
    runs = published_runs("test-loss-2025-05")
    lines = ["parameters,sequences,loss"]
    lines += [
        f"{n:.0f},{d:.0f},{loss}"
        for n, d, loss in zip(runs.parameters, runs.sequences, runs.loss, strict=True)
    ]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_public_names_are_the_truth() -> None:
    assert sorted(curr_ab.scaling.__all__) == sorted(curr_ab.scaling._LAZY)
    for name in curr_ab.scaling.__all__:
        assert getattr(curr_ab.scaling, name).__name__ if name != "COLUMNS" else curr_ab.scaling.COLUMNS
    with pytest.raises(AttributeError):
        curr_ab.scaling.nothing  # noqa: B018


def test_listing_members_loads_no_library_of_this_capability() -> None:
    code = (
        "import sys; from curr_ab.cli.main import main; main(['models']);"
        "print([n for n in ('numpy', 'scipy', 'matplotlib', 'tqdm', 'threadpoolctl') if n in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.parametrize("library", ["scipy", "matplotlib", "resvg_py", "threadpoolctl"])
def test_a_missing_library_names_the_extra(library: str) -> None:
    code = (
        f"import sys; sys.modules['{library}'] = None\n"
        "from curr_ab.cli.main import main; sys.exit(main(['scaling', 'reproduce', '--plot', 'plots']))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.strip() == f'curr-ab: {library} is missing: pip install "curr-ab[scaling]"'


@pytest.mark.heavy
def test_fit_reports_and_plots(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plots = tmp_path / "plots"
    command = ["scaling", "fit", str(results), "--law", "iso-data", "--noise", "3e-4", "--draws", "100"]
    assert main([*command, "--workers", "1", "--plot", str(plots)]) == 0
    shown = capsys.readouterr().out
    assert "projected_sequences" in shown and "3.85M" in shown and "WARNING" in shown
    names = {"residuals", "loss_by_size", "data_by_size"}
    assert {path.name for path in plots.iterdir()} == {f"{n}.{s}" for n in names for s in ("png", "svg")}
    for path in plots.glob("*.png"):
        assert np.ptp(matplotlib.image.imread(path)) > 0.5


def test_json_is_valid_and_complete(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "scaling",
        "fit",
        str(results),
        "--law",
        "iso-data",
        "--draws",
        "50",
        "--workers",
        "1",
        "--json",
    ]
    assert main(command) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    report = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert report["estimates"]["projected_sequences"] == pytest.approx(3_849_717, rel=1e-4)
    assert len(report["residuals"]) == 15 and len(report["influences"]) == 15
    assert report["spreads"][0]["intervals"]["exponent"]["low"] is not None
    assert report["project_to"] == 6.5e8
    law, estimates = report["power_law"], report["estimates"]
    for size, on_line in zip(law["parameters"], law["sequences"], strict=True):
        assert on_line == pytest.approx(estimates["coefficient"] * size ** estimates["exponent"])
    assert all(low < high for low, high in zip(law["low"], law["high"], strict=True))
    assert law["parameters"][0] < 8e6 and law["parameters"][-1] > 6.5e8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "RESULTS", "--law", "isoflop"], "needs the column 'flops'"),
        (
            ["fit", "RESULTS", "--law", "isoflop", "--data", "sequences"],
            "data must be none for the law isoflop",
        ),
        (
            ["fit", "RESULTS", "--law", "iso-data", "--starts", "x.csv"],
            "starts must be none",
        ),
        (["fit", "nowhere.csv", "--law", "iso-data"], "nowhere.csv"),
        (
            ["advise", "--gpu-hours", "100"],
            "gpu must be one of a100, h100, h200, b200, l40s, a10 where",
        ),
        (
            ["advise", "--params", "650M", "--gpu", "h100"],
            "with gpu_hours (--gpu, --gpu-hours)",
        ),
        (["advise", "--params", "many"], "params must be a number; got 'many' (--params)"),
        (
            ["advise", "--params", "650M", "--results", "RESULTS"],
            "belong together",
        ),
        (["advise", "--budget", "1e4"], "results must be given for a question of money"),
        (["advise", "--budget", "1e4", "--results", "RESULTS", "--gpu", "h100"], "both prices must be given"),
        (["advise", "--params", "8M", "--owned", "1M"], "owned must come with budget or loss"),
        (["advise", "--params", "8M", "--report", "x"], "report must come with budget or loss"),
        (["plan", "--budget", "1e21", "--owned", "1M"], "owned must come with money or loss"),
        (["plan", "--budget", "1e21", "--money", "9", "--project-to", "8M"], "project_to must be none"),
        (["plan", "--budget", "1e21", "--money", "9", "--loss", "2"], "exactly one of money, loss"),
        (
            ["plan", "--budget", "1e21", "--results", "RESULTS"],
            "noise must be given",
        ),
    ],
)
@pytest.mark.heavy
def test_bad_input_is_one_line_and_status_2(
    results: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scaling", *(str(results) if a == "RESULTS" else a for a in arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]
    assert error[-1].startswith("curr-ab: ")


@pytest.mark.heavy
def test_advice_and_plan_are_printed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast = ["--draws", "50", "--workers", "1"]
    assert main(["scaling", "advise", "--gpu-hours", "100", "--gpu", "h100", *fast]) == 0
    assert "iso-data, the paper's" in capsys.readouterr().out
    own = ["--results", str(results), "--law", "iso-data"]
    assert main(["scaling", "advise", "--sequences", "2M", *own, *fast, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["source"] == "the given runs"
    assert main(["scaling", "plan", "--budget", "1e20", *fast]) == 0
    assert "cost: " in capsys.readouterr().out


@pytest.mark.heavy
def test_money_is_advised_by_a_law_of_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from curr_ab.scaling import repeated_data

    constants = DATA_CONSTRAINED_LAW
    start = np.log([constants.A, constants.B, constants.E, 1, constants.R_D_star, constants.R_N_star])
    start[3] = constants.exponent
    monkeypatch.setattr(repeated_data, "starting_grid", lambda: start[None])
    runs = repeated_runs(20)
    lines = ["parameters,unique_tokens,seen_tokens,perplexity"]
    columns = (runs.parameters, runs.unique_tokens, runs.seen_tokens, np.exp(runs.loss))
    lines += [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(lines))
    command = ["scaling", "advise", "--results", str(table), "--price-per-pair", "0.05", "--owned", "1M"]
    command += ["--price-per-gpu-hour", "3", "--gpu", "h100", "--draws", "20", "--workers", "1"]
    assert main([*command, "--budget", "50k", "--report", str(tmp_path / "report"), "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert best["for_pairs"] + best["for_training"] == pytest.approx(50_000)
    files = {path.name for path in (tmp_path / "report").iterdir()}
    assert files == {f"spending.{suffix}" for suffix in ("html", "md", "svg", "png")}
    assert main([*command, "--loss", str(best["loss"])]) == 0
    printed = capsys.readouterr().out
    assert "the same money at the sizes of the family" in printed and "for new pairs" in printed
    command[1] = "plan"
    assert main([*command, "--money", "50k", "--gpu-hours", "300"]) == 0
    printed = capsys.readouterr().out
    assert "advised by 95 % of simulated studies" in printed and "FLOPs in" in printed


@pytest.mark.heavy
def test_every_start_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curr_ab.scaling import parametric

    monkeypatch.setattr(
        parametric, "starting_grid", lambda: np.array([[5.0, 10, 0, 0.5, 0.5], [5, 5, 0, 1, 1]])
    )
    lines = ["parameters,sequences,loss"]
    lines += [
        f"{n},{d},{1.8 + 480 / n**0.35 + 2000 / d**0.37}" for n in (1e7, 1e8, 1e9) for d in (1e9, 1e10, 1e11)
    ]
    table, starts = tmp_path / "runs.csv", tmp_path / "starts.csv"
    table.write_text("\n".join(lines))
    command = ["scaling", "fit", str(table), "--law", "parametric", "--data", "sequences", "--draws", "20"]
    assert main([*command, "--workers", "1", "--starts", str(starts), "--plot", str(tmp_path)]) == 0
    written = starts.read_text().splitlines()
    assert len(written) == 3 and written[0].startswith("start_log_A,")
    assert (tmp_path / "surface.png").exists()


def test_the_gpus_are_those_of_the_table_of_peaks() -> None:
    assert get_args(Gpu) == tuple(name.lower() for name in PEAK_FLOPS)
