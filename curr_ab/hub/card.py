"""Model cards: one template, filled from the family table, the training record, and measured results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curr_ab.family import MAX_TOKENS, NAMESPACE, Member
from curr_ab.hub.manifest import Manifest
from curr_ab.pages import render
from curr_ab.results import Result, is_headline, model_index
from curr_ab.training_record import TrainingRecord

_PATHS = ("data", "unpaired_data")  # of the machine that trained: they tell a reader nothing
DATASET = "CurrAb-pairs"  # the repository of the prepared data, beside those of the models


def render_card(
    member: Member,
    *,
    namespace: str = NAMESPACE,
    results: Iterable[Result] = (),
    training: TrainingRecord | None = None,
    manifest: Manifest | None = None,
) -> str:
    """The card of a member; with a manifest, that of one export of it."""
    from curr_ab.scaling.laws import PAPER_LAW

    measured = sorted(results, key=lambda row: (row.task, row.metric, str(row.identity)))
    record = training or TrainingRecord()
    recorded = record.plan
    compute = {"training FLOPs": record.training_flops, "hours": record.hours, "devices": record.devices}
    optimum = PAPER_LAW.optima[member.data.num_pairs]
    ratio = member.size.nominal_parameters / optimum
    return render(
        "hub/card.md",
        header=_header(member, namespace, measured),
        name=member.repo_name,
        repo_id=member.repo_id(namespace),
        rehearsal=manifest is not None and manifest.rehearsal,
        size=member.size,
        data=member.data,
        pairs=f"{member.data.num_pairs:,}",
        shape=_shape(member),
        max_tokens=MAX_TOKENS,
        step=manifest.step if manifest else None,
        recorded=recorded is not None,
        epochs=member.epochs,
        plan=_plan(vars(member.plan) if recorded is None else recorded),
        seen={label: value for label, value in (("data", record.data), ("seen", record.seen)) if value},
        measured=measured,
        is_headline=is_headline,
        sources=sorted({f"{row.source} (curr-ab {row.code_version})" for row in measured}),
        missing=_missing(member, measured),
        published=member.published,
        law=PAPER_LAW,
        optimum=optimum,
        where=f"{ratio:.1f} times as large" if ratio >= 1 else f"{1 / ratio:.1f} times smaller",
        compute={label: value for label, value in compute.items() if value is not None},
        unrecorded=[
            *(label for label, value in compute.items() if value is None),
            "energy",
            "carbon",
        ],
        revisions=list(manifest.revisions) if manifest else None,
    )


def _header(member: Member, namespace: str, results: Sequence[Result]) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        license="mit",
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["antibody", "paired-antibody", "protein-language-model", "biology", "esm"],
        datasets=[f"{namespace}/{DATASET}"],
        model_name=member.repo_name,
        eval_results=model_index(results) or None,
    )
    header: str = data.to_yaml()
    return header.strip()


def _shape(member: Member) -> dict[str, str]:
    size = member.size
    return {
        "parameters": f"{size.num_parameters:,}",
        "layers, width, heads": f"{size.num_layers}, {size.hidden_size}, {size.hidden_size // size.head_dim}",
        "architecture": "ESM-2 (rotary positions, vocabulary of 33)",
        "longest input": f"{MAX_TOKENS} tokens",
        "licence": "MIT",
    }


def _plan(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say something."""
    return {
        key: value for key, value in values.items() if key not in _PATHS and value not in (None, "", [], {})
    }


def _missing(member: Member, results: Sequence[Result]) -> list[str]:
    measured = {(row.task, row.metric) for row in results}
    published = dict.fromkeys((figure.task, figure.metric) for figure in member.published)
    return [f"{task} ({metric})" for task, metric in published if (task, metric) not in measured]
