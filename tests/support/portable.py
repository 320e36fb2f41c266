"""Modules that other systems lack, taken away from a fresh process; then the package at work in it.

python portable.py CHECKPOINT FOLDER
"""

import importlib
import importlib.abc
import multiprocessing
import os
import pkgutil
import sys
from pathlib import Path

import psutil  # noqa: F401  its module for Linux takes some of them; those for other systems do not
import pytest

# Not termios: huggingface_hub takes it, or what Windows has, by the name of the system.
MODULES = {"fcntl", "grp", "pwd", "resource"}
# Those of Unix, and symbolic links, for which Windows wants a privilege.
FUNCTIONS = {"fork", "getuid", "killpg", "sched_getaffinity", "setpgid", "symlink"}


class Refusal(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def take_away():
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Refusal())
    for name in FUNCTIONS:
        if hasattr(os, name):
            delattr(os, name)
    multiprocessing.get_all_start_methods = lambda: ["spawn"]


def import_everything():
    import curr_ab

    names = [info.name for info in pkgutil.walk_packages(curr_ab.__path__, "curr_ab.")]
    for name in names:
        importlib.import_module(name)
    return names


def work(checkpoint, folder):
    """Embeddings, scores, prepared data, a lock, and the processes of cells."""
    from curr_ab.cli.main import main
    from curr_ab.data import PreparationPlan, TokenDataset, prepare
    from curr_ab.files import claimed
    from curr_ab.study.processes import cell_context, slots_of

    pairs = folder / "pairs.csv"
    for command in ("embed", "score"):
        options = ["--out", str(folder / f"{command}.parquet"), "--device", "cpu", "--quiet"]
        assert main([command, checkpoint, str(pairs), *options]) == 0
    prepare([str(pairs)], folder / "data", PreparationPlan(cluster="exact", validation=2, test=2))
    assert len(TokenDataset(folder / "data")) > 0
    message = "another process works in"
    with claimed(folder, "works in"), pytest.raises(ValueError, match=message), claimed(folder, "works in"):
        pass
    assert cell_context().get_start_method() == "spawn"
    assert slots_of(0, 0, 1, 0)


if __name__ == "__main__":
    take_away()
    print(len(import_everything()), "modules")
    work(sys.argv[1], Path(sys.argv[2]))
    print("works")
