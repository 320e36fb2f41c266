"""A study's exports on their way: stock transformers, the local Hub, and `curr-ab verify`."""

import shlex
import subprocess
import sys
from glob import glob

import pytest

from curr_ab.study.study import Outcome, closing_words
from tests.hub.conftest import running_hub

STOCK = """
import sys
from transformers import AutoModelForMaskedLM, AutoTokenizer
for folder in sys.argv[1:]:
    model, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == "EsmForMaskedLM" and not info["missing_keys"], info
    ids = AutoTokenizer.from_pretrained(folder)("EVQL", "DIQM", return_tensors="pt")["input_ids"]
    assert ids.shape == (1, 12) and model(ids).logits.isfinite().all()
assert "curr_ab" not in sys.modules
"""


def test_the_publish_command_that_is_printed_works_for_anyone(study, tmp_path):
    path, _ = study
    *_, line = closing_words(path, Outcome({}, {}, tuple(path.glob("exports/*"))), "AGAIN")
    with running_hub(tmp_path) as hub:
        for command in line.replace("YOUR-NAME", "alice").split(" && "):
            _, *words = [found for word in shlex.split(command) for found in sorted(glob(word)) or [word]]
            said = hub.run(*words)
    assert all(f"alice/{export.name}" in said for export in path.glob("exports/*"))


@pytest.mark.slow
def test_a_study_is_published_and_verified(finished, tmp_path):
    path, _ = finished
    exports = sorted(path.glob("exports/*"))
    assert len(exports) == 4
    subprocess.run([sys.executable, "-P", "-c", STOCK, *map(str, exports)], check=True)
    members = [export.name.removeprefix("CurrAb-") for export in exports]
    with running_hub(tmp_path) as hub:
        hub.run("publish", *exports, "--namespace", "brineylab")
        said = hub.run("verify", *members)
    assert [f"{member}: verified" in said for member in members] == [True] * 4
