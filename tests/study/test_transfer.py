"""Causal cells and masked ones that start from them: order, plans, exports, laws and report."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from curr_ab.hub.manifest import read_manifest
from curr_ab.modeling import CurrAbConfig
from curr_ab.options import OptionError
from curr_ab.quantities import format_quantity
from curr_ab.scaling.runs import read_measured_runs
from curr_ab.scaling.transfer import fit_transfer
from curr_ab.study.cell_process import CellTask
from curr_ab.study.cells import CellFolder, cells_of, suites_of
from curr_ab.study.costs import costs_of
from curr_ab.study.folder import StudyFolder
from curr_ab.study.preset import change, make_preset, read_preset
from curr_ab.study.processes import _next
from curr_ab.study.report.page import render_markdown, render_page
from curr_ab.study.study import Work, plan_study, run_study
from curr_ab.study.summary import StudySummary, read_summary
from curr_ab.study.transfer import fit_study_transfer
from curr_ab.training_record import TRAINING, read_training
from tests.study.conftest import MICRO, cell, tables

TRANSFER = {"clm_steps": [4, 8], "mlm_steps": [6], "scratch_steps": [4, 24]}
SMALL = {
    "data": {"sources": ["PAIRS"], "cluster": "source", "subsets": {"F": 40}},
    "sizes": {"8M": MICRO["sizes"]["8M"]},
    "transfer": TRANSFER,
    "evaluation": {**MICRO["evaluation"], "generation": {"pairs": 4, "temperatures": [1.0]}},
}
NAMES = ["8M-F", "8M-F-clm4", "8M-F-clm8", "8M-F-mlm4", "8M-F-mlm24", "8M-F-clm4-mlm6", "8M-F-clm8-mlm6"]


def quiet(preset, path, **options):
    return run_study(preset, path, say=lambda line: None, **options)


def of(folder="studies/x", **changes):
    cells = cells_of(make_preset({**MICRO, **SMALL, **changes}, "micro"), "data", folder)
    return {one.name: one for one in cells}


@pytest.fixture(scope="module")
def transferred(made_once, make):
    preset = make(**SMALL)
    return made_once("transfer-study", lambda path: quiet(preset, path)), preset


def test_cells_of_transfer_follow_the_grid_and_name_what_they_start_from():
    cells = of()
    assert list(cells) == NAMES
    plans = {name: (one.plan.objective, one.plan.steps, one.plan.warmup_steps) for name, one in cells.items()}
    assert plans["8M-F-clm8"] == ("clm", 8, 0) and plans["8M-F-clm8-mlm6"] == ("mlm", 6, 0)
    after = cells["8M-F-clm8-mlm6"]
    assert after.after == "8M-F-clm8"
    assert after.plan.init_from.endswith("studies/x/cells/8M-F-clm8/run/checkpoints/step8")
    assert Path(after.plan.init_from).is_absolute()  # the same from wherever the study goes on
    assert [name for name, one in cells.items() if one.in_law] == ["8M-F"]
    assert {name: one.title for name, one in cells.items() if one.exported} == {
        "8M-F": "8M-F",
        "8M-F-clm8": "CLM-8M-F",
    }
    longer = of(transfer={"clm_steps": [200], "mlm_steps": [100]})
    assert (
        longer["8M-F-clm200"].plan.warmup_steps == 10 and longer["8M-F-clm200-mlm100"].plan.warmup_steps == 5
    )


def test_a_pattern_reaches_cells_of_transfer_and_a_member_only_its_cell_of_the_grid():
    cells = of(cells={"8M-F": {"peak_learning_rate": 0.5}, "*-clm8": {"light_first": 0.5}})
    rates = {name: one.plan.peak_learning_rate for name, one in cells.items()}
    assert rates["8M-F"] == 0.5 and {rate for name, rate in rates.items() if name != "8M-F"} == {0.01}
    assert [name for name, one in cells.items() if one.plan.light_first] == ["8M-F-clm8"]
    causal = of(cells={"8M-F-clm4": {"steps": 5}})["8M-F-clm4-mlm6"]
    assert causal.plan.init_from.endswith("8M-F-clm4/run/checkpoints/step5")


def test_causal_cells_of_the_grid_are_beside_the_law():
    sizes = MICRO["sizes"]
    cells = of(sizes=sizes, cells={"35M-F": {"objective": "clm"}}, transfer={})
    assert {name: one.in_law for name, one in cells.items()} == {"8M-F": True, "35M-F": False}
    with pytest.raises(
        ValueError, match=r"a cell at least must be of objective mlm.*got clm for all.*clm_steps"
    ):
        of(cells={"*": {"objective": "clm"}}, transfer={})


@pytest.mark.parametrize(
    ("cells", "twin"),
    [
        ({"8M-F": {"objective": "clm", "steps": 8}}, "8M-F"),  # of two with as many steps the first
        ({"8M-F": {"objective": "clm", "steps": 7}}, "8M-F-clm8"),
        ({"8M-F": {"objective": "clm", "steps": 20}}, "8M-F"),
        ({"8M-F-clm4": {"steps": 20}}, "8M-F-clm4"),
        ({"8M-F-clm8": {"steps": 3}}, "8M-F-clm4"),
    ],
)
def test_one_causal_cell_of_a_member_is_its_twin(cells, twin):
    """That of the most steps that it really has; two exports would be one folder."""
    cells = of(sizes=MICRO["sizes"], cells=cells)
    causal = {
        name: one for name, one in cells.items() if one.plan.objective == "clm" and one.member == "8M-F"
    }
    assert len(causal) >= 2 and [name for name, one in causal.items() if one.exported] == [twin]
    titles = [one.title for one in cells.values()]
    assert cells[twin].title == "CLM-8M-F" and len(set(titles)) == len(titles)
    assert "8M-F" not in [one.title for one in causal.values()]
    folder = StudyFolder(Path("study"))
    exports = [folder.export(one) for one in cells.values() if one.exported]
    assert len(set(exports)) == len(exports)


def test_what_transfer_cannot_be_is_said():
    with pytest.raises(ValueError, match=r"clm_steps must be one at least.*got none"):
        of(transfer={"mlm_steps": [5]})
    with pytest.raises(ValueError, match=r"clm_steps must be different numbers from 1 on; got \[3, 3\]"):
        of(transfer={"clm_steps": [3, 3]})
    with pytest.raises(OptionError, match="transfer"):
        change(make_preset({**MICRO, **SMALL}, "micro"), ["transfer.clm=3"])
    changed = change(make_preset({**MICRO, **SMALL}, "micro"), ["transfer.warmup_share=0.5"])
    assert changed.transfer.warmup_share == 0.5 and changed.transfer.clm_steps == (4, 8)
    assert make_preset(changed.to_dict(), "again") == changed


def test_presets_without_transfer_have_the_cells_that_they_had():
    for name in ("mini", "small", "paper"):
        preset = read_preset(name)
        cells = cells_of(preset, "data")
        assert all(one.in_law and not one.after and one.title == one.member for one in cells)
        grid = len(preset.sizes) * len(preset.data.subsets) - len(preset.left_out)
        assert len(cells) == grid * preset.data.draws * len(preset.seeds)


def test_the_preset_transfer_has_enough_cells_for_its_law():
    preset = read_preset("transfer")
    assert make_preset(preset.to_dict(), "transfer") == preset
    cells = cells_of(preset, "data")
    causal = [one for one in cells if one.plan.objective == "clm"]
    assert len({one.plan.steps for one in causal}) >= 3
    for size in preset.sizes:
        scratch = {
            one.plan.steps
            for one in cells
            if one.size == size and one.plan.objective == "mlm" and not one.after
        }
        after = [one for one in cells if one.size == size and one.after]
        # From scratch there is training much longer than after causal training, which it must bracket.
        assert len(scratch) >= 5 and max(scratch) > 2 * max(one.plan.steps for one in after)
    costs_of(cells, preset.data.subsets)


def test_a_cell_waits_for_the_one_that_it_starts_from(tmp_path):
    cells = of()
    tasks = {
        name: CellTask(CellFolder(tmp_path / name), name, one.plan, {}, {}, 1, after=one.after)
        for name, one in cells.items()
    }
    waiting = ["8M-F-clm8-mlm6", "8M-F-clm8", "8M-F"]
    assert _next(tasks, waiting, {}) == "8M-F-clm8"
    assert _next(tasks, ["8M-F-clm8-mlm6", "8M-F"], {"8M-F-clm8": ()}) == "8M-F"
    assert _next(tasks, ["8M-F-clm8-mlm6"], {"8M-F-clm8": ()}) is None
    assert _next(tasks, ["8M-F-clm8-mlm6"], {"8M-F": ()}) == "8M-F-clm8-mlm6"


def test_a_dry_run_names_the_cells_that_others_start_from(tmp_path):
    preset = make_preset({**MICRO, **SMALL}, "micro")
    lines = plan_study(preset, tmp_path / "study", only=["8M-F-clm4-mlm6"])
    assert [line.split()[0] for line in lines[1:-1]] == ["8M-F-clm4", "8M-F-clm4-mlm6"]
    assert not (tmp_path / "study").exists()


def test_causal_cells_are_judged_by_what_they_generate_and_masked_ones_by_the_rest():
    cells = of()
    suites = {"loss": {}, "pairing": {}, "generation": {}}
    assert list(suites_of(cells["8M-F-clm4"], suites)) == ["loss", "generation"]
    assert list(suites_of(cells["8M-F-clm4-mlm6"], suites)) == ["loss", "pairing"]


@pytest.mark.heavy
def test_a_study_trains_masked_cells_from_causal_ones(transferred):
    path, _ = transferred
    for steps in (4, 8):
        causal = cell(path, f"8M-F-clm{steps}").run.checkpoint(steps)
        masked = cell(path, f"8M-F-clm{steps}-mlm6").run.checkpoint(6)
        assert CurrAbConfig.from_pretrained(causal).is_decoder
        assert not CurrAbConfig.from_pretrained(masked).is_decoder
        seen = read_training(causal / TRAINING).seen["residue_tokens"]
        assert read_training(masked / TRAINING).seen["clm_tokens"] == seen
    exports = sorted(p.name for p in (path / "exports").iterdir())
    assert exports == ["CurrAb-8M-F", "CurrAb-CLM-8M-F"]
    assert read_manifest(path / "exports" / "CurrAb-CLM-8M-F").member == "CLM-8M-F"


@pytest.mark.heavy
def test_neither_law_mixes_objectives(transferred):
    path, _ = transferred
    law = json.loads((path / "law.json").read_text())
    loss = next(row.value for row in cell(path, "8M-F").results() if row.details.get("place") == "all")
    assert [row["loss"] for row in law["table"]] == [loss]
    found = json.loads((path / "transfer.json").read_text())
    assert [row["cell"] for row in found["table"]] == [
        name for name in NAMES if not re.search(r"clm\d+$", name)
    ]
    assert [bool(row["clm_tokens"]) for row in found["table"]] == [False, False, False, True, True]

    # The same numbers from the files, without the study; causal losses are refused beside masked ones.
    files = [cell(path, row["cell"]).results_file for row in found["table"]]
    runs = read_measured_runs(files)
    assert sorted(runs.loss) == sorted(row["loss"] for row in found["table"])
    assert sorted(runs.clm_tokens) == sorted(row["clm_tokens"] for row in found["table"])
    both = read_measured_runs([*files, cell(path, "8M-F-clm8").results_file])
    assert len(both) == len(files) + 1
    with pytest.raises(ValueError, match="remove the runs that end in another objective"):
        fit_transfer(both)


@pytest.mark.heavy
def test_exports_are_in_the_order_of_one_loss_causal_members_last(transferred, monkeypatch):
    path, preset = transferred
    # A causal loss that is the lower one, which says nothing beside a masked one.
    losses = iter([(2.0, 0.1), (1.0, 0.1)])
    monkeypatch.setattr("curr_ab.study.study.held_out_loss", lambda rows: next(losses))
    work = Work(StudyFolder(path), preset, cells_of(preset, path / "data"), {}, "")
    assert [export.name for export in work.exports()] == ["CurrAb-8M-F", "CurrAb-CLM-8M-F"]


@pytest.mark.heavy
def test_the_report_tells_of_causal_cells(transferred):
    path, _ = transferred
    summary = read_summary(path / "report.json")
    assert [one.member for one in summary.cells] == ["8M-F"]
    assert [one.objective for one in summary.further_cells] == ["clm", "clm", "mlm", "mlm", "mlm", "mlm"]
    assert StudySummary.from_json(summary.to_json()).further_cells == summary.further_cells
    text = (path / "report.md").read_text()
    assert "## Transfer from causal cells" in text and "8M-F-clm8-mlm6" in text and "7 cells: 7 done" in text
    assert "that of the most steps is exported" in text


@pytest.mark.heavy
def test_a_finished_study_with_causal_cells_is_left_as_it_is_also_elsewhere(transferred, tmp_path, make):
    path, preset = transferred
    moved = tmp_path / "moved"
    shutil.copytree(path, moved)
    before = {p: p.stat().st_mtime_ns for p in moved.glob("cells/*/run/**/*") if p.is_file()}
    outcome = quiet(preset, moved)
    assert set(outcome.states.values()) == {"done"} and not outcome.problems
    assert {p: p.stat().st_mtime_ns for p in before} == before
    # A causal cell that is made anew takes those with it that started from its weights.
    quiet(make(**SMALL, cells={"8M-F-clm4": {"seed": 3}}), moved, restart=["8M-F-clm4"])
    changed = {p.relative_to(moved).parts[1] for p in before if p.stat().st_mtime_ns != before[p]}
    assert changed == {"8M-F-clm4", "8M-F-clm4-mlm6"}
    assert tables(moved)[0].keys() == tables(path)[0].keys()


@pytest.mark.heavy
def test_a_cell_whose_predecessor_failed_says_so(make, tmp_path):
    preset = make(**SMALL, cells={"8M-F-clm4": {"peak_learning_rate": 1e30}})
    outcome = quiet(preset, tmp_path / "study", only=["8M-F-clm4-mlm6"])
    assert outcome.states["8M-F-clm4"] == outcome.states["8M-F-clm4-mlm6"] == "failed"
    assert "8M-F-clm4 must be trained first" in outcome.problems["8M-F-clm4-mlm6"]


@pytest.mark.heavy
def test_cells_are_launched_elsewhere_in_the_order_of_their_weights(make, tmp_path, monkeypatch, capsys):
    said = []
    run_study(make(**SMALL), tmp_path / "print", launcher="print", say=said.append)
    lines = "\n".join(said).splitlines()
    (at,) = [n for n, line in enumerate(lines) if line.startswith("# when those have ended, these")]
    assert all("-clm4-mlm6/" not in line and "-clm8-mlm6/" not in line for line in lines[:at])
    assert sum("-mlm6/plan.yaml" in line for line in lines[at:]) == 2

    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho Submitted batch job 77\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:{os.environ['PATH']}")
    study = StudyFolder(tmp_path / "slurm")
    run_study(make(**SMALL), study.path, launcher="slurm", say=said.append)
    first, second = (tmp_path / "asked").read_text().splitlines()
    before, after = (study.slurm_script(after=after, gpus=None) for after in (False, True))
    assert first == str(before)
    assert second == f"--dependency=afterany:77 {after}"
    assert "cells=(8M-F-clm4-mlm6 8M-F-clm8-mlm6)" in after.read_text()


def known_law():
    """Cells of two sizes whose losses follow a law in which causal tokens count as to the power 0.5."""

    def loss(parameters, tokens):
        return 1.0 + 40 / parameters**0.3 + 30 / tokens**0.4

    rows = []
    for parameters in (30_000, 100_000):
        common = {"parameters": parameters, "sequences": 800, "unique_tokens": 2e5, "seed": "1"}
        common |= {"flops": 1e12, "standard_error": 0.001}
        rows += [
            {
                "cell": f"{parameters}-mlm{t:.0f}",
                "seen_tokens": t,
                "clm_tokens": 0,
                "loss": loss(parameters, t),
            }
            | common
            for t in (1e5, 2e5, 4e5, 8e5, 1.6e6, 3.2e6)
        ]
        rows += [
            {"cell": f"{parameters}-clm{c:.0f}-mlm{t:.0f}", "seen_tokens": t, "clm_tokens": c}
            | {"loss": loss(parameters, t + 300 * c**0.5)}
            | common
            for c in (1e5, 4e5, 1.6e6)
            for t in (2e5, 4e5)
        ]
    return rows


def test_a_known_law_is_found_in_a_studys_cells_and_its_reason_where_there_is_none():
    found = fit_study_transfer(known_law())
    assert found["estimates"]["clm_tokens_exponent"] == pytest.approx(0.5, abs=0.05)
    assert found["spreads"] and found["transferred"]["30000-clm1600000-mlm200000"] > 2e5
    after = [row for row in known_law() if row["clm_tokens"]]
    assert len(found["transferred_intervals"]) == len(after)
    for row in after:
        between = found["transferred_intervals"][row["cell"]]
        assert between["low"] < found["transferred"][row["cell"]] < float(between["high"])
    scratch = [row for row in known_law() if not row["clm_tokens"]]
    assert fit_study_transfer(scratch) == {}
    few = [row for row in known_law() if row["clm_tokens"] or row["seen_tokens"] < 2e5]
    assert "No transfer law can be fitted" in fit_study_transfer(few)["problem"]


def test_sections_of_a_report_on_transfer_and_generation(simulated):
    page, text = render_page(simulated), render_markdown(simulated)
    for written in (page, text):
        assert "Transfer from causal cells" in written and "What causal cells generate" in written
        assert "exponent of the causal tokens" in written and "shuffled within V gene" in written
    assert "after 100000 causal steps" in page
    between = simulated.transfer["transferred_intervals"]["30000-clm1600000-mlm200000"]
    band = " to ".join(format_quantity(float(between[end])) for end in ("low", "high"))
    assert band in page and band in text and "the 95% interval of the tokens saved lies above zero" in page
    plain = replace(simulated, further_cells=(), transfer={}, notes=())
    assert "causal" not in render_markdown(plain)


@pytest.fixture(scope="module")
def simulated(transferred):
    """The report of the small study with a law that is known, and with measures of generated pairs."""
    path, _ = transferred
    summary = read_summary(path / "report.json")
    measures = {
        "light: numbered as this chain": {"temperature 1": (0.96, 0.01), "held-out pairs": (1.0, 0.0)},
        "bits over a random partner": {"temperature 1": (0.2, 0.05), "shuffled within V gene": (0.0, 0.05)},
    }
    first, *others = summary.further_cells
    further = (replace(first, generation=measures), *others)
    return replace(summary, further_cells=further, transfer=fit_study_transfer(known_law()))
