"""The examples of docs/how-to/design.md run as they stand there."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch
from support.finetuned_models import save_tuned, tune
from support.tiny_models import PAIRS
from support.v_genes import FASTA

import curr_ab
from curr_ab.cli.main import main

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "design.md").read_text()
COMMANDS = [line for line in TEXT.splitlines() if line.startswith("curr-ab ")]


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """A folder with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "genes.fasta").write_text("".join(f">{name}\n{text}\n" for name, text in FASTA.items()))
    rows = [f"{number},{heavy},{light}\n" for number, (heavy, light) in enumerate(PAIRS)]
    (tmp_path / "natural.csv").write_text("id,heavy,light\n" + "".join(rows[2:]))
    (tmp_path / "pairs.csv").write_text("id,heavy,light\n" + "".join(rows[:2]))
    (tmp_path / "run").mkdir()
    model = tune(folder, "classes", labels=("binder", "other"))
    save_tuned(model, tmp_path / "run" / "adapter", folder, labels=("binder", "other"))
    return tmp_path


@pytest.mark.heavy
@pytest.mark.parametrize("number", range(4))
def test_a_command(number, folder, here):
    assert len(COMMANDS) == 4
    words = shlex.split(COMMANDS[number].replace("350M-F", str(folder)))[1:]
    assert main([*words, "--candidates", "6", "--dtype", "float32", "--quiet"]) == 0
    rows = pd.read_csv(here / words[words.index("--out") + 1])
    assert set(rows["id"]) == {0, 1} and rows["score"].notna().all()
    assert ("germline_identity_heavy" in rows) == ("--v-genes" in words)


@pytest.mark.heavy
def test_python(folder, here, monkeypatch, capsys):
    monkeypatch.setattr(
        curr_ab, "load", lambda name: curr_ab.checkpoints.load(folder, device="cpu", dtype=torch.float32)
    )
    [block] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    variables = {"heavy": PAIRS[0][0], "light": PAIRS[0][1]}
    exec(block, variables)
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert set(variables["nearest"]) == set(
        curr_ab.inference.read_references(
            curr_ab.inference.ReferenceOptions(v_genes=("genes.fasta",), natural=("natural.csv",))
        ).names()
    )
