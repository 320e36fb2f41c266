"""Data sets on the Hub as sources: their files, the commit that they are of, and changes between two runs."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from support.warm import run_warm

from curr_ab.data import builtin_path
from tests.hub.conftest import WRITER

NAME = "brineylab/pairs"
# In a process of its own, for the client reads the address of the Hub once. Each line is what one step gives.
READ = """
import json, sys
from curr_ab.data import read_pairs
from curr_ab.data.reading.sources import expand_sources
for name in sys.argv[1:]:
    try:
        print(json.dumps([expand_sources(name), sum(batch.num_rows for batch in read_pairs(name))]))
    except Exception as error:
        print(json.dumps(str(error)))
"""
# The data set is written to between the first and the second of these names.
READ_WHILE_WRITTEN = """
import json, secrets, sys
import datasets
from huggingface_hub import HfApi
from curr_ab.data.reading.sources import expand_sources
build = datasets.load_dataset_builder
def write_first(*args, **options):
    more = {"path_or_fileobj": secrets.token_bytes(), "path_in_repo": "more.txt", "repo_type": "dataset"}
    HfApi().upload_file(repo_id="brineylab/pairs", **more)
    return build(*args, **options)
datasets.load_dataset_builder = write_first
print(json.dumps(expand_sources(sys.argv[1:])))
"""
PUT = """
import sys
from huggingface_hub import HfApi
HfApi().create_repo("brineylab/pairs", repo_type="dataset", exist_ok=True, private=True)
HfApi().upload_folder(folder_path=sys.argv[1], repo_id="brineylab/pairs", repo_type="dataset")
"""


@pytest.fixture
def python(hub):
    """A script in a fresh process with the client of this Hub; its output shows no token."""

    def run(script: str, *args: object, **environment: str) -> list:
        done = run_warm(script, list(map(str, args)), environment=hub.environment(**environment))
        assert done.returncode == 0, done.stderr
        assert WRITER not in done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.fixture
def put(python, tmp_path):
    """Write pairs of the built-in corpus, `start` to `stop`, to files of the data set, all in one commit."""
    corpus = pq.read_table(builtin_path(), columns=["heavy", "light"])

    def write(files: dict[str, tuple[int, int]]) -> None:
        for name, (start, stop) in files.items():
            path = tmp_path / "upload" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(corpus.slice(start, stop - start), path)
        python(PUT, tmp_path / "upload")

    return write


FILES = {
    "data/train-00000.parquet": (0, 30),
    "data/train-00001.parquet": (30, 60),
    "data/test.parquet": (60, 70),
}


@pytest.mark.heavy
def test_a_data_set_is_its_files_at_one_commit(python, put) -> None:
    put(FILES)
    names = [f"hf://{NAME}", f"hf://datasets/{NAME}", f"hf://{NAME}?split=test", f"hf://{NAME}?split=none"]
    names += [f"hf://datasets/{NAME}/data/train-*.parquet", f"hf://datasets/{NAME}@main/data/test.parquet"]
    names += [f"hf://datasets/{NAME}/data/none.parquet", f"hf://datasets/{NAME}/data"]
    whole, again, test, no_split, pattern, one, no_file, folder = python(READ, *names)
    place, _, file = whole[0][0].rpartition("/data/")
    assert place[:-40] == f"hf://datasets/{NAME}@" and file == "train-00000.parquet"
    assert whole == again == pattern == [[f"{place}/data/train-0000{n}.parquet" for n in range(2)], 60]
    assert test == one == [[f"{place}/data/test.parquet"], 10]
    assert "must have the split 'none'; it has train, test" in no_split
    assert f"no file matches hf://datasets/{NAME}/data/none.parquet" in no_file
    assert f"hf://datasets/{NAME}@{place[-40:]}/data is a folder" in folder
    old = f"hf://{NAME}?revision={place[-40:]}"
    put({"data/train-00001.parquet": (100, 120)})
    now, earlier = python(READ, f"hf://{NAME}", old)
    assert now[1] == 50 and now[0][0] != whole[0][0] and earlier == whole


@pytest.mark.heavy
def test_all_names_of_one_command_are_of_one_commit(python, put) -> None:
    """Also where somebody writes to the data set meanwhile, and however it is named."""
    put(FILES)
    missing = python(READ, "hf://brineylab/none", f"hf://{NAME}?revision=none")
    assert all("doesn't exist" in one for one in missing), missing
    file, whole, test = f"hf://datasets/{NAME}/data/test.parquet", f"hf://{NAME}", f"hf://{NAME}?split=test"
    for names, count in (
        ((file, whole), 3),
        ((whole, test, file), 3),
        ((f"hf://datasets/{NAME}@main", file), 3),
    ):
        (found,) = python(READ_WHILE_WRITTEN, *names)
        assert len(found) == count and len({one.rpartition("/data/")[0] for one in found}) == 1, found


@pytest.mark.heavy
def test_a_data_set_that_changed_is_not_mixed_with_what_was_read(hub, put, tmp_path) -> None:
    put(FILES)
    command = [
        "data",
        "prepare",
        f"hf://{NAME}",
        "--out",
        tmp_path / "out",
        "--cluster",
        "exact",
        "--processes",
        2,
    ]
    command += ["--validation", 2, "--test", 2]
    hub.run(*command)
    index = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert [source[0].rpartition("/")[2] for source in index["sources"]] == [
        "train-00000.parquet", "train-00001.parquet"
    ]  # fmt: skip
    hub.run(*command)
    put({"data/train-00001.parquet": (100, 120)})
    assert "prepared from other sources" in hub.run(*command, code=2)
