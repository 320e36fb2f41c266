"""A share of a piece of work that several processes, on one machine or many, do together in one folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

_VARIABLES = (("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"), ("RANK", "WORLD_SIZE"))


@dataclass(frozen=True)
class Share:
    """Share `index`, from 0, of `count`: of numbered pieces those whose number leaves it over `count`."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"the number of shares must be at least 1; got {self.count}")
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"a share must be from 0/{self.count} to {self.count - 1}/{self.count}; got {self}"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def takes(self, number: int) -> bool:
        """True for the pieces of this share."""
        return number % self.count == self.index


def parse_share(text: str, environment: Mapping[str, str] = os.environ) -> Share:
    """The share in `2/8`, or for `env` the one that Slurm's array, torchrun or `accelerate launch` gave."""
    if text == "env":
        return share_of_environment(environment)
    written = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if written is None:
        raise ValueError(f"a share must be I/N, as 0/8 for the first of eight, or env; got {text!r}")
    return Share(int(written[1]), int(written[2]))


def share_of_environment(environment: Mapping[str, str] = os.environ) -> Share:
    """The share that the scheduler's variables name; an array's first task need not be 0."""
    for index, count in _VARIABLES:
        if index in environment and count in environment:
            number = int(environment[index])
            if index == "SLURM_ARRAY_TASK_ID":
                first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0"))
                number = (number - first) // int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
            return Share(number, int(environment[count]))
    names = " or ".join("/".join(pair) for pair in _VARIABLES)
    raise ValueError(f"nothing in the environment says which share this process takes ({names}); give I/N")
