"""The card's numbers: what was measured on the checkpoint, what the paper reports, what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curr_ab.family import Member
from curr_ab.results import Result, is_headline

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


def evaluation_section(member: Member, results: Sequence[Result]) -> str:
    """Measured and published numbers in two tables, so that neither is taken for the other."""
    parts = [_measured(results)]
    if missing := _missing(member, results):
        parts.append(f"Reported in the paper and not measured on this checkpoint: {', '.join(missing)}.")
    parts.append(_published(member))
    return "\n\n".join(parts)


def _measured(results: Sequence[Result]) -> str:
    if not results:
        return "Nothing has been measured on this checkpoint yet."
    lines = [
        "Measured on this checkpoint, from `results.json`, which has single folds and regions, too:",
        "",
        "| task | metric | value | standard error | items | data set | split | details |",
        "|---|---|---:|---:|---:|---|---|---|",
    ]
    for row in filter(is_headline, results):
        details = ", ".join(f"{key} {value}" for key, value in sorted(row.details.items()))
        error = "" if row.standard_error is None else f"{row.standard_error:.2g}"
        lines.append(
            f"| {row.task} | {row.metric} | {row.value:.4f} | {error} | {row.num_items:,} "
            f"| {row.dataset} | {row.split} | {details} |"
        )
    sources = ", ".join(sorted({f"{row.source} (curr-ab {row.code_version})" for row in results}))
    return "\n".join([*lines, "", f"Source: {sources}."])


def _missing(member: Member, results: Sequence[Result]) -> list[str]:
    measured = {(row.task, row.metric) for row in results}
    published = dict.fromkeys((figure.task, figure.metric) for figure in member.published)
    return [f"{task} ({metric})" for task, metric in published if (task, metric) not in measured]


def _published(member: Member) -> str:
    lines = [
        "Reported by the paper for its own checkpoint of this member; not measured here:",
        "",
        "| task | metric | value | source |",
        "|---|---|---:|---|",
    ]
    lines += [
        f"| {figure.task} | {figure.metric} | {figure.value:g} | {figure.source} |"
        for figure in member.published
    ]
    return "\n".join(lines)


def model_index(results: Sequence[Result]) -> list[EvalResult]:
    """The measured numbers in the form that the Hub reads; the paper's are not among them."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="fill-mask" if row.metric == "loss" else "text-classification",
            task_name=row.task,
            dataset_type=row.dataset,
            dataset_name=" ".join([row.dataset, *(f"{k}={v}" for k, v in sorted(row.details.items()))]),
            dataset_split=row.split,
            metric_type=row.metric,
            metric_name=row.metric,
            metric_value=row.value,
        )
        for row in filter(is_headline, results)
    ]
