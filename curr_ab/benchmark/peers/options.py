"""Options of peers. Apart from the peers, which load torch: the command line reads them first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from curr_ab.inference.settings import DTYPE_HELP, MODE_HELP, Dtype, LoadingOptions
from curr_ab.options import option
from curr_ab.words import Mode

Form = Literal["auto", "pair", "chains", "linker"]


@dataclass(frozen=True)
class PeerOptions(LoadingOptions):
    """How a peer is loaded and how it reads pairs."""

    dtype: Dtype = option("float32", DTYPE_HELP)
    form: Form = option(
        "auto",
        "Form in which a checkpoint reads a pair: joined by its separator, each chain alone, or joined by a "
        "linker of 25 G; auto is pair where its tokenizer has a separator, else chains",
    )
    mode: Mode = option("exact", MODE_HELP)
