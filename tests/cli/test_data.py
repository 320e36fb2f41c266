"""`curr-ab data` does what the functions do, and says what it did."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from support.pair_files import oas_text, plain_text

import curr_ab.data
from curr_ab.cli.main import main
from curr_ab.data import TokenDataset
from curr_ab.data.schema import PAIR_SCHEMA


def swapped(row: dict) -> dict:
    """The light chain with all its annotation in the heavy column, and the other way round."""
    other = {"heavy": "light", "light": "heavy"}
    names = {name: re.sub("heavy|light", lambda match: other[match[0]], name) for name in row}
    return row | {name: row[source] for name, source in names.items() if source in row}


@pytest.mark.heavy
def test_prepare_and_describe(corpus, write, tmp_path, capsys) -> None:
    source, out = write("a.csv.gz", oas_text([*corpus[:300], swapped(corpus[0])])), tmp_path / "out"
    arguments = ["data", "prepare", source, "--out", str(out), "--cluster", "exact", "--processes", "1"]
    assert main([*arguments, "--validation", "30", "--test", "0.05", "--subsets", "F=200", "Q=0.25"]) == 0
    said = capsys.readouterr()
    assert "300 of 301 records kept" in said.out
    assert "dropped, wrong_chain: 1" in said.out
    assert "clusters in more than one split: 0" in said.out
    assert "donors in more than one split: 1\n" in said.out  # there is one
    assert "equal heavy chains in more than one split: 0" in said.out
    assert re.search(r"test pairs with a clone-mate in training: \d+ of 15 whose CDRH3 is written", said.out)
    assert "read and clean: 100%" in said.err
    assert len(TokenDataset(out, "validation")) == 30
    assert len(TokenDataset(out, "train", "F")) == 200

    assert main(["data", "describe", str(out), "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    figures = {
        line[:15].strip(): line.split()[-5:] for line in said.out.splitlines() if line.startswith("length")
    }
    lengths = sorted(len(row["heavy"]) for row in corpus[:300])
    assert figures["length heavy"][:2] == ["300", str(lengths[0])]
    assert figures["length heavy"][-1] == str(lengths[-1])
    page = (out / "report" / "index.html").read_text()
    plots = ("lengths", "v_genes", "cdr3_lengths", "mutations", "cluster_sizes", "drops")
    for name in plots:
        assert (out / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert page.count("data:image/png;base64,") == len(plots)
    assert 'src="http' not in page
    assert "wrong_chain: a light chain in the heavy column" in page
    assert json.loads((out / "dataset.json").read_text())["fingerprint"] in page


@pytest.mark.heavy
def test_what_was_read_is_said_and_recorded(corpus, write, tmp_path, capsys) -> None:
    """The table of a database, as single chains: both of its columns, and the genes by their own names."""
    lines = ["Name,VH or VHH,VL,Heavy V Gene,Notes"]
    lines += [f"m{n},{r['heavy']},{r['light']},IGHV3-23 (Human),x" for n, r in enumerate(corpus[:40])]
    path = write("database.csv", "\n".join(lines) + "\n")
    for more, kept in (((), 40), (("--unpaired",), 80)):
        out = tmp_path / f"of{kept}"
        arguments = [
            "data",
            "prepare",
            path,
            "--out",
            str(out),
            "--cluster",
            "exact",
            "--processes",
            "1",
            *more,
        ]
        assert main([*arguments, "--test", "0", "--validation", "0"]) == 0
        first, *_ = capsys.readouterr().out.splitlines()
        assert first.startswith(f"{path}: CSV, both chains in a row: ")
        for columns in (
            "heavy from VH or VHH",
            "light from VL",
            "id from Name",
            "v_call_heavy from Heavy V Gene",
        ):
            assert columns in first
        index = json.loads((out / "dataset.json").read_text())
        chains = len({r["heavy"] for r in corpus[:40]} | {r["light"] for r in corpus[:40]})
        assert index["report"]["kept"] == (chains if more else kept)
        (recognised,) = index["recognised"]
        assert recognised["columns"]["heavy"] == ["VH or VHH"] and recognised["columns"]["light"] == ["VL"]


@pytest.mark.heavy
def test_describe_without_annotation(corpus, write, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    command = [
        "data",
        "prepare",
        write("a.csv", plain_text(corpus[:50])),
        "--out",
        str(out),
        "--cluster",
        "exact",
    ]
    assert main([*command, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["data", "describe", str(out), "--out", str(tmp_path), "--quiet"]) == 0
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "index.html",
        "lengths.png",
        "cluster_sizes.png",
        "drops.png",
    }


@pytest.mark.heavy
def test_simulate(tmp_path) -> None:
    path = tmp_path / "pairs.parquet"
    assert main(["data", "simulate", "--pairs", "20", "--out", str(path), "--seed", "5", "--quiet"]) == 0
    table = pq.read_table(path)
    assert table.num_rows == 20
    assert set(table.schema.names) == set(PAIR_SCHEMA.names) - {"source", "record"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "nowhere.csv", "--out", "out"], "no file matches nowhere.csv"),
        (
            ["prepare", "builtin", "--out", "out", "--cluster", "source", "--group-by-donor"],
            "cannot be grouped",
        ),
        (
            ["prepare", "builtin", "--out", "out", "--cluster", "source", "--identity", "90"],
            "identity must be above 0 and at most 1; got 90.0 (--identity)",
        ),
        (
            ["prepare", "builtin", "--out", "out", "--cluster", "source", "--processes", "0"],
            "processes must be at least 1; got 0",
        ),
        (
            ["prepare", "builtin", "--out", "out", "--cluster", "exact", "--test", "30000"],
            "test must be at least 0 and less than all",
        ),
        (
            ["prepare", "builtin", "--out", "out", "--cluster", "source", "--subsets", "paper"],
            "subset F wants",
        ),
        (["describe", "nowhere"], "holds no prepared data"),
    ],
)
@pytest.mark.heavy
def test_bad_requests_end_in_one_line(arguments, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_public_names_exist_and_load_nothing_before_use() -> None:
    assert sorted(curr_ab.data._LAZY) == sorted(curr_ab.data.__all__)
    for name in curr_ab.data.__all__:
        assert getattr(curr_ab.data, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'prepared'"):
        _ = curr_ab.data.prepared
    code = (
        "import sys; from curr_ab.cli.main import main; main(['models']); import curr_ab.data\n"
        "heavy = {'pyarrow', 'numpy', 'scipy', 'matplotlib', 'tqdm', 'datasets', 'torch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['duckdb'] = None\n"
        "from curr_ab.cli.main import main; sys.exit(main(['data', 'prepare', 'x.csv', '--out', 'y']))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == 'curr-ab: duckdb is missing: pip install "curr-ab[train]"\n'
