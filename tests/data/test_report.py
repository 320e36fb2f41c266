"""A report has a row for each row of the input, by source, record and id, whichever became of it."""

from __future__ import annotations

import pandas as pd
import pytest
from support.pair_files import plain_text
from support.shapes import cell_ranger  # noqa: F401  # fills the table of shapes
from support.shapes.drawing import draw_shape
from support.whole_chains import CONSTANT, LEADERS

from curr_ab.cli.main import main
from curr_ab.data import PreparationPlan, prepare
from curr_ab.inference import run_bulk
from curr_ab.inference.number_tables import NumberTask


def reported(command, sources, path, **options):
    """The report of a command."""
    if command == "prepare":
        plan = PreparationPlan(cluster="exact", test=1, validation=1, subsets={"F": 1.0})
        prepare(sources, path.parent / "out", plan, report=path)
    else:
        run_bulk(
            NumberTask(), None, sources, path.parent / "n.csv", report=path, progress=False, keep_going=True
        )
    return pd.read_csv(path)


@pytest.mark.parametrize("command", ["prepare", "number"])
@pytest.mark.parametrize("name", ["tenx_bcr_and_tcr", "tenx_7_all_contigs", "tenx_3_annotations_and_contigs"])
@pytest.mark.heavy
def test_contigs_of_cells_join_with_their_report(name, command, tmp_path) -> None:
    shape = draw_shape(name, 0, tmp_path)
    sources = [str(path) for path in shape.sources] if isinstance(shape.sources, list) else str(shape.sources)
    table = sources if isinstance(sources, str) else next(path for path in sources if path.endswith(".csv"))
    report = reported(command, sources, tmp_path / "report.csv")
    rows = pd.read_csv(table, keep_default_na=False)
    rows["record"] = range(1, len(rows) + 1)
    joined = rows.merge(report, left_on=["record", "contig_id"], right_on=["record", "id"], validate="1:1")
    assert len(joined) == len(rows) == len(report) and set(report["source"]) == {table}
    assert set(joined.loc[joined["chain"].str.startswith("TR"), "note"]) <= {"T-cell receptors"}
    for column, reason in (("is_cell", "not a cell"), ("high_confidence", "not of high confidence")):
        is_out = (joined[column].astype(str).str.lower() == "false") & joined["chain"].str.startswith("IG")
        assert set(joined.loc[is_out, "note"]) <= {"not a cell", reason}
    pairs = joined[joined["outcome"] == "kept"]
    assert set(pairs["chain"]) == {"IGH"} and len(pairs) == len(shape.pairs)
    lights = joined[joined["outcome"] == "joined"].set_index("barcode")
    assert len(lights) == len(pairs) and not set(lights["chain"]) & {"IGH"}
    for row in pairs.itertuples():
        assert lights.loc[row.barcode, "note"] == f"joined with record {row.record}"
    rest = joined[~joined["outcome"].isin(["kept", "joined"])]
    assert set(rest["outcome"]) <= {"dropped"} and rest["note"].notna().all()


def test_files_of_one_locus_each_name_the_other_file(corpus, tmp_path) -> None:
    for chain, locus in (("heavy", "IGH"), ("light", "IGK")):
        lines = [f"c{n}\tc{n}_{locus}\t{locus}\tT\t{row[chain]}" for n, row in enumerate(corpus[:5])]
        head = "cell_id\tsequence_id\tlocus\tproductive\tsequence_aa"
        (tmp_path / f"{locus}.tsv").write_text("\n".join([head, *lines]) + "\n")
    heavy, light = str(tmp_path / "IGH.tsv"), str(tmp_path / "IGK.tsv")
    report = reported("prepare", [heavy, light], tmp_path / "report.csv").set_index("id")
    assert report.loc["c3_IGH", ["source", "record", "outcome"]].tolist() == [heavy, 4, "kept"]
    assert report.loc["c3_IGK", ["source", "record", "outcome", "note"]].tolist() == [
        *(light, 4, "joined", f"joined with record 4 of {heavy}")
    ]


@pytest.mark.parametrize("command", ["prepare", "number"])
def test_what_was_cut_stands_in_the_report(corpus, write, command, tmp_path) -> None:
    rows = [dict(row) for row in corpus[:8]]
    leader = LEADERS[0]
    rows[2]["heavy"] = leader + rows[2]["heavy"] + CONSTANT["heavy"]
    path = write("a.csv", plain_text(rows))
    report = reported(command, path, tmp_path / "report.csv")
    assert report["id"].tolist() == [row["id"] for row in rows]
    assert set(report["outcome"]) == {"kept"}
    start, end = len(leader) + 1, len(leader) + len(corpus[2]["heavy"])
    notes = report["note"].tolist()
    assert notes.pop(2) == f"heavy chain cut to residues {start} to {end}"
    assert all(pd.isna(note) for note in notes)


@pytest.mark.heavy
def test_prepare_says_what_was_cut(corpus, write, tmp_path, capsys) -> None:
    rows = [dict(row) for row in corpus[:40]]
    rows[2]["heavy"] = LEADERS[0] + rows[2]["heavy"]
    out = str(tmp_path / "out")
    words = ["data", "prepare", write("a.csv", plain_text(rows)), "--out", out, "--cluster", "exact"]
    assert main([*words, "--processes", "1"]) == 0
    assert "  cut to the variable domain: 1 of 80 chains\n" in capsys.readouterr().out
    assert main(["data", "describe", out, "--quiet"]) == 0
    assert "  cut to the variable domain: 1 of 80 chains\n" in capsys.readouterr().out
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "cut to the variable domain: 1 of 80 chains" in page
    assert "CSV, both chains in a row: heavy from heavy, id from id, light from light" in page
    assert "equal heavy chains in more than one split" in page
    assert "test pairs with a clone-mate in training" in page


def test_a_prepared_folder_is_a_data_set(corpus, write, tmp_path, monkeypatch) -> None:
    """`load_dataset(folder)` finds the three splits, whatever else lies there."""
    from datasets import load_dataset

    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    index = prepare(
        write("a.csv", plain_text(corpus[:60])), out, PreparationPlan(cluster="exact"), keep_dropped=True
    )
    data = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in data.items()} == index["report"]["pairs"]
    assert {row["heavy"] for rows in data.values() for row in rows} == {row["heavy"] for row in corpus[:60]}
