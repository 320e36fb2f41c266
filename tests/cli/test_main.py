"""The command line: what it prints, and how it says no."""

import json
import subprocess
import sys

import pytest

from curr_ab.cli.main import main


def test_models_prints_the_table(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16
    assert lines[10].split() == [
        *("350M-F", "brineylab/CurrAb-350M-F", "355,252,514", "32", "960", "3840", "48"),
        *("1,648,726", "38.8"),
    ]


def test_models_as_json(capsys):
    assert main(["models", "--json", "--namespace", "somebody"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 15
    assert rows[0]["repo_id"] == "somebody/CurrAb-8M-F"
    assert rows[0]["plan"]["steps"] == 500_000
    assert {"task", "metric", "value", "source"} <= rows[0]["published"][0].keys()


def test_errors_are_one_line(monkeypatch, capsys):
    import curr_ab.cli.main

    def fail():
        raise ValueError("record 3 is empty; remove it")

    monkeypatch.setattr(curr_ab.cli.main, "members", fail)
    assert main(["models"]) == 2
    assert capsys.readouterr().err == "curr-ab: record 3 is empty; remove it\n"


def test_unknown_commands_are_refused():
    with pytest.raises(SystemExit, match="2"):
        main(["modells"])


def test_the_table_needs_no_torch():
    script = (
        "import sys; sys.modules.update(torch=None, transformers=None); "
        "from curr_ab.cli.main import main; sys.exit(main(['models']))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
