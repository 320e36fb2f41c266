"""Models are told apart by what they see; nothing is measured twice, and one failure loses nothing else."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.benchmarks import PlantedPeer, planted

from curr_ab.benchmark import run as run_module
from curr_ab.benchmark import scores as scores_module
from curr_ab.benchmark import works as works_module
from curr_ab.benchmark.peers.options import PeerOptions
from curr_ab.benchmark.plan import BenchmarkPlan, Suite, TaskRequest
from curr_ab.benchmark.predictions import guess
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.cli.main import main
from curr_ab.files import file_digest
from curr_ab.results import read_results
from curr_ab.words import UNKNOWN_LABEL

SUPERVISED = ("classes", "pairing", "number", "residues")
CHANCE = {"classes": 0.5, "pairing": 0.5, "number": 0.0, "ranking": 0.0}


def intervals(found, task=0):
    return {entry.name: entry.interval for entry in found.standings[task].entries}


@pytest.mark.parametrize("kind", [*SUPERVISED, "ranking", "loss"])
def test_a_planted_signal_is_found_by_who_can_see_it(bench, seeing, blind, kind):
    found = bench([planted(kind)], [seeing, blind], shots=(8,), repeats=2)
    assert found.failures == ()
    standing = found.standings[0]
    assert standing.entries[0].name == "seeing"
    test = standing.test(standing.entries[0], next(one for one in standing.entries if one.name == "blind"))
    assert test.p_holm < 0.01
    if kind in CHANCE:
        assert standing.entries[0].interval.low > CHANCE[kind] + 0.1
        assert intervals(found)["blind"].low <= CHANCE[kind]


@pytest.mark.parametrize("kind", CHANCE)
def test_shuffled_labels_are_chance(bench, seeing, kind):
    held = 0
    for seed in range(6):
        task = planted(kind, seed=seed, shuffled=True, name=f"shuffled-{seed}")
        one = intervals(bench([task], [seeing], shots=()))["seeing"]
        held += one.low <= CHANCE[kind] <= one.high
    assert held >= 5  # of 6 intervals that hold 95 %


def test_shuffled_residues_are_chance(bench, seeing):
    task = replace(planted("residues", shuffled=True), metric="auroc")
    one = intervals(bench([task], [seeing]))["seeing"]
    assert one.low <= 0.5 <= one.high


def test_folds_of_different_means_rank_nothing(bench, seeing):
    """The mean of a training part is low where that of the test part is high: ranked, it would be wrong."""
    task = planted("number", shuffled=True)
    labels = task.labels + 2.0 * (np.arange(len(task)) // 2 % 5)
    found = intervals(bench([replace(task, labels=labels)], [seeing]))
    assert found["baseline:guess"].value == 0
    assert found["seeing"].high > -0.2  # not what the means would make of it, -0.9


def test_residues_stand_beside_their_neighbours(monkeypatch, tmp_path):
    """A baseline that sees letters finds what they decide; the guess does not."""
    task = planted("residues")
    monkeypatch.setattr(works_module, "read_task", lambda name, files, options: (task,))
    (tmp_path / "out").mkdir()
    (left := tmp_path / "out" / ".plan.json.77.0123abcd.tmp").write_text("of a killed process")
    found = run_module.run_benchmark(Suite((TaskRequest("planted", ()),)), [], tmp_path / "out")
    assert found.failures == () and not left.exists()
    best, guess = found.standings[0].entries
    assert (best.name, guess.name) == ("baseline:residue-windows", "baseline:guess")
    assert best.interval.low > guess.interval.high


def test_variants_stand_beside_what_they_have_in_common(monkeypatch, tmp_path):
    """One-hot says of variants what they share, and after a few were shown how their letters count."""
    task = planted("ranking")
    monkeypatch.setattr(works_module, "read_task", lambda name, files, options: (task,))
    plan = BenchmarkPlan(shots=(32,), repeats=2)
    found = run_module.run_benchmark(Suite((TaskRequest("planted", ()),)), [], tmp_path / "out", plan)
    assert found.failures == ()
    shown = {entry.name for entry in found.standings[0].entries if "spearman of 32 shots" in entry.others}
    assert shown == {f"baseline:{kind}" for kind in ("one-hot", "positions", "germline-distance")}


def test_the_guess_counts_known_residues_alone():
    task = planted("residues")
    labels = tuple((UNKNOWN_LABEL,) * 20 + one[20:] for one in task.labels)
    rows = np.concatenate(guess(replace(task, labels=labels)).values)
    assert rows.sum(axis=1) == pytest.approx(1)
    train, _ = task.folds[0]  # the first pair is of its test part
    assert rows[0, 1] == pytest.approx(np.mean([labels[row][20:] for row in train]))


def test_few_shots_are_measured_on_what_was_not_shown(bench, seeing):
    found = bench([planted("ranking")], [seeing], shots=(8, 32, 128), repeats=3)
    others = found.standings[0].entries[0].others
    assert set(others) == {"spearman of 8 shots", "spearman of 32 shots"}  # 128 would leave none to correlate
    assert others["spearman of 32 shots"] > 0.6


def test_losses_are_by_region(bench, seeing):
    others = bench([planted("loss")], [seeing]).standings[0].entries[0].others
    assert set(others) == {"loss of FWRH1", "loss of CDRL3"}
    assert others["loss of CDRL3"] == pytest.approx(1.0, abs=0.05)


def test_lower_is_better_where_the_task_says_so(bench, seeing):
    task = planted("ranking")
    turned = replace(task, labels=-task.labels, sign=-1)
    assert intervals(bench([turned], [seeing], shots=()))["seeing"].value > 0.7


def test_predictions_are_those_of_unseen_pairs(bench, seeing, tmp_path):
    task = planted("classes")
    [entry, _] = bench([task], [seeing]).standings[0].entries
    table = pq.read_table(entry.folder / "predictions.parquet").to_pydict()
    assert table["id"] == list(task.ids)
    assert table["group"] == list(task.groups)
    for number, (_, test) in enumerate(task.folds, start=1):
        assert [row for row, fold in enumerate(table["fold"]) if fold == number] == test.tolist()
    names = [task.label_names[label] for label in task.labels]
    assert table["label"] == names
    total = np.array(table["probability_no"]) + np.array(table["probability_yes"])
    assert total == pytest.approx(1)


def test_the_same_command_measures_nothing_again(bench, seeing, tmp_path):
    bench([planted("number")], [seeing])
    before = {path: file_digest(path) for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()}
    again = PlantedPeer()
    bench([planted("number")], [again])
    assert again.asked == []
    assert {path: file_digest(path) for path in before} == before


def test_other_labels_or_settings_are_measured_anew(bench, seeing, tmp_path):
    bench([planted("number")], [seeing])
    bench([planted("number", shuffled=True)], [seeing])
    assert seeing.asked == ["features", "features"]
    found = bench([planted("number")], [seeing], options=TaskOptions(seed=1))
    assert seeing.asked == ["features"] * 3
    assert len(found.standings[0].entries) == 2  # what was measured otherwise does not stand beside it


def test_what_a_killed_run_left_is_finished_to_the_bit(bench, seeing, blind, tmp_path, monkeypatch):
    tasks = [planted("number"), planted("classes")]
    whole = bench(tasks, [seeing, blind], out=tmp_path / "whole")
    write, written = run_module.write_entry, []

    def write_some(*arguments, **options):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(write(*arguments, **options))

    monkeypatch.setattr(run_module, "write_entry", write_some)
    with pytest.raises(KeyboardInterrupt):
        bench(tasks, [seeing, blind], out=tmp_path / "killed")
    monkeypatch.setattr(run_module, "write_entry", write)
    bench(tasks, [seeing, blind], out=tmp_path / "killed")
    for path in whole.folder.rglob("*"):
        if path.is_file() and path.name != ".lock":
            other = tmp_path / "killed" / path.relative_to(whole.folder)
            assert file_digest(other) == file_digest(path), path


def test_one_failure_loses_no_other_model(bench, seeing, tmp_path):
    found = bench([planted("number"), planted("loss")], [PlantedPeer("broken", fails=True), seeing])
    assert [(one.model, one.task) for one in found.failures] == [
        ("broken", "planted-number"),
        ("broken", "planted-loss"),
    ]
    assert found.failures[0].reason == "out of memory on the device"
    assert json.loads((tmp_path / "out" / "failed.json").read_text())[0]["model"] == "broken"
    assert {entry.name for entry in found.standings[0].entries} == {"seeing", "baseline:guess"}
    mended = bench([planted("number"), planted("loss")], [PlantedPeer("broken"), seeing])
    assert mended.failures == () and json.loads((tmp_path / "out" / "failed.json").read_text()) == []


def test_a_killed_worker_loses_no_other_model(bench, seeing, blind, monkeypatch):
    class Killed(run_module.Workers):
        def completed(self, function, tasks, **options):
            done = super().completed(function, tasks, **options)
            yield next(done)
            raise ChildProcessError("a worker process was killed; " + self._after_a_kill)

    monkeypatch.setattr(run_module, "Workers", Killed)
    found = bench([planted("number"), planted("loss")], [seeing, blind], baselines=False)
    assert {entry.name for entry in found.standings[0].entries} == {"seeing"}
    assert [(one.model, one.task) for one in found.failures] == [
        ("blind", "planted-number"),
        ("blind", "planted-loss"),
    ]
    assert "fewer processes with --jobs" in found.failures[0].reason


def test_a_metric_that_is_not_defined_is_left_out(bench, monkeypatch, seeing):
    real = scores_module.score

    def without_pearson(metric, *arguments):
        if metric.configuration == "pearson":
            raise ValueError("all numbers are equal")
        return real(metric, *arguments)

    monkeypatch.setattr(scores_module, "score", without_pearson)
    found = bench([planted("number")], [seeing])
    assert found.failures == ()
    assert set(found.standings[0].entries[0].others) == {"rmse"}


@pytest.mark.parametrize(
    ("kind", "labels", "words"),
    [
        ("classes", lambda task: np.zeros(len(task), np.int64), "each class in two or more groups"),
        ("classes", lambda task: (np.arange(len(task)) < 2).astype(np.int64), "each class in two or more"),
        (
            "number",
            lambda task: (np.arange(len(task)) < 9).astype(float),
            "different numbers in four or more",
        ),
    ],
)
def test_a_task_without_a_score_is_refused_before_any_model(bench, seeing, kind, labels, words):
    task = planted(kind)
    with pytest.raises(ValueError, match=rf"planted-{kind} must have {words}"):
        bench([replace(task, labels=labels(task))], [seeing])
    assert seeing.asked == []


def test_a_model_that_is_not_found_fails_alone(bench, seeing, monkeypatch):
    found = bench([planted("number")], [seeing])

    def find(name, **options):
        raise ValueError("no such model")

    monkeypatch.setattr(run_module, "find_peer", find)
    request = TaskRequest("planted", ())
    found = run_module.run_benchmark(Suite((request,)), ["lost"], found.folder)
    assert [(one.model, one.reason) for one in found.failures] == [("lost", "no such model")]
    assert {entry.name for entry in found.standings[0].entries} == {"seeing", "baseline:guess"}


def test_models_of_one_name_are_told_apart(bench, seeing, monkeypatch, tmp_path):
    bench([planted("number")], [seeing])
    other = PlantedPeer()
    monkeypatch.setattr(PlantedPeer, "digest", "f" * 64)
    names = [entry.name for entry in bench([planted("number")], [other]).standings[0].entries]
    assert sum(name.startswith("seeing ") for name in names) == 2 and "seeing ffffff" in names


def test_one_model_in_two_forms_stands_twice_and_baselines_once(bench, seeing, blind):
    """Also in several calls: each model has the form that it needs."""
    bench([planted("number")], [seeing], peer=PeerOptions(dtype="float32", form="chains"))
    bench([planted("number")], [seeing, blind], peer=PeerOptions(dtype="float32", form="linker"))
    found = bench([planted("number")], [blind], peer=PeerOptions(dtype="bfloat16", form="linker"))
    names = sorted(entry.name for entry in found.standings[0].entries)
    assert names == ["baseline:guess", "blind bfloat16", "blind float32", "seeing chains", "seeing linker"]


def test_a_task_that_stands_twice_is_refused(bench, seeing):
    with pytest.raises(ValueError, match=r"names of their own; got planted-number 2 times; rename a file"):
        bench([planted("number"), planted("number", seed=1)], [seeing])
    assert seeing.asked == []


def test_results_are_rows_that_cards_read(bench, seeing, tmp_path):
    bench([planted("number")], [seeing])
    rows = [row for row in read_results(tmp_path / "out" / "results.json") if row.model == "seeing"]
    assert {row.metric for row in rows} == {"spearman", "pearson", "rmse"}
    [row] = [row for row in rows if row.metric == "spearman"]
    assert row.standard_error > 0 and row.num_items == 120 and row.details["form"] == "planted"


@pytest.mark.parametrize(
    ("kind", "num_folds", "split", "probe"),
    [
        ("number", 5, "out-of-fold", "frozen features"),
        ("residues", 1, "test", "frozen features"),
        ("ranking", None, "all", None),
        ("loss", None, "all", None),
    ],
)
def test_results_say_what_they_are_of(bench, seeing, tmp_path, kind, num_folds, split, probe):
    task = planted(kind)
    task = replace(task, folds=(task.folds or ())[:num_folds] or None)
    found = bench([task], [seeing], options=TaskOptions(seed=3), pairs=100, jobs=1)
    for row in read_results(found.folder / "results.json"):
        assert row.split == split and row.details.get("probe") == (probe if row.model == "seeing" else None)
        assert row.source == "curr-ab benchmark planted --models seeing --data --seed 3 --pairs 100"


def test_the_command_of_a_result_has_no_folder_of_this_machine(tmp_path):
    data = tmp_path / "pairs.csv"
    request = TaskRequest("pairing", (str(data),))
    said = works_module._command(request, BenchmarkPlan(jobs=2), ["8M-F", f"{tmp_path}/mine", "me/model"])
    assert said == "curr-ab benchmark pairing --models 8M-F mine me/model --data pairs.csv"


def test_some_pairs_are_drawn_for_a_first_look(bench, seeing):
    found = bench([planted("number")], [seeing], pairs=60)
    assert len(found.tasks[0]) == 60 and found.standings[0].entries[0].num_items == 60
    assert "60 of 120 pairs were drawn" in found.tasks[0].notes
    assert found.tasks[0].folds is not None


@pytest.mark.parametrize("seed", range(4))
def test_each_test_part_keeps_each_class_in_a_first_look(seed):
    """A class of which each fold has three in 300."""
    task = planted("classes", count=1_500, seed=seed)
    rare = np.concatenate([test[:3] for _, test in task.folds])
    task = replace(task, labels=np.isin(np.arange(len(task)), rare).astype(np.int64))
    drawn = works_module._drawn(task, 60, seed)
    assert len(drawn) == 60 and len(drawn.folds) == 5
    for _, test in drawn.folds:
        assert sorted(np.bincount(drawn.labels[test])) == [2, 10]


def test_folds_that_a_first_look_would_empty_are_refused():
    task = planted("number", folds=40)
    with pytest.raises(ValueError, match=r"pairs must leave each of the 40 folds .*; got 20; take more"):
        works_module._drawn(task, 20, 0)


def test_leaks_of_pairs_that_were_not_drawn_are_not_told():
    task = planted("number")
    pairs = [*task.pairs]
    pairs[7], pairs[9] = pairs[0], pairs[1]
    task = replace(task, pairs=tuple(pairs), leaks=("pair0 and pair7", "pair1 and pair9"))
    for seed in range(6):
        drawn = works_module._drawn(task, 60, seed)
        both = {("pair0", "pair7"), ("pair1", "pair9")}
        kept = [f"{one} and {two} (the same pair)" for one, two in sorted(both) if {one, two} <= {*drawn.ids}]
        assert sorted(drawn.leaks) == kept


def test_the_command_fails_where_a_model_fails(bench, capsys, monkeypatch, tmp_path):
    bench([planted("number")], [])  # the doubles stay in place
    monkeypatch.setattr(run_module, "find_peer", lambda name, **options: PlantedPeer(name, fails=name == "b"))
    data = tmp_path / "data.csv"
    data.write_text("x\n")
    words = [
        "benchmark",
        "pairing",
        "--data",
        str(data),
        "--models",
        "a",
        "b",
        "--out",
        str(tmp_path / "run"),
    ]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--no-baselines"])
    assert stopped.value.code == 1
    said = capsys.readouterr()
    assert "planted-number: b failed: out of memory on the device" in said.err
    assert "a  +0." in said.out and (tmp_path / "run" / "report.html").exists()


def test_help_lists_the_suites(capsys):
    with pytest.raises(SystemExit):
        main(["benchmark", "--help"])
    said = capsys.readouterr().out
    for name in ("developability", "pairing", "loss"):
        assert f"\n  {name} " in said


def test_a_suite_that_does_not_exist_is_named(capsys, tmp_path):
    assert main(["benchmark", "paring", "--out", str(tmp_path)]) == 2
    assert "SUITE must be one of" in capsys.readouterr().err
