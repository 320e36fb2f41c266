"""Jobs on machines of the Hub: what the unmodified client sends, and what becomes of failed ones."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import yaml
from support.documents import blocks_of, commands_in, shell_lines

from curr_ab import __version__
from curr_ab.cli.main import main
from curr_ab.finetuning.recipe_files import resolve_recipe
from curr_ab.hub import job_start
from curr_ab.hub.job_folder import SETTINGS
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from tests.hub.conftest import WRITER, assert_no_token

pytestmark = [
    pytest.mark.heavy,  # a Hub, and clients of it, in processes of their own
    pytest.mark.skipif(not hasattr(huggingface_hub, "Volume"), reason="an early client has no volumes"),
]
OUT = "hf://buckets/curator/runs/350M-F"
PRETRAIN = ("pretrain", "350M-F", "--data", "hf://datasets/curator/pairs@v1.0/prepared", "--out", OUT)
TABLE = "hf://datasets/curator/pairs/labelled.csv"
FINETUNE = ("finetune", "pairing", "--model", "350M-F", "--data", TABLE, "--out", OUT)
JOB = ("--launcher", "jobs", "--flavor", "h200", "--install", f"curr-ab[train]=={__version__}")
TRACKER = "tracker-key-that-must-never-be-seen"


@pytest.fixture
def place(hub):
    """A Hub with a bucket, and with a data set that has a tag."""
    hub._call("POST", "buckets", {"name": "curator/runs"})
    client = (
        "import huggingface_hub as h; api = h.HfApi(); api.create_repo('curator/pairs', repo_type='dataset')"
    )
    client += "; api.create_tag('curator/pairs', tag='v1.0', repo_type='dataset')"
    hub.python(client)
    hub.state()
    return hub


def jobs(hub) -> list[dict]:
    return hub._call("GET", "jobs")


def end(hub, number: int, stage: str, **more: object) -> None:
    hub._call("POST", "jobs", {"number": number, "stage": stage, **more})


def words_after(command: list[str], word: str) -> list[str]:
    return command[command.index(word) + 1 :]


def test_a_pretraining_is_sent_as_a_job(place) -> None:
    said = place.run(
        *PRETRAIN, *JOB, "--steps", "40_000", "--secret", "HF_TOKEN", "WANDB_API_KEY", WANDB_API_KEY=TRACKER
    )
    (job,) = jobs(place)
    assert (job["dockerImage"], job["flavor"]) == ("python:3.12", "h200")
    assert (job["attempts"], job["timeoutSeconds"]) == (3, 86_400)
    assert job["secrets"] == {"HF_TOKEN": WRITER, "WANDB_API_KEY": TRACKER}
    Volume = huggingface_hub.Volume
    assert [Volume(**one) for one in job["volumes"]] == [
        Volume(type="bucket", source="curator/runs", mount_path="/hf/buckets/curator/runs", read_only=False),
        Volume(
            type="dataset",
            source="curator/pairs",
            mount_path="/hf/datasets/curator/pairs@v1.0",
            revision="v1.0",
            read_only=True,
        ),
    ]
    shell, flag, script, name, *command = job["command"]
    assert (shell, flag, name) == ("sh", "-c", "curr-ab")
    assert script == f"python -m pip install --quiet 'curr-ab[train]=={__version__}' && exec \"$@\""
    assert command[:4] == ["python", "-m", "curr_ab.hub.job_folder", "/hf/buckets/curator/runs/350M-F"]
    assert words_after(command, "--prepare")[0] == "/hf/datasets/curator/pairs@v1.0/prepared"
    assert words_after(command, "--")[:4] == ["python", "-m", "curr_ab", "pretrain"]
    # The plan goes along as a whole.
    plan = resolve_plan(yaml.safe_load(job["environment"][SETTINGS]))
    assert plan == resolve_plan({"member": "350M-F", "steps": 40_000, "data": "/tmp/curr-ab/data"})
    assert words_after(command, "--prepare")[1] == plan.data
    # Everything that the plan shows, before it starts.
    lines = said.splitlines()
    assert lines[0] == "machine   h200: Nvidia H200, 1 x H200 with 141 GB, 23 vCPU, 256 GB; $6.00 an hour"
    assert lines[1] == "limits    1d for each of 3 attempts, 1 job: at most $432.00"
    assert re.fullmatch(rf"pretrain 350M-F: {OUT}, about 1 h 3\d min and \$9\.\d\d", lines[4])
    assert lines[5] == "  volume  hf://buckets/curator/runs:/hf/buckets/curator/runs:rw"
    assert lines[7] == f"  command {shlex.join(job['command'])}"
    url = f"{place.endpoint}/jobs/curator/{0:024x}"
    assert lines[-1] == f"pretrain 350M-F: {url} is SCHEDULING; its log: hf jobs logs {0:024x} --follow"


def test_no_token_is_in_a_command_a_log_or_a_file(place, tmp_path) -> None:
    """What is said is searched by `run` itself, the folder of the server and of the clients here."""
    place.run(*FINETUNE, *JOB, "--secret", "HF_TOKEN", "KEY", KEY=TRACKER)
    (job,) = jobs(place)
    assert job.pop("secrets") == {"HF_TOKEN": WRITER, "KEY": TRACKER}
    assert WRITER not in json.dumps(job) and TRACKER not in json.dumps(job)
    assert_no_token(tmp_path)
    # A command that would show one is refused before it is shown.
    for words in (("--model", f"https://me:{WRITER}@hub/model"), ("--label-column", TRACKER)):
        for more in ((), ("--dry-run",)):
            said = place.run(*FINETUNE, *JOB, *words, *more, "--secret", "KEY", code=2, KEY=TRACKER)
            assert "the command of finetune pairing must not show the value of " in said
            assert said.count("\n") == 1 and TRACKER not in said
    assert len(jobs(place)) == 1


def test_machines_prices_and_the_dry_run(place) -> None:
    said = place.run(*PRETRAIN, *JOB, "--dry-run", token=None)
    assert "$6.00 an hour" in said and "$" in said.splitlines()[-1]
    assert jobs(place) == []
    state = place.state()
    assert {method for method, _, _ in state["log"]} == {"GET"}
    said = place.run(*PRETRAIN, "--launcher", "jobs", "--dry-run", code=2)
    assert (
        "flavor must name a machine for the launcher jobs; got none; choose one of cpu-basic, h200, a100x4"
        in said
    )
    said = place.run(*PRETRAIN, "--launcher", "jobs", "--flavor", "h2000", code=2)
    assert "unknown flavor 'h2000'; did you mean h200? (--flavor)" in said


def test_as_many_processes_as_gpus(place) -> None:
    place.run(*PRETRAIN, "--launcher", "jobs", "--flavor", "a100x4", "--install", "no", "--timeout", "12h")
    (job,) = jobs(place)
    assert job["command"][0] == "python" and job["timeoutSeconds"] == 43_200
    launch = words_after(job["command"], "--")
    assert launch[:4] == ["python", "-m", "accelerate.commands.launch", "--multi_gpu"]
    assert words_after(launch, "--num_processes")[0] == "4"
    assert launch[launch.index("curr_ab") - 1 :][:3] == ["-m", "curr_ab", "pretrain"]


def test_a_timeout_in_which_no_state_is_saved_is_refused(place) -> None:
    said = place.run(*PRETRAIN, *JOB, "--timeout", "5m", "--save-every", "50000", code=2)
    assert "timeout must be above the time in which a state is saved" in said
    assert said.rstrip().endswith("(--timeout, --save-every)")
    assert jobs(place) == []
    place.run(*PRETRAIN, *JOB, "--timeout", "5m", "--save-every", "50")
    assert len(jobs(place)) == 1


def test_a_finetuning_is_sent_as_a_job(place) -> None:
    place.run(
        *FINETUNE,
        *JOB,
        "--folds",
        "2",
        "--sheet",
        "first",
        "--install",
        "hf://buckets/curator/runs/w.whl[finetune]",
    )
    (job,) = jobs(place)
    assert "/hf/buckets/curator/runs/w.whl[finetune]" in job["command"][2]
    command = words_after(words_after(job["command"], "--"), "curr_ab")
    assert command[:4] == ["finetune", "/tmp/curr-ab/settings.yaml", "--model", "350M-F"]
    assert command[4:] == [
        *(
            "--data",
            "/hf/datasets/curator/pairs/labelled.csv",
            "--out",
            "/tmp/curr-ab/out",
            "--sheet",
            "first",
        )
    ]
    settings = yaml.safe_load(job["environment"][SETTINGS])
    assert settings == resolve_recipe("pairing", {"folds": 2}).to_dict()


def test_a_job_is_started_once_and_a_failed_one_goes_on_in_another(place) -> None:
    place.run(*FINETUNE, *JOB)
    for stage in ("SCHEDULING", "RUNNING"):
        end(place, 0, stage)
        assert f"is {stage} already" in place.run(*FINETUNE, *JOB)
    # Also another plan in the same folder would write beside it.
    other = place.run(*FINETUNE, *JOB, "--folds", "2")
    assert (
        "is RUNNING already, by another command or on other data: wait for it, end it with `hf jobs" in other
    )
    assert "by another command" not in place.run(*FINETUNE, *JOB)
    assert len(jobs(place)) == 1

    log = [
        "step 1,000",
        f"curr-ab: finetune: {WRITER} {TRACKER} the GPU ran out of memory; set pairs_per_micro_batch",
        "",
    ]
    end(place, 0, "ERROR", message="Job failed with exit code: 2", log=log)
    said = place.run(*FINETUNE, *JOB, "--secret", "HF_TOKEN", "KEY", KEY=TRACKER).splitlines()
    assert said[-2] == (
        f"finetune pairing: {place.endpoint}/jobs/curator/{0:024x} is ERROR (Job failed with exit code: 2): "
        "curr-ab: finetune: *** *** the GPU ran out of memory; set pairs_per_micro_batch; another goes on "
        f"from its last saved state; all it said: hf jobs logs {0:024x}"
    )
    assert said[-1].startswith(f"finetune pairing: {place.endpoint}/jobs/curator/{1:024x} is SCHEDULING")
    first, second = jobs(place)
    assert first["command"] == second["command"] and first["volumes"] == second["volumes"]

    end(place, 1, "COMPLETED")
    said = place.run(*FINETUNE, *JOB)
    assert f"has completed; what it left is in {OUT}; name another out to run it anew" in said
    assert len(jobs(place)) == 2
    place.run(*FINETUNE, *JOB, "--folds", "2")  # another command is another thing
    assert len(jobs(place)) == 3


def test_other_data_are_another_thing(place) -> None:
    """After a completed run on A, the same command with B is not done."""
    command = ("pretrain", "8M-F", "--out", OUT, *JOB)
    place.run(*command, "--data", "hf://buckets/curator/runs/A")
    end(place, 0, "COMPLETED")
    assert "has completed" in place.run(*command, "--data", "hf://buckets/curator/runs/A")
    assert "has completed" not in place.run(*command, "--data", "hf://buckets/curator/runs/B")
    assert len(jobs(place)) == 2


def test_all_attempts_see_the_data_of_one_commit(place) -> None:
    said = place.run(*FINETUNE, *JOB)
    client = "import huggingface_hub as h; print(h.HfApi().dataset_info('curator/pairs').sha)"
    commit = place.python(client).strip()
    (job,) = jobs(place)
    assert [one.get("revision") for one in job["volumes"]] == [None, commit]
    assert f"  volume  hf://datasets/curator/pairs@{commit}:/hf/datasets/curator/pairs" in said
    end(place, 0, "COMPLETED")
    change = (
        "h.upload_file(path_or_fileobj=b'1', path_in_repo='x', repo_id='curator/pairs', repo_type='dataset')"
    )
    place.python(f"import huggingface_hub as h; {change}")
    assert "has completed" not in place.run(*FINETUNE, *JOB)
    assert jobs(place)[1]["volumes"][1]["revision"] == place.python(client).strip() != commit


def test_a_job_of_the_account_is_seen_from_an_organisation(place) -> None:
    place.run(*FINETUNE, *JOB)
    assert "is SCHEDULING already" in place.run(*FINETUNE, *JOB, "--namespace", "brineylab")
    assert len(jobs(place)) == 1


def test_the_token_of_the_login_is_masked_where_it_is_no_secret_of_the_job(monkeypatch) -> None:
    """Also one that does not look like a token."""
    monkeypatch.setenv("HF_TOKEN", "odd-token")
    info = SimpleNamespace(
        id="1",
        url="URL",
        owner=SimpleNamespace(name="me"),
        status=SimpleNamespace(stage="ERROR", message=None),
    )
    api = SimpleNamespace(fetch_job_logs=lambda **_: ["got odd-token"])
    assert job_start._failure(api, info, {}).startswith("URL is ERROR: got ***; another goes on")


def test_what_is_not_known_of_the_machine_is_said(place) -> None:
    words = ("--launcher", "jobs", "--flavor", "cpu-basic", "--install", "no", "--timeout", "1m", "--dry-run")
    said = place.run(*PRETRAIN, *words)
    assert said.rstrip().endswith("nor is a timeout refused in which no state is saved")
    assert "nor is a timeout refused" not in place.run(*PRETRAIN, *JOB, "--dry-run")


def test_a_package_that_no_index_has_must_be_named(place) -> None:
    """The package of these tests is a checkout."""
    said = place.run(*FINETUNE, "--launcher", "jobs", "--flavor", "h200", "--dry-run", code=2)
    assert "install must be given where this package does not come from an index" in said
    assert said.rstrip().endswith("(--install)")


def test_an_answer_that_is_lost_starts_no_second_job(place) -> None:
    place.faults({"method": "POST", "path": "^/api/jobs/", "kind": "lost"})
    said = place.run(*FINETUNE, *JOB, code=2)
    assert said.rstrip().endswith("the same command sees whether the job has begun")
    assert "is SCHEDULING already" in place.run(*FINETUNE, *JOB)
    assert len(jobs(place)) == 1


def test_the_commands_of_the_docs(place) -> None:
    """As they stand but for the dry run; the study's data are of this machine."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "jobs.md"
    assert page.name == "jobs.md"
    lines = [line for block in blocks_of(page.read_text()) for line in shell_lines(block)]
    commands = [command for line in lines for command in commands_in(line)]
    assert [command.split()[0] for command in commands] == [
        "pretrain",
        "pretrain",
        "finetune",
        "study",
        "study",
    ]
    for command in commands[:3]:
        said = place.run(*shlex.split(command), *(() if "--dry-run" in command else ("--dry-run",)))
        assert "an hour" in said
    assert jobs(place) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--out", "hf://buckets/curator/none/x"),
            "the bucket curator/none must be on the Hub; got none: `hf b",
        ),
        (("--data", "hf://datasets/curator/none"), "the dataset curator/none must be on the Hub; got none"),
        (("--namespace", "brineylabs"), "You have no right to start jobs here"),
    ],
)
def test_what_the_hub_has_not_is_one_line(place, words, complaint) -> None:
    said = place.run(*FINETUNE, *JOB, *words, code=2)
    assert complaint in said.splitlines()[-1]
    assert jobs(place) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--out", "runs/x"),
            "out must be a folder in a bucket, hf://buckets/OWNER/NAME/FOLDER, for the lau",
        ),
        (("--out", "hf://datasets/a/b/x"), "out must be a folder in a bucket"),
        (("--data", "shards"), "data must be on the Hub for the launcher jobs, as hf://buckets/OWNER/NAME/F"),
        (("--data", "hf://curator/pairs"), "data must say what it is, as hf://models/OWNER/NAME or hf://d"),
        (("--model", "."), "model must be on the Hub for the launcher jobs"),
        (("--timeout", "soon"), "timeout must be as 90m, 12h or 2d; got 'soon' (--timeout)"),
        (("--attempts", "0"), "attempts must be at least 1; got 0 (--attempts)"),
        (("--secret", f"HF_TOKEN={WRITER}"), "secret must be the name of a variable; got something else"),
        (("--secret", WRITER), "secret must be the name of a variable; got something else"),
        (("--secret", "NOT_SET"), "secret NOT_SET must be set; got nothing: export NOT_SET, or leave it out"),
        (("--launcher", "local"), "flavor must be left out for the launcher local (--flavor, --launcher)"),
    ],
)
def test_what_cannot_be_a_job_is_one_line(capsys, words, complaint) -> None:
    assert main([*FINETUNE, *JOB, *words]) == 2
    said = capsys.readouterr()
    assert complaint in said.err and said.err.count("\n") == 1 and said.out == ""
    assert WRITER not in said.err


def test_an_early_client_is_named(capsys, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "run_job", lambda self, *, image, command, flavor=None: None)
    assert main([*FINETUNE, *JOB]) == 2
    said = capsys.readouterr().err
    assert "whose jobs have no volumes or attempts: pip install -U huggingface_hub (--launcher)" in said


def test_a_folder_in_a_bucket_is_for_jobs(capsys) -> None:
    assert main(["pretrain", "8M-F", "--data", "shards", "--out", OUT]) == 2
    said = capsys.readouterr().err
    assert f"out must be a folder of this machine for the launcher local; got {OUT}: choose" in said


def test_the_plan_of_a_run_is_all_that_a_job_needs() -> None:
    """`plan.yaml` in an environment variable is the plan, whatever it holds."""
    plan = PretrainingPlan(config={"hidden_dropout_prob": 0.1}, checkpoint_steps=(5, 7), trackers=("wandb",))
    assert resolve_plan(yaml.safe_load(yaml.safe_dump(plan.to_dict()))) == plan
