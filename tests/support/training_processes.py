"""Training in processes of their own, alone or as a group, that can be killed."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from curr_ab.pretraining.plan import resolve_plan

TRAIN_SCRIPTS = Path(__file__).parents[2] / "train_scripts"
_CONTEXT = multiprocessing.get_context(
    "forkserver"
)  # imports once, then forks: a process in a tenth of a second
_CONTEXT.set_forkserver_preload(
    ["curr_ab.pretraining.loop", "curr_ab.finetuning.cross_validation", "curr_ab.study.study"]
)


@contextmanager
def _command(out):
    """End as a command does: its exit status, and its message beside the folder it writes."""
    from curr_ab.training.stop import Interrupted

    try:
        yield
    except Interrupted as stopped:
        raise SystemExit(stopped.exit_status) from stopped
    except ValueError as error:
        (out.parent / f"{out.name}.error").write_text(str(error))
        print(error)  # for the report of a failing test
        raise SystemExit(2) from error


def train(plan_values, out):
    """The body of `curr-ab pretrain`."""
    from curr_ab.pretraining.loop import pretrain

    with _command(out):
        pretrain(resolve_plan(plan_values), out)


def finetune(recipe_values, model, data, out):
    """The body of `curr-ab finetune`."""
    from curr_ab.finetuning import Recipe, cross_validate

    with _command(out):
        cross_validate(Recipe(**recipe_values), model, [data], out)


def study(preset_values, out):
    """The body of `curr-ab study`."""
    from curr_ab.study.preset import make_preset
    from curr_ab.study.study import run_study

    with _command(out):
        outcome = run_study(make_preset(preset_values, "micro"), out, say=lambda line: None)
        raise SystemExit(bool(outcome.problems))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(task, *args, environment=None):
    """Run `task`, a function of this module, in a process of its own, with its own Accelerate.

    A new process can import this module anywhere; those of the tests only from some folders.
    """
    process = _CONTEXT.Process(target=_run, args=(environment or {}, task, args))
    process.start()
    return process


def _run(environment, task, args):
    import torch

    os.environ.update({"ACCELERATE_USE_CPU": "true", "TQDM_DISABLE": "1", **environment})
    torch.set_num_threads(1)
    task(*args)


def start_group(task, *args, processes=2, environment=None):
    """The same task as the ranks of one group, as `accelerate launch` would start them."""
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    group |= environment or {}
    return [
        start(task, *args, environment={**group, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]


def launching(script, config, *arguments, cpus=None):
    """Command and environment of one of the train_scripts, as a user launches it; on `cpus` processes."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(TRAIN_SCRIPTS / "accelerate" / config)]
    command += ["--num_processes", str(cpus)] if cpus else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("ACCELERATE_USE_CPU", None)
    environment |= {"ACCELERATE_USE_CPU": "true"} if cpus else {}
    return [*command, str(TRAIN_SCRIPTS / script), *arguments], environment


def launch(script, config, *arguments, cpus=None):
    """The same, once it has ended."""
    command, environment = launching(script, config, *arguments, cpus=cpus)
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def finish(*processes):
    """Exit codes, once all have ended."""
    for process in processes:
        process.join(timeout=300)
    return [process.exitcode for process in processes]


def shard_on_cpus():
    """Make Accelerate take the CPUs for GPUs when it chooses how to divide the work."""
    from accelerate import DistributedType, PartialState

    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def train_sharded(plan_values, out):
    """Train with FSDP2 on CPUs, which Accelerate does not by itself; report on it."""
    shard_on_cpus()
    from torch.distributed.tensor import DTensor

    from curr_ab.pretraining.loop import Training
    from curr_ab.pretraining.run_folder import RunFolder
    from curr_ab.training.processes import start_processes
    from curr_ab.training.stop import StopRequest

    plan = resolve_plan(plan_values)
    out.mkdir(exist_ok=True)
    accelerator = start_processes(out, plan.precision)
    training = Training(plan, RunFolder(out), accelerator)
    training.run_to_end(StopRequest())
    parameters = list(training.model.parameters())
    moments = [
        value
        for optimizer in training.optimizers
        for state in optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    ]
    report = {
        "processes": accelerator.num_processes,
        "type": str(accelerator.distributed_type),
        "version": accelerator.state.fsdp_plugin.fsdp_version,
        "parameters": len(parameters),
        "sharded": sum(isinstance(p, DTensor) and p.placements[0].is_shard(0) for p in parameters),
        "sharded_moments": sum(isinstance(m, DTensor) for m in moments),
        "moments": len(moments),
        # Weights, gradients of the same shape, and moments, as they lie in this process.
        "bytes": 4 * sum(p.to_local().numel() * (2 if p.requires_grad else 1) for p in parameters)
        + 4 * sum(m.to_local().numel() for m in moments),
    }
    (out / f"rank{accelerator.process_index}.json").write_text(json.dumps(report))


def finetune_sharded(recipe_values, model, data, out):
    """Fine-tune with FSDP2 on CPUs; report on the first fit."""
    shard_on_cpus()
    from torch.distributed.tensor import DTensor

    from curr_ab.finetuning.fit import Fit

    run = Fit.run

    def reported(fit, *args):
        run(fit, *args)
        parameters = list(fit.whole.parameters())
        report = {
            "processes": fit.group.num_processes,
            "version": fit.accelerator.state.fsdp_plugin.fsdp_version,
            "parameters": len(parameters),
            "sharded": sum(isinstance(p, DTensor) and p.placements[0].is_shard(0) for p in parameters),
        }
        (out / f"rank{fit.accelerator.process_index}.json").write_text(json.dumps(report))

    Fit.run = reported
    finetune(recipe_values, model, data, out)


FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "CurrAbLayer",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}
