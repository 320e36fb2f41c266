"""The processes of a run, through Accelerate, and the configurations that would not do what they say."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

# Of glibc's malloc.h: from which size on a block is mapped on its own and unmapped when freed, and how much
# free memory at the top of the heap goes back to the system.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def start_processes(out: Path, precision: str, trackers: Sequence[str] = ()) -> Accelerator:
    """Accelerate's view of this process, after checking that it trains as it was launched."""
    no_cuda = not torch.cuda.is_available()
    if precision == "fp16" and no_cuda:
        raise ValueError("precision fp16 needs a GPU; on a CPU use bf16 or fp32")
    if no_cuda:
        keep_freed_memory()
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        log_with=list(trackers) or None,
        project_dir=out,
    )
    missing = set(trackers) - {str(getattr(found, "value", found)) for found in accelerator.log_with}
    if missing:
        raise ValueError(f"trackers not installed here: {', '.join(sorted(missing))}; pip install them")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    wants_fsdp = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true")
    if wants_fsdp and accelerator.distributed_type is not DistributedType.FSDP:
        raise ValueError(
            f"FSDP was asked for, but Accelerate shards on GPUs alone and found {accelerator.device.type}: "
            f"every process would train a whole model of its own. Launch on GPUs, or without FSDP"
        )
    if wants_fsdp and not accelerator.is_fsdp2:
        raise ValueError("this trainer is made for FSDP2; set fsdp_version: 2 in the launch configuration")
    if launched != accelerator.num_processes:
        raise ValueError(
            f"{launched} processes were launched, but Accelerate joined {accelerator.num_processes}: each "
            f"would train alone. On CPUs set ACCELERATE_USE_CPU=true before launching, or launch one process"
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
    """Tell the C library to keep what is freed, for the life of the process; False where it cannot be told.

    No number changes. With the thresholds as they are, a micro-batch of the 8M model gives back and takes
    anew 20,000 pages and more, a tenth of its time.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(option, _NEVER) == 1 for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    )
