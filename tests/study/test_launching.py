"""Cells that are trained elsewhere: the commands, the Slurm script, and machines that will not do."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from curr_ab.cli.main import build_parser, main
from curr_ab.cli.study import StudyOptions, _going_on, _making, _resolve
from curr_ab.options import read_options
from curr_ab.pretraining.plan import resolve_plan
from curr_ab.study.cells import cells_of
from curr_ab.study.costs import costs_of
from curr_ab.study.folder import StudyFolder
from curr_ab.study.preset import change, read_preset
from curr_ab.study.processes import slots_of
from curr_ab.study.study import Work, run_study
from tests.study.conftest import MICRO, cell

Room = namedtuple("Room", "total used free")
# Says what it was asked for, and behind that the number of the job.
SBATCH = '#!/usr/bin/env bash\necho . >> "$0.jobs"; echo "$@" $(wc -l < "$0.jobs")\n'


@pytest.fixture
def paper(prepared, monkeypatch):
    """The published preset, on data that are there, and on a disk that is large enough."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: Room(10**15, 0, 10**15))
    return change(read_preset("paper"), ["*.checkpoint_every=0", "launch.max_parallel=4"])


def elsewhere(paper, prepared, path, launcher):
    lines = []
    outcome = run_study(paper, path, data=prepared, launcher=launcher, command="AGAIN", say=lines.append)
    assert not outcome.launched and set(outcome.states.values()) == {"waiting"}
    assert lines[-1] == "# when all have ended, this makes the rest: AGAIN"
    return lines


def test_commands_are_printed_with_the_cost_before_them(paper, prepared, tmp_path):
    plan, commands, _ = elsewhere(paper, prepared, tmp_path / "study", "print")
    rows = plan.splitlines()
    assert rows[10].split()[:4] == ["350M-F", "355,252,514", "40", "500,000"]
    assert re.match(r"15 cells, 3\.\d+e\+20 FLOPs: \d+ hours of one GPU \(H200\)", rows[-1])
    assert rows[0].split()[7:9] == ["GPUs", "GPU-hours"]
    gpus = {row.split("-")[0]: int(row.split()[7]) for row in rows[1:-1]}
    assert gpus == {"8M": 1, "35M": 1, "150M": 2, "350M": 4, "650M": 4}
    assert len(commands.splitlines()) == 15
    for line, name in zip(commands.splitlines(), [row.split()[0] for row in rows[1:-1]], strict=True):
        python, flag, module, *words = shlex.split(line)
        assert (python, flag) == (sys.executable, "-m")
        if gpus[name.partition("-")[0]] == 1:  # without a launcher, which would not pass signals on
            assert module == "curr_ab"
        else:
            assert module == "accelerate.commands.launch"
            launched = launch_command_parser().parse_args(words)
            assert launched.multi_gpu and launched.num_processes == gpus[name.partition("-")[0]]
            assert launched.module and launched.training_script == "curr_ab"
            words = launched.training_script_args
        verb, plan_flag, file, out_flag, out = words
        assert (verb, plan_flag, out_flag) == ("pretrain", "--plan", "--out")
        assert out == str(cell(tmp_path / "study", name).run.path)
        plan = resolve_plan({}, [file])
        assert (plan.member, plan.steps, plan.data) == (name, 500_000, str(prepared))


def test_what_is_launched_is_the_trainer(tmp_path):
    """With the module's name, because an installed package has no train_scripts."""
    words = [sys.executable, "-m", "curr_ab", "pretrain", "--plan", str(tmp_path / "none.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "curr-ab: " in done.stderr and "none.yaml" in done.stderr


def test_the_slurm_script_trains_the_cell_of_its_task(paper, prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # where sbatch is not
    four = change(paper, ["launch.gpus_per_cell=4"])
    _, told, submitted, _ = elsewhere(four, prepared, tmp_path / "a study", "slurm")
    script = tmp_path / "a study" / "slurm.sh"
    assert told == f"{script}: 15 cells, a task of the array each"
    assert submitted.startswith("sbatch is not on this machine; the script is")
    subprocess.run(["bash", "-n", str(script)], check=True)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script.read_text(), re.MULTILINE))
    assert options["array"] == "0-14%4" and options["gpus-per-node"] == "4"
    assert options["time"] == "2-00:00:00" and options["signal"] == "B:TERM@300" and options["requeue"] == ""
    # Run with an srun that tells what it was asked for.
    (tmp_path / "srun").write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "9"}
    words = subprocess.check_output(["bash", str(script)], text=True, env=environment).splitlines()
    assert words[words.index("--plan") + 1] == f"{tmp_path}/a study/cells/350M-F/plan.yaml"
    assert words[words.index("--out") + 1] == f"{tmp_path}/a study/cells/350M-F/run"


@pytest.mark.parametrize("limit", ["0", "4"])
def test_cells_of_one_number_of_gpus_are_an_array(paper, prepared, tmp_path, monkeypatch, limit):
    """With a limit each waits for the one before, because Slurm limits every array on its own."""
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = tmp_path / "study"
    causal = [f"launch.max_parallel={limit}"]
    causal += ["transfer.clm_steps=[9]", "transfer.mlm_steps=[9]"]
    told = []
    how = {"data": prepared, "launcher": "slurm", "only": ["8M-F", "35M-F", "150M-F", "650M-F"]}
    run_study(change(paper, causal), path, **how, say=told.append)
    _, *lines, _ = told
    names = [f"slurm{after}-{gpus}-gpus.sh" for after in ("", "-after") for gpus in (1, 2, 4)]
    assert [line.partition(":")[0] for line in lines[::2]] == [str(path / name) for name in names]
    waits_for = [0, 0, 0, 1, 2, 3] if limit == "0" else range(6)
    for job, (line, name, sent) in enumerate(zip(lines[::2], names, lines[1::2], strict=True), start=1):
        script = (path / name).read_text()
        assert f"--gpus-per-node={name.split('-')[-2]}\n" in script
        assert len(re.search(r"^cells=\((.*)\)$", script, re.M)[1].split()) == int(line.split()[1])
        first = waits_for[job - 1]
        assert (f"to begin when {path / names[first - 1]} has ended" in line) == (first > 0)
        assert sent == f"--dependency=afterany:{first} " * (first > 0) + f"{path / name} {job}"


def test_on_this_machine_cells_of_one_number_of_gpus_share_it(paper, prepared, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr(
        "curr_ab.study.study.run_cells", lambda tasks, slots, show: ran.append((list(tasks), slots))
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cells = cells_of(paper, prepared, tmp_path)
    work = Work(StudyFolder(tmp_path), paper, cells, costs_of(cells, paper.data.subsets), "")
    work.run(cells, None)
    assert [len(names) for names, _ in ran] == [6, 3, 6]
    assert [[slot["CUDA_VISIBLE_DEVICES"] for slot in slots] for _, slots in ran] == [
        ["0,1,2,3"],
        ["0,1", "2,3"],
        ["0", "1", "2", "3"],
    ]
    assert {name.partition("-")[0] for name in ran[2][0]} == {"8M", "35M"}


def test_the_slurm_scripts_of_the_repository_take_the_gpus_of_the_size(tmp_path):
    """With an sbatch that tells what it was asked for, and the package's own table of members."""
    curr_ab = f'#!/usr/bin/env bash\nexec {sys.executable} -m curr_ab "$@"\n'
    for name, text in {"sbatch": '#!/usr/bin/env bash\necho "$@"\n', "curr-ab": curr_ab}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())}
    folder = Path(__file__).parents[2] / "train_scripts" / "slurm"
    words = ["bash", str(folder / "one_member.sh"), "150m-f", "data", "runs", "--seed", "7"]
    told = subprocess.check_output(words, text=True, env=environment)
    script = str(folder / "one_member.sh")
    assert told.split()[2:] == ["--gpus-per-node", "2", script, "150m-f", "data", "runs", "--seed", "7"]
    words[2] = "151M-F"
    refused = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert refused.returncode == 1 and "151M-F is no member" in refused.stderr and not refused.stdout


def test_the_slurm_script_is_submitted_where_slurm_is(paper, prepared, tmp_path, monkeypatch):
    (tmp_path / "sbatch").write_text('#!/usr/bin/env bash\necho "Submitted batch job 7: $1"\n')
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path, paper = tmp_path / "study", change(paper, ["launch.gpus_per_cell=4"])
    assert elsewhere(paper, prepared, path, "slurm")[2] == f"Submitted batch job 7: {path / 'slurm.sh'}"
    (tmp_path / "sbatch").write_text("#!/usr/bin/env bash\necho no such partition >&2; exit 1\n")
    with pytest.raises(ValueError, match="no such partition"):
        elsewhere(paper, prepared, path, "slurm")


def test_without_gpus_the_paper_is_refused_with_the_way_out(paper, prepared, tmp_path):
    with pytest.raises(ValueError, match=r"trains on 4 GPUs and this machine has 0.*the launcher slurm"):
        run_study(paper, tmp_path / "study", data=prepared, say=lambda line: None)


def test_what_was_trained_elsewhere_is_reported_while_a_cell_is_missing(study, capsys):
    path, _ = study
    evaluated, missing = cell(path, "8M-F"), cell(path, "8M-Q")
    evaluated.state_file.unlink()
    evaluated.results_file.unlink()
    for folder in (missing.path, path / "exports" / "CurrAb-8M-Q", path / "exports" / "CurrAb-8M-F"):
        shutil.rmtree(folder)
    words = ["study", "--out", str(path), "--set", "launch.gpus_per_cell=99"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert (
        "4 cells (3 done, 1 waiting), 3 exports" in told and "FAILED  8M-Q: not trained yet: a cell" in told
    )
    states = {one["member"]: one["state"] for one in json.loads((path / "report.json").read_text())["cells"]}
    assert states == {"8M-F": "done", "8M-Q": "waiting", "35M-F": "done", "35M-Q": "done"}
    # There is nothing to report of cells none of which is trained, and nothing to throw away for none.
    for more in (["--only", "8M-Q"], ["--restart", "35M-F"]):
        assert main([*words, *more]) == 2
        assert "trains on 99 GPUs and this machine has" in capsys.readouterr().err


def test_room_for_cells_by_gpus_or_cores(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    four = [{"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}]
    assert slots_of(8, 4, 16, 0) == four and slots_of(8, 4, 16, 1) == four[:1]
    assert slots_of(0, 0, 4, 0) == [{}, {}] and slots_of(0, 0, 1, 3) == [{}] * 3
    assert slots_of(2, 0, 4, 0) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert slots_of(2, 1, 1, 0) == [{"CUDA_VISIBLE_DEVICES": "5"}, {"CUDA_VISIBLE_DEVICES": "7"}]


def test_data_that_are_not_prepared_or_not_named_are_refused(make, tmp_path, capsys):
    words = ["study", "--preset", "paper", "--out", str(tmp_path / "study")]
    assert main(words) == 2 and main([*words, "--data", str(tmp_path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "data must name a folder of prepared pairs for the preset paper; got none" in errors[0]
    assert "holds no prepared data (dataset.json is missing); run `curr-ab data prepare`" in errors[1]
    assert not (tmp_path / "study").exists()


def test_subsets_that_the_data_do_not_have_are_refused(make, prepared, tmp_path):
    preset = make(data={"subsets": {"F": 1.0, "E": 0.1}})
    with pytest.raises(ValueError, match=r"has the subsets F, H, Q of train, not 'E'"):
        run_study(preset, tmp_path / "study", data=prepared, say=lambda line: None)


@pytest.mark.heavy
def test_a_dry_run_shows_cells_and_cost_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "--preset", "mini", "--dry-run", "--set", "*-Q.steps=70"]) == 0
    lines = capsys.readouterr().out.splitlines()
    preset = read_preset("mini")
    assert (lines[0], lines[-1]) == (preset.title, preset.takes)
    steps = str(preset.plan["steps"])
    assert [line.split()[2] for line in lines if line.startswith("8M-")] == [steps, steps, "70"]
    assert main(["study", "--dry-run", "--only", "8M-Q", "35M-F"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:5]] == ["8M-Q", "35M-F", "2"]
    for option in ("--only", "--restart"):
        assert main(["study", "--dry-run", option, "9M-F"]) == 2
        error = capsys.readouterr().err
        assert f"unknown cell in {option[2:]} '9M-F'; did you mean 8M-F? ({option})" in error
    assert list(tmp_path.iterdir()) == []


def test_too_little_disk_is_noticed_before_anything_is_trained(make, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Room(100, 0, 100))
    with pytest.raises(ValueError, match=r"needs about [\d.]+ MB, and the disk of .* has 100 B free"):
        run_study(make(), tmp_path / "study", say=lambda line: None)
    assert not (tmp_path / "study" / "cells").exists()


def test_a_folder_that_cannot_be_made_or_written_is_refused(make, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"file/study cannot be made \(Not a directory\); choose another folder"
    ):
        run_study(make(), tmp_path / "file" / "study", say=lambda line: None)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"study cannot be written to; choose another folder"):
        run_study(make(), tmp_path / "study", say=lambda line: None)


def test_the_command_takes_up_a_study_by_its_folder(study, capsys):
    path, preset = study
    assert main(["study", "--out", str(path)]) == 0
    out = capsys.readouterr().out
    assert "4 cells (4 done), 4 exports" in out and "next:" in out
    assert StudyFolder(path).preset == preset
    report = json.loads((path / "report.json").read_text())
    assert (
        report["command"] == f"curr-ab study --preset {path}/study.yaml --out {path}"
        and report["preset"] == MICRO["name"]
    )
    assert main(["study", "--out", str(path), "--only", "9M-F"]) == 2
    assert "unknown cell in only '9M-F'; did you mean 8M-F? (--only)" in capsys.readouterr().err


def resolved(words):
    options = read_options(build_parser().parse_args(words), StudyOptions)
    return options, *_resolve(options)


@pytest.mark.parametrize(
    "words",
    [
        ["--preset", "small"],
        ["--preset", "small", "--max-parallel", "1"],
        ["--set", "8M-F.steps=500", "--set", "*-Q.config={hidden_dropout_prob: 0.1}"],
        ["--preset", "paper", "--data", "my shards", "--only", "8M-F", "8M-H"],
    ],
)
@pytest.mark.heavy
def test_the_commands_that_are_told_make_the_study_again_and_go_on(words, tmp_path):
    """One in a fresh folder, whichever command went on with the study; the other where the study lies."""
    path = tmp_path / "a study"
    args, out, preset = resolved(["study", *words, "--out", str(path)])
    first = _making(args, out, preset)
    StudyFolder(path).record(preset)
    program, *again = shlex.split(_going_on(args, out))
    args, out, preset = resolved(again)
    assert "--preset" not in again and preset == StudyFolder(path).preset and program == "curr-ab"
    assert args.data == (Path("my shards") if "--data" in words else None)
    assert args.only == (("8M-F", "8M-H") if "--only" in words else ())
    for told in (first, _making(args, out, preset)):
        args, out, made = resolved(shlex.split(told)[1:])
        assert (replace(made, launch=preset.launch), out) == (preset, path) and args.only == ()
    assert ("--preset small" in told) == ("small" in words)  # its name, where it says all
