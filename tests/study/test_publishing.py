"""A study's exports on their way: stock transformers, the local Hub, and `curr-ab verify`."""

import subprocess
import sys

import pytest

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
