"""The process that loads checkpoints as other people do."""

from __future__ import annotations

import shutil

import pytest

from curr_ab.checkpoint_files import DEMO_FOLDERS
from curr_ab.hub.fresh_process import FreshProcess
from curr_ab.words import EXAMPLE_PAIR


@pytest.mark.heavy
def test_each_folder_is_loaded_by_its_own_code(tmp_path) -> None:
    """Also where two have one name, as the steps of two exports have."""
    first, second, ran = tmp_path / "a" / "step500", tmp_path / "b" / "step500", tmp_path / "ran"
    for folder in (first, second):
        shutil.copytree(DEMO_FOLDERS["demo"], folder)
    code = second / "modeling_curr_ab.py"
    code.write_text(f"{code.read_text()}\nopen({str(ran)!r}, 'w').close()\n")
    with FreshProcess() as process:
        process.load(first, "remote", EXAMPLE_PAIR, None)
        assert not ran.exists()
        process.load(second, "remote", EXAMPLE_PAIR, None)
    assert ran.exists()
