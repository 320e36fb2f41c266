"""Write what tests compare with and go on from, with the code of an earlier commit.

The files here are of commit 1436bde. With a clone of it, whose environment its `make` has built:

    cd tests && CLONE/.venv/bin/python -m golden.earlier

writes `1436bde.json`, the digests of `facts.py` and what the runs came to, and `1436bde.tar.xz`, folders that
the earlier code left: prepared data, finished and in the middle; a pretraining stopped by a signal, and one
whose last checkpoint is lost; a fine-tuning stopped between two epochs; a study with one of its two cells.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

COMMIT = "1436bde"
FACTS = Path(__file__).with_name(f"{COMMIT}.json")
ARCHIVE = Path(__file__).with_name(f"{COMMIT}.tar.xz")
MADE_AT = 1_700_000_000  # seconds: a source is known again by its time
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# To be prepared under the name of a finished folder of `facts.py`, and stopped on the way.
HALF_PREPARED = "small shards"
PLAN = {
    "data": "annotated",
    "steps": 20,
    "warmup_steps": 4,
    "pairs_per_step": 4,
    "peak_learning_rate": 1e-2,
    "precision": "fp32",
    "log_every": 1,
    "save_every": 100,
    "evaluate_every": 10,
    "evaluation_pairs": 4,
    "curriculum": "constant",
    "unpaired_fraction": 0.25,
    "unpaired_data": "unpaired",
    "cdr3_mask_fraction": 0.25,
}
STOPPED_AFTER = 9
RECIPE = {"method": "lora", "folds": 2, "epochs": 3, "precision": "fp32", "pairs_per_step": 8}
RECIPE |= {"learning_rate": 5e-3, "rank": 2}
PRESET = {
    "name": "micro",
    "title": "A study of seconds",
    "data": {"sources": ["pairs.parquet"], "cluster": "source", "subsets": {"F": 40, "Q": 8}},
    "sizes": {
        "8M": {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
    },
    "plan": {
        "steps": 12,
        "warmup_steps": 2,
        "pairs_per_step": 4,
        "peak_learning_rate": 0.01,
        "precision": "fp32",
        "evaluation_pairs": 4,
        "evaluate_every": 6,
        "save_every": 12,
        "checkpoint_every": 0,
        "log_every": 2,
    },
    "evaluation": {"loss": {"pairs": 4, "draws": 1}},
    "launch": {"max_parallel": 1},
}


def log_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a log without what depends on clock and memory."""
    timed = {
        "seconds",
        "pairs_per_second",
        "residue_tokens_per_second",
        "memory_gib",
        "model_flops_utilization",
    }
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def metrics_of(results_file: Path) -> dict[str, float]:
    """Value by what it was measured on."""
    rows = json.loads(results_file.read_text())["results"]
    return {f"{row['metric']} {json.dumps(row['details'], sort_keys=True)}": row["value"] for row in rows}


def at_the_step(step: int) -> None:
    """Ask this process to stop while it computes this step of a pretraining."""
    from curr_ab.pretraining.batches import TrainingData

    compute = TrainingData.step

    def stopping(data: Any, number: int, *rest: Any) -> Any:
        if number == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(data, number, *rest)

    TrainingData.step = stopping


def pretraining(out: str, stop: int = 0) -> None:
    from curr_ab.pretraining import pretrain, resolve_plan
    from golden.facts import TINY

    if stop:
        at_the_step(stop)
    pretrain(resolve_plan({**PLAN, "config": {**TINY, **NO_DROPOUT}}), out)


def finetuning(out: str, stop: bool) -> None:
    from curr_ab.finetuning import cross_validate, resolve_recipe
    from curr_ab.finetuning.run_folder import FitFolder

    log = FitFolder.log

    def stopping(place: Any, entry: Any) -> None:
        log(place, entry)
        if place.path.name == "fold-2" and len(place.read_log()) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    if stop:
        FitFolder.log = stopping
    cross_validate(resolve_recipe("specificity-binary", RECIPE), "member", ["labelled.parquet"], out)


def half_preparation() -> None:
    """Die before the third of the shards."""
    from curr_ab.data import preparation
    from golden.facts import prepared

    write, written = preparation.write_task_shard, []

    def dying(task: Any) -> Any:
        if len(written) == 2:
            os._exit(1)
        written.append(task)
        return write(task)

    preparation.write_task_shard = dying
    prepared(HALF_PREPARED)


def study(out: str, only: list[str]) -> None:
    import yaml

    from curr_ab.study import read_preset, run_study

    Path("micro.yaml").write_text(yaml.safe_dump(PRESET))
    run_study(read_preset("micro.yaml"), out, only=only)


def in_a_process(call: str) -> None:
    """A function of this module in a process of its own, which it may end."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); from golden import earlier\n"
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    subprocess.run(
        [sys.executable, "-c", f"{code}if __name__ == '__main__': earlier.{call}"],
        env=environment,
        check=False,
    )


def keep(*names: str) -> None:
    """Pack files and folders here, without names of users; sources keep the time by which they are known."""

    def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime = 0, 0, "", "", MADE_AT
        return entry

    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for name in names:
            archive.add(name, filter=anonymous)


def unpack(folder: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")


def main() -> None:
    import pyarrow.parquet as pq
    from curr_ab.pretraining.validation import HeldOut

    from curr_ab.finetuning import plant
    from curr_ab.pretraining.batches import TrainingData
    from golden.facts import all_facts

    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        facts = all_facts(TrainingData, HeldOut)
        for source in ("pairs.parquet", "heavy.parquet"):
            os.utime(source, (MADE_AT, MADE_AT))
        half = HALF_PREPARED.replace(" ", "-")
        shutil.rmtree(half)
        in_a_process("half_preparation()")

        in_a_process("pretraining('pretraining-whole')")
        in_a_process(f"pretraining('pretraining-stopped', {STOPPED_AFTER})")
        facts["pretraining"] = log_of(Path("pretraining-whole"))
        (last,) = Path("pretraining-whole/checkpoints").iterdir()
        shutil.move(last, "member")

        pq.write_table(plant("specificity-binary", 24), "labelled.parquet")
        in_a_process("finetuning('finetuning-whole', False)")
        in_a_process("finetuning('finetuning-stopped', True)")
        whole = Path("finetuning-whole")
        facts["fine-tuning"] = {fit.name: log_of(fit) for fit in sorted(whole.glob("f*[12l]/"))}
        facts["fine-tuning results"] = metrics_of(whole / "results.json")

        in_a_process("study('study-whole', [])")
        in_a_process("study('study-begun', ['8M-F'])")
        facts["study"] = {
            cell: metrics_of(Path("study-whole/cells") / cell / "results.json") for cell in ("8M-F", "8M-Q")
        }
        keep(
            *("pairs.parquet", "heavy.parquet", "labelled.parquet", "micro.yaml", "annotated", "unpaired"),
            *(
                half,
                "pretraining-whole",
                "pretraining-stopped",
                "member",
                "finetuning-stopped",
                "study-begun",
            ),
        )
        FACTS.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
