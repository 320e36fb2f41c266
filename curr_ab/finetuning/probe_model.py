"""A probe as a model: a member and a regression on its features, saved without the member, which it names."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from curr_ab.checkpoint_files import CONFIG, PROBE, base_here, find_file, find_weights, resolve
from curr_ab.checkpoints import load, load_tokenizer
from curr_ab.family import NAMESPACE
from curr_ab.files import read_object, replacing, write_json
from curr_ab.finetuning.adapter_record import RECORD
from curr_ab.inference.embedding import encoder_of
from curr_ab.inference.records import Record
from curr_ab.modeling import CurrAbConfig
from curr_ab.probes.feature_names import RESIDUE_FEATURES
from curr_ab.probes.member_features import member_features, residue_features
from curr_ab.probes.regression import Regression
from curr_ab.results import checkpoint_digest
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import Target

ARCHITECTURE = "CurrAbProbe"  # in config.json: no class of transformers, which must not take it for one
FORMAT = "curr-ab probe 1"
Array = npt.NDArray[np.float32]


class ProbeModel(nn.Module):
    """The encoder of a member, and a regression on one set of its features."""

    def __init__(
        self, encoder: Any, regression: Regression, features: str, target: Target, labels: Sequence[str]
    ) -> None:
        super().__init__()
        self.esm = encoder_of(encoder)
        self.regression, self.features, self.target = regression, features, target
        for name, values in regression.to_tensors().items():  # so that digests of the model hold them
            self.register_buffer(f"regression_{name}", torch.from_numpy(values))
        self.config: CurrAbConfig = copy.deepcopy(self.esm.config)
        names = dict(enumerate(labels or ("prediction",)))
        self.config.update({"id2label": names, "label2id": {name: index for index, name in names.items()}})

    @property
    def device(self) -> torch.device:
        return self.esm.device

    def predict(
        self, tokenizer: CurrAbTokenizer, records: Sequence[Record], tokens_per_batch: int | None = None
    ) -> list[Array]:
        """For each record its probabilities [classes], [residues, classes] or its number [1]."""
        options = {"names": [self.features], "tokens_per_batch": tokens_per_batch}
        if self.features in RESIDUE_FEATURES:
            states = residue_features(self.esm, tokenizer, records, **options)[self.features]
            return [self.regression.predict(one).astype(np.float32) for one in states]
        values = member_features(self.esm, tokenizer, records, **options)[self.features]
        return list(self.regression.predict(values).reshape(len(records), -1).astype(np.float32))

    def save(self, folder: Path, base: str) -> None:
        """Write the regression and the configuration; `base` is where the member's weights are."""
        from safetensors.numpy import save_file

        about = {
            "format": FORMAT,
            "features": self.features,
            "target": self.target,
            "classes": str(self.regression.num_classes),
            "base_weights": checkpoint_digest(*find_weights(base)),
        }
        with replacing(folder / PROBE) as temporary:
            save_file(self.regression.to_tensors(), temporary, metadata=about)
        config = self.config.to_dict()
        config.pop("auto_map", None)  # the code of the model is where the base is
        write_json(folder / CONFIG, {**config, "architectures": [ARCHITECTURE]})


def is_probe(source: str, revision: str | None = None) -> bool:
    """True for a folder or repository that a probe has left."""
    path = find_file(source, CONFIG, revision=revision)
    return path is not None and ARCHITECTURE in (read_object(path).get("architectures") or ())


def load_probe(
    source: str,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = torch.float32,
    namespace: str = NAMESPACE,
) -> tuple[ProbeModel, CurrAbTokenizer]:
    """Model and tokenizer of a probe, on the base that it names; a base with other weights is refused."""
    tensors, about = _read_tensors(source, revision)
    base = resolve(base_here(str(_read(source, RECORD, revision)["base_model"])), namespace)
    base_revision = None
    if not Path(base).is_dir():
        from curr_ab.finetuning.adapter_manifest import MANIFEST

        base_revision = _read(source, MANIFEST, revision).get("base_revision")
    if checkpoint_digest(*find_weights(base, revision=base_revision)) != about["base_weights"]:
        raise ValueError(
            f"the base of {source} must have the weights that the probe was fitted on; got others in {base}: "
            "put the base back, or fine-tune again"
        )
    encoder, _ = load(base, head="none", revision=base_revision, device=device, dtype=dtype)
    names = _read(source, CONFIG, revision)["id2label"]
    labels = [names[str(number)] for number in range(len(names))]
    target: Any = about["target"]
    try:
        regression = Regression.from_tensors(tensors, int(about["classes"]))
    except ValueError as error:
        raise ValueError(f"{PROBE} of {source}: {error}") from error
    probe = ProbeModel(encoder, regression, about["features"], target, labels).eval()
    return probe.to(encoder.device), load_tokenizer(source, revision=revision)


def _read(source: str, name: str, revision: str | None) -> Mapping[str, Any]:
    path = find_file(source, name, revision=revision)
    if path is None:
        raise ValueError(f"{source} lacks {name}; copy what fine-tuning left again")
    content: Mapping[str, Any] = read_object(path)
    return content


def _read_tensors(source: str, revision: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    path = find_file(source, PROBE, revision=revision)
    if path is None:
        raise ValueError(f"{source} lacks {PROBE}; copy what fine-tuning left again")
    try:
        with safe_open(path, framework="np") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole file of a probe ({error}); copy it again") from error
    if about.get("format") != FORMAT:
        raise ValueError(f"{path} must be of the format {FORMAT!r}; got {about.get('format')!r}")
    return tensors, about
