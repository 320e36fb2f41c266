"""The package where modules of Unix and symbolic links are missing, as on Windows."""

import ast
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from support.portable import FUNCTIONS, MODULES

from curr_ab import CurrAbTokenizer
from curr_ab.data import builtin_path
from curr_ab.training.costs import peak_memory

ROOT = Path(__file__).parents[1]
PROGRAM = Path(__file__).parent / "support" / "portable.py"


@pytest.mark.slow
def test_the_package_works_without_what_other_systems_lack(model, tmp_path):
    model.save_pretrained(tmp_path / "checkpoint")
    CurrAbTokenizer().save_pretrained(tmp_path / "checkpoint")
    pairs = pq.read_table(builtin_path(), columns=["id", "heavy", "light"]).slice(0, 40)
    pyarrow.csv.write_csv(pairs, tmp_path / "pairs.csv")
    command = [sys.executable, str(PROGRAM), str(tmp_path / "checkpoint"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "works"


def test_no_module_of_unix_is_imported_at_the_top():
    """Inside a function it may be, where its absence is met."""
    for path in sorted((ROOT / "curr_ab").rglob("*.py")):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in statement.names} | {getattr(statement, "module", None)}
                assert not names & MODULES, path


def test_functions_of_unix_are_asked_for_first():
    for path in sorted((ROOT / "curr_ab").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for name in FUNCTIONS:
            assert f"os.{name}(" not in text or f'hasattr(os, "{name}")' in text, (path, name)


def test_the_peak_of_memory_is_known_on_windows(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    info = SimpleNamespace(peak_wset=3 * 2**30)
    monkeypatch.setattr("psutil.Process", lambda: SimpleNamespace(memory_info=lambda: info))
    assert peak_memory(torch.device("cpu")) == 3.0
