"""Prepared data as the source of a preparation: the shards are rebuilt from the Parquet files."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curr_ab.cli.main import main
from curr_ab.data import PreparationPlan, TokenDataset, builtin_path, prepare
from curr_ab.data.shards import index_fingerprint
from curr_ab.files import file_digest

PLAN = PreparationPlan(cluster="source", pairs_per_shard=100)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("prepared")
    pq.write_table(pq.read_table(builtin_path()).slice(0, 400), place / "pairs.parquet")
    prepare(place / "pairs.parquet", place / "shards", PLAN)
    return place / "shards"


@pytest.fixture
def published(prepared, tmp_path) -> Path:
    """What a repository holds: Parquet and index."""
    folder = tmp_path / "published"
    folder.mkdir()
    for path in [*prepared.glob("*.parquet"), prepared / "dataset.json"]:
        shutil.copy(path, folder)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in folder.iterdir()}


def test_the_folder_is_the_same_to_the_bit(prepared, published, tmp_path) -> None:
    with pytest.raises(ValueError, match="is missing; if this is a published data set"):
        TokenDataset(published)[0]
    index = prepare(published, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(prepared)
    assert index["fingerprint"] == TokenDataset(prepared).fingerprint == index_fingerprint(index)
    assert prepare(str(published), tmp_path / "out") == index  # which is finished
    shared = [prepare([published], tmp_path / "shared", share=f"{number}/2") for number in range(2)]
    assert shared == [index, index] and digests(tmp_path / "shared") == digests(prepared)


def test_single_chains_are_rebuilt_too(tmp_path) -> None:
    pq.write_table(pq.read_table(builtin_path()).slice(0, 60), tmp_path / "pairs.parquet")
    plan = PreparationPlan(chains="unpaired", cluster="exact", masks=False)
    prepare(tmp_path / "pairs.parquet", tmp_path / "chains", plan)
    shutil.copytree(tmp_path / "chains", tmp_path / "published", ignore=shutil.ignore_patterns("*.npy"))
    prepare(tmp_path / "published", tmp_path / "out")
    assert digests(tmp_path / "out") == digests(tmp_path / "chains")


def test_what_a_killed_run_finished_is_not_done_again(prepared, published, tmp_path, monkeypatch) -> None:
    from curr_ab.data.preparing import rebuild

    write, written = rebuild.write_arrays, []

    def fail_later(folder, shard, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard)
        return write(folder, shard, *rest)

    monkeypatch.setattr(rebuild, "write_arrays", fail_later)
    with pytest.raises(KeyboardInterrupt):
        prepare(published, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()
    monkeypatch.setattr(rebuild, "write_arrays", lambda *args: written.append(args[1]) or write(*args))
    prepare(published, tmp_path / "out")
    assert sorted(written) == sorted(path.stem for path in published.glob("*.parquet"))
    assert digests(tmp_path / "out") == digests(prepared)


def test_settings_and_folders_that_cannot_be_are_refused(prepared, published, tmp_path, capsys) -> None:
    command = ["data", "prepare", str(published), "--quiet", "--out"]
    refused = {
        ("--cluster", "exact"): "(--cluster)",
        ("--no-masks",): "(--masks)",
        ("--keep-dropped",): "(--keep-dropped)",
        ("--unpaired",): "chains must be left out",
        ("--report", str(tmp_path / "rows.csv")): "(--report)",
    }
    for options, words in refused.items():
        assert main([*command, str(tmp_path / "out"), *options]) == 2
        said = capsys.readouterr().err
        assert words in said and "must be left out for data that are prepared already" in said, said
    assert main([*command, str(published)]) == 2
    assert "out must be another folder" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(published, copy)
    assert main([*command, str(copy)]) == 2
    assert "holds the data set as it is published, without" in capsys.readouterr().err
    pq.write_table(pq.read_table(builtin_path()).slice(0, 100), tmp_path / "pairs.parquet")
    prepare(tmp_path / "pairs.parquet", tmp_path / "other", PLAN)
    assert main([*command, str(tmp_path / "other")]) == 2
    assert "holds data prepared from other sources" in capsys.readouterr().err


def test_parquet_that_is_not_what_the_index_says_is_refused(published, tmp_path) -> None:
    first = published / "train-00000.parquet"
    whole, index = first.read_bytes(), json.loads((published / "dataset.json").read_text())
    first.write_bytes(whole[:-9] + b"x" + whole[-8:])
    with pytest.raises(ValueError, match=r"train-00000\.parquet must have the SHA-256"):
        prepare(published, tmp_path / "out")
    first.unlink()
    with pytest.raises(ValueError, match=r"train-00000\.parquet is missing"):
        prepare(published, tmp_path / "out")
    first.write_bytes(whole)
    index["subsets"]["F"] -= 1
    (published / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="must have the fingerprint of what it lists"):
        prepare(published, tmp_path / "out")


def rename(index: dict, name: str) -> None:
    index["splits"]["validation"][0]["name"] = name


INDEXES = {  # of somebody else: what is done to it, and what is said
    "parent": (lambda index: rename(index, "../victim/validation-00000"), "the shards ../victim/validation"),
    "absolute": (lambda index: rename(index, "/proc/validation-00000"), "the shards /proc/validation-00000"),
    "other split": (lambda index: rename(index, "test-00000"), "the shards test-00000 in validation"),
    "no name": (lambda index: rename(index, None), "the shards None in validation"),
    "number": (lambda index: rename(index, "validation-00007"), "the shards validation-00007 in validation"),
    "splits": (lambda index: index["splits"].update({"../victim/*": []}), "the splits "),
    "no train": (lambda index: index["splits"].pop("train"), "the splits "),
    "no splits": (lambda index: index.pop("splits"), "no splits"),
    "entries": (lambda index: index["splits"].update(test=[7]), "7 as a shard of test"),
    "masks": (lambda index: index.update(masks=["../victim/mask"]), "the masks ../victim/mask"),
    "lists": (lambda index: index.update(masks=[["region_mask"]]), "the masks "),
    "no masks": (lambda index: index.pop("masks"), "no masks"),
    "array": (
        lambda index: index["splits"]["test"][0]["sha256"].update({"/../../victim/x": "0" * 64}),
        "in test-00000 other digests than of its arrays",
    ),
    "digest": (
        lambda index: index["splits"]["test"][0].update(parquet_sha256=7),
        "in test-00000 other digests than of its arrays",
    ),
    "count": (lambda index: index["splits"]["test"][0].update(num_pairs="9"), "in test-00000 other counts"),
    "subsets": (lambda index: index["subsets"].update(F=None), "subsets without their numbers of pairs"),
    "settings": (lambda index: index["request"].update(settings=None), "no settings"),
    "no report": (lambda index: index.pop("report"), "no report"),
    "reason": (lambda index: index["report"]["dropped"].update(moon=1), "a report without its counts"),
    "report": (lambda index: index["report"].pop("clusters"), "a report without its counts"),
    "checks": (
        lambda index: index["report"].update(clusters_in_several_splits=None),
        "a report without its counts",
    ),
    "sources": (lambda index: index.update(sources=[["a.csv"]]), "sources without their sizes"),
}  # fmt: skip


@pytest.mark.parametrize("case", INDEXES)
def test_an_index_that_prepare_would_not_write_is_refused_before_anything_is_written(
    published, tmp_path, case
) -> None:
    """The names in it become paths here, also where its fingerprint is right."""
    change, complaint = INDEXES[case]
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "mask-0000.txt").write_text("precious")
    for name in ("victim/validation-00000.parquet", "validation-00000.parquet"):
        if not (tmp_path / name).exists():
            shutil.copy(published / "validation-00000.parquet", tmp_path / name)
    before = digests(victim)
    index = json.loads((published / "dataset.json").read_text())
    change(index)
    with contextlib.suppress(Exception):
        index["fingerprint"] = index_fingerprint(index)
    (published / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(
        ValueError, match=r"dataset\.json must be as `curr-ab data prepare` writes it"
    ) as error:
        prepare(published, tmp_path / "out")
    assert complaint in str(error.value)
    assert digests(victim) == before and not (tmp_path / "out").exists()


def test_links_in_the_folder_are_replaced_and_not_followed(published, prepared, tmp_path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    precious.write_text("precious")
    for name in (
        "train-00000.parquet",
        "train-00000.tokens.npy",
        "dataset.json.old",
        "test-00099.tokens.npy",
    ):
        (out / name).symlink_to(precious)
    prepare(published, out)
    assert precious.read_text() == "precious"
    (out / "dataset.json.old").unlink()
    assert digests(out) == digests(prepared) and not any(path.is_symlink() for path in out.iterdir())


def test_other_annotation_with_its_digests_made_anew_is_refused(published, tmp_path) -> None:
    """The arrays do not tell: only what the index says of the annotation does."""
    first = published / "train-00000.parquet"
    pairs = pq.read_table(first)
    place = pairs.column_names.index("donor")
    pq.write_table(pairs.set_column(place, "donor", pa.array(["somebody"] * len(pairs))), first)
    index = json.loads((published / "dataset.json").read_text())
    index["splits"]["train"][0]["parquet_sha256"] = file_digest(first)
    assert index_fingerprint(index) == index["fingerprint"]  # which covers what a file says, not its bytes
    (published / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"must give what dataset\.json lists; annotation_sha256 differ"):
        prepare(published, tmp_path / "out")


@pytest.mark.parametrize("column", ["heavy", "region_mask_light"])
def test_parquet_without_a_column_is_refused_in_one_line(published, tmp_path, column) -> None:
    first = published / "train-00000.parquet"
    pairs = pq.read_table(first)
    index = json.loads((published / "dataset.json").read_text())
    for other in (
        pairs.drop_columns([column]),
        pairs.set_column(pairs.column_names.index(column), column, pa.array(range(len(pairs)))),
        pairs.append_column("more", pa.array([[1]] * len(pairs))),
    ):
        pq.write_table(other, first)
        index["splits"]["train"][0]["parquet_sha256"] = file_digest(first)
        (published / "dataset.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match=r"train-00000\.parquet must have the columns of prepared pairs"):
            prepare(published, tmp_path / "out")


def test_the_fingerprint_covers_the_commits_of_the_hub(prepared) -> None:
    index = TokenDataset(prepared).index
    assert "commits" not in index
    one, other = (index | {"commits": [f"datasets/owner/name@{digit * 40}"]} for digit in "12")
    assert len({index_fingerprint(each) for each in (index, one, other)}) == 3
