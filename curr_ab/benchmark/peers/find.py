"""Peers by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curr_ab.benchmark.peers import antiberty
from curr_ab.benchmark.peers.baselines import PREFIX as BASELINE_PREFIX
from curr_ab.benchmark.peers.baselines import find_baseline
from curr_ab.benchmark.peers.checkpoint import CheckpointModel, PairModel, knows_pairs
from curr_ab.benchmark.peers.forms import EachChain, Linked
from curr_ab.benchmark.peers.options import PeerOptions
from curr_ab.benchmark.peers.peer import Peer
from curr_ab.checkpoint_files import find_checkpoint
from curr_ab.options import OptionError

ESM2_PREFIX = "esm2:"
ESM2 = {
    "8M": "facebook/esm2_t6_8M_UR50D",
    "35M": "facebook/esm2_t12_35M_UR50D",
    "150M": "facebook/esm2_t30_150M_UR50D",
    "650M": "facebook/esm2_t33_650M_UR50D",
    "3B": "facebook/esm2_t36_3B_UR50D",
    "15B": "facebook/esm2_t48_15B_UR50D",
}


def find_peer(name_or_path: str | Path, **options: Any) -> Peer:
    """The peer of that name; `options` are those of `PeerOptions`.

    A name is that of a member, `demo`, a folder, a repository, an adapter; `esm2:35M` and the other sizes
    of stock ESM-2; `antiberty`, or a folder with its weights; `baseline:v-gene` and the other baselines.
    """
    name, chosen = str(name_or_path), PeerOptions(**options)
    if name.startswith(BASELINE_PREFIX):
        return find_baseline(name.removeprefix(BASELINE_PREFIX))
    if name.lower() == antiberty.NAME or antiberty.is_antiberty(name):
        if chosen.form not in ("auto", "chains"):
            message = f"form must be chains with AntiBERTy, a model of single chains; got {chosen.form}"
            raise OptionError(message, "form")
        files = antiberty.find_files(name, chosen.revision)
        return EachChain(antiberty.AntibertyModel(files, chosen))
    if name.startswith(ESM2_PREFIX):
        name = _esm2(name)
    source = find_checkpoint(name, revision=chosen.revision, namespace=chosen.namespace)
    model = CheckpointModel(source, chosen)
    form = chosen.form
    if form == "auto":
        form = "pair" if knows_pairs(source, chosen) else "chains"
    if form == "pair":
        return PairModel(model)
    return EachChain(model) if form == "chains" else Linked(model)


def _esm2(name: str) -> str:
    size = name.removeprefix(ESM2_PREFIX).upper()
    if size not in ESM2:
        raise ValueError(f"the size of ESM-2 must be one of {', '.join(ESM2)}; got {name!r}")
    return ESM2[size]
