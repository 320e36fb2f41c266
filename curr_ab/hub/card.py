"""Model cards: one template, filled from the family table, the training record, and measured results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from string import Template

from curr_ab.family import MAX_TOKENS, NAMESPACE, Member
from curr_ab.hub.manifest import Manifest
from curr_ab.quantities import format_setting
from curr_ab.results import Result, is_headline, model_index
from curr_ab.training_record import TrainingRecord

_PATHS = ("data", "unpaired_data")  # of the machine that trained: they tell a reader nothing
DATASET = "CurrAb-pairs"  # the repository of the prepared data, beside those of the models


@cache
def _template() -> Template:
    return Template((files("curr_ab.hub") / "card.md").read_text(encoding="utf-8"))


def render_card(
    member: Member,
    *,
    namespace: str = NAMESPACE,
    results: Iterable[Result] = (),
    training: TrainingRecord | None = None,
    manifest: Manifest | None = None,
) -> str:
    """The card of a member; with a manifest, that of one export of it."""
    measured = sorted(results, key=lambda row: (row.task, row.metric, str(row.identity)))
    rehearsal = manifest is not None and manifest.rehearsal
    banner = (
        "> **A rehearsal.** These are not the weights of the member but a model of another shape under its "
        "name, made to try the way to the Hub. Do not use them.\n\n"
    )
    return _template().substitute(
        header=_header(member, namespace, measured),
        name=member.repo_name,
        repo_id=member.repo_id(namespace),
        banner=banner if rehearsal else "",
        description=_description(member),
        shape=_shape(member),
        max_tokens=MAX_TOKENS,
        training=_training(member, training, manifest),
        evaluation=evaluation_section(member, measured),
        scaling=_scaling(member),
        compute=_compute(training),
        revisions=_revisions(list(manifest.revisions)) if manifest else "",
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


def _description(member: Member) -> str:
    return (
        f"A masked language model of paired antibody sequences, heavy and light chain together: the "
        f"{member.size.name} model of the family trained on the {member.data.name} set of "
        f"{member.data.num_pairs:,} pairs. The family has 15 members, five sizes by three nested training "
        "sets, made to measure how data and size trade off."
    )


def _shape(member: Member) -> str:
    size = member.size
    rows = {
        "parameters": f"{size.num_parameters:,}",
        "layers, width, heads": f"{size.num_layers}, {size.hidden_size}, {size.hidden_size // size.head_dim}",
        "architecture": "ESM-2 (rotary positions, vocabulary of 33)",
        "longest input": f"{MAX_TOKENS} tokens",
        "licence": "MIT",
    }
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def _training(member: Member, training: TrainingRecord | None, manifest: Manifest | None) -> str:
    step = manifest.step if manifest else None
    at = f"This is the checkpoint of step {step:,}. " if step is not None else ""
    training = training or TrainingRecord()
    plan = training.plan
    if plan is None:
        plan = {key: getattr(member.plan, key) for key in member.plan.__dataclass_fields__}
        source = (
            "No record of its own training is at hand. The plan of the published training, which all members "
            f"share, came to {member.epochs:.1f} epochs of {member.data.num_pairs:,} pairs:"
        )
    else:
        source = "The plan, as its training recorded it in `training.json`:"
    lines = [f"{at}{source}", "", "| | |", "|---|---|"]
    lines += [
        f"| {key.replace('_', ' ')} | {format_setting(value)} |"
        for key, value in plan.items()
        if key not in _PATHS and value not in (None, "", [], {})
    ]
    for label, recorded in (("data", training.data), ("seen", training.seen)):
        if recorded is not None:
            text = format_setting({key.replace("_", " "): value for key, value in recorded.items()})
            lines += ["", f"{label.capitalize()}: {text}."]
    return "\n".join(lines)


def _scaling(member: Member) -> str:
    from curr_ab.scaling.laws import PAPER_LAW

    optimum = PAPER_LAW.optima[member.data.num_pairs]
    ratio = member.size.nominal_parameters / optimum
    where = f"{ratio:.1f} times as large" if ratio >= 1 else f"{1 / ratio:.1f} times smaller"
    return (
        f"By the paper's fit ({PAPER_LAW.source}) the best size for {member.data.num_pairs:,} pairs is "
        f"{optimum:,} parameters; this member, nominally {member.size.nominal_parameters:,}, is {where}. "
        "The fit rests on three data sizes: read it as a direction. `curr-ab scaling advise` shows how "
        "uncertain it is, beside other laws."
    )


def _compute(training: TrainingRecord | None) -> str:
    record = training or TrainingRecord()
    values = {"training FLOPs": record.training_flops, "hours": record.hours, "devices": record.devices}
    known = {label: value for label, value in values.items() if value is not None}
    missing = [label for label, value in values.items() if value is None]
    lines = [f"| {label} | {format_setting(value)} |" for label, value in known.items()]
    table = "\n".join(["| | |", "|---|---|", *lines]) + "\n\n" if lines else ""
    unknown = [*missing, "energy", "carbon"]
    return f"{table}Not recorded: {', '.join(unknown)}."


def _revisions(revisions: Sequence[str]) -> str:
    if not revisions:
        return " This repository has no step checkpoints."
    return (
        f" It has {len(revisions)} step checkpoints as revisions, from `{revisions[0]}` to `{revisions[-1]}` "
        f'(`from_pretrained(..., revision="{revisions[0]}")`); `main` is the last.'
    )


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
