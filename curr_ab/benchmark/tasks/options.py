"""Options of tasks. Apart from the tasks, which load numpy: the command line reads them first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from curr_ab.options import Options, option


@dataclass(frozen=True, kw_only=True)
class TaskOptions(Options):
    """What the user decides of how a file becomes a task; all models share it."""

    folds: int = option(5, "Number of folds, where the file brings none", least=2)
    seed: int = option(0, "Seed of folds and of shuffled partners", least=0)
    direction: Literal["higher", "lower"] | None = option(
        None, "Better direction of the measured number", shown="known for the published files"
    )
    light_chain: str | None = option(
        None, "Light chain of the parent, for files of heavy variants alone", metavar="RESIDUES"
    )
    group_by: Literal["clone", "source"] = option(
        "clone", "What folds hold apart: clones by their CDRH3s, or the studies that a file names"
    )
    leaks: Literal["refuse", "keep"] = option(
        "refuse",
        "Folds that share a pair, pairs of which 2 or fewer residues differ, or a group: refuse them, or "
        "keep and mark them; studies (source) may share near pairs, which are marked",
    )
