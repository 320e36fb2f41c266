"""Prepare token shards from sources: the stages in order, each resumed where a killed run ended."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from hashlib import sha256
from operator import call
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from curr_ab.data.preparing.checks import check_splits
from curr_ab.data.preparing.clean import REASONS, WAYS_OUT
from curr_ab.data.preparing.clonotypes import require_known, write_clonotypes
from curr_ab.data.preparing.clusters import donors_path, require_mmseqs, write_labels
from curr_ab.data.preparing.folder import WORK_NAME, Stage, finished, remove_others, working
from curr_ab.data.preparing.genes import read_v_genes
from curr_ab.data.preparing.order import (
    PartitionTask,
    gather_keys,
    partition_bits,
    spread_bucket,
    write_partition,
)
from curr_ab.data.preparing.parts import BUCKET_BITS, PartTask, write_part
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.data.preparing.rebuild import find_prepared, rebuild, refuse_settings
from curr_ab.data.preparing.splits import (
    SPLITS,
    held_out_rows,
    shard_tasks,
    split_report,
    subset_sizes,
    write_splits,
    write_task_shard,
)
from curr_ab.data.reading.objects import files_of, is_files
from curr_ab.data.reading.remote import hub_commits
from curr_ab.data.reading.samples import group_sources
from curr_ab.data.reading.sources import MalformedSource, expand_sources
from curr_ab.data.reading.table import Recognised
from curr_ab.data.report import DROPPED_NAME, NOTES_NAME, check_report, write_preparation_report
from curr_ab.data.schema import FIELDS, MASK_LETTERS
from curr_ab.data.shards import FORMAT, INDEX_NAME, index_fingerprint
from curr_ab.extras import needs_extra
from curr_ab.files import read_object, replacing, write_json
from curr_ab.options import OptionError
from curr_ab.share import Share, parse_share
from curr_ab.words import CHAINS, VOCABULARY
from curr_ab.workers import Workers


def _join(tables: Sequence[Path], path: Path) -> None:
    """Join those tables of rows that there are."""
    existing = [table for table in tables if table.exists()]
    with replacing(path) as temporary:
        schema = pa.parquet.read_schema(existing[0])
        with pa.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for table in existing:
                for batch in pa.parquet.ParquetFile(table).iter_batches():
                    writer.write_batch(batch)


def _counts(parts: Sequence[dict[str, Any]], partitions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Numbers of records read, kept and dropped, from the summaries of parts and partitions."""
    drops: Counter[str] = Counter()
    annotated: Counter[str] = Counter()
    for part in parts:
        drops.update(part["drops"])
        annotated.update(part["annotated"])
    drops["duplicate"] = sum(partition["duplicates"] for partition in partitions)
    kept = sum(partition["kept"] for partition in partitions)
    return {
        "read": kept + sum(drops.values()),
        "kept": kept,
        "dropped": {reason: drops[reason] for reason in REASONS if drops[reason]},
        "annotated_before_duplicates": {name: count for name, count in sorted(annotated.items()) if count},
        "set_aside": [part["set_aside"] for part in parts if part["set_aside"]],
    }


def _no_usable_record(parts: Sequence[dict[str, Any]]) -> OptionError:
    """The error where no record is left: why, what was left out before, and the chief reason's way out."""
    counts = _counts(parts, [])
    recognised = [Recognised(**one) for part in parts for one in part["recognised"]]
    for other in recognised[1:]:
        recognised[0].add(other)
    lines, columns = (recognised[0].lines()[1:], recognised[0].columns) if recognised else ([], {})
    files = [file for part in parts for file in part["source"]]
    dropped, ready, fields = counts["dropped"], dict[str, str](), tuple[str, ...]()
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())
    is_left_out = recognised and recognised[0].left_out
    no_rows = "no row is left" if is_left_out else "they hold no records below the header"
    problem = "; ".join([f"no usable record in {len(parts)} source(s) ({reasons or no_rows})", *lines])
    if dropped:
        chief = max(dropped, key=lambda reason: dropped[reason])
        advice, fields = WAYS_OUT[chief]
        problem += f"; {chief}: {REASONS[chief]}; {advice}"
        swapped = [columns[chain][0] for chain in CHAINS[::-1] if chain in columns]
        if chief == "wrong_chain" and len(swapped) == 2 and " + " not in "".join(swapped):  # of regions
            ready = dict(zip(("heavy_column", "light_column"), swapped, strict=True))
    else:
        problem += "; give a file with chains of antibodies"
    if counts["set_aside"]:
        problem += f"; set aside: {'; '.join(counts['set_aside'])}"
    named = files[0] + (f" and {len(files) - 1:,} more" if len(files) > 1 else "")
    return MalformedSource(named, problem, fields=fields, ready=ready)


def prepare(
    sources: Any,
    out: str | os.PathLike[str],
    plan: PreparationPlan | None = None,
    *,
    processes: int = 1,
    keep_going: bool = False,
    keep_dropped: bool = False,
    report: Path | None = None,
    progress: bool = False,
    executor: Executor | None = None,
    share: Share | str | None = None,
) -> dict[str, Any]:
    """Write token shards into `out`; return the content of `dataset.json`.

    Sources are files or objects, as `read_pairs` takes them; `report` takes a row for each of their records.
    A single source that was prepared before, a folder or a data set on the Hub, is taken over as it is: its
    shards are rebuilt from its Parquet files, equal to the bit. A killed run is taken up where it ended.

    Tasks go to `processes` of this machine, or to an `executor`, whose workers see the same files. With a
    `share` other processes that are called alike do the others of the same preparation, and each returns when
    all of it is done. The result depends on none of these.
    """
    check_report(report)
    if isinstance(share, str):
        share = parse_share(share)
    if (prepared := find_prepared(sources)) is not None:
        refuse_settings(plan, keep_going=keep_going, keep_dropped=keep_dropped, report=report)
        with Workers(processes, progress=progress, executor=executor) as workers:
            return rebuild(prepared, Path(out), workers, share)
    with needs_extra("train"):  # now, and not at the check of the splits, after hours
        import duckdb  # noqa: F401
    flags = {"keep_going": keep_going, "keep_dropped": keep_dropped or report is not None}
    if report is not None:
        flags["keep_notes"] = True
    if share is not None and not is_files(sources):
        raise ValueError(
            "the sources of a share must be files, which all of them read; write the objects first"
        )
    plan, folder = plan or PreparationPlan(), Path(out)
    with (
        files_of(sources, folder) as names,
        Workers(processes, progress=progress, executor=executor) as workers,
    ):
        files = expand_sources(names)
        if plan.cluster == "mmseqs":
            require_mmseqs()  # now, not after hours of reading
        if plan.v_genes is not None:
            read_v_genes(plan.v_genes)
        request = {"sources": files, "settings": plan.settings(), **flags}
        with working(folder, request, workers, share) as run:
            if run is not None:
                _run_stages(group_sources(files, plan.names), folder, plan, request, run, workers, flags)
    if report is not None and (share is None or share.index == 0):
        write_preparation_report(report, folder)
    return read_object(folder / INDEX_NAME)


def _run_stages(
    files: Sequence[tuple[str, ...]],
    folder: Path,
    plan: PreparationPlan,
    request: dict[str, Any],
    run: Stage,
    workers: Workers,
    flags: Mapping[str, bool],
) -> None:
    """Run every stage in turn, up to the index; each takes from disk what an earlier run finished."""
    work = folder / WORK_NAME
    part_tasks = [
        PartTask(index=index, source=file, plan=plan, folder=work / "parts", **flags)
        for index, file in enumerate(files)
    ]
    parts = run(write_part, part_tasks, "read and clean")
    num_rows = sum(part["kept"] for part in parts)
    if num_rows == 0:
        raise _no_usable_record(parts)

    # Now, and not after hours more; duplicates can only make it worse.
    held_out = sum(held_out_rows(split, getattr(plan, split), num_rows) for split in SPLITS[1:])
    if plan.cluster != "source":
        subset_sizes(plan.subsets, num_rows - held_out)
    if plan.group_by_donor and not any(part["annotated"].get("donor") for part in parts):
        (donor,) = (field for field in FIELDS if field.name == "donor")
        raise OptionError(
            "group_by_donor must be no where no record has a donor; name a column "
            f"{', '.join((donor.name, *donor.bases[:-1]))} or {donor.bases[-1]}",
            "group_by_donor",
        )

    # Named after the parts: a source that changed since an earlier run leads to a folder of its own.
    identities = [identity for part in parts for identity in part["identity"]]
    if plan.group_by_donor:
        identities.append("donors of duplicates")  # earlier work did not keep them
    stage = work / sha256(json.dumps(identities).encode()).hexdigest()[:16]
    bits = partition_bits(num_rows)
    partitions = [
        PartitionTask(
            index=index,
            bits=bits,
            parts=work / "parts",
            num_parts=len(files),
            folder=stage / "ordered",
            keep_dropped=flags["keep_dropped"],
            keep_donors=plan.group_by_donor,
        )
        for index in range(1 << bits)
    ]
    if bits > BUCKET_BITS:
        run(spread_bucket, partitions[:: 1 << (bits - BUCKET_BITS)], "spread")
    ordered = run(write_partition, partitions, "order")
    counts = _counts(parts, ordered)
    clonotypes = Counter[str]()
    if plan.cluster == "clonotype":
        for found in run(write_clonotypes, partitions, "find clonotypes"):
            clonotypes.update(found)
        require_known(clonotypes)
    # One task each: whichever share takes it, the others wait.
    (keys,) = run(call, [partial(gather_keys, partitions, stage)], "gather keys")
    label = partial(write_labels, plan, partitions, sequence_keys=keys["sequence_key"], folder=stage)
    (labels,) = run(call, [partial(label, processes=workers.processes)], "label")
    (splits,) = run(
        call, [partial(write_splits, plan, partitions, order_keys=keys["order"], labels=labels)], "split"
    )
    report = split_report(np.load(labels, mmap_mode="r"), np.load(splits, mmap_mode="r"))
    if plan.cluster == "clonotype":
        if plan.v_genes is not None:
            clonotypes["v_genes_by_alignment"] = sum(part["v_genes"] for part in parts)
        report["clonotypes"] = dict(sorted(clonotypes.items()))
    if plan.group_by_donor:
        report |= read_object(donors_path(labels))
    subsets = subset_sizes(plan.subsets, report["pairs"]["train"])

    present = counts["annotated_before_duplicates"]
    masks = tuple(
        mask for mask in MASK_LETTERS if plan.masks and any(f"{mask}_{chain}" in present for chain in CHAINS)
    )
    tasks = shard_tasks(plan, partitions, labels=labels, splits=splits, masks=masks, out=folder)
    entries = run(write_task_shard, tasks, "write shards")
    index = {
        "format": FORMAT,
        "vocabulary": VOCABULARY,
        "masks": masks,
        "splits": {split: [one for one in entries if one["name"].startswith(split)] for split in SPLITS},
        "subsets": subsets,
        "recognised": [one for part in parts for one in part["recognised"]],
        "report": {**counts, **report},
        "sources": [
            [*identity, digest]
            for part in parts
            for identity, digest in zip(part["identity"], part["sha256"], strict=True)
        ],
        "request": request,
    }
    if commits := hub_commits(name for file in files for name in file):
        index["commits"] = commits
    index["fingerprint"] = index_fingerprint(index)
    tables = {}
    if flags["keep_dropped"]:
        tables[DROPPED_NAME] = [task.dropped_path for task in [*part_tasks, *partitions]]
    if flags.get("keep_notes"):
        tables[NOTES_NAME] = [task.notes_path for task in part_tasks]
    run(call, [partial(_write_index, folder, index, tables, workers)], "index")


def _write_index(
    out: Path, index: dict[str, Any], tables: Mapping[str, Sequence[Path]], workers: Workers
) -> None:
    """Join the tables, check the splits, and write the index last of all, unless another share did."""
    if finished(out, index["request"]) is not None:
        return
    for name, parts in tables.items():
        _join(parts, out / name)
    names = {split: [entry["name"] for entry in entries] for split, entries in index["splits"].items()}
    scratch = out / WORK_NAME / "scratch"
    index["report"] |= check_splits(out, names, scratch=scratch, threads=workers.processes)
    remove_others(out, index["splits"], tables)
    write_json(out / INDEX_NAME, index)
