"""The processes of a training, through Accelerate; refuses launches that would not train as configured."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, gather_object

from curr_ab.files import claimed, remove_leftovers
from curr_ab.training.stop import StopRequest

# Of glibc's malloc.h: from which size on a block is mapped on its own and unmapped when freed, and how much
# free memory at the top of the heap goes back to the system.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


class Group(NamedTuple):
    """The processes that divide the work, seen from one of them."""

    rank: int
    num_processes: int


ALONE = Group(0, 1)


def whole_group(accelerator: Accelerator) -> Group:
    """All processes of the training."""
    return Group(accelerator.process_index, accelerator.num_processes)


@contextmanager
def training_processes(
    folder: Path, precision: str, trackers: Sequence[str] = ()
) -> Iterator[tuple[Accelerator, StopRequest]]:
    """Start the processes that train in a folder, which they hold until they end, and listen for signals."""
    with ExitStack() as stack:
        # This process may train again, in another precision.
        stack.callback(AcceleratorState._reset_state, reset_partial_state=True)
        accelerator = start_processes(folder, precision, trackers)
        if accelerator.is_main_process:
            stack.enter_context(claimed(folder, "trains in"))
            remove_leftovers(folder)
        stop = stack.enter_context(StopRequest())
        stack.callback(accelerator.end_training)
        yield accelerator, stop


def start_processes(out: Path, precision: str, trackers: Sequence[str] = ()) -> Accelerator:
    """Start Accelerate in this process, and check that it trains as it was launched."""
    no_cuda = not torch.cuda.is_available()
    if precision == "fp16" and no_cuda:
        raise ValueError("precision must be bf16 or fp32 on a CPU; got fp16, which needs a GPU")
    if no_cuda:
        keep_freed_memory()
    with warnings.catch_warnings():
        # Refused below, in words that name them.
        warnings.filterwarnings("ignore", ".*no supported trackers", UserWarning)
        accelerator = Accelerator(
            mixed_precision="no" if precision == "fp32" else precision,
            log_with=list(trackers) or None,
            project_dir=out,
        )
    if accelerator.num_processes > 1 and len(types := set(gather_object([precision]))) > 1:
        raise ValueError(
            "the processes must multiply in one number type; their machines chose "
            f"{' and '.join(sorted(types))}: set precision"
        )
    installed = {str(getattr(tracker, "value", tracker)) for tracker in accelerator.log_with}
    if missing := sorted(set(trackers) - installed):
        raise ValueError(
            f"trackers must be installed; {', '.join(missing)} are not: pip install {' '.join(missing)}"
        )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    wants_fsdp = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true")
    if wants_fsdp and accelerator.distributed_type is not DistributedType.FSDP:
        raise ValueError(
            f"FSDP must be launched on GPUs; got {accelerator.device.type}, where every process would train "
            f"a whole model of its own: launch on GPUs, or without FSDP"
        )
    if wants_fsdp and not accelerator.is_fsdp2:
        raise ValueError("fsdp_version must be 2; got 1: set fsdp_version: 2 in the launch configuration")
    if launched != accelerator.num_processes:
        raise ValueError(
            f"the {launched} processes of the launch must train together; Accelerate joined "
            f"{accelerator.num_processes}, and each would train alone: on CPUs set ACCELERATE_USE_CPU=true "
            f"before launching, or launch one process"
        )
    if accelerator.is_fsdp2 and precision != "fp32":
        from torch.distributed.fsdp import MixedPrecisionPolicy

        # Gradients are summed in fp32, and the rotary angles that layers are given must not be rounded.
        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if precision == "bf16" else torch.float16,
            reduce_dtype=torch.float32,
            cast_forward_inputs=False,
        )
    return accelerator


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, for the life of the process; False where it has no such setting.

    No number changes. With the thresholds as they are, a micro-batch of the 8M model gives back and takes
    anew 20,000 pages and more, a tenth of its time.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(option, _NEVER) == 1 for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    )
