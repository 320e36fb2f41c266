"""`load`: model and tokenizer of any checkpoint, ready for use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers.utils import find_adapter_config_file

from curr_ab.data.extra import needs_extra
from curr_ab.family import MEMBERS, NAMESPACE, member
from curr_ab.modeling import (
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
    **kwargs: Any,
) -> tuple[CurrAbPreTrainedModel, CurrAbTokenizer]:
    """Load model and tokenizer; the model is in evaluation mode and on its device.

    `name_or_path` is a member (`350M-F`), a folder, any ESM-2 repository of the Hub, or a PEFT adapter, which
    is merged into the base that it names (extra `finetune`). `device` is the GPU
    where there is one. `dtype` is float32 whatever the checkpoint was saved in; "auto" keeps
    the checkpoint's. `separator` is needed for checkpoints that were trained with another than the family's
    and do not say so, such as CurrAb's `<cls>`. Other keywords go to `from_pretrained`.
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
    if separator is not None:
        tokenizer_options["separator"] = separator
    tokenizer = CurrAbTokenizer.from_pretrained(source, **tokenizer_options)
    model: CurrAbPreTrainedModel = HEADS[head].from_pretrained(source, dtype=dtype, **kwargs).eval()
    if adapter is not None:
        model = _merge(model, adapter, options)
    placed = "device_map" in kwargs or "quantization_config" in kwargs  # where it is, it stays
    return (model if placed else model.to(device)), tokenizer


def _base_of_adapter(source: str, options: dict[str, Any]) -> str | None:
    """The base that an adapter names; None where the source is no adapter."""
    config = find_adapter_config_file(source, **options)
    if config is None:
        return None
    base: str = json.loads(Path(config).read_text(encoding="utf-8"))["base_model_name_or_path"]
    return base


def _merge(model: CurrAbPreTrainedModel, adapter: str, options: dict[str, Any]) -> CurrAbPreTrainedModel:
    """The model with the adapter's weights added to its own: as fast as without."""
    with needs_extra("finetune"):
        from peft import PeftModel
    merged: CurrAbPreTrainedModel = PeftModel.from_pretrained(model, adapter, **options).merge_and_unload()
    merged.eval()
    return merged


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
