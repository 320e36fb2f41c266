"""Commands that train a cell elsewhere: on several GPUs, by a Slurm script, as a list to print."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from curr_ab.files import replacing
from curr_ab.study.cells import CellFolder
from curr_ab.training.launch import launch_words

# What every job gets unless the preset says otherwise; Slurm signals the script five minutes before the end.
_SLURM = {"nodes": 1, "ntasks-per-node": 1, "signal": "B:TERM@300", "requeue": True}


def program() -> str:
    """The name by which this program was called, for commands that are shown."""
    called = Path(sys.argv[0])
    beside = Path(sys.executable).with_name("curr-ab")
    found = called if called.name == "curr-ab" else beside if beside.exists() else Path("curr-ab")
    here = os.path.relpath(found)
    on_path = shutil.which("curr-ab")
    if found.name == str(found) or (on_path and Path(on_path).resolve() == found.resolve()):
        return "curr-ab"
    return here if not here.startswith("..") else str(found)


def lack_of_gpus(gpus: int) -> str:
    """Why cells that need so many GPUs each cannot be trained here, and the way out; empty where they can."""
    num_gpus = torch.cuda.device_count()
    if gpus <= num_gpus:
        return ""
    return (
        f"a cell of this preset trains on {gpus} GPUs and this machine has "
        f"{num_gpus}: start it where there are GPUs, choose the launcher slurm, jobs or print, or "
        "give a cell fewer with launch.gpus_per_cell=N"
    )


def training_command(folder: CellFolder, gpus: int, python: str | None = None) -> list[str]:
    """Train the cell on so many GPUs of one machine; again, it goes on where the run stands."""
    plan, run = str(folder.plan_file), str(folder.run.path)
    return [
        python or sys.executable,
        *launch_words(gpus),
        "-m",
        "curr_ab",
        "pretrain",
        "--plan",
        plan,
        "--out",
        run,
    ]


def printed(folders: Mapping[CellFolder, int]) -> list[str]:
    """A command for each cell with its number of GPUs, for whoever starts them by other means."""
    return [shlex.join(training_command(folder, gpus)) for folder, gpus in folders.items()]


def write_slurm(
    script: Path, folders: Sequence[CellFolder], gpus: int, max_parallel: int, options: Mapping[str, Any]
) -> None:
    """A script for sbatch: an array with a task for each cell; submitted again, all go on."""
    limit = f"%{max_parallel}" if max_parallel else ""
    chosen = {
        "job-name": "curr-ab-study",
        "array": f"0-{len(folders) - 1}{limit}",
        "output": str(script.parent.resolve() / "slurm-%A-%a.log"),
        **_SLURM,
        **({"gpus-per-node": gpus} if gpus else {}),
        **options,
    }
    header = [
        f"#SBATCH --{key}" + ("" if value is True else f"={value}") for key, value in chosen.items() if value
    ]
    cells = [shlex.quote(folder.path.name) for folder in folders]
    cell = CellFolder(Path("CELL"))
    command = shlex.join(training_command(cell, gpus)).replace(
        "CELL/", f'{shlex.quote(str(script.parent))}/cells/"$cell"/'
    )
    lines = [
        "#!/usr/bin/env bash",
        f"# Trains the cells of a study, one task of the array each: sbatch {script}",
        *header,
        "set -euo pipefail",
        "export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}",
        f"cells=({' '.join(cells)})",
        "cell=${cells[$SLURM_ARRAY_TASK_ID]}",
        f"cd {shlex.quote(os.getcwd())}",
        f"srun {command} &",
        "# Before the time limit the trainer saves its state, and the task goes back into the queue.",
        "trap 'kill -TERM $!; wait $! || true; scontrol requeue \"$SLURM_JOB_ID\"' TERM",
        "wait $!",
    ]
    with replacing(script) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def submit(script: Path, after: str = "") -> str:
    """Submit the script and return the answer of sbatch; without sbatch, say where the script is.

    `after` is a job, all of whose tasks must have ended before this one begins, well or not: one that failed
    must not keep what starts from the others.
    """
    if shutil.which("sbatch") is None:
        return f"sbatch is not on this machine; the script is {script}: submit it where Slurm is"
    held = [f"--dependency=afterany:{after}"] if after else []
    done = subprocess.run(["sbatch", *held, str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"sbatch {script}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def job_of(answer: str) -> str:
    """The number of the job in sbatch's answer, `Submitted batch job 123`; empty without one."""
    last = answer.rpartition(" ")[2]
    return last if last.isdigit() else ""
