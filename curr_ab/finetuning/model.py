"""The model that a recipe trains: a member with a new head, of which a part is trained."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers.utils import logging as transformers_logging

from curr_ab.checkpoint_files import (
    CONFIG,
    CheckpointSource,
    base_of_adapter,
    find_checkpoint,
    find_weights,
    resolve,
)
from curr_ab.checkpoints import HEADS, load_weights
from curr_ab.extras import needs_extra
from curr_ab.family import find_member
from curr_ab.finetuning.batches import RightAnswers
from curr_ab.finetuning.methods import ADAPTERS
from curr_ab.finetuning.recipe import Recipe
from curr_ab.modeling import CurrAbConfig
from curr_ab.modeling.modeling_curr_ab import CurrAbClassificationHead
from curr_ab.modeling.skip_dropout import skip_dropout
from curr_ab.options import OptionError
from curr_ab.randomness import random_stream
from curr_ab.reach import reach

HEAD = "classifier"
PEFT_METHODS = ("lora", "dora", "frozen")
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


def head_name(recipe: Recipe) -> str:
    """The key of `curr_ab.checkpoints.HEADS`."""
    return "token-classification" if recipe.target == "residues" else "sequence-classification"


def model_config(recipe: Recipe, source: str) -> CurrAbConfig:
    """The configuration of the checkpoint, with the head of the recipe."""
    config: CurrAbConfig = CurrAbConfig.from_pretrained(source, **reach(source, (CONFIG,)))
    config.architectures = None  # a head that the checkpoint may have is replaced
    names = dict(enumerate(recipe.outputs or recipe.tasks))
    config.update({"id2label": names, "label2id": {name: index for index, name in names.items()}})
    if recipe.target != "residues":
        several = "multi_label" if recipe.label_columns else "single_label"
        kind = "regression" if recipe.target == "number" else f"{several}_classification"
        config.update({"problem_type": kind, "classifier_pooling": recipe.pooling})
    return config


def build_model(recipe: Recipe, source: str, attention: str = "sdpa", fold: int = 0) -> Any:
    """The member `source` with a new head, in fp32; head and adapters follow from the seed and the fold."""
    with _quiet():
        model: Any = load_weights(
            HEADS[head_name(recipe)],
            source,
            new_head=True,
            config=model_config(recipe, source),
            dtype=torch.float32,
            attn_implementation=attention,
        )
    torch.manual_seed(int(random_stream(recipe.seed, "head", fold).integers(1 << 62)))
    model.classifier.apply(model._init_weights)
    return adapted(model, recipe, source)


def build_masked_model(recipe: Recipe, source: str, attention: str = "sdpa", fold: int = 0) -> Any:
    """The member `source` with the head that it was pretrained with, in fp32; adapters alone are trained."""
    config = CurrAbConfig.from_pretrained(source, **reach(source, (CONFIG,)))
    if config.is_decoder:
        raise OptionError(
            f"adapt_epochs must be 0 for a causal model, which has no masks; got {recipe.adapt_epochs}",
            "adapt_epochs",
        )
    with _quiet():
        model: Any = load_weights(
            HEADS["masked-lm"], source, dtype=torch.float32, attn_implementation=attention
        )
    torch.manual_seed(int(random_stream(recipe.seed, "adapters", fold).integers(1 << 62)))
    return adapted(model, recipe, source, has_new_head=False)


def adapted(model: Any, recipe: Recipe, source: str, has_new_head: bool = True) -> Any:
    """The model with the method's adapters; everything that the method does not train is frozen."""
    if recipe.method not in PEFT_METHODS:
        return model
    with needs_extra("finetune"):
        from peft import LoraConfig, get_peft_model
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.constants import DUMMY_TARGET_MODULES

    matrices = target_pattern(recipe, model.config.num_hidden_layers)
    if recipe.method == "frozen":
        # An adapter without matrices holds the head alone, and is loaded as any other.
        matrices = DUMMY_TARGET_MODULES
    config = LoraConfig(
        target_modules=matrices,
        modules_to_save=[HEAD] if has_new_head else None,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.adapter_dropout,
        use_dora=recipe.method == "dora",
        task_type=("TOKEN_CLS" if recipe.target == "residues" else "SEQ_CLS") if has_new_head else None,
    )
    with _quiet():
        peft_model = get_peft_model(model, config)
    config.base_model_name_or_path = source
    for module in peft_model.modules():
        if isinstance(module, BaseTunerLayer) and "default" in getattr(module, "lora_dropout", ()):
            module.lora_dropout["default"] = AdapterDropout(recipe.adapter_dropout)
    return peft_model


class AdapterDropout(nn.Dropout):
    """Dropout that is cheap on a CPU: an adapter has one in front of every matrix."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.p and x.device.type == "cpu":
            return skip_dropout(x, self.p)
        return super().forward(x)


def target_pattern(recipe: Recipe, num_layers: int) -> str:
    """Full names of the encoder's matrices: the heads have some of the same last names."""
    names = "|".join(map(re.escape, recipe.target_modules))
    if recipe.layers > num_layers:
        raise OptionError(
            f"layers must be at most {num_layers}, which the model has; got {recipe.layers}", "layers"
        )
    last = range(num_layers - recipe.layers, num_layers)
    layers = f"({'|'.join(map(str, last))})" if recipe.layers else r"\d+"
    return rf"(.*\.)?encoder\.layer\.{layers}\.({names})"


def set_training(model: nn.Module, recipe: Recipe) -> None:
    """Into training mode, but for the dropout of what is to stay exact."""
    model.train()
    for name, module in model.named_modules():
        if name.split(".")[-1] == "esm" and recipe.method == "frozen":
            module.eval()  # it would blur what the head sees
        elif name.split(".")[-1] == "esm" and recipe.layers and recipe.method in ADAPTERS:
            for below in (module.embeddings, *module.encoder.layer[: -recipe.layers]):
                below.eval()  # it is computed once
        elif isinstance(module, CurrAbClassificationHead) and recipe.start == "probe":
            module.eval()  # features that drop out would throw the probe's solution over


def esm_of(model: nn.Module) -> nn.Module:
    """The encoder below a head and an adapter's wrappers."""
    for name, module in model.named_modules():
        if name.split(".")[-1] == "esm":
            found: nn.Module = module
            return found
    raise ValueError(f"the model must have an encoder named esm; got {type(model).__name__}")


def describe_trainable(model: nn.Module) -> str:
    """Text such as `trainable 132,098 of 7.6 M parameters (1.7 %)`."""
    # PEFT keeps a copy of the head, which does not count.
    own = [parameter for name, parameter in model.named_parameters() if ".original_module." not in name]
    trained = sum(parameter.numel() for parameter in own if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in own)
    return f"trainable {trained:,} of {total / 1e6:.1f} M parameters ({100 * trained / total:.1f} %)"


@contextmanager
def _quiet() -> Iterator[None]:
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft reads a name that transformers 5.23 has deprecated.
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that are not frozen, by their names in an unwrapped model; every process must ask."""
    weights: dict[str, Any] = get_model_state_dict(model, options=_WHOLE)
    return weights


def model_with(weights: dict[str, Tensor], recipe: Recipe, source: str, right: RightAnswers) -> Any:
    """The recipe's model with these weights, on one process; answers are those of the data."""
    model = build_model(recipe, source)
    _, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained <= weights.keys(), trained - weights.keys()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f".{HEAD}." in f".{name}" and name.endswith(("out_proj.weight", "out_proj.bias")):
                _answer_as(parameter, right)
    return model.eval()


def _answer_as(parameter: Tensor, right: RightAnswers) -> None:
    """Change weight or bias of the last layer so that its answers are those of the data."""
    is_bias = parameter.ndim == 1
    if right.are_numbers:
        scale, shift = (torch.from_numpy(each).float() for each in (right.deviation, right.mean))
        parameter.mul_(scale if is_bias else scale[:, None])
        if is_bias:
            parameter.add_(shift)
    elif right.thresholds is not None:
        changed = right.thresholds.matrix @ parameter.double()
        parameter.copy_(changed + right.thresholds.biases if is_bias else changed)


def checked_source(name_or_path: str | Path) -> str:
    """The folder or the repository of a base; an adapter is refused, and a folder without a model."""
    source = resolve(name_or_path)
    if base_of_adapter(source) is not None:
        raise ValueError(
            f"{source} is an adapter; merge it first: load_finetuned(folder), then save_pretrained of "
            "model and tokenizer"
        )
    if Path(source).is_dir():
        find_weights(source)
    return source


def find_base(name_or_path: str | Path) -> CheckpointSource:
    """The checkpoint to fine-tune; the weights of a repository are downloaded."""
    return find_checkpoint(checked_source(name_or_path))


def earlier_name(name_or_path: str | Path) -> str:
    """The base's name in runs from before `find_checkpoint` named bases: the last part of its path."""
    name = Path(name_or_path).resolve().name
    member = find_member(name)
    return name if member is None else member.name
