"""The launch of a training on several GPUs of one machine, by Accelerate."""

from __future__ import annotations


def launch_words(gpus: int) -> list[str]:
    """Accelerate's launch where several GPUs train; it does not pass signals on to a single process."""
    if gpus < 2:
        return []
    words = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    words += ["--num_processes", str(gpus), "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*words, "--main_process_port", "0"]  # a free one: several may train on one machine
