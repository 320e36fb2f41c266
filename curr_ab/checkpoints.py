"""`load`: model and tokenizer of any checkpoint, ready for use."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers.utils import cached_file, find_adapter_config_file
from transformers.utils import logging as transformers_logging

from curr_ab.extras import needs_extra
from curr_ab.family import MEMBERS, NAMESPACE, member
from curr_ab.modeling import (
    CurrAbConfig,
    CurrAbForMaskedLM,
    CurrAbForSequenceClassification,
    CurrAbForTokenClassification,
    CurrAbModel,
    CurrAbPreTrainedModel,
)
from curr_ab.tokenization import CurrAbTokenizer

HEADS: dict[str, type[CurrAbPreTrainedModel]] = {
    "masked-lm": CurrAbForMaskedLM,
    "sequence-classification": CurrAbForSequenceClassification,
    "token-classification": CurrAbForTokenClassification,
    "none": CurrAbModel,
}
# What the tokenizer needs to be told as well to be found where the model is.
HUB_OPTIONS = ("revision", "cache_dir", "local_files_only", "token", "subfolder", "force_download")


def load(
    name_or_path: str | Path,
    *,
    head: str = "masked-lm",
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = torch.float32,
    namespace: str = NAMESPACE,
    separator: str | None = None,
    merge: bool = True,
    **kwargs: Any,
) -> tuple[CurrAbPreTrainedModel, CurrAbTokenizer]:
    """Load model and tokenizer; the model is in evaluation mode and on its device.

    `name_or_path` is a member (`350M-F`), a folder, any ESM-2 repository of the Hub, or a PEFT adapter, which
    is merged into the base that it names (extra `finetune`); with `merge=False` it stays a `PeftModel`. The
    labels of its head are those of the config.json beside it. `device` is the GPU where there is one. `dtype`
    is float32 whatever the checkpoint was saved in; "auto" keeps the checkpoint's. `separator` is needed for
    checkpoints that were trained with another than the family's and do not say so, such as CurrAb's `<cls>`.
    Other keywords go to `from_pretrained`.
    """
    if head not in HEADS:
        raise ValueError(f"head is {head!r}; choose one of {', '.join(HEADS)}")
    source = resolve(name_or_path, namespace)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    for refused, instead in {"torch_dtype": "dtype", "output_loading_info": "from_pretrained"}.items():
        if refused in kwargs:
            raise TypeError(f"load() takes no {refused}; use {instead}")
    kwargs["revision"] = revision or "main"
    options = {key: kwargs[key] for key in HUB_OPTIONS if key in kwargs}
    adapter = source if (base := _base_of_adapter(source, options)) is not None else None
    if base is not None:
        source = resolve(base, namespace)
        # Revision and subfolder are the adapter's; its base is named without any.
        kwargs = {key: value for key, value in kwargs.items() if key not in ("revision", "subfolder")}
        tokenizer_options = {key: kwargs[key] for key in HUB_OPTIONS if key in kwargs}
    else:
        tokenizer_options = dict(options)
    own = None if adapter is None else configuration_of(adapter, options)
    if separator is not None:
        tokenizer_options["separator"] = separator
    # What has a configuration of its own has a tokenizer too, with the separator that it was tuned with.
    speaker, how = (source, tokenizer_options) if own is None else (adapter, options)
    tokenizer = CurrAbTokenizer.from_pretrained(speaker, **how)
    if own is not None and "classification" in head:
        config = CurrAbConfig.from_json_file(own)
        model = _without_head(HEADS[head], source, dtype=dtype, config=config, **kwargs)
    else:
        model = HEADS[head].from_pretrained(source, dtype=dtype, **kwargs)
    model = model.eval() if adapter is None else _adapt(model, adapter, options, merge)
    placed = "device_map" in kwargs or "quantization_config" in kwargs  # where it is, it stays
    return (model if placed else model.to(device)), tokenizer


def _base_of_adapter(source: str, options: dict[str, Any]) -> str | None:
    """The base that an adapter names; None where the source is no adapter."""
    config = find_adapter_config_file(source, **options)
    if config is None:
        return None
    base: str = json.loads(Path(config).read_text(encoding="utf-8"))["base_model_name_or_path"]
    return base


def configuration_of(source: str, options: dict[str, Any], *, required: bool = False) -> str | None:
    """The path of the source's config.json, downloaded where it is a repository; None where it has none.

    Where the Hub cannot be reached that is an error only if the file is `required`.
    """
    found: str | None = cached_file(
        source,
        "config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=required,
        **options,
    )
    return found


def _without_head(
    model_class: type[CurrAbPreTrainedModel], base: str, **kwargs: Any
) -> CurrAbPreTrainedModel:
    """The base of an adapter that brings the head: no warning that the base has none."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        # What is missing or of another shape is looked at below, where the head's own keys are expected.
        model, report = model_class.from_pretrained(
            base, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
        )
    finally:
        transformers_logging.set_verbosity(verbosity)
    keys = [*sorted(report["missing_keys"]), *(key for key, *_ in report["mismatched_keys"])]
    if wrong := [key for key in keys if not key.startswith("classifier.")]:
        raise ValueError(f"{base} is not the base of this adapter: {wrong[0]} is missing or of another shape")
    base_model: CurrAbPreTrainedModel = model
    return base_model


def _adapt(model: Any, adapter: str, options: dict[str, Any], merge: bool) -> Any:
    """The model with the adapter around it, or merged into it: then it is as fast as without."""
    with needs_extra("finetune"):
        from peft import PeftModel
    with warnings.catch_warnings():
        # PEFT calls it by the name that transformers 5.23 deprecates.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        adapted = PeftModel.from_pretrained(model, adapter, **options)
    return (adapted.merge_and_unload() if merge else adapted).eval()


def resolve(name_or_path: str | Path, namespace: str = NAMESPACE) -> str:
    """Where a checkpoint is: an existing folder, else the repository of the member, else a repository id."""
    text = str(name_or_path)
    if Path(text).is_dir():
        return text
    if "/" in text.strip("/") and not text.startswith((".", "/", "~")):
        return text
    if text.upper().removeprefix("CURRAB-") in MEMBERS:
        return member(text).repo_id(namespace)
    raise ValueError(
        f"{text!r} is neither a folder nor a member ({', '.join(MEMBERS)}) nor a repository such as "
        f"{namespace}/CurrAb-350M-F"
    )


class Precision(NamedTuple):
    """A type, and why it was chosen."""

    dtype: torch.dtype
    reason: str


def choose_precision(device: torch.device, wanted: str = "auto") -> Precision:
    """The type asked for, or the fast one; never float16 on a CPU, which multiplies it one by one.

    bfloat16 moves a pooled embedding by up to about 0.03, a log-probability by a few hundredths.
    """
    if wanted != "auto":
        if wanted not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {wanted!r}; choose auto, float32 or bfloat16")
        return Precision(getattr(torch, wanted), "as asked for")
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return Precision(torch.bfloat16, "the GPU multiplies it")
        return Precision(torch.float32, "the GPU does not multiply bfloat16")
    if device.type == "cpu":
        # Both are private names of torch, but the only ones; where they are gone float32 is right too.
        for feature, name in {
            "AMX": "_is_amx_tile_supported",
            "AVX-512": "_is_avx512_bf16_supported",
        }.items():
            if getattr(torch.cpu, name, bool)():
                return Precision(torch.bfloat16, f"the CPU multiplies it ({feature})")
        return Precision(torch.float32, "the CPU does not multiply bfloat16")
    return Precision(torch.float32, f"nothing is known of {device.type}")


@dataclass(frozen=True)
class Checkpoint:
    """What to load and how; `device` names a kind, and process n takes the n-th of several GPUs."""

    name: str
    head: str = "masked-lm"
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    namespace: str = NAMESPACE
    separator: str | None = None

    def place(self, process: int = 0) -> torch.device:
        if self.device != "auto":
            return torch.device(self.device)
        if torch.cuda.is_available():
            return torch.device("cuda", process % torch.cuda.device_count())
        return torch.device("cpu")

    def precision(self) -> Precision:
        return choose_precision(self.place(), self.dtype)

    def load(self, process: int = 0) -> tuple[CurrAbPreTrainedModel, CurrAbTokenizer]:
        return load(
            self.name,
            head=self.head,
            revision=self.revision,
            device=self.place(process),
            dtype=self.precision().dtype,
            namespace=self.namespace,
            separator=self.separator,
        )


def fingerprint(model: Any, tokenizer: CurrAbTokenizer) -> str:
    """A digest of weights, number type and separator: results of another model must not be mixed in."""
    digest = hashlib.sha256(tokenizer.separator.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
