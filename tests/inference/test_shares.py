"""A bulk command in shares: the same bytes as one process, whatever is killed, comes late or comes twice."""

import os
import random
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from support.kills import curr_ab
from support.tiny_models import save_checkpoint, shake, tiny_config

from curr_ab import CurrAbForSequenceClassification
from curr_ab.checkpoints import Checkpoint
from curr_ab.cli.main import main
from curr_ab.finetuning.prediction import PredictTask
from curr_ab.inference import EmbeddingPlan, RestorationPlan, output, run_bulk
from curr_ab.inference.bulk import join_parts
from curr_ab.inference.number_tables import NumberTask
from curr_ab.inference.output import Output
from curr_ab.inference.records import Reader, Record, reader
from curr_ab.inference.tasks import EmbedTask, MutateTask, PairTask, RestoreTask, ScoreTask
from curr_ab.share import Share

EMBED = EmbedTask(plan=EmbeddingPlan())
SCORE = ScoreTask(mode="unmasked")


@pytest.fixture(scope="module")
def pairs(simulated, tmp_path_factory):
    """Ten pairs, with unknown residues in some: five parts of two."""
    path = tmp_path_factory.mktemp("shares") / "pairs.csv"
    rows = [
        (one.id, one.heavy[:-3] + "XX" * (place % 2), one.light) for place, one in enumerate(simulated[:10])
    ]
    path.write_text("id,heavy,light\n" + "".join(f"{','.join(row)}\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    torch.manual_seed(0)
    model = shake(CurrAbForSequenceClassification(tiny_config(num_labels=2))).eval()
    return save_checkpoint(model, tmp_path_factory.mktemp("predictor"))


@pytest.fixture
def compute(folder, predictor, pairs):
    """`compute(task, out)`: all of it in this process, or a share."""

    def computed(task, out, *, dtype="float32", given=pairs, **how):
        torch.manual_seed(0)
        head = "sequence-classification" if isinstance(task, PredictTask) else "masked-lm"
        name = predictor if isinstance(task, PredictTask) else folder
        checkpoint = Checkpoint(str(name), head=head, device="cpu", dtype=dtype)
        if isinstance(task, NumberTask):
            checkpoint = None
        read = given if isinstance(given, Reader) else reader(given)
        return run_bulk(task, checkpoint, read, out, records_per_part=2, progress=False, **how)

    return computed


def everything(folder):
    """The files below a folder with their bytes, but for locks and what says how the work was divided."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return {path.name: path.read_bytes() for path in files if path.name != "plan.json"}


def num_calls(monkeypatch, task_class):
    """The parts that are computed from now on."""
    calls, real = [], task_class.table

    def table(*arguments):
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(task_class, "table", table)
    return calls


ALL_RESIDUES = EmbedTask(plan=EmbeddingPlan(poolings=("none", "mean")))
LIGHTS = (Record("a", None, "DIQMTQSPSSLSASVGDRVTITC"), Record("b", None, "EIVLTQSPATLSLSPGERATLSC"))
WAYS = {
    **{
        f"embed {suffix}": (EMBED, f"out.{suffix}")
        for suffix in ("csv", "tsv", "parquet", "npy", "safetensors")
    },
    "embed residues": (ALL_RESIDUES, "out.safetensors"),
    "embed a folder": (EMBED, "out/"),
    "score": (SCORE, "out.csv"),
    "score residues": (ScoreTask(mode="unmasked", per_residue=True), "out.parquet"),
    "mutate": (MutateTask(mode="unmasked", part="heavy"), "out.parquet"),
    "restore": (RestoreTask(plan=RestorationPlan(method="sample", variants=2)), "out.csv"),
    "pair": (PairTask(lights=LIGHTS, mode="unmasked"), "out.tsv"),
    "number": (NumberTask(), "out.csv"),
    "predict": (PredictTask(), "out.parquet"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.heavy
def test_shares_one_after_another_make_the_same_bytes(way, compute, tmp_path):
    task, name = WAYS[way]
    (tmp_path / "whole").mkdir()
    compute(task, f"{tmp_path}/whole/{name}")
    out = f"{tmp_path}/shares/{name}"
    for index in (2, 0):
        compute(task, out, share=f"{index}/3")
        assert not Output.of(out).is_finished and not os.path.isfile(out)
    compute(task, out, share=Share(1, 3))
    assert Output.of(out).is_finished
    assert everything(tmp_path / "shares") == everything(tmp_path / "whole")


@pytest.mark.heavy
def test_a_share_computes_its_own_parts(compute, tmp_path, monkeypatch):
    calls = num_calls(monkeypatch, EmbedTask)
    out = tmp_path / "out.csv"
    for index, num_parts in enumerate((2, 4, 5)):
        compute(EMBED, out, share=Share(index, 3))
        assert len(calls) == num_parts
    for index in range(3):  # late, or again: it was joined
        compute(EMBED, out, share=Share(index, 3))
    assert len(calls) == 5
    assert [path.name for path in (tmp_path / "out.csv.parts").glob("[!.]*")] == ["plan.json"]
    out.unlink()
    for index in range(3):
        compute(EMBED, out, share=Share(index, 3))
    assert out.exists() and len(calls) == 10


def test_more_shares_than_parts(compute, tmp_path, monkeypatch):
    calls = num_calls(monkeypatch, EmbedTask)
    for index in (0, 6, 1, 2, 3, 4, 5):
        compute(EMBED, tmp_path / "out.npy", share=Share(index, 7))
    assert len(calls) == 5 and (tmp_path / "out.npy").exists()


@pytest.mark.heavy
def test_what_shares_left_goes_on_in_other_numbers_of_shares_or_alone(compute, tmp_path, monkeypatch):
    compute(EMBED, tmp_path / "whole.csv")
    calls = num_calls(monkeypatch, EmbedTask)
    for out in (tmp_path / "other.csv", tmp_path / "alone.csv"):
        compute(EMBED, out, share=Share(0, 3))
    compute(EMBED, tmp_path / "other.csv", share=Share(0, 2))
    missing = "1 of 5 parts are missing: 1 of share 1/2"  # in the numbers that were given last
    assert Output.of(tmp_path / "other.csv").describe_missing() == missing
    compute(EMBED, tmp_path / "other.csv", share=Share(1, 2))
    compute(EMBED, tmp_path / "alone.csv", resume=True)
    assert len(calls) == 2 * 5
    assert (tmp_path / "other.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "alone.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.heavy
def test_another_plan_model_or_input_is_refused(compute, pairs, tmp_path):
    out = tmp_path / "out.csv"
    compute(SCORE, out, share=Share(0, 3))
    with pytest.raises(ValueError, match="the task differs"):
        compute(EMBED, out, share=Share(1, 3))
    with pytest.raises(ValueError, match="the kept columns differs"):
        compute(SCORE, out, share=Share(1, 3), given=reader(pairs, keep=("heavy",)))
    with pytest.raises(ValueError, match="the model differs"):
        compute(SCORE, out, share=Share(1, 3), dtype="bfloat16")
    lines = pairs.read_text().splitlines()
    lines[1] = lines[1].replace("Q", "E", 1)  # of a part that is not this share's
    (tmp_path / "other.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="the input differs"):
        compute(SCORE, out, share=Share(1, 3), given=tmp_path / "other.csv")
    (tmp_path / "moved.csv").write_bytes(pairs.read_bytes())
    for index in (1, 2):
        compute(SCORE, out, share=Share(index, 3), given=tmp_path / "moved.csv")
    assert out.exists()
    with pytest.raises(ValueError, match="the input differs"):  # what is finished is not overwritten unseen
        compute(SCORE, out, share=Share(1, 3), given=tmp_path / "other.csv")


@pytest.mark.heavy
def test_a_second_process_of_the_same_share_is_told_so(compute, tmp_path, monkeypatch):
    out, real = tmp_path / "out.csv", EmbedTask.table

    def table(*arguments):
        monkeypatch.setattr(EmbedTask, "table", real)
        with pytest.raises(
            ValueError, match=r"another process computes share 0/2 in .*out\.csv\.parts; wait"
        ):
            compute(EMBED, out, share=Share(0, 2))
        (tmp_path / "out.csv.parts" / ".part-000000.parquet.1.0123.tmp").write_text("still being written")
        compute(EMBED, out, share=Share(1, 2))  # which is let in, and cleans up nobody else's work
        (tmp_path / "out.csv.parts" / ".part-000000.parquet.1.0123.tmp").unlink()
        return real(*arguments)

    monkeypatch.setattr(EmbedTask, "table", table)
    compute(EMBED, out, share=Share(0, 2))
    compute(EMBED, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_shares_may_begin_at_the_same_moment(compute, tmp_path, monkeypatch):
    out, real = tmp_path / "out.csv", Path.glob

    def glob(folder, pattern):
        if pattern == "[!.]*":  # as one share looks into the folder, another begins in it
            monkeypatch.setattr(Path, "glob", real)
            compute(EMBED, out, share=Share(0, 2))
        return real(folder, pattern)

    monkeypatch.setattr(Path, "glob", glob)
    compute(EMBED, out, share=Share(1, 2))
    assert Path.glob is real and out.exists()


@pytest.mark.heavy
def test_two_joiners_make_one_file(compute, tmp_path, monkeypatch):
    out, real, calls = tmp_path / "out.csv", output.assemble, []

    def assemble(parts, path):
        calls.append(1)
        with pytest.raises(ValueError, match=r"another process joins the parts in .*out\.csv\.parts; wait"):
            join_parts(EMBED, out)
        compute(EMBED, out, share=Share(0, 2))  # does not wait for the other, nor join
        real(parts, path)

    monkeypatch.setattr(output, "assemble", assemble)
    for index in range(2):
        compute(EMBED, out, share=Share(index, 2))
    join_parts(EMBED, out)  # nothing is left to do
    assert len(calls) == 1
    monkeypatch.setattr(output, "assemble", real)
    compute(EMBED, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("who", ["a share", "join"])
@pytest.mark.heavy
def test_a_joiner_that_was_lost_holds_nobody_up(who, compute, tmp_path, monkeypatch):
    out, real = tmp_path / "out.csv", output.assemble

    def assemble(parts, path):
        path.with_name(f".{path.name}.1.2.tmp").write_text("half")
        raise OSError("the disk is full")

    monkeypatch.setattr(output, "assemble", assemble)
    compute(EMBED, out, share=Share(0, 2))
    with pytest.raises(OSError, match="the disk is full"):
        compute(EMBED, out, share=Share(1, 2))
    monkeypatch.setattr(output, "assemble", real)
    calls = num_calls(monkeypatch, EmbedTask)
    if who == "join":
        join_parts(EMBED, out)
    else:
        compute(EMBED, out, share=Share(0, 2))
    assert not calls and not list(tmp_path.glob(".*.tmp"))
    compute(EMBED, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_parts_that_are_missing_are_named_by_share(compute, tmp_path):
    out = tmp_path / "out.csv"
    with pytest.raises(ValueError, match=r"out\.csv\.parts holds no parts"):
        join_parts(EMBED, out)
    compute(EMBED, out, share=Share(0, 3))
    message = "3 of 5 parts are missing: 1, 4 of share 1/3; 2 of share 2/3"
    with pytest.raises(ValueError, match=message):
        join_parts(EMBED, out)
    assert Output.of(out).describe_missing() == message
    with pytest.raises(ValueError, match="the task differs"):
        join_parts(SCORE, out)


@pytest.mark.heavy
def test_bad_input_is_named_by_every_share_before_anything_is_computed(compute, pairs, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(pairs.read_text() + "bad,EVQLJ,DIQMT\n")
    for index in range(2):
        with pytest.raises(ValueError, match=r"record 11 \('bad'\), heavy chain, position 5: 'J'"):
            compute(EMBED, tmp_path / "out.csv", share=Share(index, 2), given=path)
    assert os.listdir(tmp_path) == ["pairs.csv"]
    for index in (1, 0):
        how = {"given": path, "keep_going": True, "report": tmp_path / "report.csv"}
        compute(EMBED, tmp_path / "out.csv", share=Share(index, 2), **how)
        assert (tmp_path / "report.csv").exists() == (index == 0)  # once is enough
    assert "bad" in (tmp_path / "out.skipped.csv").read_text()
    compute(EMBED, tmp_path / "whole.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def command(folder, pairs, out, *more, name="embed"):
    options = ["--records-per-part", 2, "--dtype", "float32", "--quiet", "--out", out]
    return list(map(str, [name, folder, pairs, *options, *more]))


@pytest.mark.heavy
def test_the_command_line(folder, pairs, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out.csv"
    assert main(command(folder, pairs, tmp_path / "whole.csv")) == 0
    assert main(command(folder, pairs, out, "--shard", "0/2")) == 0
    assert "share 0/2 is done; 2 of 5 parts are missing: 1, 3 of share 1/2\n" in capsys.readouterr().err
    assert main(command(folder, pairs, out, "--join")) == 2
    assert "1, 3 of share 1/2; run those shares again (--shard)\n" in capsys.readouterr().err
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert main(command(folder, pairs, out, "--shard", "env")) == 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert main(command(folder, pairs, out, "--join")) == 0
    assert main(command(folder, pairs, tmp_path / "one.csv", "--shard", "0/1")) == 0
    assert (tmp_path / "one.csv").read_bytes() == out.read_bytes()
    capsys.readouterr()
    for refused in (
        ["--shard", "2/2"],
        ["--shard", "1"],
        ["--join", "--shard", "0/2"],
        ["--join", "--resume"],
    ):
        assert main(command(folder, pairs, out, *refused)) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and refused[0] in error


# Killed in the midst of the second part of its share, or of the joining: half a file stays behind.
KILL = """
import os, signal
from curr_ab.inference import bulk, output
def end(path):
    path.with_name("." + path.name + ".1.0123.tmp").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
real, written = bulk.write_parquet, []
def write(path, table):
    written.append(path)
    end(path) if len(written) == 2 else real(path, table)
bulk.write_parquet = write
output.assemble = lambda parts, path: end(path)
"""
COMMANDS = {
    "embed": ["out.npy"],
    "score": ["out.csv", "--mode", "unmasked", "--alone"],
    "mutate": ["out.parquet", "--mode", "unmasked", "--part", "light"],
    "restore": ["out.tsv", "--method", "sample"],
    "predict": ["out.csv"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.slow
def test_a_share_that_is_killed_goes_on(name, folder, predictor, pairs, tmp_path):
    out, *more = COMMANDS[name]
    model = predictor if name == "predict" else folder
    whole = command(model, pairs, tmp_path / "whole" / out, *more, name=name)
    shares = command(model, pairs, tmp_path / "shares" / out, *more, name=name)
    assert main(whole) == 0
    killed = curr_ab(*shares, "--shard", "1/3", setup=f"exec({KILL!r})")
    assert subprocess.run(killed, check=False).returncode == -9
    folder_of_parts = tmp_path / "shares" / f"{out}.parts"
    assert [path.name for path in folder_of_parts.glob("part-*")] == ["part-000001.parquet"]
    for index in (0, 2, 1):
        assert main([*shares, "--shard", f"{index}/3"]) == 0
    assert everything(tmp_path / "shares") == everything(tmp_path / "whole")


@pytest.mark.slow
def test_a_joiner_that_is_killed_is_replaced(folder, pairs, tmp_path):
    whole, shares = (command(folder, pairs, tmp_path / name / "out.csv") for name in ("whole", "shares"))
    for index in range(4):
        assert main([*shares, "--shard", f"{index}/5"]) == 0
    killed = curr_ab(*shares, "--shard", "4/5", setup=f"exec({KILL!r})")
    assert subprocess.run(killed, check=False).returncode == -9
    assert not (tmp_path / "shares" / "out.csv").exists()
    joiners = [subprocess.Popen(curr_ab(*shares, "--join")) for _ in range(2)]
    assert 0 in [joiner.wait() for joiner in joiners]
    assert main(whole) == 0
    assert (tmp_path / "shares" / "out.csv").read_bytes() == (tmp_path / "whole" / "out.csv").read_bytes()


@pytest.mark.slow
def test_all_at_once_with_one_killed_at_random(folder, table, tmp_path):
    """Sixty pairs, three processes, the second of which dies after a few parts; one has two workers."""
    options = ["--records-per-part", "2", "--dtype", "float32", "--quiet", "--device", "cpu"]
    arguments = ["embed", str(folder), str(table), *options]
    out = tmp_path / "shares.parquet"
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "RANK": "2", "WORLD_SIZE": "3"}
    shares = [["0/3"], ["1/3"], ["env", "--processes", "2"]]

    def start(share):
        return subprocess.Popen(curr_ab(*arguments, "--out", out, "--shard", *share), env=one_thread)

    running = [start(share) for share in shares]
    first = tmp_path / "shares.parquet.parts" / "part-000001.parquet"
    deadline = time.monotonic() + 300
    while not first.exists() and running[1].poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(random.Random(0).uniform(0, 0.02))
    running[1].kill()
    assert running[1].wait() == -9
    running[1] = start(shares[1])
    assert [process.wait() for process in running] == [0, 0, 0]
    subprocess.run(curr_ab(*arguments, "--out", tmp_path / "whole.parquet"), env=one_thread, check=True)
    assert pq.read_metadata(out).num_rows == 60
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_launched_process_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert Checkpoint("8M-F").device_of() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert Checkpoint("8M-F").device_of() == torch.device("cuda", 3)
    assert Checkpoint("8M-F").device_of(2) == torch.device("cuda", 1)
    assert Checkpoint("8M-F", device="cuda:2").device_of() == torch.device("cuda", 2)
