"""Curves of runs, from their folders: which losses count, and which runs do not compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from curr_ab.cli.main import main
from curr_ab.scaling import read_curves
from curr_ab.training_record import TrainingRecord

PLAN = {"schedule": "constant", "warmup_steps": 20, "steps": 1000, "decay_steps": 100, "objective": "mlm"}


def run_folder(path: Path, plan: dict[str, Any] | None = None, width: int = 3, pairs: int = 8) -> Path:
    for step in (500, 1000):
        checkpoint = path / "checkpoints" / f"step{step}"
        checkpoint.mkdir(parents=True)
        weights = {"a": np.zeros((width, 5), np.float32), "b": np.zeros(width, np.float32)}
        weights["rotary.inv_freq"] = np.zeros(4, np.float32)
        save_file(weights, checkpoint / "model.safetensors")
        TrainingRecord(
            step=step,
            objective="mlm",
            plan=PLAN | {"seed": 7, "evaluation_pairs": 64, "mask_fraction": 0.4} | (plan or {}),
            data={"num_pairs": pairs, "num_tokens": 240 * pairs, "fingerprint": "f", "draw": 2},
            seen={"pairs": 4 * step, "residue_tokens": 960 * step},
        ).write(checkpoint)
    lines: list[dict[str, Any]] = [{"step": 0, "baselines": {"unigram": 2.8}}]
    for step in (10, 250, 500, 750, 1000):
        lines.append({"step": step, "loss": 3.0, "residue_tokens_seen": 960 * step})
        lines.append({"step": step, "held_out_loss": 3 - step / 1000})
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_curve_has_the_losses_between_warm_up_and_decay(tmp_path: Path) -> None:
    runs = read_curves([run_folder(tmp_path / "one"), run_folder(tmp_path / "two", width=9, pairs=20)])
    assert runs.run.tolist() == [str(tmp_path / "one")] * 3 + [str(tmp_path / "two")] * 3
    assert runs.loss.tolist() == [2.75, 2.5, 2.25] * 2
    assert runs.seen_tokens.tolist() == [240e3, 480e3, 720e3] * 2
    assert runs.parameters.tolist() == [18] * 3 + [54] * 3
    assert runs.sequences.tolist() == [8] * 3 + [20] * 3 and runs.unique_tokens[0] == 1920
    assert set(runs.draw) == {"2"} and set(runs.seed) == {"7"} and set(runs.objective) == {"mlm"}


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"schedule": "linear"}, "schedule must be constant.*got linear"),
        ({"mask_fraction": 0.15}, "one and .*two were validated on other pairs or masks"),
        ({"evaluation_pairs": 65}, "one and .*two were validated on other pairs or masks"),
    ],
)
def test_runs_that_do_not_compare_are_refused(tmp_path: Path, plan: dict[str, Any], message: str) -> None:
    folders = [run_folder(tmp_path / "one"), run_folder(tmp_path / "two", plan)]
    with pytest.raises(ValueError, match=message):
        read_curves(folders)


def test_other_folders_and_runs_without_a_loss_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scaling", "fit", str(tmp_path), "--law", "parametric"]) == 2
    assert "must be the folder of a finished run of `curr-ab pretrain`" in capsys.readouterr().err
    late = run_folder(tmp_path / "late", {"warmup_steps": 760})
    with pytest.raises(ValueError, match="no validation loss from their constant part"):
        read_curves([late])
