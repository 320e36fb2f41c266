"""Measured numbers in the two forms that the Hub reads: `model-index` in a card, and files beside the card.

Both name data sets by their repositories on the Hub, so numbers that were measured on other data are in
neither: a card's table and `results.json` have all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from curr_ab.family import DATASET
from curr_ab.results import HELD_OUT, Result, is_headline

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

EVAL_RESULTS_FOLDER = ".eval_results"
EVAL_RESULTS = f"{EVAL_RESULTS_FOLDER}/curr-ab.yaml"
_HUB_DATA_SET = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([0-9a-f]{40}))?(?:/(\S*))?(?=\s|$)")
# What a model does without a head, by the pipeline that it is for.
_OF_THE_MODEL_ITSELF = ("regions", "fitness", "generation")


def hub_data_set(row: Result, namespace: str) -> tuple[str, str | None] | None:
    """Repository and commit of the data; None where they are not on the Hub under a name that is known.

    It is an address such as `hf://datasets/OWNER/NAME@COMMIT`, or the family's own data set, which lies
    beside the models in the `namespace`.
    """
    if found := _HUB_DATA_SET.match(row.dataset):
        return found[1], found[2]
    return (f"{namespace}/{DATASET}", None) if row.dataset.partition(" ")[0] == DATASET else None


def model_index(results: Sequence[Result], namespace: str, pipeline: str) -> list[EvalResult]:
    """The numbers for the header of a card; `pipeline` is the model's own task."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=_task_type(row, pipeline),
            task_name=row.task,
            dataset_type=data_set,
            dataset_name=" ".join([data_set, *(f"{k}={v}" for k, v in sorted(row.details.items()))]),
            dataset_split=row.split,
            dataset_revision=commit,
            metric_type=row.metric,
            metric_name=row.metric,
            metric_value=row.value,
        )
        for row, data_set, commit in _on_the_hub(results, namespace)
    ]


def eval_results(results: Sequence[Result], namespace: str) -> str | None:
    """The same numbers for EVAL_RESULTS, one for each task of a data set; None without any.

    The Hub shows them in the table of a data set only where this lists the task in its `eval.yaml`, and the
    Hub has admitted it as a benchmark.
    """
    import yaml

    entries: list[dict[str, Any]] = []
    taken: set[tuple[str, str]] = set()
    for row, data_set, commit in _on_the_hub(results, namespace):
        task = _task_id(row)
        if (data_set, task) in taken:
            raise ValueError(
                f"{task} of {data_set} must have one number for the Hub; got two, such as those of two "
                "commits; leave one out of the results"
            )
        taken.add((data_set, task))
        error = "" if row.standard_error is None else f", standard error {row.standard_error:.2g}"
        details = "".join(f", {key} {value}" for key, value in sorted(row.details.items()))
        entries.append(
            {
                "dataset": {
                    "id": data_set,
                    "task_id": task,
                    **({"revision": commit} if commit else {}),
                },
                "value": row.value,
                "notes": f"{row.metric}, {row.split}, {row.num_items:,} items{error}{details}; "
                f"{row.source} (curr-ab {row.code_version})",
            }
        )
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=1000) if entries else None


def _on_the_hub(results: Sequence[Result], namespace: str) -> Iterator[tuple[Result, str, str | None]]:
    """What cards show, of data on the Hub; not of real pairs that stand beside generated ones."""
    for row in filter(is_headline, results):
        place = hub_data_set(row, namespace)
        if place is not None and row.details.get("sample") != HELD_OUT:
            yield row, *place


def _task_type(row: Result, pipeline: str) -> str:
    """The Hub's word for the task; it counts a number for a text (`text-scoring`) as text-classification."""
    of_itself = row.task in _OF_THE_MODEL_ITSELF or row.metric == "loss"
    return pipeline if of_itself or pipeline == "token-classification" else "text-classification"


def _task_id(row: Result) -> str:
    """Name of a task of the data set: all that tells its number apart from others, in one word."""
    found = _HUB_DATA_SET.match(row.dataset)
    parts = [row.task if row.task.endswith(f"-{row.metric}") else f"{row.task}-{row.metric}"]
    parts += [found[3]] if found and found[3] else []
    parts += [row.split] if row.split != "test" else []
    parts += [f"{key} {value}" for key, value in sorted(row.details.items())]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")
