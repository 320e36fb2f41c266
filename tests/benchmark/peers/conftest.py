"""Tiny peers: a BERT with AntiBERTy's vocabulary, and stock ESM-2 as facebook saves it."""

import json

import pytest
import torch
from support.tiny_models import FACEBOOK, shake, tiny_config
from transformers import BertConfig, BertForMaskedLM

from curr_ab import CurrAbForMaskedLM
from curr_ab.benchmark.peers.antiberty import VOCAB_SIZE
from curr_ab.words import VOCABULARY


@pytest.fixture(scope="session")
def bert():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.3,
        position_embedding_type="absolute",  # as the published one says
    )
    return shake(BertForMaskedLM(config)).eval()


@pytest.fixture(scope="session")
def antiberty_folder(bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("antiberty")
    bert.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def esm2():
    torch.manual_seed(0)
    return shake(CurrAbForMaskedLM(tiny_config(**FACEBOOK))).eval()


@pytest.fixture(scope="session")
def esm2_folder(esm2, tmp_path_factory):
    """The files of a repository of stock ESM-2, whose tokenizer knows of no pairs."""
    folder = tmp_path_factory.mktemp("esm2")
    esm2.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["auto_map"], config["classifier_pooling"], config["light_first"]
    config["architectures"] = ["EsmForMaskedLM"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "EsmTokenizer"}))
    return folder
