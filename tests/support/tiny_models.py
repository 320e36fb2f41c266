"""Tiny models and their checkpoints, stock twins of the same weights, packed rows, antibodies as text."""

import json
from pathlib import Path

import torch
from transformers import EsmConfig, EsmForMaskedLM

from curr_ab import CurrAbConfig, CurrAbTokenizer

TESTS = Path(__file__).parents[1]
# Variable domains of approved antibodies.
PAIRS = [tuple(pair) for pair in json.loads((TESTS / "golden" / "pairs.json").read_text())]

# Every mechanism of the real shapes, in milliseconds; narrower still where it is trained.
_SHAPE = {"hidden_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.1}
TINY = {**_SHAPE, "intermediate_size": 160}
# The two kinds of ESM-2 checkpoint: the paper's, and facebook's.
PUBLISHED = {"token_dropout": False, "layer_norm_eps": 1e-12}
FACEBOOK = {"token_dropout": True, "layer_norm_eps": 1e-5}


def tiny_config(**overrides):
    return CurrAbConfig(**{**_SHAPE, **overrides})


def save_checkpoint(model, folder):
    """A folder with the model and the tokenizer, as a run leaves it."""
    model.save_pretrained(folder)
    CurrAbTokenizer().save_pretrained(folder)
    return folder


def stock_config(config):
    """The same checkpoint's configuration as stock transformers has it."""
    ours_alone = {"auto_map", "light_first", "classifier_pooling", "transformers_version", "architectures"}
    return EsmConfig(**{key: value for key, value in config.to_dict().items() if key not in ours_alone})


def shake(model, seed=0):
    """Move every parameter off its initial value: a bias that is zero hides a bias that is not added."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def stock_twin(model, stock_class=EsmForMaskedLM):
    """Stock ESM with the model's weights; the keys must be the same, without exception."""
    stock = stock_class(stock_config(model.config))
    stock.load_state_dict(stock_tensors(model, stock), strict=True)
    return stock.train(model.training)


def stock_tensors(model, stock):
    """The model's weights by the names of `stock`: up to transformers 5.0 every layer has the frequencies."""
    tensors = dict(model.state_dict())
    names = [name for name in stock.state_dict() if name.endswith("inv_freq")]
    shared = next(name for name in tensors if name.endswith("inv_freq"))
    return tensors if shared in names else tensors | dict.fromkeys(names, tensors.pop(shared))


def masked_batch(input_ids, special_ids=(0, 1, 2), share=0.15, seed=0):
    """Mask some residues; the labels hold them, and -100 elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    residue = ~torch.isin(input_ids, torch.tensor(special_ids))
    chosen = residue & (torch.rand(input_ids.shape, generator=generator) < share)
    return input_ids.masked_fill(chosen, 32), input_ids.masked_fill(~chosen, -100)


def pack(rows):
    """Several rows of ids end to end: `input_ids` and `position_ids` of one packed row."""
    input_ids = torch.cat(rows)[None]
    position_ids = torch.cat([torch.arange(len(row)) for row in rows])[None]
    return {"input_ids": input_ids, "position_ids": position_ids}


def save_published(folder: Path, step: int, epoch: float | None) -> torch.nn.Module:
    """A checkpoint as the published code leaves it: stock ESM from a bare configuration, half precision."""
    torch.manual_seed(step)
    config = EsmConfig(
        vocab_size=33,
        pad_token_id=1,
        mask_token_id=32,
        hidden_size=320,
        num_hidden_layers=6,
        num_attention_heads=20,
        intermediate_size=1280,
        max_position_embeddings=320,
        position_embedding_type="rotary",
        initializer_range=0.1,
    )
    model = shake(EsmForMaskedLM(config), step).half()
    config.architectures, config.dtype = ["EsmForMaskedLM"], "float16"
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    state = {"global_step": step, **({"epoch": epoch} if epoch else {})}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    (folder / "training_args.bin").write_bytes(b"a pickle that nobody opens")
    return model
