"""An ensemble as a model: the models of a run's folds, their mean and how far they are apart."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from curr_ab.checkpoint_files import CONFIG, find_file
from curr_ab.files import read_object, write_json
from curr_ab.finetuning.adapter_record import CARD, MANIFEST, MEMBERS, members_of
from curr_ab.finetuning.probe_model import Array, ProbeModel
from curr_ab.inference.records import Record
from curr_ab.modeling import CurrAbConfig
from curr_ab.tokenization import CurrAbTokenizer

ARCHITECTURE = "CurrAbEnsemble"  # in config.json: no class of transformers, which must not take it for one


class EnsembleModel(nn.Module):
    """Several fine-tuned models of the same outputs; probes of one base share it and its features."""

    def __init__(self, members: Iterable[Any], folders: Sequence[Path]) -> None:
        super().__init__()
        self.folders = list(folders)
        self.members = nn.ModuleList()
        shared: ProbeModel | None = None
        for member in members:  # one after the other, so that two bases at most stand in memory
            if isinstance(member, ProbeModel):
                shared = shared or member
                member.esm = shared.esm
            self.members.append(member)
        first: Any = self.members[0]
        self.are_probes = all(isinstance(member, ProbeModel) for member in self.members)
        self.config: CurrAbConfig = copy.deepcopy(first.config)

    @property
    def device(self) -> torch.device:
        first: Any = self.members[0]
        device: torch.device = first.device
        return device

    def probe_draws(
        self, tokenizer: CurrAbTokenizer, records: Sequence[Record], tokens_per_batch: int | None
    ) -> list[list[Array]]:
        """For each member its predictions, of features that are computed once for all."""
        probes: Any = self.members
        names = dict.fromkeys(name for probe in probes for name in probe.feature_names)
        found = probes[0].seen(tokenizer, records, list(names), tokens_per_batch)
        return [probe.answers(found, len(records)) for probe in probes]

    def save(self, folder: Path) -> None:
        """Write each member's folder whole but for its card, and the configuration of their outputs."""
        for path in self.folders:
            place = folder / MEMBERS / path.parent.name
            shutil.copytree(path, place, ignore=shutil.ignore_patterns(CARD))
        config = {key: value for key, value in self.config.to_dict().items() if key != "auto_map"}
        write_json(folder / CONFIG, {**config, "architectures": [ARCHITECTURE]})


def mean_and_deviation(draws: Sequence[Sequence[Array]]) -> tuple[list[Array], list[Array]]:
    """Mean of the members' predictions for each record, and their standard deviation."""
    stacked = [np.stack(of_record) for of_record in zip(*draws, strict=True)]
    return [one.mean(axis=0) for one in stacked], [one.std(axis=0, ddof=1) for one in stacked]


def is_ensemble(source: str, revision: str | None = None) -> bool:
    """True for a folder or repository that holds the models of several folds."""
    path = find_file(source, CONFIG, revision=revision)
    return path is not None and ARCHITECTURE in (read_object(path).get("architectures") or ())


def member_folders(source: str, revision: str | None = None) -> list[Path]:
    """The folders of the members on this machine, downloaded where the source is a repository."""
    if not Path(source).is_dir():
        manifest = find_file(source, MANIFEST, revision=revision)
        if manifest is None:
            raise ValueError(f"{source} lacks {MANIFEST}; publish what fine-tuning left again")
        for name in read_object(manifest)["files"]:
            if name.startswith(f"{MEMBERS}/"):
                find_file(source, name, revision=revision)
        source = str(manifest.parent)
    folders = members_of(Path(source))
    if len(folders) < 2:
        raise ValueError(f"{source} must have two models or more in {MEMBERS}; copy it again")
    return folders
