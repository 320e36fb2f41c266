"""Files in, files out: formats, resumption, processes, and bad input said in one line."""

import json
import os
import random
import resource
import subprocess
import sys
import time

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from support.kills import curr_ab, kill_one

from curr_ab.checkpoints import Checkpoint
from curr_ab.cli.main import main
from curr_ab.inference import EmbeddingPlan, attention_maps, embed, score
from curr_ab.inference.bulk import run_bulk
from curr_ab.inference.records import reader
from curr_ab.inference.tasks import EmbedTask, ScoreTask

CURR_AB = [sys.executable, "-c", "import sys; from curr_ab.cli.main import main; sys.exit(main())"]


def run(command, *arguments):
    """A command in this process, in float32."""
    options = ["--dtype", "float32", "--quiet", "--device", "cpu"]
    return main([command, *map(str, arguments), *options])


@pytest.fixture(scope="session")
def expected(deep, tokenizer, simulated):
    return np.stack(list(embed(deep, tokenizer, simulated)))


@pytest.mark.heavy
def test_every_format_holds_the_same(folder, table, expected, simulated, tmp_path):
    ids = [one.id for one in simulated]
    for suffix in ("parquet", "csv", "tsv", "npy", "safetensors"):
        assert run("embed", folder, table, "--out", tmp_path / f"e.{suffix}", "--records-per-part", 25) == 0
    columns = pq.read_table(tmp_path / "e.parquet").to_pydict()
    assert columns["id"] == ids
    assert np.array(columns["pair_mean_layer-1"]) == pytest.approx(expected, abs=1e-5)
    for suffix, delimiter in (("csv", ","), ("tsv", "\t")):
        options = pyarrow.csv.ParseOptions(delimiter=delimiter)
        read = pyarrow.csv.read_csv(tmp_path / f"e.{suffix}", parse_options=options)
        assert read.column_names[1] == "pair_mean_layer-1_0"
        found = np.stack([read[name].to_numpy() for name in read.column_names[1:]], 1)
        assert found == pytest.approx(expected, abs=1e-5)
    assert np.load(tmp_path / "e.npy") == pytest.approx(expected, abs=1e-5)
    assert (tmp_path / "e.ids.txt").read_text().split() == ids
    matrix = load_file(tmp_path / "e.safetensors")["pair_mean_layer-1"]
    assert matrix.numpy() == pytest.approx(expected, abs=1e-5)
    assert not list(tmp_path.glob("*.parts"))


@pytest.fixture
def few(table, tmp_path):
    """The first two pairs."""
    path = tmp_path / "few.csv"
    path.write_text("".join(table.read_text().splitlines(keepends=True)[:3]))
    return path


@pytest.mark.heavy
def test_residues_and_attention(folder, deep, tokenizer, table, few, simulated, tmp_path):
    out = tmp_path / "r.safetensors"
    assert run("embed", folder, table, "--out", out, "--pooling", "none", "mean", "--layers", 0, -1) == 0
    found = load_file(out)
    assert found["pair_mean_layer0"].shape == (60, 80)
    key = f"{simulated[3].id}/pair_residues_layer-1"
    residues = next(embed(deep, tokenizer, simulated[3:4], pooling="none"))
    # Not by pytest.approx, which takes many seconds for so many numbers.
    np.testing.assert_allclose(found[key].numpy(), residues, rtol=0, atol=1e-5)
    assert run("embed", folder, few, "--out", tmp_path / "a.safetensors", "--attention") == 0
    found = load_file(tmp_path / "a.safetensors")
    maps = next(attention_maps(deep, tokenizer, simulated[1:2]))
    np.testing.assert_allclose(found[simulated[1].id].numpy(), maps, rtol=0, atol=1e-5)
    assert run("embed", folder, few, "--out", tmp_path / "r.parquet", "--pooling", "none") == 0
    column = pq.read_table(tmp_path / "r.parquet")["pair_residues_layer-1"]
    assert np.array(column[0].as_py()).shape == (len(simulated[0].heavy + simulated[0].light), 80)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "e.txt"], "must end in"),
        (["--out", "e.npy", "--pooling", "mean", "max"], ".npy holds one pooled embedding"),
        (["--out", "e.csv", "--pooling", "none"], "do not fit"),
        (["--out", "e.parquet", "--attention"], "as .safetensors"),
        (["--out", "e.csv", "--layers", "9"], "layers must be from"),
    ],
)
@pytest.mark.heavy
def test_what_does_not_fit_together(arguments, message, folder, few, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("embed", folder, few, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.heavy
def test_a_folder_of_parts(folder, table, expected, tmp_path):
    assert run("embed", folder, table, "--out", f"{tmp_path}/parts/", "--records-per-part", 25) == 0
    parts = sorted((tmp_path / "parts").glob("part-*.parquet"))
    assert [pq.read_metadata(part).num_rows for part in parts] == [25, 25, 10]
    found = [row for part in parts for row in pq.read_table(part)["pair_mean_layer-1"].to_pylist()]
    assert np.array(found) == pytest.approx(expected, abs=1e-5)
    assert json.loads((tmp_path / "parts" / "plan.json").read_text())["finished"]


def test_killed_and_resumed_is_the_same_file(folder, table, tmp_path):
    """kill -9 at random moments, again and again, until it is through."""
    arguments = ["embed", str(folder), str(table), "--records-per-part", "6", "--dtype", "float32", "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "whole.parquet")]) == 0
    moments = random.Random(0)
    out, kills = tmp_path / "killed.parquet", 0
    parts = tmp_path / "killed.parquet.parts"
    while not out.exists():
        with subprocess.Popen([*CURR_AB, *arguments, "--out", str(out), "--resume"]) as process:
            before = len(list(parts.glob("part-*.parquet")))
            deadline = time.monotonic() + 60
            # Within a few parts of its beginning, so that each life gets on and is cut short.
            while process.poll() is None and time.monotonic() < deadline:
                if len(list(parts.glob("part-*.parquet"))) >= before + 3 and kills < 2:
                    time.sleep(moments.uniform(0, 0.02))
                    process.kill()
                    kills += 1
                    break
                time.sleep(0.001)
        assert process.returncode in (0, -9)
    assert kills
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not parts.exists()


@pytest.mark.heavy
def test_processes_change_nothing(folder, table, expected, simulated, tmp_path):
    checkpoint = Checkpoint(str(folder), device="cpu", dtype="float32")
    out = tmp_path / "e.npy"
    run_bulk(
        EmbedTask(plan=EmbeddingPlan()),
        checkpoint,
        reader(table),
        out,
        processes=2,
        records_per_part=7,
        progress=False,
    )
    assert np.load(out) == pytest.approx(expected, abs=1e-5)
    assert (tmp_path / "e.ids.txt").read_text().split() == [one.id for one in simulated]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "parent"])
def test_a_killed_process_leaves_no_other(folder, table, tmp_path, victim):
    arguments = ["embed", folder, table, "--records-per-part", 6, "--dtype", "float32", "--quiet"]
    out = tmp_path / "killed.parquet"
    command = curr_ab(*arguments, "--processes", 2, "--out", out)
    ended = kill_one(command, victim, after=1.0)
    assert ended.left == []
    if victim == "worker":
        assert ended.status == 2
        assert ended.message == (
            "a worker process was killed (signal 9; out of memory?); go on with --resume, or with fewer "
            "processes (--processes)"
        )
    assert not out.exists()
    subprocess.run([*command, "--resume"], check=True)
    assert run(*arguments, "--out", tmp_path / "whole.parquet") == 0
    found, whole = (pq.read_table(path).to_pydict() for path in (out, tmp_path / "whole.parquet"))
    assert found.keys() == whole.keys() and found["id"] == whole["id"]
    for name in set(whole) - {"id"}:
        np.testing.assert_allclose(found[name], whole[name], rtol=0, atol=1e-5)


@pytest.mark.heavy
def test_score_tables(folder, deep, tokenizer, table, simulated, tmp_path):
    out = tmp_path / "s.csv"
    assert run("score", folder, table, "--out", out, "--mode", "unmasked", "--alone") == 0
    rows = pyarrow.csv.read_csv(out).to_pylist()
    scores = list(score(deep, tokenizer, simulated, mode="unmasked", alone=True))
    assert [row["id"] for row in rows] == [one.id for one in scores]
    for row, one in zip(rows, scores, strict=True):
        assert row["pll_pair"] == pytest.approx(one.pll(), abs=1e-3)
        assert row["perplexity_light"] == pytest.approx(one.perplexity("light"), rel=1e-5)
        assert row["pll_heavy_alone"] == pytest.approx(float(one.alone["heavy"].sum()), abs=1e-3)
    out = tmp_path / "r.parquet"
    assert run("score", folder, table, "--out", out, "--mode", "unmasked", "--per-residue") == 0
    residues = pq.read_table(out).to_pylist()
    assert len(residues) == sum(len(one.heavy + one.light) for one in simulated)
    assert "".join(row["residue"] for row in residues if row["id"] == simulated[7].id) == (
        simulated[7].heavy + simulated[7].light
    )


def test_regions_from_the_source(folder, tmp_path):
    """The built-in corpus brings region masks."""
    import curr_ab.data

    few = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(curr_ab.data.builtin_path()).slice(0, 4), few)
    arguments = ["--mode", "unmasked", "--regions", "CDRH3", "FWRL4", "--out", tmp_path / "s.parquet"]
    assert run("score", folder, few, *arguments) == 0
    row = pq.read_table(tmp_path / "s.parquet").to_pylist()[0]
    mask = pq.read_table(few)["region_mask_heavy"][0].as_py()
    assert row["residues_CDRH3"] == mask.count("6")


@pytest.mark.heavy
def test_mutants_and_restoration_as_tables(folder, few, simulated, tmp_path):
    few.write_text("".join(few.read_text().splitlines(keepends=True)[:2]))
    out = tmp_path / "m.csv"
    arguments = ["--out", out, "--mode", "unmasked", "--heat-maps", tmp_path / "maps"]
    assert run("mutate", folder, few, *arguments) == 0
    rows = pyarrow.csv.read_csv(out).to_pylist()
    assert len(rows) == 19 * len(simulated[0].heavy + simulated[0].light)
    assert len(list((tmp_path / "maps").iterdir())) == 2
    first = f"H:{simulated[0].heavy[2]}3W"
    (tmp_path / "list.txt").write_text(f"{first}\n{first};L:{simulated[0].light[0]}1A\n")
    arguments = ["--mutants", tmp_path / "list.txt", "--mode", "unmasked", "--out", tmp_path / "l.csv"]
    assert run("mutate", folder, few, *arguments) == 0
    scores = {row["mutant"]: row["score"] for row in pyarrow.csv.read_csv(tmp_path / "l.csv").to_pylist()}
    single = {(row["chain"], row["position"], row["mutant"]): row["log_odds"] for row in rows}
    assert scores[first] == pytest.approx(single["heavy", 3, "W"], abs=1e-5)
    few.write_text(f"id,heavy,light\na,{simulated[0].heavy[:50]}__*X<mask>,{simulated[0].light}\n")
    assert run("restore", folder, few, "--out", tmp_path / "r.csv", "--allow-at", "H:51=W") == 0
    row = pyarrow.csv.read_csv(tmp_path / "r.csv").to_pylist()[0]
    assert row["heavy"][:51] == simulated[0].heavy[:50] + "W"
    assert row["filled"].startswith("H:51=W (W 1)") and row["filled"].count(";") == 4


BAD = {
    "residue": ("EVQLJ", "DIQMT", r"record 46 \('n46'\), heavy chain, position 5: 'J' is not a residue"),
    "light": ("EVQLE", "", r"record 46 \('n46'\) has no light chain"),
    "id": ("EVQLE", "DIQMT", r"record 46 \('n1'\) has the id of record 1"),
    "long": ("E" * 330, "DIQMT", r"record 46 \('n46'\) has 339 tokens"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.heavy
def test_a_bad_record_far_down_costs_nothing(kind, folder, tmp_path, capsys):
    heavy, light, message = BAD[kind]
    lines = [f"n{number},EVQLE,DIQMT\n" for number in range(1, 46)]
    name = "n1" if kind == "id" else "n46"
    path = tmp_path / "pairs.csv"
    path.write_text("id,heavy,light\n" + "".join(lines) + f"{name},{heavy},{light}\n")
    out = tmp_path / "e.csv"
    with pytest.raises(ValueError, match=message):
        run_bulk(
            EmbedTask(plan=EmbeddingPlan()),
            Checkpoint(str(folder), device="cpu"),
            reader(path),
            out,
            progress=False,
        )
    assert os.listdir(tmp_path) == ["pairs.csv"]  # nothing was begun
    assert run("embed", folder, path, "--out", out) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_to_read(folder, tmp_path, capsys):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("id,heavy,light\n")
    for name, message in (
        ("empty", "the file is empty"),
        ("header", "at least one record"),
        ("no", "no file"),
    ):
        assert run("embed", folder, tmp_path / f"{name}.csv", "--out", tmp_path / "e.csv") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_nowhere_to_write(folder, table, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("embed", folder, table, "--out", tmp_path / "file" / "e.csv") == 2  # no folder, root or not
    error = capsys.readouterr().err
    assert "file" in error and error.count("\n") == 1


def test_a_full_disk_leaves_what_was_finished(folder, table, expected, tmp_path):
    """No file may grow beyond a limit that the parts fit under and the result does not."""
    arguments = [
        "embed",
        str(folder),
        str(table),
        "--records-per-part",
        "20",
        "--dtype",
        "float32",
        "--quiet",
    ]
    out = tmp_path / "e.npy"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (14_000, 14_000))

    command = [*CURR_AB, *arguments, "--out", str(out)]
    failed = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    lines = [line for line in failed.stderr.splitlines() if line.startswith("curr-ab:")]
    assert len(lines) == 1 and "File too large" in lines[0]
    assert not out.exists()
    parts = list((tmp_path / "e.npy.parts").glob("part-*.parquet"))
    assert len(parts) == 3
    assert main([*arguments, "--out", str(out), "--resume"]) == 0
    assert np.load(out) == pytest.approx(expected, abs=1e-5)


@pytest.mark.heavy
def test_parts_of_another_run_are_not_mixed_in(folder, table, tmp_path, capsys):
    out = f"{tmp_path}/parts/"
    assert run("score", folder, table, "--mode", "unmasked", "--out", out, "--records-per-part", 30) == 0
    assert run("score", folder, table, "--mode", "unmasked", "--out", out, "--records-per-part", 30) == 2
    assert "resume it, or remove the folder (--resume)" in capsys.readouterr().err
    assert (
        run("score", folder, table, "--mode", "group", "--out", out, "--resume", "--records-per-part", 30)
        == 2
    )
    assert "the task differs" in capsys.readouterr().err
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace("id,heavy", "id,heavy").replace("QVQ", "EVQ"))
    assert other.read_text() != table.read_text()
    again = ["--mode", "unmasked", "--out", out, "--resume", "--records-per-part", 30]
    assert run("score", folder, other, *again) == 2
    assert "have changed since" in capsys.readouterr().err
    with pytest.raises(ValueError, match="the model differs"):
        run_bulk(
            ScoreTask(mode="unmasked"),
            Checkpoint(str(folder), device="cpu", dtype="bfloat16"),
            reader(table),
            out,
            resume=True,
            records_per_part=30,
            progress=False,
        )


@pytest.mark.heavy
def test_the_number_type_is_reported(folder, table, tmp_path, capfd):
    arguments = ["score", str(folder), str(table), "--mode", "unmasked", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path / "s.csv"), "--dtype", "float32"]) == 0
    assert "float32 on cpu: as asked for" in capfd.readouterr().err
