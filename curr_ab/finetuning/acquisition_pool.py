"""`curr-ab predict --acquire`: every model of an ensemble on the pool, and the table of what to measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab.checkpoint_files import CONFIG, find_file, resolve
from curr_ab.files import read_object, remove_folder, write_parquet
from curr_ab.finetuning.acquisition import acquisition_order, choose_batch, reasons, spread
from curr_ab.finetuning.acquisition_plan import AcquisitionPlan
from curr_ab.finetuning.ensemble import is_ensemble, member_folders
from curr_ab.finetuning.prediction import PredictTask, TunedCheckpoint
from curr_ab.finetuning.uncertainty import Uncertainties, Uncertainty
from curr_ab.finetuning.uncertainty_neighbours import residues_of
from curr_ab.inference.bulk import run_bulk
from curr_ab.inference.formats import assemble, writer_for
from curr_ab.inference.records import Reader, Record
from curr_ab.measures.metrics import Flags, Floats
from curr_ab.modeling import CurrAbConfig
from curr_ab.options import OptionError, unknown
from curr_ab.randomness import random_stream

if TYPE_CHECKING:
    from curr_ab.data.reading.table import Recognised
    from curr_ab.inference.checks import Checked


@dataclass(frozen=True)
class PoolReader(Reader):
    """A pool, whose records may share ids, as designs of one pair do: the second has `/2` after it."""

    def __call__(self, recognised: list[Recognised] | None = None, aside: Any = None) -> Iterator[Record]:
        times: dict[str, int] = {}
        for record in super().__call__(recognised, aside):
            times[record.id] = count = times.get(record.id, 0) + 1
            yield record if count == 1 else record._replace(id=f"{record.id}/{count}")

    @classmethod
    def of(cls, read: Reader) -> PoolReader:
        """The same as another reader reads."""
        return cls(**vars(read))


def fold_models(adapter: str) -> list[Path]:
    """The models in an ensemble, or of the folds beside an adapter; their disagreement is the uncertainty."""
    source = resolve(adapter)
    if is_ensemble(source):
        return member_folders(source)
    folders = sorted(Path(adapter).resolve().parent.glob("fold-*/adapter"))
    if len(folders) < 2:
        raise OptionError(
            "ensemble must be two models or more, such as those of the folds in RUN/fold-K/adapter beside "
            f"RUN/adapter; found {len(folders)} beside {adapter}: name them",
            "ensemble",
        )
    return folders


def acquire(
    models: Sequence[TunedCheckpoint],
    read: Reader,
    out: Path,
    plan: AcquisitionPlan,
    count: int,
    *,
    uncertainty: Uncertainty | Uncertainties | None = None,
    tokens_per_batch: int | None = None,
    **how: Any,
) -> Checked:
    """Write the `count` pairs of the pool to measure next; `how` are keywords of `run_bulk`.

    Predictions of each model stay beside `out` until the table is there: the same command goes on with them.
    What is in the training set already, where `uncertainty` holds that, or twice in the pool, is not chosen.
    """
    writer_for(out)
    wanted = wanted_column(models[0], plan.label)
    pool = PoolReader.of(read)
    task = PredictTask(raw=True, tokens_per_batch=tokens_per_batch)
    folder = out.with_name(f"{out.name}.models")
    tables = []
    for number, model in enumerate(models, start=1):
        own = folder / f"model-{number}"
        checked = run_bulk(task, model, pool, f"{own}/", resume=True, **how)
        # A pool that has become shorter leaves parts behind that are of nothing any more.
        tables.append(pa.concat_tables(map(pq.read_table, sorted(own.glob("part-*.parquet")))))
    records = [record for record in pool() if checked.uses(record)]
    tables = [table.slice(0, len(records)) for table in tables]
    table = _chosen(tables, records, read.kept, plan, count, uncertainty, wanted)
    write_parquet(folder / "chosen.parquet", table)
    assemble([folder / "chosen.parquet"], out)
    remove_folder(folder)
    return checked


def _chosen(
    tables: Sequence[pa.Table],
    records: Sequence[Record],
    kept: Sequence[str],
    plan: AcquisitionPlan,
    count: int,
    uncertainty: Uncertainty | Uncertainties | None,
    wanted: tuple[str, str],
) -> pa.Table:
    column, what = wanted
    draws = _draws(tables, column)
    residues = residues_of([(record.heavy, record.light) for record in records])
    near = None if uncertainty is None else uncertainty.neighbours
    identities = applicable = None
    is_new = _first_of_each(records)
    if near is not None:
        identities, _, applicable = near.place([(record.heavy, record.light) for record in records])
        is_new &= ~(identities >= 1.0)  # NaN is new
    candidates = np.flatnonzero(is_new)
    if not len(candidates):
        raise ValueError(
            f"the pool must hold a pair that was not measured; all of {len(records):,} are in the training "
            "set: give other pairs"
        )
    sign = 1.0 if plan.goal == "high" else -1.0
    randomness = random_stream(plan.choice_seed, "thompson")
    order, scores = acquisition_order(sign * draws[:, candidates], plan.by, randomness)
    chosen = candidates[choose_batch(order, count, residues[candidates] if plan.diverse else None)]
    score = dict(zip(candidates.tolist(), scores.tolist(), strict=True))
    shown = [f"{what}{mean:.3g}" for mean in draws.mean(axis=0)]
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(chosen) + 1),
        "id": [records[row].id for row in chosen],
        "heavy": [records[row].heavy for row in chosen],
        "light": [records[row].light for row in chosen],
        "score": [score[row] for row in chosen.tolist()],
        "prediction": draws.mean(axis=0)[chosen],
        "deviation": spread(draws)[chosen],
    }
    if identities is not None and applicable is not None:
        columns["nearest_identity"] = pa.array(identities[chosen], from_pandas=True)
        columns["applicable"] = applicable[chosen]
    columns["reason"] = reasons(
        chosen, draws=sign * draws, by=plan.by, shown=shown, training_identity=identities, residues=residues
    )
    for place, name in enumerate(kept):
        columns.setdefault(name, [records[row].kept[place] for row in chosen])
    return pa.table(columns)


def wanted_column(model: TunedCheckpoint, label: str | None) -> tuple[str, str]:
    """The column of predictions that is wanted, and its name in words; known before any is made."""
    path = find_file(resolve(model.name, model.namespace), CONFIG, revision=model.revision)
    if path is None:
        raise ValueError(f"{model.name} must have a {CONFIG}; it has none: copy the adapter again")
    config = CurrAbConfig.from_dict(read_object(path))
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    is_number = config.num_labels == 1 or config.problem_type == "regression"
    several = config.problem_type == "multi_label_classification" or (is_number and len(names) > 1)
    if is_number and not several:
        if label is not None:
            raise OptionError(f"label must be left out for a number; got {label!r}", "label")
        return "prediction", ""
    if label is None and several:
        raise OptionError(
            f"label must name one of the columns that are predicted at once, {', '.join(names)}; got none",
            "label",
        )
    label = names[-1] if label is None else label
    if label not in names:
        raise OptionError(unknown("label", label, names), "label")
    return f"{'prediction' if is_number else 'probability'}_{label}", f"{label} "


def _draws(tables: Sequence[pa.Table], column: str) -> Floats:
    """Predictions [models, pool] of what is wanted."""
    if "position" in tables[0].column_names:
        raise ValueError("what to measure next is chosen for numbers and classes of pairs; got residues")
    return np.stack([np.asarray(table[column], np.float64) for table in tables])


def _first_of_each(records: Sequence[Record]) -> Flags:
    """True for the first record of each pair."""
    seen: dict[tuple[str | None, str | None], int] = {}
    firsts = [seen.setdefault((record.heavy, record.light), place) for place, record in enumerate(records)]
    return np.asarray(np.array(firsts) == np.arange(len(records)))


def ensemble(given: Sequence[Path], model: TunedCheckpoint) -> list[TunedCheckpoint]:
    """The models of the ensemble, loaded as the model is."""
    folders = list(given) or fold_models(model.name)
    if len(folders) < 2:
        raise OptionError(f"ensemble must be two models or more; got {len(folders)}", "ensemble")
    return [replace(model, name=str(folder), revision=None) for folder in folders]
