"""Commands that many tasks share, on a cluster with Slurm or on this machine, by datatrove's executors."""

from __future__ import annotations

import inspect
import os
import shlex
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from curr_ab.extras import needs_extra
from curr_ab.options import OptionError, Options, option
from curr_ab.workers import describe_end, end_with_parent, num_cores

# With the command's own --shard each task takes a part of the work and waits for the others.
_COMMAND = (
    "import runpy; from curr_ab.workers import end_with_input; end_with_input(); "
    "runpy.run_module('curr_ab', run_name='__main__')"
)
_OF_TASKS = ("--executor", "--tasks", "--processes", "--slurm")  # options that are not those of a task
# Arguments of datatrove's executor that are decided here.
_DECIDED = {"self", "pipeline", "tasks", "logging_dir", "skip_completed", "sbatch_args"}


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions(Options):
    """The place where a command's work is done."""

    executor: Literal["processes", "local-tasks", "slurm"] = option(
        "processes",
        "Where the work is done: by processes of this machine (processes), by tasks that Slurm starts on any "
        "machine (slurm), or by the same tasks on this one, as many at a time as --processes says "
        "(local-tasks); tasks need the extra cluster",
    )
    tasks: int | None = option(None, "Number of tasks of slurm or local-tasks", least=1)
    slurm: Mapping[str, str] = option(
        {},
        "What a task gets from Slurm: partition and time, which are required, cpus_per_task, mem_per_cpu_gb, "
        "gpus_per_task, workers (tasks at a time), or another option of sbatch, such as account",
        metavar="KEY=VALUE",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        has_tasks = self.executor != "processes"
        if has_tasks != (self.tasks is not None):
            verb = "given" if has_tasks else "left out"
            raise OptionError(f"tasks must be {verb} for the executor {self.executor}", "tasks", "executor")
        if self.executor != "slurm" and self.slurm:
            raise OptionError(f"slurm must be left out for the executor {self.executor}", "slurm", "executor")
        missing = [key for key in ("partition", "time") if key not in self.slurm]
        if self.executor == "slurm" and missing:
            example = "partition=cpu time=24:00:00"
            raise OptionError(f"slurm must have {' and '.join(missing)}, as in {example}", "slurm")


@dataclass(frozen=True)
class ShareOfCommand:
    """Step of a pipeline: the command, with the share that is the task's."""

    before: tuple[str, ...]  # words of the command up to the share
    after: tuple[str, ...]
    folder: str  # where it was given

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """Run the command; an error has its last words."""
        import multiprocess

        command = [*self.before, "--shard", f"{rank}/{world_size}", *self.after]
        last = ""
        with subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *command],
            cwd=self.folder,
            # Each line of a bar is one of the log; tasks of one machine take its GPUs in turn.
            env={"TQDM_MININTERVAL": "60", "LOCAL_RANK": str(rank), **os.environ},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            end_with_parent(process.kill, multiprocess.parent_process())
            for line in process.stderr or ():
                print(line, end="", file=sys.stderr)
                last = line.strip() or last
            status = process.wait()
        if status:
            raise ChildProcessError(f"task {rank} of {world_size} {describe_end(status)}: {last}")


def run_in_tasks(
    words: Sequence[str], options: ExecutorOptions, out: Path, *, processes: int | None
) -> list[str]:
    """Have the command of these words done by tasks; return what there is to say of it.

    It has the options --shard, --processes and --quiet. Scripts and logs go to a folder of `out`'s name with
    `.tasks` behind it. Tasks that find their work done end at once, so that the command may be given again.
    """
    for name in ("shard", "join"):
        if any(word.partition("=")[0] == f"--{name}" for word in words):
            problem = f"{name} must be left out for the executor {options.executor}"
            raise OptionError(problem, name, "executor")
    folder = out.absolute().with_name(f"{out.name}.tasks")
    # Markers of earlier runs count for nothing: their results may have been removed.
    how = {"tasks": options.tasks, "logging_dir": str(folder), "skip_completed": False}
    if options.executor == "slurm":
        return _submit(words, options, how, processes)
    with needs_extra("slurm"):
        from datatrove.executor import LocalPipelineExecutor

    step = _step(words, ("--processes", "1", "--quiet"))
    workers = min(options.tasks or 1, processes or num_cores())
    LocalPipelineExecutor([step], workers=workers, **how).run()
    return []


def _submit(
    words: Sequence[str], options: ExecutorOptions, how: dict[str, Any], processes: int | None
) -> list[str]:
    with needs_extra("slurm"):
        from datatrove.executor import SlurmPipelineExecutor

    if shutil.which("sbatch") is None:
        raise OptionError("executor must be slurm on a machine with sbatch alone; it is not here", "executor")
    known, of_sbatch = inspect.signature(SlurmPipelineExecutor).parameters, {}
    # The environment of the tasks is this one, and what starts them lies beside its Python.
    beside = shlex.quote(str(Path(sys.executable).parent))
    given: dict[str, Any] = {"job_name": "curr-ab", "qos": None, "cpus_per_task": processes or 1}
    if not {"condaenv", "venv_path"} & set(options.slurm):
        given["env_command"] = f'export PATH={beside}:"$PATH"'
    for name, value in options.slurm.items():
        key = name.replace("-", "_")
        if key in _DECIDED:
            raise OptionError(f"slurm must leave out {name}, which the command decides", "slurm")
        if key in known:
            given[key] = _typed(name, value, known[key].default)
        else:
            of_sbatch[name.replace("_", "-")] = value
    step = _step(words, ("--processes", str(processes or given["cpus_per_task"])))
    executor = SlurmPipelineExecutor([step], sbatch_args=of_sbatch, **given, **how)
    try:
        executor.run()
    except subprocess.CalledProcessError as error:
        raise ChildProcessError(f"sbatch {describe_end(error.returncode)}; it says why above") from None
    script = f"{how['logging_dir']}/launch_script.slurm"
    return [f"job {executor.job_id}: {options.tasks} tasks by {script}, which log beside it"]


def _typed(name: str, text: str, default: Any) -> Any:
    """A setting in the type of its default."""
    if isinstance(default, bool):
        if text not in ("yes", "no"):
            raise OptionError(f"slurm must have yes or no for {name}; got {text!r}", "slurm")
        return text == "yes"
    if isinstance(default, int):
        if not text.isdecimal():
            raise OptionError(f"slurm must have a whole number for {name}; got {text!r}", "slurm")
        return int(text)
    return text


def _step(words: Sequence[str], more: Sequence[str]) -> ShareOfCommand:
    """The command of these words as a task's: with `more` and a share in place of the options of tasks."""
    kept: list[str] = []
    place, left = 0, deque(words)
    while left:
        word = left.popleft()
        name, is_whole, _ = word.partition("=")
        if name not in _OF_TASKS:
            kept.append(word)
            continue
        if name == "--executor":
            place = len(kept)
        # A list ends where the next option begins.
        while not is_whole and left and not left[0].startswith("-"):
            left.popleft()
            if name != "--slurm":
                break
    return ShareOfCommand((*kept[:place], *more), tuple(kept[place:]), os.getcwd())
