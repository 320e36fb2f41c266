"""The ladder in a report: what size and data gain together, where members of several were measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from curr_ab.benchmark.comparison import Standing
from curr_ab.benchmark.folder import file_name, task_folder
from curr_ab.benchmark.ladder import Rung, Together, judge
from curr_ab.benchmark.ladder_figures import ladder_figures
from curr_ab.benchmark.scores import LOWER_IS_BETTER
from curr_ab.benchmark.threshold import Against, ScoreCurve, fit_curves
from curr_ab.charts import Drawing
from curr_ab.family import find_member
from curr_ab.files import write_json
from curr_ab.pictures import save_pictures

LADDER = "ladder.json"


@dataclass(frozen=True)
class Ladder:
    """Members of one task by size and data, what these gain together, the curves by each, and pictures."""

    rungs: tuple[Rung, ...]
    together: Together
    sentence: str
    curves: Mapping[Against, ScoreCurve]
    curve_sentences: Mapping[Against, str]
    pictures: Mapping[str, Drawing]


def make_ladder(standing: Standing, losses: Standing | None = None) -> Ladder | None:
    """The ladder of a task; None where too few members were measured to tell size and data apart.

    `losses` are those of the same models by another task, against which the score is drawn.
    """
    named = [(entry, find_member(entry.measurement.model)) for entry in standing.entries]
    held = [(entry, member) for entry, member in named if member is not None and not member.causal]
    if not held:
        return None
    # What another form of input gains is not what size or data gain.
    [(form, _)] = Counter(entry.measurement.form for entry, _ in held).most_common(1)
    held = [(entry, member) for entry, member in held if entry.measurement.form == form]
    metric = held[0][0].metric
    sign = -1 if metric in LOWER_IS_BETTER else 1
    loss_of = {one.measurement.digest: one.interval.value for one in losses.entries} if losses else {}
    rungs = [
        Rung(
            name=entry.name,
            parameters=member.size.num_parameters,
            pairs=member.data.num_pairs,
            score=entry.interval.value,
            error=entry.interval.standard_error,
            loss=loss_of.get(entry.measurement.digest),
        )
        for entry, member in held
    ]
    found = [entry.found for entry, _ in held]
    try:
        gains = [replace(one, score=sign * one.score) for one in rungs]
        together = judge(gains, found)
    except ValueError:
        return None
    sentence = together.sentence + (f" The score is minus the {metric}." if sign < 0 else "")
    curves = fit_curves(rungs, found, lower_is_better=sign < 0)
    curve_sentences = {against: curve.sentence(metric) for against, curve in curves.items()}
    words = f"loss in the task {losses.task}" if losses else ""
    drawings = ladder_figures(rungs, metric, f"ladder-{file_name(standing.task)}", words, curves)
    pictures = {f"ladder-{one.name.rpartition('-')[2]}": one for one in drawings}
    return Ladder(tuple(rungs), together, sentence, curves, curve_sentences, pictures)


def save_ladder(out: Path, task: str, ladder: Ladder) -> None:
    """The numbers and the pictures beside the table of the task."""
    folder = task_folder(out, task)
    models = {one.name: asdict(one) for one in ladder.rungs}
    curves = {
        against: {"sentence": ladder.curve_sentences[against], **asdict(curve)}
        for against, curve in ladder.curves.items()
    }
    found = {"sentence": ladder.sentence, **asdict(ladder.together), "models": models, "curves": curves}
    write_json(folder / LADDER, found)
    save_pictures(ladder.pictures, folder, ("svg", "png"))
