"""The examples of docs/how-to/engines.md run as they stand there, and give the table of the command."""

import re
import sys
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curr_ab.checkpoints import Checkpoint
from curr_ab.inference import run_bulk
from curr_ab.inference.tasks import EmbedTask, ScoreTask

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "engines.md").read_text()
ENGINES = ("ray", "datasets", "dask", "pyspark", "daft", "pyarrow")
BLOCKS = {
    next(engine for engine in ENGINES if re.search(rf"^(import|from) {engine}\b", block, re.MULTILINE)): block
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
}
SIZE = 20  # rows of a batch and of the command's parts, so that there are several


@pytest.fixture
def place(simulated, tmp_path, monkeypatch):
    """A folder with the pairs in three row groups, in which the examples run."""
    columns = {name: [getattr(one, name) for one in simulated] for name in ("id", "heavy", "light")}
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet", row_group_size=SIZE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def running(engine, monkeypatch):
    """The engine on this machine."""
    if engine == "ray":
        ray = pytest.importorskip("ray")
        ray.init(num_cpus=4, include_dashboard=False, logging_level="error")  # more than there may be
        try:
            yield
        finally:
            ray.shutdown()
    elif engine == "pyspark":
        sql = pytest.importorskip("pyspark.sql")
        monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
        builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        session = builder.getOrCreate()
        try:
            yield
        finally:
            session.stop()
    else:
        pytest.importorskip(engine)
        yield


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # theirs, which differ from release to release
@pytest.mark.parametrize("engine", ENGINES)
def test_the_example_gives_the_commands_table(engine, place, monkeypatch):
    task = ScoreTask(mode="unmasked") if engine == "dask" else EmbedTask()
    run_bulk(task, Checkpoint("demo"), "pairs.parquet", "all.parquet", records_per_part=SIZE, progress=False)
    expected = pq.read_table("all.parquet")
    block = BLOCKS[engine].replace("1024", str(SIZE))
    names = {}
    with running(engine, monkeypatch):
        exec(block, names)
    written = [
        *place.glob("embeddings.parquet"),
        *place.glob("embeddings/*.parquet"),
        *place.glob("scores/*"),
    ]
    tables = [pq.read_table(one) for one in written] or [names["result"]]
    found = pa.concat_tables([one.select(expected.column_names).cast(expected.schema) for one in tables])
    assert found.sort_by("id").equals(expected.sort_by("id"))
