"""Text of users that a spreadsheet would run: written behind an apostrophe, and read back to the letter."""

import csv
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.tiny_models import PAIRS

from curr_ab.benchmark.folder import write_csv
from curr_ab.data import read_pairs
from curr_ab.data.report import Outcome, write_report
from curr_ab.formulas import guard, read_guarded
from curr_ab.inference.formats import assemble

FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''-x",
    "=\n1",
    "-\u0661",
]
TEXTS = ["x=1", "-1.5", "+2e-3", "-.5", "1", "-", "", "'quoted'", "it's", "mAb-1", "''"]
RUN = re.compile(r"[=+\-@\t\r].", re.DOTALL)  # what a spreadsheet takes for a formula, unless it is a number


@pytest.mark.parametrize("text", [*FORMULAS, *TEXTS])
def test_what_is_guarded_is_read_back_to_the_letter(text):
    assert read_guarded(guard(text)) == text
    assert (guard(text) != text) == (text in FORMULAS)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_ids_and_kept_columns_of_results_are_no_formulas_and_come_back(tmp_path, suffix):
    texts = [*FORMULAS, *TEXTS[:5]]
    pairs = [PAIRS[number % len(PAIRS)] for number in range(len(texts))]
    heavy, light = map(list, zip(*pairs, strict=True))
    own = {"id": texts, "heavy": heavy, "light": light, "=note": texts, "score": [-1.5] * len(texts)}
    pq.write_table(pa.table(own), tmp_path / "part.parquet")
    out = tmp_path / f"results{suffix}"
    assemble([tmp_path / "part.parquet"], out)
    with out.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file, delimiter="," if suffix == ".csv" else "\t")
    assert names[3] == "'=note" and {row[4] for row in rows} == {"-1.5"}
    assert not any(RUN.match(field) for row in rows for field in row[:4] if field not in TEXTS)
    [batch] = read_pairs(out, extra_columns=["=note"])
    assert batch["id"].to_pylist() == texts == batch["=note"].to_pylist()
    assert (batch["heavy"].to_pylist(), batch["light"].to_pylist()) == (heavy, light)


def test_reports_and_tables_of_a_benchmark_hold_no_formulas(tmp_path):
    write_report(tmp_path / "report.csv", [Outcome("=file.csv", 1, "=1+1", "kept", "@note")])
    write_csv(tmp_path / "table.csv", ["model", "value"], [{"model": "=1+1", "value": -1.5}])
    rows = {path.stem: list(csv.reader(path.read_text().splitlines()))[1] for path in tmp_path.iterdir()}
    assert rows == {"report": ["'=file.csv", "1", "'=1+1", "kept", "'@note"], "table": ["'=1+1", "-1.5"]}
