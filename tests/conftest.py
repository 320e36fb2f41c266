"""Fixtures of all tests, and an environment without network."""

import os

# Before anything imports huggingface_hub, which reads them once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch
from filelock import FileLock
from support.tiny_models import PAIRS, shake, tiny_config

from curr_ab import CurrAbForMaskedLM, CurrAbTokenizer

pytest_plugins = ["support.fast_lane"]
torch.set_num_threads(1)  # the tests run in two processes on two cores


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """One folder for all test processes of a run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def made_once(shared_folder):
    """`made_once(name, make)`: a file or folder that the first test process to ask makes, by `make(path)`."""

    def made(name, make):
        path = shared_folder / name
        with FileLock(f"{path}.lock"):
            if not path.exists():
                make(path)
        return path

    return made


@pytest.fixture(scope="session")
def tokenizer():
    return CurrAbTokenizer()


@pytest.fixture(scope="session")
def rows(tokenizer):
    """The ids of each pair, of different lengths."""
    return [torch.tensor(ids) for ids in tokenizer(PAIRS)["input_ids"]]


@pytest.fixture(scope="session")
def batch(tokenizer):
    """All pairs as a padded batch."""
    return dict(tokenizer(PAIRS, padding=True, return_tensors="pt"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return shake(CurrAbForMaskedLM(tiny_config())).eval()


@pytest.fixture
def blank_charts(monkeypatch):
    """Charts of matplotlib are empty files: for tests that look at none."""
    monkeypatch.setattr("curr_ab.pictures._save_figure", lambda figure, path, suffix: path.write_bytes(b""))
