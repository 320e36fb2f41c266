"""A whole study: what it leaves, and what happens when a cell fails, dies, or is wanted otherwise."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import psutil
import pytest

from curr_ab.cli.main import main
from curr_ab.data.shards import TokenDataset
from curr_ab.hub.manifest import read_manifest
from curr_ab.results import checkpoint_digest, read_results
from curr_ab.study.cell_process import CellTask
from curr_ab.study.cells import CellFolder, cells_of
from curr_ab.study.folder import StudyFolder
from curr_ab.study.processes import run_cells
from curr_ab.study.study import Outcome, closing_words, run_study
from curr_ab.study.summary import read_summary
from tests.study.conftest import MICRO, cell, tables

NAMES = ["8M-F", "8M-Q", "35M-F", "35M-Q"]


def quiet(preset, path, **options):
    return run_study(preset, path, say=lambda line: None, **options)


def overall(results):
    (found,) = [row for row in results if row.details.get("place") == "all"]
    return found


def weights(path, name):
    return cell(path, name).run.checkpoint(12) / "model.safetensors"


def test_a_study_leaves_results_exports_law_and_report(finished):
    path, _ = finished
    summary = read_summary(path / "report.json")
    assert [one.member for one in summary.cells] == NAMES
    for one in summary.cells:
        folder = cell(path, one.member)
        loss = overall(folder.results())
        assert (loss.model, loss.task, loss.split) == (one.member, "test-loss", "test")
        assert loss.checkpoint == checkpoint_digest(folder.run.checkpoint(12))
        assert (one.state, one.loss, one.standard_error) == ("done", loss.value, loss.standard_error)
        assert [step for step, _ in one.training_curve] == [2, 4, 6, 8, 10, 12]
        assert [step for step, _ in one.held_out_curve] == [6, 12]
        assert one.region_losses["heavy CDR3"][0] > 0 and one.pairs == {"F": 40, "Q": 8}[one.data]
        export = path / one.export
        assert read_manifest(export).rehearsal and read_manifest(export).member == one.member
        assert read_results(export / "results.json") == folder.results()
        assert f"{loss.value:.4f}" in (export / "README.md").read_text()
    assert set(summary.baselines) == {"position-wise", "unigram"}
    assert [one.parameters for one in summary.cells][:2] == [overall_parameters(path, "8M-F")] * 2
    # Two sizes are no parabola: it says so instead of inventing a law.
    law = json.loads((path / "law.json").read_text())
    assert "not identifiable" in law["problem"] and "its parabola needs three" in law["problem"]
    assert "a rehearsal" in summary.notes[0]
    assert law["problem"] in (path / "report.md").read_text()
    assert (path / summary.law_figures["loss_by_size"]).is_file()


def overall_parameters(path, name):
    from safetensors.torch import load_file

    tensors = load_file(weights(path, name))
    return sum(tensor.numel() for key, tensor in tensors.items() if not key.endswith("inv_freq"))


def times(path, *patterns):
    return {p: p.stat().st_mtime_ns for pattern in patterns for p in path.glob(pattern) if p.is_file()}


@pytest.mark.slow
def test_a_study_of_two_draws_trains_on_pairs_of_their_own(make, tmp_path):
    data = {"sources": ["PAIRS"], "cluster": "source", "subsets": {"F": 6}, "draws": 2}
    preset = make(data=data, sizes={"8M": MICRO["sizes"]["8M"]}, plan={**MICRO["plan"], "steps": 2})
    outcome = quiet(preset, tmp_path)
    assert outcome.states == {"8M-F-draw1": "done", "8M-F-draw2": "done"}
    assert [path.name for path in outcome.exports] == ["CurrAb-8M-F"]
    details = [overall(cell(tmp_path, name).results()).details for name in outcome.states]
    assert [one["training_draw"] for one in details] == [1, 2]
    assert details[0]["unique_tokens"] != details[1]["unique_tokens"]
    summary = read_summary(tmp_path / "report.json")
    assert [(one.member, one.draw) for one in summary.cells] == [("8M-F", 1), ("8M-F", 2)]
    law = json.loads((tmp_path / "law.json").read_text())
    assert [row["unique_tokens"] for row in law["table"]] == [one["unique_tokens"] for one in details]
    times_before = times(tmp_path, "cells/*/run/**/*")
    assert quiet(preset, tmp_path).problems == {} and times(tmp_path, "cells/*/run/**/*") == times_before


def test_a_finished_study_is_left_as_it_is(study):
    path, preset = study
    before, found = times(path, "cells/*/run/**/*", "exports/*/*"), tables(path)
    outcome = quiet(preset, path)
    assert outcome.problems == {} and set(outcome.states.values()) == {"done"}
    assert len(outcome.exports) == 4
    assert times(path, "cells/*/run/**/*", "exports/*/*") == before
    assert tables(path) == found


def test_changed_evaluation_measures_anew_and_trains_nothing(study, make):
    path, _ = study
    before = {name: weights(path, name).stat().st_mtime_ns for name in NAMES}
    old = cell(path, "8M-F").results()
    evaluation = {"loss": {"pairs": 16, "draws": 2}, "pairing": {"method": "probe", "set": ["folds=2"]}}
    quiet(make(evaluation=evaluation), path, only=["8M-F"])
    new = cell(path, "8M-F").results()
    assert overall(new).num_items > overall(old).num_items
    assert read_results(path / "exports" / "CurrAb-8M-F" / "results.json") == new
    assert {name: weights(path, name).stat().st_mtime_ns for name in NAMES} == before
    # The others were not asked for: their numbers are of other options, and not shown beside these.
    cells = read_summary(path / "report.json").cells
    (accuracy,) = [
        row for row in new if row.metric == "accuracy" and not {"fold", "pairs"} & row.details.keys()
    ]
    assert cells[0].pairing == (accuracy.value, accuracy.standard_error)
    states = {one.member: one.state for one in cells}
    assert states == {"8M-F": "done", "8M-Q": "waiting", "35M-F": "waiting", "35M-Q": "waiting"}


def test_a_changed_plan_is_refused_and_restart_is_the_way_out(study, make):
    path, _ = study
    found = tables(path)
    changed = make(cells={"35M-Q": {"seed": 7}})
    with pytest.raises(ValueError, match=r"35M-Q: seed 42 → 7.*restart 35M-Q"):
        quiet(changed, path)
    assert tables(path) == found
    before = {name: weights(path, name).stat().st_mtime_ns for name in NAMES}
    lost = path / "exports" / "CurrAb-8M-F" / "manifest.json"
    lost.unlink()
    quiet(changed, path, restart=["35M-Q"])
    assert lost.is_file()
    again = {name: weights(path, name).stat().st_mtime_ns for name in NAMES}
    assert [name for name in NAMES if again[name] != before[name]] == ["35M-Q"]
    manifest = read_manifest(path / "exports" / "CurrAb-35M-Q")
    assert manifest.weights == checkpoint_digest(weights(path, "35M-Q").parent)
    assert make().to_dict() != StudyFolder(path).preset.to_dict() == changed.to_dict()


def test_other_data_are_refused(study, make, prepared):
    path, preset = study
    with pytest.raises(ValueError, match=r"begun with other data \(subsets .*'Q': 8.*'Q': 9"):
        quiet(make(data={**MICRO["data"], "subsets": {"F": 40, "Q": 9}}), path)
    with pytest.raises(ValueError, match="8M-F was trained on other data than these"):
        quiet(preset, path, data=prepared)


def test_a_command_that_is_refused_does_not_bind_the_folder(make, tmp_path):
    """Neither by a typo, nor by data on which nothing was trained."""
    path = tmp_path / "study"
    with pytest.raises(ValueError, match="hidden_size"):
        quiet(make(sizes={"8M": {**MICRO["sizes"]["8M"], "num_attention_heads": 3}}), path)
    typo = make(data={**MICRO["data"], "subsets": {"F": 40, "Q": 8_000}})
    with pytest.raises(ValueError, match="wants 8,000 pairs"):
        quiet(typo, path)
    assert StudyFolder(path).preset is None
    with pytest.raises(ValueError, match="trains on 99 GPUs"):
        quiet(make(data={**MICRO["data"], "subsets": {"F": 40, "Q": 4}}, launch={"gpus_per_cell": 99}), path)
    preset = make(data={**MICRO["data"], "subsets": {"F": 40, "Q": 6}})
    quiet(preset, path, launcher="print")
    assert StudyFolder(path).preset == preset
    assert TokenDataset(path / "data").index["subsets"] == {"F": 40, "Q": 6}


def test_two_processes_do_not_work_on_one_study(study):
    path, preset = study
    with StudyFolder(path).claimed(), pytest.raises(ValueError, match="another process makes the study in"):
        quiet(preset, path)


def test_a_failed_cell_stops_no_other_and_is_named_at_the_end(make, tmp_path, capsys):
    path = tmp_path / "study"
    sizes = {f"own-{n}": {**MICRO["sizes"]["8M"], "hidden_size": 16 * n} for n in (1, 2, 3)}
    diverging = {"own-2-Q": {"peak_learning_rate": 1e30, "max_gradient_norm": 1e30}}
    outcome = quiet(make(sizes=sizes, cells=diverging), path)
    assert {name for name, state in outcome.states.items() if state == "failed"} == {"own-2-Q"}
    (problem,) = outcome.problems.values()
    assert "A lower peak_learning_rate" in problem
    log = cell(path, "own-2-Q").log_file
    assert str(log) in problem and "A lower peak_learning_rate" in log.read_text()
    (failed,) = [one for one in read_summary(path / "report.json").cells if one.state == "failed"]
    assert failed.problem in problem and failed.loss is None
    assert "own-2-Q: failed, loss" in capsys.readouterr().out
    told = "\n".join(closing_words(path, outcome, "AGAIN"))
    assert "6 cells (5 done, 1 failed), 0 exports" in told and f"FAILED  own-2-Q: {problem}" in told
    # The trainer's advice is a new folder; in a study the cell begins anew.
    assert "this study: AGAIN --restart own-2-Q --set own-2-Q.peak_learning_rate=NUMBER" in told
    # The law does without it, and says what it did not have.
    law = json.loads((path / "law.json").read_text())
    assert len(law["table"]) == 5 and "needs three" in law["problem"]
    outcome = quiet(make(sizes=sizes), path, restart=["own-2-Q"])
    assert set(outcome.states.values()) == {"done"} and outcome.problems == {}


def task(folder, make, prepared, *command):
    (plan, *_) = [one.plan for one in cells_of(make(data={"subsets": {"F": 40}}), prepared)]
    return CellTask(CellFolder(folder), "8M-F", plan, {}, {}, 1, command=command)


@pytest.mark.heavy
def test_processes_that_die_or_fail_leave_a_reason(make, prepared, tmp_path):
    started = tmp_path / "started"
    script = f"sleep 1000 & echo $! > {started}; kill -9 $PPID; wait"
    killed = task(tmp_path / "killed", make, prepared, "bash", "-c", script)
    ended = task(tmp_path / "ended", make, prepared, "bash", "-c", "echo no such device; exit 3")
    seen = []
    run_cells({"killed": killed, "ended": ended}, [{}, {}], lambda names: seen.append(sorted(names)))
    assert killed.folder.problem == (
        "its process was killed (signal 9; out of memory?); the same command goes on, with fewer cells at a "
        "time (--max-parallel) in less memory"
    )
    pid = int(started.read_text())  # what a killed cell had started is not left either
    assert psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=30)[1] == []
    assert ended.folder.problem == "bash ended with status 3: no such device"
    assert seen[0] == ["ended", "killed"] and seen[-1] == []


@pytest.mark.slow
def test_cells_are_spawned_where_there_is_no_fork_server(make, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    ended = task(tmp_path / "ended", make, prepared, "bash", "-c", "echo no such device; exit 3")
    run_cells({"ended": ended}, [{}], lambda names: None)
    assert ended.folder.problem == "bash ended with status 3: no such device"


@pytest.mark.heavy
def test_slots_are_kept_and_cells_get_their_gpus(make, prepared, tmp_path):
    tasks = {
        str(n): task(
            tmp_path / str(n), make, prepared, "bash", "-c", "echo got $CUDA_VISIBLE_DEVICES; exit 1"
        )
        for n in range(3)
    }
    most = []
    slots = [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]
    run_cells(tasks, slots, lambda names: most.append(len(names)))
    assert max(most) == 2
    got = {one.folder.problem.rpartition("got ")[2] for one in tasks.values()}
    assert got == {"0,1", "2,3"}


def test_the_next_commands_work(finished, capsys):
    """As they are printed, but that nothing is published."""
    path, _ = finished
    best = min(read_summary(path / "report.json").cells, key=lambda one: one.loss)
    outcome = Outcome(dict.fromkeys(NAMES, "done"), {}, (path / best.export,))
    lines = closing_words(path, outcome, "AGAIN")
    load, score, publish = (line.strip() for line in lines[lines.index("next:") + 1 :])
    assert str(path / best.export) in load and str(path / best.export) in score
    python, flag, code = shlex.split(load)
    assert Path(python).resolve() == Path(sys.executable).resolve() and flag == "-c"
    exec(code, {})
    assert capsys.readouterr().out.startswith("CurrAbForMaskedLM(")
    assert main([*score.split()[1:], "--quiet"]) == 0
    assert len((path / "scores.csv").read_text().splitlines()) == 2
    assert publish.endswith(f"publish {path}/exports/* --namespace YOUR-NAME --dry-run")
    (path / "scores.csv").unlink()


@pytest.mark.parametrize("refused_by", ["another cell's plan", "disk", "GPUs"])
def test_a_restart_that_is_refused_throws_nothing_away(study, make, monkeypatch, refused_by):
    path, _ = study
    changes = {}
    if refused_by == "another cell's plan":
        changes, message = {"cells": {"8M-*": {"steps": 8}}}, r"8M-Q: steps 12 → 8.*restart 8M-Q"
    if refused_by == "disk":
        room, message = shutil.disk_usage("/")._replace(free=0), "free some"
        monkeypatch.setattr("shutil.disk_usage", lambda path: room)
        changes = {"cells": {"8M-F": {"config": {**MICRO["sizes"]["8M"], "hidden_size": 256}}}}
    if refused_by == "GPUs":
        changes, message = {"launch": {"gpus_per_cell": 99}}, "trains on 99 GPUs"
    before = times(path, "**/*")
    with pytest.raises(ValueError, match=message):
        quiet(make(**changes), path, restart=["8M-F"])
    after = times(path, "**/*")
    assert {p.name for p in before if after.get(p) != before[p]} <= {".lock", "clock.json"}


def cut_off(file):
    file.write_text(file.read_text()[: file.stat().st_size // 2])
    return file


def test_damaged_files_count_as_none_where_nothing_is_lost(study):
    path, preset = study
    before, expected = times(path, "cells/*/run/**/*"), tables(path)
    cut_off(path / "clock.json")
    cut_off(cell(path, "8M-F").state_file)
    cut_off(cell(path, "8M-Q").results_file)
    cell(path, "35M-F").results_file.unlink()
    cell(path, "35M-Q").state_file.write_text("[]")
    outcome = quiet(preset, path)
    assert outcome.problems == {} and set(outcome.states.values()) == {"done"}
    assert times(path, "cells/*/run/**/*") == before and tables(path) == expected


def test_other_damaged_files_are_named_with_the_way_out(study):
    path, preset = study
    with cell(path, "8M-Q").run.log_file.open("a") as log:
        log.write('{"step":')
    assert quiet(preset, path).problems == {}
    results = cut_off(cell(path, "8M-F").run.results_file)
    with pytest.raises(
        ValueError, match=r"8M-F/run/results\.json must be valid JSON.*; delete .*results\.json, which"
    ):
        quiet(preset, path)
    results.unlink()
    data = cell(path, "8M-F").run.data_file
    whole = data.read_text()
    cut_off(data)
    with pytest.raises(ValueError, match=r"8M-F/run/data\.json is damaged.*restart 8M-F"):
        quiet(preset, path)
    data.write_text(whole)
    for text in ("", "name: micro\ntitle: [", "name: micro\n"):
        (path / "study.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"study\.yaml.*; delete .*study\.yaml, and name the preset"):
            quiet(preset, path)
    (path / "study.yaml").unlink()
    assert quiet(preset, path).problems == {}
