"""The catalogue: its documents, and what it refuses."""

from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.benchmark_files import ASSAYS, FOLD, corpus, gdpa1_rows, write_table
from support.documents import blocks_of

from curr_ab.benchmark.tasks.catalogue import TASKS, read_task

DOCUMENT = Path(__file__).parents[3] / "docs" / "tasks.md"


def test_the_document_describes_every_task_as_the_catalogue_does():
    sections = DOCUMENT.read_text(encoding="utf-8").split("\n## ")
    described = {section.partition("\n")[0].strip("`"): section for section in sections[1:]}
    assert [name for name in described if name in TASKS] == list(TASKS)
    for name, reader in TASKS.items():
        for fact in (reader.title, *reader.files, reader.owner, reader.address, reader.licence, reader.rows):
            assert fact in described[name], f"{name}: {fact}"
        for fact in (reader.columns, reader.folds, reader.metric, reader.notes):
            assert fact in described[name], f"{name}: {fact}"


@pytest.mark.parametrize("name", TASKS)
def test_every_reader_is_where_the_catalogue_says(name):
    module, _, function = TASKS[name].read.partition(":")
    assert callable(getattr(import_module(f"curr_ab.benchmark.tasks.{module}"), function))


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"task must be one of developability, .*; got 'solubility'"):
        read_task("solubility", ["x.csv"])


def test_an_unknown_option_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown option of a task option 'fold'"):
        read_task("developability", [tmp_path / "x.csv"], fold=3)


def test_files_that_are_missing_or_too_many_are_refused_with_the_address(tmp_path):
    with pytest.raises(ValueError, match=r"x.csv is not there; download them from https://github.com/ginkgo"):
        read_task("developability", [tmp_path / "x.csv"])
    with pytest.raises(ValueError, match=r"must be given its files \(GDPa1_v1.2_20250814.csv\); got 2"):
        read_task("developability", ["x.csv", "y.csv"])
    with pytest.raises(ValueError, match=r"must be given its files .*; got 2; download"):
        read_task("paratope", ["x", "y"])
    with pytest.raises(ValueError, match=r"\(any table of pairs …\); got 0; name your own"):
        read_task("pairing", [])
    with pytest.raises(ValueError, match=r"x.csv is not there; name your own"):
        read_task("loss", [tmp_path / "x.csv"])


@pytest.mark.parametrize("name", TASKS)
def test_a_file_with_other_columns_is_refused_by_its_name_and_column(tmp_path, name):
    reader, paths = TASKS[name], []
    for number in range(reader.required or len(reader.files)):
        path = tmp_path / f"own{number}.{'parquet' if name == 'paratope' else 'csv'}"
        if name == "paratope":
            pq.write_table(pa.table({"weight": [70.5]}), path)
        else:
            path.write_text("weight,height\n70.5,1.8\n")
        paths.append(path)
    light = corpus()[0]["light"]
    options = {"affinity-flab": {"direction": "higher"}, "affinity-abbibench": {"light_chain": light}}
    with pytest.raises(ValueError, match=r"own0\.(csv|parquet).*column") as error:
        read_task(name, paths, **options.get(name, {}))
    assert "weight" in str(error.value)


def test_the_examples_of_the_document_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = gdpa1_rows()
    write_table(Path("GDPa1_v1.2_20250814.csv"), rows)
    columns = [name for name in rows[0] if name not in (*ASSAYS, FOLD)]
    write_table(Path("heldout-set-sequences.csv"), rows, columns=columns)
    names = {}
    for block in blocks_of(DOCUMENT.read_text(encoding="utf-8")):
        exec(compile(block.text, "tasks.md", "exec"), names)
    assert len(names["tasks"]) == 5
    assert len(Path("submission.csv").read_text().splitlines()) == 41
