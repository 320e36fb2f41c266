"""Real readers, baselines and models together, in one process and in two."""

import pytest

from curr_ab.benchmark.plan import BenchmarkPlan, read_suite
from curr_ab.benchmark.run import run_benchmark
from curr_ab.cli.main import main
from curr_ab.files import file_digest
from curr_ab.finetuning import plant


@pytest.fixture(scope="module")
def natives(tmp_path_factory):
    path = tmp_path_factory.mktemp("natives") / "natives.csv"
    plant("pairing", 100).to_pandas().to_csv(path, index=False)
    return path


@pytest.mark.heavy
def test_models_side_by_side_give_the_same(natives, tmp_path):
    suite = read_suite("pairing", [str(natives)])
    models = ["baseline:gene-pairs", "baseline:cdr3", "baseline:lost"]
    files = []
    for jobs in (1, 2):
        plan = BenchmarkPlan(jobs=jobs, baselines=False)
        found = run_benchmark(suite, models, tmp_path / str(jobs), plan)
        assert [one.model for one in found.failures] == ["baseline:lost"] * len(found.tasks)
        assert len(found.standings[0].entries) == 2
        files.append([file_digest(path) for path in sorted(found.folder.rglob("*.json"))])
    assert files[0] == files[1]


@pytest.mark.heavy
def test_a_suite_of_two_tasks_with_the_model_of_the_package(natives, tmp_path, capsys):
    suite = natives.with_name("suite.yaml")
    suite.write_text(
        "models: [demo]\n"
        "tasks:\n"
        "  - {task: pairing, data: natives.csv, folds: 3}\n"
        "  - {task: loss, data: natives.csv}\n"
    )
    out = tmp_path / "out"
    words = ["benchmark", str(suite), "--out", str(out), "--pairs", "40", "--mode", "unmasked"]
    assert main([*words, "--no-baselines"]) == 0
    said = capsys.readouterr()
    assert "CurrAb-demo" in said.out and str(out / "report.html") in said.out
    assert (out / "loss-natives" / "table.csv").is_file() and (out / "cards").is_dir()
    assert main([*words, "--no-baselines"]) == 0
    assert "measured already" in capsys.readouterr().err


def test_a_suite_with_a_mistake_is_named(tmp_path):
    suite = tmp_path / "suite.yaml"
    for text, message in {
        "tasks: []": "tasks must be a list",
        "tasks: [{task: pairing}]": "must have task and data",
        "tasks: [{task: pairing, data: x.csv, fold: 3}]": "did you mean folds",
        "modells: [demo]\ntasks: [{task: pairing, data: x.csv}]": "remove it",
    }.items():
        suite.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_suite(str(suite))
