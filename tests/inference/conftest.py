"""A model of three layers (first, middle, last), its folder, and simulated pairs with regions."""

import pyarrow.parquet as pq
import pytest
import torch
from support.tiny_models import save_checkpoint, shake, tiny_config
from support.v_genes import FASTA

from curr_ab import CurrAbForCausalLM, CurrAbForMaskedLM
from curr_ab.data import builtin_path
from curr_ab.inference import records_of


@pytest.fixture(scope="session")
def deep():
    torch.manual_seed(0)
    return shake(CurrAbForMaskedLM(tiny_config(num_hidden_layers=3))).eval()


@pytest.fixture(scope="session")
def causal():
    torch.manual_seed(0)
    config = tiny_config(num_hidden_layers=3, is_decoder=True, light_first=0.5)
    return shake(CurrAbForCausalLM(config)).eval()


@pytest.fixture(scope="session")
def folder(deep, tmp_path_factory):
    return save_checkpoint(deep, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def simulated():
    """60 pairs of the built-in corpus, with their region masks."""
    return list(records_of(next(pq.ParquetFile(builtin_path()).iter_batches(60))))


@pytest.fixture(scope="session")
def table(simulated, tmp_path_factory):
    """The same in a CSV file."""
    path = tmp_path_factory.mktemp("input") / "pairs.csv"
    lines = [f"{one.id},{one.heavy},{one.light}\n" for one in simulated]
    path.write_text("id,heavy,light\n" + "".join(lines))
    return path


@pytest.fixture(scope="session")
def v_genes(tmp_path_factory):
    """A FASTA file of germline V genes."""
    path = tmp_path_factory.mktemp("genes") / "v.fasta"
    path.write_text("".join(f">{name}\n{residues}\n" for name, residues in FASTA.items()))
    return path
