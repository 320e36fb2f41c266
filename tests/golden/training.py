"""Write the golden losses of a seeded run: `python tests/golden/training.py`, if a change is intended."""

import json
import os
import tempfile
from pathlib import Path

LOSSES = Path(__file__).with_name("training_losses.json")


def seeded_losses(folder):
    """Of 24 steps on a corner of the built-in corpus, of held-out pairs at the end, and the baselines."""
    import pyarrow.parquet as pq

    from curr_ab.data import PreparationPlan, builtin_path, prepare
    from curr_ab.pretraining.loop import pretrain
    from curr_ab.pretraining.plan import resolve_plan
    from curr_ab.training.state import read_log

    pq.write_table(pq.read_table(builtin_path()).slice(5_000, 400), folder / "pairs.parquet")
    prepare([str(folder / "pairs.parquet")], folder / "corpus", PreparationPlan(cluster="exact"))
    # No dropout: the ways to draw it may become faster.
    config = {"hidden_size": 80, "intermediate_size": 160, "num_hidden_layers": 2, "hidden_dropout_prob": 0.0}
    plan = resolve_plan(
        {
            "data": str(folder / "corpus"),
            "config": {**config, "attention_probs_dropout_prob": 0.0},
            "steps": 24,
            "warmup_steps": 4,
            "pairs_per_step": 4,
            "peak_learning_rate": 1e-2,
            "precision": "fp32",
            "log_every": 1,
            "evaluation_pairs": 16,
        }
    )
    pretrain(plan, folder / "run")
    log = read_log(folder / "run")
    return {
        "losses": [round(entry["loss"], 5) for entry in log if "loss" in entry],
        "held_out": round(log[-1]["held_out_loss"], 5),
        "baselines": {name: round(loss, 5) for name, loss in log[0]["baselines"].items()},
    }


if __name__ == "__main__":
    os.environ["ACCELERATE_USE_CPU"] = "true"
    with tempfile.TemporaryDirectory() as temporary:
        LOSSES.write_text(json.dumps(seeded_losses(Path(temporary))) + "\n")
