"""A small prepared corpus, and checkpoints of tiny models."""

import pyarrow.parquet as pq
import pytest
import torch
from support.tiny_models import save_checkpoint, shake, stock_twin, tiny_config

from curr_ab import CurrAbForMaskedLM
from curr_ab.data import PreparationPlan, builtin_path, prepare

FEW_HEADS = {"num_attention_heads": 4}  # fewer scores, less time


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Pairs with region, segment and mutation masks, split and sharded."""
    folder = tmp_path_factory.mktemp("evaluation")
    pq.write_table(pq.read_table(builtin_path()).slice(0, 300), folder / "pairs.parquet")
    plan = PreparationPlan(cluster="exact", test=0.3, validation=0.1)
    prepare([str(folder / "pairs.parquet")], folder / "corpus", plan)
    return folder / "corpus"


@pytest.fixture(scope="session")
def save(tmp_path_factory):
    """Writes a model as a checkpoint folder of this name."""

    def write(model, name):
        return save_checkpoint(model, tmp_path_factory.mktemp("checkpoints") / name)

    return write


@pytest.fixture(scope="session")
def deep():
    torch.manual_seed(0)
    return shake(CurrAbForMaskedLM(tiny_config(num_hidden_layers=3, **FEW_HEADS))).eval()


@pytest.fixture(scope="session")
def folder(deep, save):
    return save(deep, "ours")


@pytest.fixture(scope="session")
def shallow_folder(save):
    """One layer, for what is measured often or in numbers that are slow here."""
    torch.manual_seed(0)
    return save(shake(CurrAbForMaskedLM(tiny_config(num_hidden_layers=1, **FEW_HEADS))).eval(), "ours")


@pytest.fixture(scope="session")
def stock_folder(deep, save):
    """The same weights as stock transformers saves them."""
    return save(stock_twin(deep), "stock")


@pytest.fixture(scope="session")
def uniform_folder(save):
    """A model that finds every token of the vocabulary equally likely."""
    model = CurrAbForMaskedLM(tiny_config(**FEW_HEADS))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return save(model, "uniform")
