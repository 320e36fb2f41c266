"""What the README shows is what happens."""

import re
import subprocess
import sys

import pytest
from support.tiny_models import TESTS, shake, tiny_config

from curr_ab import CurrAbForMaskedLM, CurrAbTokenizer

README = (TESTS.parent / "README.md").read_text()


@pytest.mark.heavy
def test_python_blocks_run(tmp_path, monkeypatch):
    """A folder of the repository's name stands in for the Hub; the code is the README's, unchanged."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 5  # load, score, generate and design, fine-tune, and stock transformers
    for place in ("350M-F", "brineylab/CurrAb-350M-F"):
        shake(CurrAbForMaskedLM(tiny_config())).save_pretrained(tmp_path / place)
        CurrAbTokenizer().save_pretrained(tmp_path / place)
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["logits"].shape == (1, 231, 33)
    assert names["best"][2] == max(row[2] for row in names["mutants"].rows())
    assert names["embedding"].shape == (tiny_config().hidden_size,)
    assert names["lights"] == []  # weights that nothing trained make no V domain
    assert len(names["designs"]) == 2
    assert {row.metric for row in names["results"]} >= {"accuracy", "auroc"}
    assert (tmp_path / "runs/specificity/adapter/adapter_model.safetensors").is_file()
    assert type(names["model"]).__name__ == "EsmForMaskedLM"


def test_quoted_error_is_the_real_one(tokenizer):
    quoted = re.search(r"```\n(record .*?) \.\.\.\n```", README)[1]
    with pytest.raises(ValueError, match=re.escape(quoted)):
        tokenizer(["EVQ"] * 3, ["DIQ", "DIQ", "DIQ*"])


def test_named_commands_exist():
    makefile = (TESTS.parent / "Makefile").read_text()
    for command in set(re.findall(r"`make ([a-z-]+)`", README)):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command


def test_documents_are_not_behind_the_code():
    result = subprocess.run(
        [sys.executable, TESTS.parent / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
