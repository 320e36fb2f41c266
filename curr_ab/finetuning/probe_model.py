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
from curr_ab.files import read_object, write_json
from curr_ab.finetuning.adapter_record import MANIFEST, RECORD
from curr_ab.finetuning.probe_file import ProbeFacts, read_probe, write_probe
from curr_ab.inference.embedding import encoder_of
from curr_ab.inference.records import Record
from curr_ab.modeling import CurrAbConfig
from curr_ab.probes.feature_names import JOIN, MEMBER_FEATURES, RESIDUE_FEATURES
from curr_ab.probes.member_features import member_features, residue_features
from curr_ab.probes.regression import Regression
from curr_ab.probes.residue_windows import RESIDUE_WINDOWS, residue_windows
from curr_ab.probes.sequence_features import BASELINES, sequence_features
from curr_ab.results import checkpoint_digest
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import Target

ARCHITECTURE = "CurrAbProbe"  # in config.json: no class of transformers, which must not take it for one
Array = npt.NDArray[np.float32]


class ProbeModel(nn.Module):
    """The encoder of a member, and a regression on sets of features, of its own and of residues alone."""

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
        if target == "number":
            self.config.problem_type = "regression"
        elif regression.num_classes == 2 and len(regression.bias) > 1:
            self.config.problem_type = "multi_label_classification"

    @property
    def device(self) -> torch.device:
        device: torch.device = self.esm.device
        return device

    def predict(
        self, tokenizer: CurrAbTokenizer, records: Sequence[Record], tokens_per_batch: int | None = None
    ) -> list[Array]:
        """For each record its probabilities [classes], [residues, classes] or its number [1]."""
        found = self.seen(tokenizer, records, self.feature_names, tokens_per_batch)
        return self.answers(found, len(records))

    @property
    def feature_names(self) -> list[str]:
        """The sets of features that the regression sees, side by side."""
        return self.features.split(JOIN)

    def seen(
        self,
        tokenizer: CurrAbTokenizer,
        records: Sequence[Record],
        names: Sequence[str],
        tokens_per_batch: int | None,
    ) -> dict[str, Any]:
        """These sets of features of the records."""
        own = [name for name in names if name in (*MEMBER_FEATURES, *RESIDUE_FEATURES)]
        options: dict[str, Any] = {"names": own, "tokens_per_batch": tokens_per_batch}
        pairs = [(record.heavy, record.light) for record in records]
        found: dict[str, Any] = {}
        if self.target == "residues":
            if own:
                found |= residue_features(self.esm, tokenizer, records, **options)
            if RESIDUE_WINDOWS in names:
                found[RESIDUE_WINDOWS] = [residue_windows([pair]) for pair in pairs]
            return found
        if own:
            found |= member_features(self.esm, tokenizer, records, **options)
        return found | {name: sequence_features(name, pairs) for name in names if name in BASELINES}

    def answers(self, found: Mapping[str, Any], num_records: int) -> list[Array]:
        """Predictions from features that `seen` gave."""
        values = [found[name] for name in self.feature_names]
        if self.target == "residues":
            by_record = zip(*values, strict=True)
            return [self.regression.predict(_side_by_side(one)).astype(np.float32) for one in by_record]
        predicted = self.regression.predict(_side_by_side(values))
        return list(predicted.reshape(num_records, -1).astype(np.float32))

    def save(self, folder: Path, base: str) -> None:
        """Write the regression and the configuration; `base` is where the member's weights are."""
        about = ProbeFacts(self.features, self.target, checkpoint_digest(*find_weights(base)))
        write_probe(folder / PROBE, self.regression, about)
        config = self.config.to_dict()
        config.pop("auto_map", None)  # the code of the model is where the base is
        write_json(folder / CONFIG, {**config, "architectures": [ARCHITECTURE]})


def _side_by_side(values: Sequence[Any]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.asarray(one, np.float64) for one in values], axis=1)


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
    path = find_file(source, PROBE, revision=revision)
    if path is None:
        raise ValueError(f"{source} lacks {PROBE}; copy what fine-tuning left again")
    regression, about = read_probe(path)
    base = resolve(base_here(str(_read(source, RECORD, revision)["base_model"])), namespace)
    base_revision = None
    if not Path(base).is_dir():
        base_revision = _read(source, MANIFEST, revision).get("base_revision")
    if checkpoint_digest(*find_weights(base, revision=base_revision)) != about.base_weights:
        raise ValueError(
            f"the base of {source} must have the weights that the probe was fitted on; got others in {base}: "
            "put the base back, or fine-tune again"
        )
    encoder, _ = load(base, head="none", revision=base_revision, device=device, dtype=dtype)
    names = _read(source, CONFIG, revision)["id2label"]
    labels = [names[str(number)] for number in range(len(names))]
    probe = ProbeModel(encoder, regression, about.features, about.target, labels).eval()
    return probe.to(encoder.device), load_tokenizer(source, revision=revision)


def _read(source: str, name: str, revision: str | None) -> Mapping[str, Any]:
    path = find_file(source, name, revision=revision)
    if path is None:
        raise ValueError(f"{source} lacks {name}; copy what fine-tuning left again")
    content: Mapping[str, Any] = read_object(path)
    return content
