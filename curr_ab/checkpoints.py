"""Checkpoints as models: `load`, its number type and device, and the digest of what was loaded."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from safetensors import SafetensorError, safe_open
from transformers.utils import logging as transformers_logging

from curr_ab.checkpoint_files import (
    ADAPTER_CONFIG,
    CONFIG,
    HUB_OPTIONS,
    base_as_tuned,
    base_of_adapter,
    find_file,
    find_weights,
    is_causal,
    refuse_foreign_files,
    resolve,
)
from curr_ab.extras import needs_extra
from curr_ab.family import NAMESPACE
from curr_ab.modeling import (
    CurrAbConfig,
    CurrAbForCausalLM,
    CurrAbForMaskedLM,
    CurrAbForSequenceClassification,
    CurrAbForTokenClassification,
    CurrAbModel,
    CurrAbPreTrainedModel,
)
from curr_ab.number_types import Precision, choose_precision
from curr_ab.options import OptionError
from curr_ab.reach import downloads_explained, reach
from curr_ab.tokenization import CurrAbTokenizer

HEADS: dict[str, type[CurrAbPreTrainedModel]] = {
    "masked-lm": CurrAbForMaskedLM,
    "causal-lm": CurrAbForCausalLM,
    "sequence-classification": CurrAbForSequenceClassification,
    "token-classification": CurrAbForTokenClassification,
    "none": CurrAbModel,
}
_log = logging.getLogger("curr_ab")
_SIZES = (
    *("num_hidden_layers", "hidden_size", "intermediate_size"),
    *("num_attention_heads", "vocab_size"),
)
_HARMLESS = 10_000_000  # parameters, which any machine has room for
_MOST_IN_A_BYTE = 4  # parameters of quantised weights, and as many again for doubt
LM = "lm"  # the language model that the checkpoint is, masked or causal


def load(
    name_or_path: str | Path,
    *,
    head: str = LM,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = torch.float32,
    namespace: str = NAMESPACE,
    separator: str | None = None,
    merge: bool = True,
    **kwargs: Any,
) -> tuple[CurrAbPreTrainedModel, CurrAbTokenizer]:
    """Load model and tokenizer; the model is in evaluation mode and on its device.

    `name_or_path` is a member (`350M-F`), `demo`, a folder, the folder of a run (its last checkpoint), any
    ESM-2 repository of the Hub, or a PEFT adapter, which is merged into the base that it names (extra
    `finetune`); with `merge=False` it stays a `PeftModel`. The labels of its head are those of the
    config.json beside it.
    `head` "lm" gives `CurrAbForCausalLM` for a causal checkpoint and `CurrAbForMaskedLM` for a masked one.
    `device` is the GPU where there is one. `dtype` is float32 whatever the checkpoint was saved in; "auto"
    keeps the checkpoint's. `separator` is needed for checkpoints that were trained with another than the
    family's and do not say so, such as CurrAb's `<cls>`. Other keywords go to `from_pretrained`.
    """
    if head not in (LM, *HEADS):
        raise ValueError(f"head must be one of {', '.join((LM, *HEADS))}; got {head!r}")
    # A subfolder is one of the folder as it was named, not of a run's last checkpoint.
    keep_name = "subfolder" in kwargs and Path(name_or_path).is_dir()
    source = str(name_or_path) if keep_name else resolve(name_or_path, namespace)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    for refused, instead in {
        "torch_dtype": "dtype",
        "output_loading_info": "from_pretrained",
        "ignore_mismatched_sizes": "from_pretrained",
    }.items():
        if refused in kwargs:
            raise TypeError(f"load() takes no {refused}; use {instead}")
    kwargs["revision"] = revision or "main"
    kwargs = reach(source, (CONFIG, ADAPTER_CONFIG), **kwargs)
    options = {key: kwargs[key] for key in HUB_OPTIONS if key in kwargs}
    own_separator = {} if separator is None else {"separator": separator}
    base = base_of_adapter(source, **options)
    if base is None:
        head = head_of_kind(head, source, is_causal(source, **options))
        tokenizer = load_tokenizer(source, **options, **own_separator)
        model = load_weights(HEADS[head], source, dtype=dtype, **kwargs).eval()
    else:
        # Revision and subfolder are the adapter's; its base is named without any.
        of_base = {key: value for key, value in kwargs.items() if key not in ("revision", "subfolder")}
        base = resolve(base, namespace)
        if base_of_adapter(base) is not None:
            raise ValueError(
                f"{source} must be an adapter of a model; its base {base} is an adapter: merge that"
            )
        of_base = reach(base, (CONFIG,), **of_base)
        base_options = {key: of_base[key] for key in HUB_OPTIONS if key in of_base}
        base_options = base_as_tuned(source, base, options, base_options)
        of_base |= base_options
        if head == LM or head.endswith("-lm"):
            head = head_of_kind(head, base, is_causal(base, **base_options))
        config = find_file(source, CONFIG, **options)
        if config is None:
            tokenizer = load_tokenizer(base, **base_options, **own_separator)
        else:  # an adapter that has a configuration has a tokenizer, too: the one that it was tuned with
            tokenizer = load_tokenizer(source, **options, **own_separator)
        if config is not None and "classification" in head:
            of_base["config"] = read_config(config)
        own = "those that the adapter was trained on"
        model = load_weights(HEADS[head], base, dtype=dtype, new_head=True, wanted=own, **of_base)
        model = _adapt(model, source, options, merge)
    placed = "device_map" in kwargs or "quantization_config" in kwargs  # then the model stays where it is
    return (model if placed else model.to(device)), tokenizer


def head_of_kind(head: str, source: str, causal: bool) -> str:
    """The key of HEADS that a checkpoint of this kind takes; the other kind's head is refused."""
    kind, own = ("causal", "causal-lm") if causal else ("masked", "masked-lm")
    if head == LM:
        return own
    if head in ("masked-lm", "causal-lm") and head != own:
        other = head.removesuffix("-lm")
        raise ValueError(
            f"{source} must be a {other} model here; got a {kind} one: load it with head {LM!r}, or name a "
            f"{other} checkpoint"
        )
    return head


def load_tokenizer(source: str, **options: Any) -> CurrAbTokenizer:
    """The tokenizer of a folder or repository."""
    options = reach(source, (CONFIG, ADAPTER_CONFIG), **options)
    try:
        with _unreported(), downloads_explained(source):
            tokenizer: CurrAbTokenizer = CurrAbTokenizer.from_pretrained(source, **options)
    except Exception as error:
        # tokenizers has no kind of its own; of values of another kind transformers raises whatever it meets.
        if type(error) not in (
            Exception,
            json.JSONDecodeError,
            TypeError,
            AttributeError,
            KeyError,
            RecursionError,
        ):
            raise
        raise ValueError(
            f"the tokenizer of {source} must be a whole file that tokenizers {tokenizers.__version__} reads; "
            f"got an error ({error}); upgrade tokenizers if the checkpoint is newer than it, else copy the "
            "checkpoint again"
        ) from error
    return tokenizer


def load_weights(
    model_class: type[CurrAbPreTrainedModel],
    source: str,
    *,
    new_head: bool = False,
    wanted: str = "those of its config.json",
    **kwargs: Any,
) -> CurrAbPreTrainedModel:
    """The model of a folder or repository, every weight of it from there; `wanted` says in the error which.

    A head that the checkpoint lacks is drawn, with a warning unless `new_head` says that another one comes.
    """
    kwargs = reach(source, (CONFIG,), **kwargs)
    options = {key: kwargs[key] for key in HUB_OPTIONS if key in kwargs}
    refuse_foreign_files(source, **options)
    path, config = find_file(source, CONFIG, **options), kwargs.get("config")
    if config is None and path is not None:
        config = read_config(path, model_class.config_class)
    if config is not None:
        _refuse_other_size(config, source, options)
    try:
        with _unreported(), downloads_explained(source):
            model, report = model_class.from_pretrained(
                source, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
    except SafetensorError as error:
        raise _damaged(source, error, options) from error
    except pickle.UnpicklingError as error:
        files = ", ".join(map(str, find_weights(source, **options)))
        raise ValueError(
            f"{files} must hold tensors alone; got a pickle that asks for more, which may run any code; "
            "take the checkpoint as safetensors"
        ) from error
    except OSError:
        find_weights(source, **options)  # says what is missing, and where
        raise
    mismatched = [one if isinstance(one, str) else one[0] for one in report["mismatched_keys"]]
    lacking = [*sorted(report["missing_keys"]), *mismatched]
    head = [key for key in lacking if key.startswith("classifier.")]
    if wrong := [key for key in lacking if key not in head]:
        raise ValueError(
            f"the weights of {source} must be {wanted}, all of them; got none of the right "
            f"shape for {len(wrong)} tensors, such as {wrong[0]}: it is another model or a part of one; name "
            "a checkpoint of this family or of ESM-2"
        )
    if head and not new_head:
        _log.warning("%s has no such head: its %d tensors are drawn; train them first", source, len(head))
    loaded: CurrAbPreTrainedModel = model
    return loaded


def read_config(path: Path, kind: Any = CurrAbConfig) -> Any:
    """The configuration in a file, of whatever size its numbers ask for."""
    with _in_one_line(f"{path} must describe a model of this family", "copy the checkpoint again"):
        return kind.from_json_file(path)


@contextmanager
def _in_one_line(must: str, way_out: str) -> Iterator[None]:
    """One sentence for whatever a library meets in values of another kind; clear errors stay as they are."""
    try:
        yield
    except (ValueError, OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{must} ({' '.join(str(error).split())[:200]}); {way_out}") from error


def _refuse_other_size(config: Any, source: str, options: dict[str, Any]) -> None:
    """Refuse a configuration of a model that the weights cannot be of: it may ask for any memory."""
    sizes = {name: getattr(config, name) for name in _SIZES}
    layers, width, inner, _, words = sizes.values()
    num_parameters = words * width + layers * width * (4 * width + 2 * inner)
    weights = find_weights(source, **options)
    for path in weights:
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt"):
                    pass
            except SafetensorError as error:  # a file that is cut off is small, too
                raise _damaged(source, error, options) from error
    num_bytes = sum(path.stat().st_size for path in weights)
    most = max(_HARMLESS, _MOST_IN_A_BYTE * num_bytes)
    if min(sizes.values()) < 1 or not 0 <= config.pad_token_id < words or num_parameters > most:
        named = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(
            f"{CONFIG} of {source} must describe the model of its weights, of {num_bytes:,} bytes; got "
            f"{named}: copy the checkpoint again"
        )


@contextmanager
def _unreported() -> Iterator[None]:
    """Without what transformers reports at length, and its bar for weights: downloads alone have theirs."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    of_downloads = not are_progress_bars_disabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # of downloads, too
    if of_downloads:
        enable_progress_bars()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
        if not of_downloads:
            disable_progress_bars()


def _damaged(source: str, error: Exception, options: dict[str, Any]) -> ValueError:
    """The error of weights that cannot be read: the file, and how to come by a whole one."""
    for path in find_weights(source, **options):
        with path.open("rb") as file:
            if file.read(7) == b"version":
                return ValueError(
                    f"{path} is a pointer of Git LFS, not the weights; run `git lfs pull` there"
                )
    again = (
        "copy the checkpoint again" if Path(source).is_dir() else "delete it and run the same command again"
    )
    files = ", ".join(str(path.resolve()) for path in find_weights(source, **options))
    return ValueError(f"{files} is no whole file of weights ({error}); {again}")


def _adapt(model: Any, adapter: str, options: dict[str, Any], merge: bool) -> Any:
    """The model with the adapter around it, or merged into it, which costs no speed."""
    with needs_extra("finetune"):
        from peft import PeftModel
    with warnings.catch_warnings():
        # PEFT calls it by the name that transformers 5.23 deprecates.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        with _in_one_line(f"{adapter} must be a whole adapter that fits its base", "copy it again"):
            adapted = PeftModel.from_pretrained(model, adapter, **options)
    return (adapted.merge_and_unload() if merge else adapted).eval()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint and how to load it; with `device="auto"` process n takes the n-th of several GPUs.

    The processes that a launcher such as torchrun starts are counted, too.
    """

    name: str
    _: KW_ONLY
    head: str = LM
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    namespace: str = NAMESPACE
    separator: str | None = None

    def device_of(self, process: int = 0) -> torch.device:
        if self.device != "auto":
            try:
                device = torch.device(self.device)
            except RuntimeError as error:
                message = f"device must be auto, cpu, cuda, cuda:1 or the like; got {self.device!r}"
                raise OptionError(message, "device") from error
            num_gpus = torch.cuda.device_count()
            if device.type == "cuda" and (device.index or 0) >= num_gpus:
                message = f"device must be cpu or one of {num_gpus} GPUs here; got {self.device}"
                raise OptionError(message, "device")
            return device
        if torch.cuda.is_available():
            process += int(os.environ.get("LOCAL_RANK", "0"))
            return torch.device("cuda", process % torch.cuda.device_count())
        return torch.device("cpu")

    def precision(self) -> Precision:
        return choose_precision(self.device_of(), self.dtype)

    def load(self, process: int = 0) -> tuple[CurrAbPreTrainedModel, CurrAbTokenizer]:
        return load(
            self.name,
            head=self.head,
            revision=self.revision,
            device=self.device_of(process),
            dtype=self.precision().dtype,
            namespace=self.namespace,
            separator=self.separator,
        )


def model_digest(model: Any, tokenizer: CurrAbTokenizer) -> str:
    """SHA-256 of weights, number type and separator: results of another model must not be mixed in."""
    digest = hashlib.sha256(tokenizer.separator.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
