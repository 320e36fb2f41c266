"""What of an input can be used: all bad records by name, those left out, columns kept, and the report."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.objects import OBJECTS

from curr_ab.checkpoints import Checkpoint
from curr_ab.cli.main import main
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.inference import embed, records_of, run_bulk
from curr_ab.inference.checks import check_records
from curr_ab.inference.records import reader
from curr_ab.inference.tasks import ScoreTask

BAD = {3: ("EVQLJ", "DIQMT"), 5: ("EVQLE", None), 6: ("E" * 330, "DIQMT"), 8: ("EVQLE", "DIQMT")}


def run(*words):
    return main([*map(str, words), "--dtype", "float32", "--quiet", "--device", "cpu"])


@pytest.fixture
def frame():
    """Ten pairs, of which four cannot be used; the last of them has the id of the first."""
    rows = [BAD.get(number, ("EVQLE" + "S" * number, "DIQMT")) for number in range(1, 11)]
    ids = [f"n{1 if number == 8 else number}" for number in range(1, 11)]
    return pd.DataFrame({"key": ids, "VH": [h for h, _ in rows], "VL": [light for _, light in rows]}).assign(
        kd=[f"{number}e-9" for number in range(10)], note=["a,b", 'say "c"', None, "é", *"defghi"]
    )


@pytest.fixture
def table(frame, tmp_path):
    frame.to_csv(tmp_path / "pairs.csv", index=False)
    return tmp_path / "pairs.csv"


def test_all_bad_records_are_named_before_anything_is_computed(folder, table, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    assert run("score", folder, table, "--out", out, "--id-column", "key") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for message in (
        "4 of 10 records cannot be used: record 3 ('n3'), heavy chain, position 5: 'J' is not a residue",
        "; record 5 ('n5') has no light chain; complete it, or read single chains as unpaired; ",
        "; record 6 ('n6') has 339 tokens",
        "; record 8 ('n1') has the id of record 1; make ids unique, or leave them out",
        "; keep_going leaves them out (--unpaired, --keep-going)\n",
    ):
        assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]


def test_bad_records_are_left_out_and_listed(folder, table, frame, tmp_path, capsys):
    out, report = tmp_path / "scores.csv", tmp_path / "report.parquet"
    words = ["--mode", "unmasked", "--id-column", "key", "--keep-going", "--report", report]
    assert run("score", folder, table, "--out", out, *words) == 0
    assert (
        f"4 of 10 records were left out; {tmp_path / 'scores.skipped.csv'} lists them"
        in capsys.readouterr().err
    )
    assert pd.read_csv(out)["id"].tolist() == ["n1", "n2", "n4", "n7", "n9", "n10"]
    skipped = pd.read_csv(tmp_path / "scores.skipped.csv")
    assert skipped["record"].tolist() == list(BAD)
    assert skipped["note"].str.contains("'J' is not|no light chain|339 tokens|id of record 1").all()
    whole = pd.read_parquet(report)
    assert whole["id"].tolist() == frame["key"].tolist()
    assert whole["record"].tolist() == list(range(1, 11))
    assert set(whole["source"]) == {str(table)}
    assert [number for number in whole["record"] if whole["outcome"][number - 1] == "dropped"] == list(BAD)
    # What stays is computed as if it stood alone; a run without bad records leaves no list of an earlier one.
    frame.drop(index=[number - 1 for number in BAD]).to_csv(table, index=False)
    text = out.read_text()
    assert run("score", folder, table, "--out", out, *words[:-3]) == 0
    assert out.read_text() == text and not (tmp_path / "scores.skipped.csv").exists()


def test_a_resumed_run_leaves_out_the_same(folder, table, tmp_path):
    words = ["--mode", "unmasked", "--id-column", "key", "--keep-going", "--records-per-part", 2]
    out = f"{tmp_path}/parts/"
    assert run("score", folder, table, "--out", out, *words) == 0
    parts = sorted((tmp_path / "parts").glob("part-*"))
    before = [part.read_bytes() for part in parts]
    parts[1].unlink()
    assert run("score", folder, table, "--out", out, *words, "--resume") == 0
    assert [part.read_bytes() for part in parts] == before
    assert len(pd.read_csv(tmp_path / "parts" / "skipped.csv")) == 4


def test_no_record_that_can_be_used(folder, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("heavy,light\nEVQLJ,DIQMT\nEVQLE,\n")
    assert run("score", folder, tmp_path / "a.csv", "--out", tmp_path / "s.csv", "--keep-going") == 2
    error = capsys.readouterr().err
    assert "at least one record that can be used; got 2 that cannot" in error and error.count("\n") == 1


def test_many_bad_records_are_counted(tokenizer):
    read = reader([("EVQJ", "DIQ")] * 30 + [("EVQ", "DIQ")])
    with pytest.raises(ValueError, match=r"30 of 31 records .*record 20 \('20'\).*; and 10 more; keep_going"):
        check_records(read, tokenizer).require_none()


@pytest.mark.heavy
def test_a_bad_record_of_a_large_file_is_named(tokenizer, tmp_path):
    lines = [f"n{number},EVQLE,DIQMT\n" for number in range(1, 80_001)]
    lines[70_122] = "n70123,EVQL7,DIQMT\n"
    (tmp_path / "pairs.csv").write_text("id,heavy,light\n" + "".join(lines))
    checked = check_records(reader(tmp_path / "pairs.csv"), tokenizer)
    assert checked.total == 80_000
    message = r"^record 70,123 \('n70123'\), heavy chain, position 5: '7' is not a residue"
    with pytest.raises(ValueError, match=message):
        checked.require_none()


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@pytest.mark.heavy
def test_columns_of_the_user_come_along_untouched(suffix, folder, table, frame, tmp_path):
    out = tmp_path / f"scores.{suffix}"
    words = ["--mode", "unmasked", "--id-column", "key", "--keep-going", "--records-per-part", 4]

    def read():
        if suffix == "parquet":
            return pd.read_parquet(out)
        return pd.read_csv(out, sep="\t" if suffix == "tsv" else ",", dtype={"kd": str})

    kept = frame.drop(index=[number - 1 for number in BAD])
    assert run("score", folder, table, "--out", out, *words, "--keep-columns", "kd", "note") == 0
    found = read()
    assert found.columns[-2:].tolist() == ["kd", "note"]
    assert found["kd"].tolist() == kept["kd"].tolist()
    assert found["note"].tolist() == kept["note"].tolist()
    assert run("score", folder, table, "--out", out, *words, "--keep-columns", "all", "--per-residue") == 0
    found = read()
    assert found.columns[-5:].tolist() == ["key", "VH", "VL", "kd", "note"]
    assert (found["id"] == found["key"]).all() and found["kd"].nunique() == len(kept)
    lengths = found[found["chain"] == "heavy"].groupby("id", sort=False).size().tolist()
    assert lengths == kept["VH"].str.len().tolist()


def test_columns_that_cannot_be_kept(folder, table, tmp_path, capsys):
    words = ["--id-column", "key", "--keep-going"]
    for more, message in (
        (["--keep-columns", "kx"], "there is no column 'kx' to keep; the columns are key, VH, VL, kd, note"),
        (["--keep-columns", "kd", "--out", tmp_path / "e.npy"], ".npy holds numbers alone; keep columns in"),
        (["--report", tmp_path / "r.txt"], "report must end in .csv, .tsv or .parquet"),
    ):
        assert run("embed", folder, table, "--out", tmp_path / "e.csv", *words, *more) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    table.write_text(table.read_text().replace("kd", "pair_mean_layer-1"))
    kept = ["--keep-columns", "pair_mean_layer-1", "--out", tmp_path / "e.parquet"]
    assert run("embed", folder, table, *words, *kept) == 2
    assert "keep_columns must leave out 'pair_mean_layer-1'" in capsys.readouterr().err


def test_values_that_the_reader_changes_are_kept_as_written(folder, tmp_path):
    """The reader upper-cases residues, makes a share of per cent, and knows donors."""
    path = tmp_path / "pairs.parquet"
    columns = {"heavy": ["evq-le"], "light": [" DIQMT"], "v_identity_heavy": [97.5], "more": [[1, None]]}
    pq.write_table(pd.DataFrame(columns).pipe(pa.Table.from_pandas), path)
    out = tmp_path / "s.parquet"
    assert run("score", folder, path, "--out", out, "--keep-columns", "all", "--mode", "unmasked") == 0
    row = pd.read_parquet(out).iloc[0]
    assert (row["heavy"], row["light"], row["v_identity_heavy"]) == ("evq-le", " DIQMT", "97.5")
    assert (row["more"], row["residues_heavy"]) == ("[1, null]", 5)


CELLS = """cell_id,sequence_id,locus,productive,sequence_aa,umis
a,a1,IGH,T,EVQLEAA,5
a,a2,IGK,T,DIQMT,3
b,b1,IGH,T,QVQLE,2
c,c1,IGH,T,EVQLP,1
c,c2,IGH,T,EVQLPW,1
c,c3,IGL,T,QSALT,4
d,d1,IGK,T,EIVLT,2
d,d2,IGH,T,QVTLE,2
"""


def test_cells_without_a_pair_are_no_bad_records(folder, tmp_path, capsys):
    (tmp_path / "cells.csv").write_text(CELLS)
    out, report = tmp_path / "scores.csv", tmp_path / "report.csv"
    words = ["--mode", "unmasked", "--keep-columns", "umis", "--report", report]
    assert run("score", folder, tmp_path / "cells.csv", "--out", out, *words) == 0
    found = pd.read_csv(out)
    assert found["umis"].tolist() == [5, 2]
    assert found["residues_pair"].tolist() == [12, 10]
    assert "left out, several_chains: 3\n" in (error := capsys.readouterr().err)
    assert "left out, missing_chain: 1\n" in error
    reasons = pd.read_csv(report).set_index("record")["note"].dropna().to_dict()
    joined = {2: "joined with record 1", 7: "joined with record 8"}
    assert reasons == {**joined, 3: "missing_chain", **dict.fromkeys((4, 5, 6), "several_chains")}
    with pytest.warns(UserWarning, match="4 chains are left out"):
        assert [one.row for one in records_of(pd.read_csv(tmp_path / "cells.csv"))] == [1, 8]


def test_what_the_task_cannot_compute_is_named_before(folder, simulated, tmp_path, capsys):
    """Regions that are not known, and mutants of other residues."""
    rows = pd.DataFrame([one._asdict() for one in simulated[:4]])[
        ["id", "heavy", "light", "region_mask_heavy"]
    ]
    rows.loc[2, "heavy"], rows.loc[2, "region_mask_heavy"] = "EVQLE", None
    rows.to_parquet(tmp_path / "pairs.parquet")
    first = rows["heavy"][0][0]
    for command, more, reason in (
        ("score", ["--regions", "CDRH3"], "record 3 ("),
        ("embed", ["--part", "CDRH3"], "record 3 ("),
        ("mutate", ["--part", "CDRH3"], "record 3 ("),
        ("mutate", ["--mutant", f"H:{first}1A", f"H:{'A' if first != 'A' else 'C'}1D"], "cannot be used"),
    ):
        assert run(command, folder, tmp_path / "pairs.parquet", "--out", tmp_path / "o.csv", *more) == 2
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1
        assert not (tmp_path / "o.csv.parts").exists()


@pytest.mark.parametrize("kind", ["pandas", "generator of mappings", "streamed data set"])
def test_bulk_tasks_take_objects(kind, folder, simulated, tmp_path):
    rows = [(one.id, one.heavy, one.light) for one in simulated[:5]]
    checkpoint = Checkpoint(str(folder), device="cpu", dtype="float32")
    checked = run_bulk(
        ScoreTask(mode="unmasked"), checkpoint, OBJECTS[kind](rows), tmp_path / "s.csv", progress=False
    )
    assert (checked.total, checked.num_used) == (5, 5)
    assert pd.read_csv(tmp_path / "s.csv")["id"].tolist() == [one[0] for one in rows]


@pytest.mark.parametrize("kind", OBJECTS)
def test_records_of_every_object(kind, deep, tokenizer):
    rows = [("7", "EVQLVESGG", "DIQMT"), ("8", "QVQLQ", "EIVLT"), ("9", "EVQLES", "QSALT")]
    found = list(records_of(OBJECTS[kind](rows)))
    assert [(one.id, one.heavy, one.light, one.number) for one in found] == [
        (*row, number) for number, row in enumerate(rows, 1)
    ]


def test_records_under_other_names(deep, tokenizer):
    frame = pd.DataFrame({"first": ["evqle"], "second": ["DIQMT"], "key": [4]})
    names = ColumnNames(heavy="first", light="second", id="key")
    [record] = records_of(frame, names=names)
    assert (record.id, record.heavy, record.light) == ("4", "EVQLE", "DIQMT")
    expected = next(embed(deep, tokenizer, [("EVQLE", "DIQMT")]))
    assert next(embed(deep, tokenizer, records_of(frame, names=names))) == pytest.approx(expected)
    single = records_of(frame[["first"]], names=ColumnNames(heavy="first"), unpaired=True)
    assert [(one.heavy, one.light) for one in single] == [("EVQLE", None)]


def test_what_was_recognised_is_said_before(folder, table, tmp_path, capsys):
    words = ["score", folder, table, "--out", tmp_path / "s.csv", "--id-column", "key", "--device", "cpu"]
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert f"{table}: CSV, both chains in a row: heavy from VH, light from VL, id from key\n" in error
    assert error.index("heavy from VH") < error.index("records cannot be used")
