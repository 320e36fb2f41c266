"""The making of a study, from where its folder stands: data, cells, exports, law, report, closing words."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from curr_ab.data import PreparationPlan, prepare
from curr_ab.data.preparing.folder import OtherRequest
from curr_ab.data.shards import TokenDataset
from curr_ab.files import remove_folder, remove_leftovers, replacing, write_json
from curr_ab.options import OptionError
from curr_ab.study.cell_process import CellTask
from curr_ab.study.cells import (
    Cell,
    CellFolder,
    cells_of,
    changed_plan,
    chosen,
    evaluation_key,
    held_out_loss,
    suites_of,
    with_predecessors,
    with_successors,
)
from curr_ab.study.collect import CellView, summarize
from curr_ab.study.costs import Cost, costs_of, describe_costs, require_disk, used_bytes
from curr_ab.study.exports import export_cells, is_rehearsal
from curr_ab.study.folder import Clock, StudyFolder
from curr_ab.study.jobs import CellJobs
from curr_ab.study.launch import job_of, lack_of_gpus, printed, program, submit, training_command, write_slurm
from curr_ab.study.law import CellLoss, fit_cells
from curr_ab.study.preset import Launch, Preset
from curr_ab.study.processes import run_cells, slots_of
from curr_ab.study.progress import Table, read_status
from curr_ab.study.report import write_law_figures, write_report
from curr_ab.study.summary import State
from curr_ab.study.transfer import fit_study_transfer, run_of
from curr_ab.words import EXAMPLE_NAME, EXAMPLE_PAIR

Launcher = Literal["local", "slurm", "jobs", "print"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """States of the cells, and problems of those and of exports that could not be made."""

    states: dict[str, State]
    problems: dict[str, str]  # by cells or export, with the log where there is one
    exports: tuple[Path, ...] = ()  # best first
    launched: bool = True  # False: cells are trained elsewhere


def plan_study(
    preset: Preset,
    out: str | Path,
    data: str | Path | None = None,
    *,
    only: Sequence[str] = (),
    restart: Sequence[str] = (),
    jobs: CellJobs | None = None,
) -> list[str]:
    """Describe what `run_study` of the same would train and what that takes; nothing is written."""
    if jobs is not None:
        refuse_restart(restart)
    study = StudyFolder(out)
    prepared = study.data if data is None else _prepared(data)
    cells = cells_of(preset, prepared, out)
    chosen(cells, restart, "restart")
    costs = costs_of(cells, preset.data.subsets)
    wanted = with_predecessors(cells, chosen(cells, only, "only"))
    lines = describe_costs(wanted, costs, preset.launch)
    if jobs is not None:
        places = {"data": prepared, "folder": study.path}
        jobs.start(wanted, costs, preset.launch, **places, dry_run=True, say=lines.append)
    return lines


def run_study(
    preset: Preset,
    out: str | Path,
    *,
    data: str | Path | None = None,
    only: Sequence[str] = (),
    restart: Sequence[str] = (),
    launcher: Launcher = "local",
    jobs: CellJobs | None = None,
    command: str = "curr_ab.study.run_study",
    made_by: str = "curr_ab.study.run_study",
    say: Say = print,
) -> Outcome:
    """Bring the study in `out` to its end, or as far as `only` these cells do; repeat it at will.

    `data` is a prepared folder, for a preset that does not bring its own. `restart` names cells whose work is
    thrown away. A cell that fails does not stop the others; the outcome tells of it. `jobs` is where those of
    the launcher jobs are done. `command` is how to go
    on with the study; `made_by`, in the report, how to make it again in a fresh folder.
    """
    if launcher == "jobs":
        refuse_restart(restart)
    study = StudyFolder(out)
    if data is None and not preset.data.sources:
        raise OptionError(
            f"data must name a folder of prepared pairs for the preset {preset.name}; got none: "
            "`curr-ab data prepare SOURCES --subsets paper --out FOLDER` makes one",
            "data",
        )
    folder = study.data if data is None else _prepared(data)
    cells = cells_of(preset, folder, study.path)
    wanted = with_predecessors(cells, chosen(cells, only, "only"))
    # What began with weights that are made anew is made anew, too.
    thrown_away = with_successors(cells, chosen(cells, restart, "restart")) if restart else []
    kept = [cell for cell in cells if cell not in thrown_away]
    refuse_missing_suite_data(preset)
    with study.claimed(), study.timed() as clock:
        refuse_changed_plans(study, kept)
        if data is None:
            refuse_other_pairs(study, preset)
            costs_of(cells, preset.data.subsets)  # refuses what can be told before the data are prepared
            _prepare(study, preset, say)
        fingerprint = TokenDataset(folder).fingerprint
        refuse_other_data(study, kept, fingerprint)
        costs = costs_of(cells, preset.data.subsets)
        work = Work(study, preset, cells, costs, fingerprint)
        todo = [cell for cell in wanted if cell in thrown_away or not work.finished(cell)]
        untrained = [cell for cell in todo if cell in thrown_away or not work.trained(cell)]
        if not preset.data.sources:
            say("\n".join(describe_costs(wanted, costs, preset.launch)))
        most = max((work.gpus(cell) for cell in untrained), default=0)
        lack = lack_of_gpus(most) if launcher == "local" else ""
        if lack and (thrown_away or not any(work.trained(cell) for cell in wanted)):
            raise ValueError(lack)
        if lack:  # what was trained elsewhere goes on here
            todo = [cell for cell in todo if cell not in untrained]
        if launcher not in ("jobs", "print"):
            lacking = [costs[cell.name].disk_bytes - used_bytes(study.cell(cell)) for cell in todo]
            require_disk(study.path, sum(max(0, size) for size in lacking))
        # Nothing is refused from here on.
        study.record(preset)
        for cell in thrown_away:
            remove_folder(study.cell(cell))
            remove_folder(study.export(cell))
        if untrained and launcher == "jobs":
            assert jobs is not None, "jobs must be given for the launcher jobs"
            jobs.start(untrained, costs, preset.launch, data=folder, folder=study.path, say=say)
            say(f"# when all are here, this makes the rest: {command}")
            return Outcome(work.states(), {}, launched=False)
        if untrained and launcher != "local":
            _launch_elsewhere(work, untrained, launcher, command, say)
            return Outcome(work.states(), {}, launched=False)
        work.run(todo, clock)
        outcome = _finish(work, folder, clock, made_by, say)
        if lack:
            outcome.problems[", ".join(cell.name for cell in untrained)] = f"not trained yet: {lack}"
        return outcome


def refuse_restart(cells: Sequence[str]) -> None:
    """Refuse to throw away what lies in a bucket, from which a job would go on all the same."""
    if cells:
        raise OptionError(
            f"restart must be left out for the launcher jobs; got {', '.join(cells)}, whose runs are in the "
            "bucket: name another bucket folder and another out, or restart with another launcher",
            *("restart", "launcher"),
        )


def _prepared(data: str | Path) -> Path:
    TokenDataset(data)  # says what is missing
    return Path(data)


def _prepare(study: StudyFolder, preset: Preset, say: Say) -> None:
    plan, folder = PreparationPlan(cluster=preset.data.cluster, subsets=preset.data.subsets), study.data
    try:
        index = prepare(preset.data.sources, folder, plan)
    except OtherRequest:
        if study.begun:
            raise
        remove_folder(folder)  # of a command that was refused: nothing was trained on them
        index = prepare(preset.data.sources, folder, plan)
    subsets = ", ".join(f"{name} {pairs:,}" for name, pairs in index["subsets"].items())
    say(f"data: {folder}, training pairs {subsets}")


def _launch_elsewhere(work: Work, cells: Sequence[Cell], launcher: Launcher, command: str, say: Say) -> None:
    launch, study = work.preset.launch, work.study
    untrained = {cell.name for cell in cells}
    first, later = (
        {work.write_plan(cell): work.gpus(cell) for cell in cells if (cell.after in untrained) is waits}
        for waits in (False, True)
    )
    stages = [first, later] if later else [first]
    if launcher == "print":
        for number, folders in enumerate(stages):
            if number:
                say("# when those have ended, these, which start from their weights:")
            say("\n".join(printed(folders)))
    else:
        _submit(stages, study, launch, say)
    say(f"# when all have ended, this makes the rest: {command}")


def _submit(stages: Sequence[Mapping[CellFolder, int]], study: StudyFolder, launch: Launch, say: Say) -> None:
    """An array of Slurm for the cells of each stage with as many GPUs, which is one number in an array."""
    options = {"cpus-per-task": launch.threads_per_cell, **launch.slurm}
    before: dict[int, tuple[Path, str]] = {}  # script and job that the next with as many GPUs waits for
    several = len({gpus for stage in stages for gpus in stage.values()}) > 1
    for number, stage in enumerate(stages):
        for gpus in sorted(set(stage.values())):
            folders = [folder for folder, wanted in stage.items() if wanted == gpus]
            script = study.slurm_script(after=number > 0, gpus=gpus if several else None)
            write_slurm(script, folders, gpus, launch.max_parallel, options)
            # With a limit one array after the other: each has a limit of its own.
            waits_for, job = before.get(0 if launch.max_parallel else gpus, (None, ""))
            what = f", to begin when {waits_for} has ended" if waits_for else ""
            say(f"{script}: {len(folders)} cells, a task of the array each{what}")
            answer = submit(script, after=job)
            before[0 if launch.max_parallel else gpus] = script, job_of(answer)
            say(answer)


def _finish(work: Work, data: Path, clock: Clock, made_by: str, say: Say) -> Outcome:
    """Exports, law and report of the cells that are done."""
    study = work.study
    done = [cell for cell in work.cells if work.finished(cell)]
    remove_leftovers(study.exports)
    exports = {study.export(cell): (cell, work.folder(cell)) for cell in done if cell.exported}
    problems = {str(path): problem for path, problem in export_cells(exports, say).items()}
    law = fit_cells([_loss(work, cell) for cell in done if cell.in_law])
    write_json(study.law_file, law.to_plain())
    transfer = fit_study_transfer([run for cell in done if (run := work.masked_run(cell))])
    if transfer:
        write_json(study.transfer_file, transfer)
    views = [work.view(cell) for cell in work.cells]
    summary = summarize(study, work.preset, made_by, views, law, transfer, data, clock.save(), _notes(work))
    write_law_figures(summary, study.figures)
    write_report(summary, study.path)
    failed = [view for view in views if view.state == "failed"]
    problems |= {view.cell.name: f"{view.folder.problem} (log: {view.folder.log_file})" for view in failed}
    return Outcome(work.states(), problems, work.exports())


def _loss(work: Work, cell: Cell) -> CellLoss:
    results, cost, plan = work.folder(cell).results(), work.costs[cell.name], cell.plan
    loss, error = held_out_loss(results)
    assert loss is not None and error is not None and cost.pairs is not None
    run = run_of(cell.name, results) or {}
    tokens = run.get("unique_tokens"), run.get("seen_tokens")
    return CellLoss(cell.data, cost.parameters, cost.pairs, plan.seed, loss, error, plan.draw, *tokens)


def _notes(work: Work) -> list[str]:
    notes = []
    if any(cell.exported and is_rehearsal(cell) for cell in work.cells):
        notes.append("These models have other shapes than the members whose names they bear: a rehearsal.")
    if any(not cell.in_law and not cell.exported for cell in work.cells):
        notes.append(
            "Exports bear a member's name: of the causal cells that of the most steps is exported, and of "
            "the masked ones those of the grid. The others' checkpoints are in cells/NAME/run/checkpoints."
        )
    if missing := [name for name, state in work.states().items() if state != "done"]:
        notes.append(f"Not in it: {', '.join(missing)}.")
    return notes


def refuse_other_pairs(study: StudyFolder, preset: Preset) -> None:
    """The cells of a study are trained on data that are prepared once, as its preset says."""
    begun = study.preset if study.begun else None
    if begun is not None and (changes := preset.data.differences(begun.data)):
        raise OptionError(
            f"{study.path} was begun with other data ({changes}): its cells would not compare; go on with "
            "those, or choose another folder",
            "out",
        )


def refuse_missing_suite_data(preset: Preset) -> None:
    """Refuse a suite whose own data are missing, before cells are trained."""
    for suite, options in preset.evaluation.items():
        data = options.get("data", ())
        for path in [data] if isinstance(data, str) else data:
            if not Path(path).exists():
                raise ValueError(f"preset {preset.name}, evaluation, {suite}: the data {path} are not there")


def refuse_changed_plans(study: StudyFolder, cells: Sequence[Cell]) -> None:
    """Cells that were begun go on by their plan, or begin anew when somebody says so."""
    changed = {cell.name: changed_plan(CellFolder(study.cell(cell)), cell) for cell in cells}
    if changed := {name: differences for name, differences in changed.items() if differences}:
        changes = "; ".join(f"{name}: {', '.join(differences)}" for name, differences in changed.items())
        raise OptionError(
            f"the plan of cells that were begun has changed ({changes}). Put it back, choose another folder, "
            f"or throw their work away: restart {' '.join(changed)}",
            *("out", "restart"),
        )


def refuse_other_data(study: StudyFolder, cells: Sequence[Cell], fingerprint: str) -> None:
    """Cells that were trained on other data than these do not compare."""
    for cell in cells:
        file = CellFolder(study.cell(cell)).run.data_file
        if file.exists() and _fingerprint(file, cell.name) != fingerprint:
            raise OptionError(
                f"{cell.name} was trained on other data than these: name the folder of then as data, or "
                "choose another folder for the study",
                *("data", "out"),
            )


def _fingerprint(file: Path, name: str) -> str:
    try:
        return str(json.loads(file.read_text())["fingerprint"])
    except (ValueError, KeyError, TypeError):
        raise OptionError(
            f"{file} is damaged, which says on what data {name} was trained: put it back, or throw its work "
            f"away: restart {name}",
            "restart",
        ) from None


@dataclass
class Work:
    """The cells of a study with their folders and costs."""

    study: StudyFolder
    preset: Preset
    cells: Sequence[Cell]
    costs: dict[str, Cost]
    fingerprint: str  # of the prepared data

    def key(self, cell: Cell) -> dict[str, object]:
        """What its evaluation must be of."""
        return evaluation_key(suites_of(cell, self.preset.evaluation), self.fingerprint)

    def folder(self, cell: Cell) -> CellFolder:
        return CellFolder(self.study.cell(cell))

    def trained(self, cell: Cell) -> bool:
        return self.folder(cell).trained(cell.plan.steps)

    def finished(self, cell: Cell) -> bool:
        """Trained, and evaluated as is wanted now."""
        return self.trained(cell) and self.folder(cell).evaluated(self.key(cell))

    def state(self, cell: Cell, running: bool = False) -> State:
        if running:
            return "running"
        if self.finished(cell):
            return "done"
        return "failed" if self.folder(cell).problem else "waiting"

    def states(self) -> dict[str, State]:
        return {cell.name: self.state(cell) for cell in self.cells}

    def exports(self) -> tuple[Path, ...]:
        """The folders that are there, lowest loss first; causal ones, of another loss, are last."""
        places = {
            self.study.export(cell): (
                cell.plan.objective == "clm",
                held_out_loss(self.folder(cell).results())[0] or math.inf,
            )
            for cell in self.cells
            if cell.exported and self.study.export(cell).is_dir()
        }
        return tuple(sorted(places, key=lambda path: places[path]))

    def gpus(self, cell: Cell) -> int:
        """GPUs on which it trains; 0 is a part of one, or none."""
        return self.preset.launch.gpus(self.costs[cell.name].parameters)

    def view(self, cell: Cell) -> CellView:
        return CellView(cell, self.folder(cell), self.state(cell), self.costs[cell.name])

    def masked_run(self, cell: Cell) -> dict[str, Any] | None:
        """The cell as the transfer law sees it; None for a causal one, whose loss is another."""
        return run_of(cell.name, self.folder(cell).results()) if cell.plan.objective == "mlm" else None

    def write_plan(self, cell: Cell) -> CellFolder:
        """For the commands that train the cell in other processes."""
        folder = self.folder(cell)
        with replacing(folder.plan_file) as temporary:
            temporary.write_text(yaml.safe_dump(cell.plan.to_dict(), sort_keys=False))
        return folder

    def task(self, cell: Cell) -> CellTask:
        gpus = self.gpus(cell)
        folder = self.write_plan(cell)
        return CellTask(
            folder,
            cell.title,
            cell.plan,
            suites_of(cell, self.preset.evaluation),
            self.key(cell),
            self.preset.launch.threads_per_cell,
            after=cell.after,
            command=training_command(folder, gpus) if gpus > 1 else (),
        )

    def run(self, todo: Sequence[Cell], clock: Clock) -> None:
        """The cells that are not finished, the longest first, so that none is left alone at the end.

        A cell from which others start counts with the longest of those. Cells that train on more GPUs come
        first; what is trained is evaluated last, wherever there is room.
        """
        launch = self.preset.launch
        longest: dict[str, float] = {}
        for cell in todo:
            longest[cell.after] = max(longest.get(cell.after, 0.0), self.costs[cell.name].flops)
        flops = {c.name: self.costs[c.name].flops + longest.get(c.name, 0.0) for c in todo}
        ordered = sorted(todo, key=lambda cell: -flops[cell.name])
        table = Table(
            self.cells,
            lambda cell, on: read_status(cell, self.folder(cell), self.state(cell, on)),
            sys.stdout,
        )

        def show(running: Sequence[str]) -> None:
            table.show(running)
            clock.save()

        room = {cell.name: 0 if self.trained(cell) else self.gpus(cell) for cell in ordered}
        for gpus in sorted(set(room.values()), reverse=True):
            slots = slots_of(torch.cuda.device_count(), gpus, launch.threads_per_cell, launch.max_parallel)
            tasks = {cell.name: self.task(cell) for cell in ordered if room[cell.name] == gpus}
            run_cells(tasks, slots, show)


def closing_words(out: Path, outcome: Outcome, command: str) -> list[str]:
    """The last lines, with paths that are there; `command` goes on with the study."""
    study = StudyFolder(out)
    states = Counter(outcome.states.values())
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    lines = [
        "",
        f"{study.path}: {len(outcome.states)} cells ({counts}), {len(outcome.exports)} exports",
        f"report  {study.path / 'report.html'}",
        f"law     {study.law_file}",
    ]
    for name, problem in outcome.problems.items():
        lines.append(f"FAILED  {name}: {problem}")
        if outcome.states.get(name) == "failed":
            lines.append(f"        again: {command}")
            anew = f"{command} --restart {name} --set {name}.peak_learning_rate=NUMBER"
            lines.append(f"        by another plan, in this study: {anew}")
    if outcome.exports:
        lines += ["", "next:", *_next_commands(study, outcome.exports[0])]
    return lines


def _next_commands(study: StudyFolder, export: Path) -> list[str]:
    """Load one, score a pair, publish under a name of one's own, which the cards must bear."""
    with replacing(study.example_pair) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "heavy", "light"), (EXAMPLE_NAME, *EXAMPLE_PAIR)])
    python = os.path.relpath(sys.executable)
    python = sys.executable if python.startswith("..") else python
    load = f'import curr_ab; model, tokenizer = curr_ab.load("{export}"); print(model)'
    score = shlex.join(
        [program(), "score", str(export), str(study.example_pair), "--out", str(study.path / "scores.csv")]
    )
    exports, owner = f"{shlex.quote(str(study.exports))}/*", "--namespace YOUR-NAME"
    card, publish = (f"{shlex.join([program(), word])} {exports} {owner}" for word in ("card", "publish"))
    return [
        f"  {python} -c {shlex.quote(load)}",
        f"  {score}",
        f"  {card} && {publish} --dry-run",
    ]
