"""Notebooks: short, without outputs, and run from the first cell to the last in a kernel of their own."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
ADDRESS = "https://colab.research.google.com/github/brineylab/curr_ab/blob/main/docs/notebooks"


@pytest.fixture(params=NAMES)
def notebook(request):
    return request.param, nbformat.read(FOLDER / f"{request.param}.ipynb", as_version=4)


def test_notebooks_are_there():
    assert NAMES == ["finetune_on_your_assay", "from_repertoire_to_member", "score_and_mutate"]


def test_a_notebook_is_short_opens_on_colab_and_holds_no_outputs(notebook):
    """Outputs would be a second truth, which no test compares, and large pictures in every change."""
    name, content = notebook
    nbformat.validate(content)
    assert len(content.cells) < 15
    assert f"({ADDRESS}/{name}.ipynb)" in content.cells[0].source
    codes = [cell for cell in content.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in codes)
    # Where the package is, nothing is installed.
    assert re.search(r'^if .*find_spec\("curr_ab"\) is None:.*\n    %pip install -q ', codes[0].source, re.M)
    assert sum("%pip" in cell.source for cell in codes) == 1


@pytest.mark.slow
def test_a_notebook_runs(notebook, tmp_path):
    _, content = notebook
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(content, timeout=540, kernel_name="python3", resources=place).execute()
    shown = [output for cell in content.cells for output in cell.get("outputs", ())]
    assert any("text/html" in one.get("data", {}) for one in shown)
    said = [one.text for one in shown if one.output_type == "stream" and one.name == "stderr"]
    warned = [line for text in said for line in text.splitlines() if "Warning:" in line]
    # Where ipywidgets is not installed, tqdm says so and shows its bars as text.
    assert [line for line in warned if "TqdmWarning: IProgress not found" not in line] == []
