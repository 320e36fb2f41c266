"""Model cards: one template, filled from the family table, the training record, and measured results.

The card of an export or an adapter is written from the files beside it, and compared with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from curr_ab.checkpoint_files import CONFIG, is_causal, num_parameters
from curr_ab.family import DATASET, MAX_TOKENS, NAMESPACE, Member, find_demo, find_member, member
from curr_ab.files import read_object, replacing
from curr_ab.finetuning.adapter_manifest import change_base
from curr_ab.finetuning.adapter_manifest import differences as tuned_differences
from curr_ab.finetuning.adapter_manifest import read_manifest as read_tuned
from curr_ab.finetuning.adapter_record import MANIFEST as TUNED_MANIFEST
from curr_ab.finetuning.adapter_record import RECORD, change_record, is_repository, write_adapter_card
from curr_ab.hub.bases import commit_of_base
from curr_ab.hub.data_card import is_prepared, write_data_card
from curr_ab.hub.manifest import CARD, RESULTS, Manifest, read_manifest
from curr_ab.hub.signatures import refuse_signed
from curr_ab.hub_results import EVAL_RESULTS, eval_results, model_index
from curr_ab.options import OptionError
from curr_ab.pages import render
from curr_ab.results import Result, is_headline, read_results, write_results
from curr_ab.training_record import TRAINING, TrainingRecord, read_training
from curr_ab.words import EXAMPLE_NAME, EXAMPLE_PAIR

_SAME_FOR_ALL = {
    "architecture": "ESM-2 (rotary positions, vocabulary of 33)",
    "longest input": f"{MAX_TOKENS} tokens",
    "licence": "MIT",
}
SEPARATOR = "<cls><cls>"  # the tokenizer's; importing that one would load transformers
_MASKED = 98  # a tryptophan in the CDRH3 of the example
_PATHS = ("data", "unpaired_data")  # of the machine that trained: they tell a reader nothing
# The sections that hold numbers: `verify` makes them anew from the files beside the card, and compares.
_NUMBERED_SECTIONS = ("Training", "Evaluation", "Scaling law", "Compute and carbon")


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

    record = training or TrainingRecord()
    recorded = record.plan
    measured = _in_order(results)
    optimum = PAPER_LAW.optima[member.data.num_pairs]
    ratio = member.size.nominal_parameters / optimum
    return render(
        "hub/causal_card.md" if member.causal else "hub/card.md",
        header=_header(
            member.repo_name,
            member.causal,
            measured,
            namespace,
            datasets=[f"{namespace}/{DATASET}"],
            base_model=_base_model(recorded or {}, namespace),
        ),
        name=member.repo_name,
        repo_id=member.repo_id(namespace),
        rehearsal=manifest is not None and manifest.rehearsal,
        size=member.size,
        data=member.data,
        pairs=f"{member.data.num_pairs:,}",
        shape=_shape(member),
        recorded=recorded is not None,
        epochs=member.epochs,
        missing=_missing(member, measured),
        published=member.published,
        law=PAPER_LAW,
        optimum=optimum,
        where=f"{ratio:.1f} times as large" if ratio >= 1 else f"{1 / ratio:.1f} times smaller",
        revisions=list(manifest.revisions) if manifest else None,
        light_first=(recorded or {}).get("light_first") or 0.0,
        **_numbers(record, vars(member.plan) if recorded is None else recorded, measured, manifest),
    )


def _render_demo(
    demo: str, folder: Path, results: Iterable[Result], training: TrainingRecord, manifest: Manifest
) -> str:
    """The card of a model that comes with the package."""
    measured, causal = _in_order(results), is_causal(str(folder))
    # Its shape is its own: the member that a plan begins with would only mislead.
    plan = {key: value for key, value in (training.plan or {}).items() if key != "member"}
    return render(
        "hub/demo_card.md",
        header=_header(manifest.member, causal, measured, NAMESPACE),
        name=manifest.member,
        demo=demo,
        causal=causal,
        rehearsal=False,
        shape=_demo_shape(folder),
        recorded=True,
        **_numbers(training, plan, measured, manifest),
    )


def _in_order(results: Iterable[Result]) -> list[Result]:
    return sorted(results, key=lambda row: (row.task, row.metric, str(row.identity)))


def _numbers(
    record: TrainingRecord,
    plan: Mapping[str, Any],
    measured: Sequence[Result],
    manifest: Manifest | None,
) -> dict[str, Any]:
    """What the sections take that hold numbers."""
    compute = {"training FLOPs": record.training_flops, "hours": record.hours, "devices": record.devices}
    return {
        "max_tokens": MAX_TOKENS,
        "step": manifest.step if manifest else None,
        "plan": _plan(plan),
        "seen": {label: value for label, value in (("data", record.data), ("seen", record.seen)) if value},
        "measured": measured,
        "is_headline": is_headline,
        "sources": sorted({f"{row.source} (curr-ab {row.code_version})" for row in measured}),
        "compute": {label: value for label, value in compute.items() if value is not None},
        "unrecorded": [*(label for label, value in compute.items() if value is None), "energy", "carbon"],
    }


def _header(
    name: str,
    causal: bool,
    results: Sequence[Result],
    namespace: str,
    *,
    datasets: list[str] | None = None,
    base_model: str | None = None,
) -> str:
    """The lines that the Hub reads; the `namespace` owns the data set of the members."""
    from huggingface_hub import ModelCardData

    pipeline = "text-generation" if causal else "fill-mask"
    data = ModelCardData(
        license="mit",
        library_name="transformers",
        pipeline_tag=pipeline,
        tags=[
            *("antibody", "paired-antibody", "protein-language-model", "biology", "esm"),
            "sentence-transformers",
        ],
        datasets=datasets,
        base_model=base_model,
        base_model_relation=base_model and "finetune",
        model_name=name,
        widget=[{"example_title": EXAMPLE_NAME, "text": _widget(causal)}],
        eval_results=model_index(results, namespace, pipeline) or None,
    )
    header: str = data.to_yaml(line_break="\n")
    return header.strip()


def _widget(causal: bool) -> str:
    """A real pair as the box on the Hub takes it: one residue to fill in, or a heavy chain to go on from."""
    heavy, light = EXAMPLE_PAIR
    if causal:
        return f"<cls>{heavy}{SEPARATOR}"
    return f"{heavy[:_MASKED]}<mask>{heavy[_MASKED + 1 :]}{SEPARATOR}{light}"


def _base_model(plan: Mapping[str, Any], namespace: str) -> str | None:
    """The repository whose weights the training began with; None where it was a folder, or none."""
    base = str(plan.get("init_from") or "")
    if (found := find_member(base)) is not None:
        return found.repo_id(namespace)
    return base if is_repository(base) else None


def _shape(member: Member) -> dict[str, str]:
    size = member.size
    return {
        "parameters": f"{size.num_parameters:,}",
        "layers, width, heads": f"{size.num_layers}, {size.hidden_size}, {size.hidden_size // size.head_dim}",
        **_SAME_FOR_ALL,
    }


def _demo_shape(folder: Path) -> dict[str, str]:
    config = read_object(folder / CONFIG)
    shape = (config[name] for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    return {
        "parameters": f"{num_parameters(folder):,}",
        "layers, width, heads": ", ".join(map(str, shape)),
        **_SAME_FOR_ALL,
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


def write_card(
    folder: str | Path,
    *,
    results: Sequence[str | Path] = (),
    namespace: str | None = None,
    name: str | None = None,
    base_model: str | None = None,
    license: str | None = None,
    citation: Path | None = None,
) -> None:
    """Make the card of an export anew; `results` replace those that it has.

    Only numbers that were measured on the very weights of the export are taken; others are refused. What
    fine-tuning left may get another `name`, and a repository as its `base_model` in the place of a folder.
    Prepared data have a `license`, and may have a `citation`: a file of BibTeX.
    """
    folder = Path(folder)
    if is_prepared(folder):
        if results or name or base_model:
            raise OptionError(
                f"{folder}: results, name and base must be none for prepared data",
                *("results", "name", "base_model"),
            )
        write_data_card(folder, namespace=namespace, license=license, citation=citation)
        return
    if license or citation:
        raise OptionError(
            f"{folder}: license and citation must be none for what is no prepared data",
            *("license", "citation"),
        )
    if (folder / RECORD).is_file():
        if results:
            raise OptionError(
                f"{folder}: results must be none for an adapter, which has its folds'", "results"
            )
        _write_finetuned(folder, namespace, name, base_model)
        return
    if name or base_model:
        raise OptionError(
            f"{folder}: name and base must be none for what fine-tuning did not leave", "name", "base"
        )
    manifest = read_manifest(folder)
    other_owner = namespace is not None and namespace != owner_of(manifest)
    if other_owner:
        refuse_signed(folder)
    if results:
        write_results(folder / RESULTS, _results_of(manifest, results))
    if other_owner:
        replace(manifest, namespace=namespace).write(folder)
    for file, text in living_files(folder, namespace or owner_of(manifest)).items():
        if text is None:
            (folder / file).unlink(missing_ok=True)
            continue
        with replacing(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _write_finetuned(folder: Path, namespace: str | None, name: str | None, base_model: str | None) -> None:
    if base_model is not None and not is_repository(base_model):
        raise ValueError(f"{base_model!r} must be a repository such as {NAMESPACE}/CurrAb-350M-F")
    if name is not None and not is_repository(f"{NAMESPACE}/{name}"):
        raise ValueError(f"{name!r} must be the name of a repository: letters, digits, `-`, `_` and `.`")
    manifest = read_tuned(folder) if (folder / TUNED_MANIFEST).is_file() else None
    commit = None
    if manifest is not None:
        if problems := tuned_differences(folder, manifest):
            raise ValueError(f"{folder}: {problems[0]}; put it back, or fine-tune again")
        if base_model is not None:
            commit = commit_of_base(base_model, manifest.base_weights)
    owner = namespace or (NAMESPACE if manifest is None else manifest.namespace)
    change_record(folder, name, base_model)
    if manifest is not None:
        change_base(folder, manifest, base_model, commit, owner)
    write_adapter_card(folder, namespace=owner)


def living_files(folder: Path, namespace: str) -> dict[str, str | None]:
    """The card and the numbers for the Hub that the files of an export give; None where there is no file."""
    results = read_results(folder / RESULTS) if (folder / RESULTS).is_file() else []
    return {CARD: rendered(folder, namespace), EVAL_RESULTS: eval_results(_in_order(results), namespace)}


def stale_files(folder: Path, namespace: str) -> list[str]:
    """What is not as the files of an export give it under this owner, in words."""
    problems = []
    for file, expected in living_files(folder, namespace).items():
        path = folder / file
        found = path.read_text(encoding="utf-8") if path.is_file() else ""
        parts = stale_parts(found, expected or "") if file == CARD else ["it"] * (found != (expected or ""))
        problems += [f"{file} is stale: {part} is not what the files beside it give" for part in parts]
    return problems


def owner_of(manifest: Manifest) -> str:
    """The owner of the repository, as its manifest says."""
    return manifest.namespace or NAMESPACE


def rendered(folder: Path, namespace: str) -> str:
    """The card that the files of an export give."""
    manifest = read_manifest(folder)
    results = read_results(folder / RESULTS) if (folder / RESULTS).is_file() else []
    record = folder / TRAINING
    training = read_training(record) if record.is_file() else None
    if (demo := find_demo(manifest.member)) is not None:
        return _render_demo(demo, folder, results, training or TrainingRecord(), manifest)
    return render_card(
        member(manifest.member), namespace=namespace, results=results, training=training, manifest=manifest
    )


def _results_of(manifest: Manifest, paths: Sequence[str | Path]) -> list[Result]:
    """The results of all files, which must be about the weights of the export."""
    found = [(path, row) for path in paths for row in read_results(path)]
    for path, row in found:
        if row.checkpoint != manifest.weights:
            raise ValueError(
                f"{path}: {row.task} {row.metric} was measured on weights {row.checkpoint[:12]}…, "
                f"but this export has {manifest.weights[:12]}…; evaluate the export itself"
            )
    return [replace(row, model=manifest.member) for _, row in found]


def stale_parts(card: str, expected: str, sections: Sequence[str] = _NUMBERED_SECTIONS) -> list[str]:
    """Parts of a card that hold numbers and are not what they should be; its prose may differ."""
    parts = {"its header": r"\A---\n(.*?)\n---\n"}
    parts |= {f"its section {name!r}": rf"^## {name}\n(.*?)(?=^## |\Z)" for name in sections}
    return [name for name, part in parts.items() if _part(card, part) != _part(expected, part)]


def _part(card: str, pattern: str) -> str:
    part = re.search(pattern, card, re.DOTALL | re.MULTILINE)
    return part[1].strip() if part else ""
