"""Two losses under the same masks, pair by pair."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support.tiny_models import shake, tiny_config

from curr_ab import CurrAbForMaskedLM
from curr_ab.cli.main import main
from curr_ab.evaluation import compare_losses, run_suite
from curr_ab.evaluation.comparison import write_pair_losses


@pytest.fixture(scope="module")
def measured(folder, uniform_folder, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("measured")
    for model in (folder, uniform_folder):
        run_suite("loss", model, corpus, out, pairs=30)
    return [next(out.glob(f"loss/{name}-*")) for name in ("ours", "uniform")]


@pytest.mark.heavy
def test_pairs_add_up_to_the_loss(measured):
    for place in measured:
        table = pq.read_table(place / "pairs.parquet")
        assert table["pair"].to_pylist() == list(range(30))
        rows = json.loads((place / "results.json").read_text())["results"]
        [row] = [row for row in rows if row["details"]["place"] == "all"]
        mean = np.sum(table["loss_sum"].to_numpy()) / np.sum(table["count"].to_numpy())
        assert mean == pytest.approx(row["value"])


@pytest.mark.heavy
def test_the_difference_is_that_of_pairs(measured):
    """Its error is that of the paired differences, not of two samples."""
    found = compare_losses(*measured)
    first, second = (pq.read_table(place / "pairs.parquet") for place in measured)
    count = first["count"].to_numpy()
    gaps = first["loss_sum"].to_numpy() - second["loss_sum"].to_numpy()
    mean = gaps.sum() / count.sum()
    error = np.sqrt(np.square(gaps - mean * count).sum() * 30 / 29) / count.sum()
    assert found.difference == pytest.approx((mean, error))
    assert found.first_loss[0] - found.second_loss[0] == pytest.approx(mean)
    assert (found.first, found.second, found.num_pairs) == ("ours", "uniform", 30)
    assert found.p < 0.01
    assert compare_losses(measured[0], measured[0]).p == 1


@pytest.mark.heavy
def test_equal_models_differ_in_one_of_twenty(measured, tmp_path):
    generator = np.random.default_rng(0)
    runs = [tmp_path / name for name in ("one", "other")]
    for run in runs:
        run.mkdir()
        (run / "measurement.json").write_text((measured[0] / "measurement.json").read_text())
    found = []
    for _ in range(300):
        pairs = generator.normal(2, 0.5, 30)  # what is hard for both
        for run in runs:
            write_pair_losses(run, 20 * (pairs + generator.normal(0, 0.1, 30)), np.full(30, 20))
        found.append(compare_losses(*runs, draws=99).p)
    assert 0.02 < np.mean(np.array(found) <= 0.05) < 0.09


@pytest.mark.heavy
def test_what_does_not_compare(measured, folder, corpus, save, tmp_path):
    run_suite("loss", folder, corpus, tmp_path, pairs=30, seed=1)
    [other] = tmp_path.glob("loss/ours-*")
    with pytest.raises(ValueError, match=r"seed must be equal; got 0 and 1; measure them alike"):
        compare_losses(measured[0], other)
    torch.manual_seed(0)
    causal = save(shake(CurrAbForMaskedLM(tiny_config(is_decoder=True))), "causal")
    run_suite("loss", causal, corpus, tmp_path, pairs=30)
    with pytest.raises(ValueError, match="they predict other residues, as a masked and a causal model do"):
        compare_losses(measured[0], next(tmp_path.glob("loss/causal-*")))
    with pytest.raises(ValueError, match=r"must be a folder of `curr-ab evaluate loss`.* missing or broken"):
        compare_losses(measured[0], tmp_path)
    (other / "pairs.parquet").unlink()
    with pytest.raises(
        ValueError, match=r"must have the file pairs\.parquet; remove the folder and measure again"
    ):
        compare_losses(other, other)


@pytest.mark.heavy
def test_command(measured, capsys):
    command = ["compare", *map(str, measured), "--draws", "99"]
    assert main(command) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("loss of 30 pairs (test) under the same masks")
    assert [line.split()[0] for line in shown[2:5]] == ["ours", "uniform", "difference"]
    assert shown[-1].startswith("p 0.01,")
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"][0] == pytest.approx(
        float(shown[4].split()[1]), abs=1e-5
    )
    assert main([*command, "--metric", "auroc"]) == 2
    assert "metric must be none for folders of the suite loss" in capsys.readouterr().err
