"""Cards of prepared data: one template, filled from the index and the Parquet files beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from curr_ab.data.preparing.checks import check_rows
from curr_ab.data.preparing.clean import REASONS
from curr_ab.data.preparing.foreign_index import require_columns
from curr_ab.data.preparing.rebuild import PreparedData, read_prepared
from curr_ab.data.preparing.splits import SPLITS
from curr_ab.data.schema import FIELDS, PROVENANCE
from curr_ab.data.shards import FORMAT, INDEX_NAME, parquet_path
from curr_ab.family import NAMESPACE
from curr_ab.files import read_object, replacing
from curr_ab.hub.manifest import CARD
from curr_ab.options import OptionError, parse_yaml
from curr_ab.pages import render

# The sections that hold numbers: publication and `verify` make them anew and compare.
DATA_SECTIONS = ("Splits", "Subsets", "Columns", "Sources", "Preparation")
_MOST_SOURCES = 30  # in the card
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
_DTYPES = {"float": "float32", "double": "float64"}  # Arrow's words, and those of the library `datasets`
_MEANINGS = {field.name: field.meaning for field in (*FIELDS, *PROVENANCE)}
_MEANINGS |= {
    "split": "train, validation or test",
    "cluster": "number of the cluster, by which the splits are made",
}
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True)
class Column:
    """Column of the Parquet files, and the number of rows in which it says something."""

    name: str
    type: str
    num_values: int
    meaning: str


@dataclass(frozen=True)
class CardText:
    """What only people know, and keep in the card itself: whose the data are, and how to cite them."""

    namespace: str = NAMESPACE
    license: str | None = None
    citation: str | None = None


def is_prepared(folder: Path) -> bool:
    """True for a folder that `curr-ab data prepare` left; others are published file by file."""
    path = folder / INDEX_NAME
    try:
        return path.is_file() and read_object(path).get("format") == FORMAT
    except ValueError:  # a file of the same name that somebody else made
        return False


def write_data_card(
    folder: Path,
    *,
    namespace: str | None = None,
    license: str | None = None,
    citation: Path | None = None,
) -> None:
    """Make the card of a prepared folder anew; what is not given is as it is in the card now."""
    now = read_card(folder)
    license = license or now.license
    if license is None or not _LICENSE.fullmatch(license):
        raise OptionError(
            f"{folder}: the license must be named, by the Hub's word for it such as cc-by-4.0; got "
            f"{license or 'none'}; https://huggingface.co/docs/hub/repositories-licenses lists them",
            "license",
        )
    quoted = now.citation if citation is None else citation.read_text(encoding="utf-8").strip()
    if quoted and "```" in quoted:  # the card's own fence ends there
        raise OptionError(f"citation must be BibTeX without a line of ```; got {citation}", "citation")
    text = CardText(namespace or now.namespace, license, quoted)
    with replacing(folder / CARD) as temporary:
        temporary.write_text(render_data_card(folder, folder.resolve().name, text), encoding="utf-8")


def read_card(folder: Path) -> CardText:
    """Owner, licence and citation that a card names; defaults where there is none."""
    path = folder / CARD
    if not path.is_file():
        return CardText()
    text = path.read_text(encoding="utf-8")
    owner = re.search(r'load_dataset\("([^"/]+)/', text)
    header = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    cited = re.search(r"^## Cite\n.*?^```bibtex\n(.*?)\n```", text, re.DOTALL | re.MULTILINE)
    try:
        values = parse_yaml(header[1], CARD) if header else None
    except ValueError:
        values = None
    license = values.get("license") if isinstance(values, dict) else None
    return CardText(
        namespace=owner[1] if owner else NAMESPACE,
        license=license if isinstance(license, str) else None,
        citation=cited[1] if cited else None,
    )


def render_data_card(folder: Path, name: str, text: CardText) -> str:
    """The card that the files of a prepared folder give; `name` is that of the repository."""
    data = read_prepared(str(folder / INDEX_NAME))
    index, report = data.index, data.index["report"]
    columns = _read_columns(folder, data)
    pairs = {split: sum(entry["num_pairs"] for entry in index["splits"][split]) for split in SPLITS}
    files = {
        split: [parquet_path(folder, entry["name"]) for entry in index["splits"][split]]
        for split in SPLITS
        if index["splits"][split]
    }
    settings = dict(index["request"]["settings"])
    settings["names"] = {key: name for key, name in settings["names"].items() if name}
    return render(
        "hub/data_card.md",
        header=_header(name, text.license, columns, pairs, files),
        name=name,
        repo_id=f"{text.namespace}/{name}",
        rows="pairs" if settings["chains"] == "paired" else "chains",
        num_rows=sum(pairs.values()),
        pairs=pairs,
        clusters=report["clusters"],
        files=files,
        checks=check_rows(report),
        subsets=dict(sorted(index["subsets"].items(), key=lambda item: (-item[1], item[0]))),
        columns=columns,
        sources=[
            {"name": _source_name(source), "size": size, "digest": digest}
            for source, size, _, digest in index.get("sources", ())
        ],
        most_sources=_MOST_SOURCES,
        read=report["read"],
        kept=report["kept"],
        dropped=report["dropped"],
        reasons=REASONS,
        settings={
            **{key: value for key, value in settings.items() if value not in (None, "", [], {})},
            "fingerprint": index["fingerprint"],
        },
        citation=text.citation,
    )


def _source_name(source: str) -> str:
    """The source by name; the folders of the machine that prepared it tell a reader nothing."""
    return source if "://" in source else Path(source).name


def _read_columns(folder: Path, data: PreparedData) -> list[Column]:
    """The columns, and how many values they have in all Parquet files."""
    values = Counter[str]()
    schema = pa.schema([])
    for entry in data.entries:
        path = parquet_path(folder, entry["name"])
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                schema = file.schema_arrow
                require_columns(str(path), schema, data.index["masks"])
                values.update(dict(_count_values(file)))
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path} cannot be read ({error}); fetch or prepare the data again") from None
    return [
        Column(field.name, _DTYPES.get(str(field.type), str(field.type)), values[field.name],
               _MEANINGS.get(field.name, ""))
        for field in schema
    ]  # fmt: skip


def _count_values(file: pa.parquet.ParquetFile) -> Iterator[tuple[str, int]]:
    """The number of values in each column, by the footer where its writer has counted them."""
    footer = file.metadata
    for place, name in enumerate(file.schema_arrow.names):
        found = [footer.row_group(group).column(place).statistics for group in range(footer.num_row_groups)]
        counts = [one.null_count for one in found if one is not None and one.has_null_count]
        is_counted = len(counts) == len(found)
        nulls = sum(counts) if is_counted else file.read(columns=[name])[name].null_count
        yield name, footer.num_rows - nulls


def _header(
    name: str,
    license: str | None,
    columns: Sequence[Column],
    pairs: Mapping[str, int],
    files: Mapping[str, Sequence[Path]],
) -> str:
    """The lines that the Hub and the library `datasets` read."""
    from huggingface_hub import DatasetCardData

    num_rows = sum(pairs.values())
    # Of the files: `datasets` wants the number, and compares the rows alone.
    num_bytes = {split: sum(path.stat().st_size for path in paths) for split, paths in files.items()}
    patterns = [{"split": split, "path": f"{split}-*.parquet"} for split in files]
    data = DatasetCardData(
        license=license,
        pretty_name=name,
        tags=["antibody", "paired-antibody", "protein", "biology"],
        task_categories=["fill-mask"],
        size_categories=[_SIZES[min(max(0, len(str(num_rows)) - 3), len(_SIZES) - 1)]],
        configs=[{"config_name": "default", "data_files": patterns}],
        dataset_info={
            "features": [{"name": column.name, "dtype": column.type} for column in columns],
            "splits": [
                {"name": split, "num_bytes": size, "num_examples": pairs[split]}
                for split, size in num_bytes.items()
            ],
            "download_size": sum(num_bytes.values()),
        },
    )
    header: str = data.to_yaml()
    return header.strip()
