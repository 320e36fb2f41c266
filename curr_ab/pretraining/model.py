"""The model at the beginning of a run: drawn from the seed, or the weights of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from huggingface_hub.errors import StrictDataclassError

from curr_ab.checkpoint_files import CONFIG, resolve
from curr_ab.checkpoints import load_weights
from curr_ab.family import MAX_TOKENS, SHAPE, num_gpus
from curr_ab.modeling import CurrAbConfig, CurrAbForMaskedLM
from curr_ab.pretraining.plan import PUBLISHED, PretrainingPlan, check_config
from curr_ab.reach import reach
from curr_ab.training.costs import default_micro_batch
from curr_ab.training_record import TRAINING, read_training


def build_config(plan: PretrainingPlan) -> CurrAbConfig:
    """The configuration of the plan, or of the checkpoint that it starts from, which must have its shape."""
    wanted = plan.model_config
    check_config(plan.config)
    if plan.init_from is None:
        try:
            return CurrAbConfig(**wanted)
        except (StrictDataclassError, TypeError) as error:  # transformers 4 does not check the types
            given = ", ".join(f"{key}={value!r}" for key, value in plan.config.items())
            raise ValueError(f"config: {' '.join(str(error).split())} (in {given})") from error
    source = resolve(plan.init_from)
    config: CurrAbConfig = CurrAbConfig.from_pretrained(source, **reach(source, (CONFIG,)))
    for key in SHAPE:
        if getattr(config, key) != wanted[key]:
            raise ValueError(
                f"{plan.init_from} has {key} {getattr(config, key)}, {plan.member} has {wanted[key]}; "
                f"name the member of its size, or give its shape under config"
            )
    # What changes the checkpoint's mathematics stays as it was trained, unless the plan says otherwise.
    config.update({**plan.config, **plan.direction})
    return config


def num_parameters(config: CurrAbConfig) -> int:
    """Parameters of a model of this shape, counted without making its weights."""
    with torch.device("meta"):
        model = CurrAbForMaskedLM(config)
    return sum(parameter.numel() for parameter in model.parameters())


def pairs_at_once(plan: PretrainingPlan, device: torch.device) -> int:
    """Most pairs that a device computes at once: as the plan says, else what suits the device and the size.

    A GPU takes its whole share of the published step, where as many of them train as the size needs.
    """
    if plan.pairs_per_micro_batch:
        return plan.pairs_per_micro_batch
    if plan.tokens_per_micro_batch:
        return max(1, plan.tokens_per_micro_batch // MAX_TOKENS)
    if device.type == "cpu":
        return default_micro_batch(device)
    return PUBLISHED.pairs_per_step // num_gpus(num_parameters(build_config(plan)))


def clm_tokens_before(plan: PretrainingPlan) -> int | None:
    """Tokens of causal training in the weights that the run starts from; None where nobody recorded them."""
    if plan.init_from is None:
        return 0
    folder = Path(resolve(plan.init_from))
    if not (folder / TRAINING).is_file():
        return None
    record = read_training(folder / TRAINING)
    seen = record.seen or {}
    before = seen.get("clm_tokens", 0)
    if record.objective != "clm":
        return before
    return None if "residue_tokens" not in seen else before + seen["residue_tokens"]


def build_model(plan: PretrainingPlan, attention: str) -> CurrAbForMaskedLM:
    """The model in fp32 and in training mode, the same on every process."""
    config = build_config(plan)
    config._attn_implementation = attention
    model: CurrAbForMaskedLM
    if plan.init_from is None:
        torch.manual_seed(plan.seed)
        model = CurrAbForMaskedLM(config)
    else:
        loaded = load_weights(
            CurrAbForMaskedLM,
            resolve(plan.init_from),
            config=config,
            dtype=torch.float32,
            attn_implementation=attention,
        )
        model = cast(CurrAbForMaskedLM, loaded)
    if plan.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if plan.compile:
        for layer in model.esm.encoder.layer:
            layer.compile()
    model.train()
    return model
