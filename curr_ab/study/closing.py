"""The last words of a study: what was made, what failed, and the commands to go on with."""

from __future__ import annotations

import csv
import os
import shlex
import sys
from collections import Counter
from pathlib import Path

from curr_ab.files import replacing
from curr_ab.study.folder import StudyFolder
from curr_ab.study.launch import program
from curr_ab.study.study import Outcome
from curr_ab.words import EXAMPLE_NAME, EXAMPLE_PAIR


def closing_words(out: Path, outcome: Outcome, command: str) -> list[str]:
    """The last lines, with paths that are there; `command` goes on with the study."""
    study = StudyFolder(out)
    counts = Counter(outcome.states.values())
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines = [
        "",
        f"{study.path}: {len(outcome.states)} cells ({told}), {len(outcome.exports)} exports",
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
    score = [
        program(),
        "score",
        str(export),
        str(study.example_pair),
        "--out",
        str(study.path / "scores.csv"),
    ]
    exports, owner = f"{shlex.quote(str(study.exports))}/*", "--namespace YOUR-NAME"
    card, publish = (f"{shlex.join([program(), word])} {exports} {owner}" for word in ("card", "publish"))
    return [
        f"  {python} -c {shlex.quote(load)}",
        f"  {shlex.join(score)}",
        f"  {card} && {publish} --dry-run",
    ]
