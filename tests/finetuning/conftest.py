"""Tiny members, one of them trained on the built-in corpus, and tables with planted signals."""

import pyarrow.parquet as pq
import pytest
import torch
from support.tiny_models import save_checkpoint, shake, tiny_config

from curr_ab import CurrAbForMaskedLM
from curr_ab.finetuning import plant, resolve_recipe

FEW_HEADS = {"num_attention_heads": 2}  # of 40 dimensions each: fewer scores, less time
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="session")
def make_member(tmp_path_factory):
    """A member that has learnt nothing, with whatever its configuration is to say."""

    def make(**config):
        torch.manual_seed(0)
        model = shake(CurrAbForMaskedLM(tiny_config(**{**FEW_HEADS, **NO_DROPOUT, **config})))
        return save_checkpoint(model, tmp_path_factory.mktemp("member"))

    return make


@pytest.fixture(scope="session")
def member(make_member):
    """Without dropout, so that numbers do not depend on how the work is divided."""
    return make_member()


@pytest.fixture(scope="session")
def random_member(tmp_path_factory):
    """A member that has learnt nothing."""
    torch.manual_seed(5)
    model = CurrAbForMaskedLM(tiny_config(initializer_range=0.02, **FEW_HEADS))
    return save_checkpoint(model, tmp_path_factory.mktemp("random-member"))


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """A file of so many pairs with what the recipe of the same name learns."""

    def write(task, num_pairs, seed=0):
        path = tmp_path_factory.mktemp("planted") / f"{task}.parquet"
        pq.write_table(plant(task, num_pairs, seed), path)
        return path

    return write


@pytest.fixture(scope="session")
def make_recipe():
    """A shipped recipe as a run of seconds, with whatever is to differ."""

    def make(task="specificity-binary", **changes):
        quick = {
            "method": "lora",
            "folds": 2,
            "epochs": 2,
            "precision": "fp32",
            "pairs_per_step": 8,
            "final": False,
        }
        quick |= {"adapter_dropout": 0.0, "pairs_per_micro_batch": 4}
        quick |= {"pooling": "cls", "start": "random", "fewest_steps": 0, "early_stopping": 0}
        return resolve_recipe(task, {**quick, **changes})

    return make


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
