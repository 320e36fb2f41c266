"""Digests of everything that must not move: prepared files, batches, masks, folds, tokenizer files.

They are of whole numbers and of files, so they are the same on every machine. Everything is asked of the
faces of the packages alone, so that an earlier commit can be asked too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab import CurrAbTokenizer
from curr_ab.data import PreparationPlan, TokenDataset, builtin_path, prepare
from curr_ab.finetuning import plant, read_examples, resolve_recipe, split_folds
from curr_ab.pretraining import resolve_plan

BAD_RECORDS = ("short,EVQ,DIQ", "empty,,", "ambiguous,{x},{light}", "again,{heavy},{light}")
# Name: the file that is prepared, what the plan says, what else the call says.
PREPARATIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "annotated": ("pairs.parquet", {"cluster": "exact"}, {}),
    "source split": ("pairs.parquet", {"cluster": "source", "masks": False}, {}),
    "by donor": ("pairs.parquet", {"cluster": "exact", "group_by_donor": True, "test": 0.3}, {}),
    "small shards": (
        "pairs.parquet",
        {"cluster": "exact", "pairs_per_shard": 20, "subsets": {"F": 60, "H": 0.5, "Q": 7}, "seed": 3},
        {},
    ),
    "unpaired": ("heavy.parquet", {"cluster": "exact", "chains": "unpaired"}, {}),
    "text with bad records": ("pairs.csv", {"cluster": "exact", "validation": 5}, {"keep_dropped": True}),
}
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
BATCHES: dict[str, dict[str, Any]] = {
    "masked": {},
    "causal": {"objective": "clm"},
    "of a subset": {"subset": "Q", "seed": 7},
    "CDR3 preferred": {"cdr3_mask_fraction": 0.25},
    "always masked": {"mask_fraction": 0.4, "mask_token_share": 1.0, "random_token_share": 0.0},
    "a constant share of single chains": {"curriculum": "constant", "unpaired_fraction": 0.4},
    "a falling share of single chains": {"curriculum": "sigmoid"},
    "single chains, then pairs": {"curriculum": "unpaired-then-paired", "curriculum_midpoint": 0.5},
}
STEPS = (0, 3, 77)
RANKS = ((0, 1), (0, 3), (2, 3))  # of how many processes
FOLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "grouped": ("specificity-binary", {}),
    "rows": ("specificity-binary", {"fold_scheme": "rows", "early_stopping": 2}),
    "by clone": ("specificity-multiclass", {"group_by": "clone", "folds": 3, "seed": 5}),
    "residues": ("paratope", {}),
    "numbers": ("affinity", {}),
    "shuffled negatives": ("pairing", {"negatives": "shuffled"}),
    "matched negatives": ("pairing", {"negatives": "matched"}),
}


def digest_of(*values: Any) -> str:
    """Of arrays with their type and shape, and of everything that JSON holds."""
    total = sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            total.update(f"{value.dtype.str} {value.shape} ".encode())
            total.update(np.ascontiguousarray(value).tobytes())
        else:
            total.update(json.dumps(value, sort_keys=True, default=str).encode())
    return total.hexdigest()[:16]


# What `dataset.json` did not hold then: beside the report, in an entry of a shard, and in the report.
ADDED = {"sources", "recognised"}
ADDED_TO_SHARD = {"parquet_sha256", "annotation_sha256"}
ADDED_TO_REPORT = {
    "clonotypes",
    "donors_in_several_splits",
    "heavy_chains_in_several_splits",
    "pairs_without_donor",
    "test_pairs_compared",
    "test_pairs_with_clone_mates_in_training",
}


def earlier_index(index: dict[str, Any]) -> dict[str, Any]:
    """The index without what was added later, and with the fingerprint of the rest."""
    index = {key: value for key, value in index.items() if key not in ADDED}
    index["report"] = {key: value for key, value in index["report"].items() if key not in ADDED_TO_REPORT}
    index["splits"] = {
        split: [
            {key: value for key, value in entry.items() if key not in ADDED_TO_SHARD} for entry in entries
        ]
        for split, entries in index["splits"].items()
    }
    named = ("format", "vocabulary", "settings", "splits", "subsets")
    content = [{**index, **index["request"]}[name] for name in named]
    return {**index, "fingerprint": sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def file_digest(path: Path) -> str:
    """Of the bytes; of the rows of a Parquet file, whose bytes depend on the version of pyarrow."""
    if path.name == "dataset.json":
        text = json.dumps(earlier_index(json.loads(path.read_text())), indent=1)  # in the order of the file
        return sha256(f"{text}\n".encode()).hexdigest()[:16]
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return digest_of(str(table.schema.remove_metadata()), table.to_pylist())
    return sha256(path.read_bytes()).hexdigest()[:16]


def file_digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def write_sources(folder: Path) -> None:
    """Pairs of the built-in corpus as a table, heavy chains alone, and text with records to drop."""
    table = pq.read_table(builtin_path()).slice(7_000, 100)
    pq.write_table(table, folder / "pairs.parquet")
    light = [name for name in table.column_names if "light" in name]
    pq.write_table(
        pq.read_table(builtin_path()).slice(7_100, 60).drop_columns(light), folder / "heavy.parquet"
    )
    rows = table.slice(0, 40).select(["id", "heavy", "light"]).to_pylist()
    filled = {**rows[0], "x": "X" * len(rows[0]["heavy"])}
    lines = [*(f"{row['id']},{row['heavy'].lower()},{row['light']}" for row in rows)]
    lines += [bad.format(**filled) for bad in BAD_RECORDS]
    (folder / "pairs.csv").write_text("\n".join(["id,heavy,light", *lines, ""]))


def prepared(name: str) -> Path:
    """Prepare by the table above, below the current folder: sources are recorded as they are named."""
    source, plan, more = PREPARATIONS[name]
    folder = Path(name.replace(" ", "-"))
    prepare([source], folder, PreparationPlan(**plan), **more)
    return folder


def prepared_digests() -> dict[str, dict[str, str]]:
    return {name: file_digests(prepared(name)) for name in PREPARATIONS}


def batch_digests(training_data: Callable[..., Any]) -> dict[str, str]:
    """Of the tokens, masks and targets of several steps and processes; of the prepared folders here."""
    found = {}
    for name, changes in BATCHES.items():
        values = {"data": "annotated", "pairs_per_step": 12, "steps": 100, "warmup_steps": 10, "config": TINY}
        if "curriculum" in changes:
            values["unpaired_data"] = "unpaired"
        plan = resolve_plan({**values, **changes})
        for pad in (False, True):
            data = training_data(plan, pad)
            parts = [data.step(step, *rank, 2) for step in STEPS for rank in RANKS]
            found[f"{name}, {'padded' if pad else 'packed'}"] = digest_of(*_contents(parts))
    return found


def _contents(parts: Iterable[Any]) -> Iterable[Any]:
    for part in parts:
        yield [part.num_targets, part.num_records, part.num_tokens, part.num_unpaired]
        for batch in part.micro_batches:
            yield batch.targets.numpy()
            for name, value in sorted(batch.model_inputs.items()):
                yield name
                yield value.numpy() if hasattr(value, "numpy") else int(value)


def held_out_digests(held_out: Callable[..., Any]) -> dict[str, str]:
    """Of what is masked for the held-out loss; of the prepared folders here."""
    found = {}
    for objective in ("mlm", "clm"):
        held = held_out(
            TokenDataset("annotated", "train"), num_pairs=70, draws=2, seed=0, objective=objective
        )
        blocks = [held.block(*number) for number in held.block_numbers]
        fields = [(b.task.inputs, b.task.targets, b.task.predicted, b.ends, b.regions) for b in blocks]
        found[objective] = digest_of(*(field for block in fields for field in block))
    return found


def fold_digests() -> dict[str, str]:
    """Of pairs with planted labels as they are read, and of their folds; written to the current folder."""
    found = {}
    for name, (task, changes) in FOLDS.items():
        path = Path(f"{task}.parquet")
        table: pa.Table = plant(task, 300 if task == "pairing" else 60)
        pq.write_table(table, path)
        recipe = resolve_recipe(task, {"early_stopping": 0, **changes})
        examples = read_examples(recipe, [str(path)])
        parts = [(f.train, f.validation, f.test) for f in split_folds(examples, recipe)]
        shown = [[one.id, one.heavy, one.light, np.round(one.label, 6).tolist()] for one in examples]
        found[name] = digest_of(shown, *(part for fold in parts for part in fold))
    return found


def tokenizer_files(folder: Path) -> dict[str, Any]:
    """What the tokenizer's files say; further fields come and go with the versions of the libraries."""
    found = {}
    for separator in (None, "<cls>"):
        tokenizer = CurrAbTokenizer() if separator is None else CurrAbTokenizer(separator=separator)
        tokenizer.save_pretrained(folder / str(separator))
        content = json.loads((folder / str(separator) / "tokenizer.json").read_text())
        config = json.loads((folder / str(separator) / "tokenizer_config.json").read_text())
        parts = ("added_tokens", "model", "normalizer", "post_processor", "pre_tokenizer")
        tokens = ("cls_token", "eos_token", "mask_token", "pad_token", "unk_token")
        found[separator or "published"] = {
            "tokenizer.json": {name: digest_of(content[name]) for name in parts},
            "tokenizer_config.json": {
                name: config[name] for name in (*tokens, "tokenizer_class", "auto_map")
            },
        }
    return found


def all_facts(training_data: Callable[..., Any], held_out: Callable[..., Any]) -> dict[str, Any]:
    """Everything, made below the current folder."""
    write_sources(Path())
    return {
        "prepared files": prepared_digests(),
        "batches": batch_digests(training_data),
        "held-out masks": held_out_digests(held_out),
        "folds": fold_digests(),
        "tokenizer files": tokenizer_files(Path("tokenizer")),
    }
