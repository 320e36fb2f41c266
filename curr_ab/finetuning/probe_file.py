"""`probe.safetensors`: the weights of a regression, and the features and the base that they are for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curr_ab.files import as_written, replacing
from curr_ab.probes.regression import Regression
from curr_ab.words import Target

FORMAT = "curr-ab probe 1"


@dataclass(frozen=True)
class ProbeFacts:
    """All that must be known beside the weights."""

    features: str
    target: Target
    base_weights: str  # SHA-256, as results name checkpoints


def write_probe(path: Path, regression: Regression, facts: ProbeFacts) -> None:
    """Write the file, whole or not at all."""
    from safetensors.numpy import save_file

    about = {"format": FORMAT, "num_classes": regression.num_classes, **asdict(facts)}
    # One key: several would stand in another order each time, and the same probe have another digest.
    with replacing(path) as temporary:
        save_file(regression.to_tensors(), temporary, {"probe": json.dumps(about, sort_keys=True)})


def read_probe(path: Path) -> tuple[Regression, ProbeFacts]:
    """What `write_probe` has written; a broken file and another format are refused."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    about = _read_about(path)
    try:
        with as_written(path):
            return Regression.from_tensors(load_file(path), about.pop("num_classes")), ProbeFacts(**about)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is no whole file of a probe ({error}); copy it again") from error


def features_of(path: Path) -> str:
    """The name of the features that the probe in a file sees."""
    return str(_read_about(path).get("features"))


def _read_about(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {}).get("probe", "{}"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no whole file of a probe ({error}); copy it again") from error
    if not isinstance(about, dict) or about.pop("format", None) != FORMAT:
        raise ValueError(f"{path} must be of the format {FORMAT!r}; got another; copy it again")
    return about
