"""Prepared data on the Hub: what is sent, what `datasets` reads of it, shards rebuilt, and `verify`."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curr_ab.cli.main import main
from curr_ab.data import PreparationPlan, TokenDataset, builtin_path, prepare
from curr_ab.data.shards import index_fingerprint
from curr_ab.files import file_digest
from curr_ab.hub.card import write_card
from curr_ab.hub.repositories import describe_dataset
from curr_ab.hub.verification import verify
from tests.hub.conftest import WRITER, running_hub
from tests.hub.test_publishing import writes

NAME = "brineylab/antibody-pairs"
PLAN = PreparationPlan(cluster="source", pairs_per_shard=200)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """600 pairs in several shards, with a card; and what users have beside them, which is not published."""
    place = tmp_path_factory.mktemp("prepared")
    pq.write_table(pq.read_table(builtin_path()).slice(0, 600), place / "pairs.parquet")
    folder = place / "antibody-pairs"
    prepare(place / "pairs.parquet", folder, PLAN, keep_dropped=True)
    (folder / "report").mkdir()
    (folder / "report" / "index.html").write_text("<p>test and train</p>")
    write_card(folder, namespace="brineylab", license="cc-by-4.0")
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory, prepared):
    """A Hub on which the data set is, for tests that leave it as it is."""
    with running_hub(tmp_path_factory.mktemp("world")) as hub:
        hub.said = hub.run("publish", "--dataset", prepared, "--namespace", "brineylab")
        hub.log = hub.state()["log"]
        yield hub


def parquet_files(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in folder.glob("t*-*.parquet")} | {
        path.name: file_digest(path) for path in folder.glob("validation-*.parquet")
    }


def own_files(folder: Path) -> dict[str, str]:
    """All that `prepare` makes, by digest."""
    names = [path.name for path in folder.glob("*-0*.*")] + ["dataset.json"]
    return {name: file_digest(folder / name) for name in names}


@pytest.mark.heavy
def test_parquet_index_and_card_are_sent_and_no_arrays(world, prepared) -> None:
    sent = dict(world.state()["repos"][NAME]["branches"]["main"])
    parquet = parquet_files(prepared)
    assert len(parquet) >= 5
    assert set(sent) == {".gitattributes", "README.md", "dataset.json", *parquet}
    assert parquet.items() <= sent.items()
    raw = sum(path.stat().st_size for path in prepared.iterdir() if path.is_file())
    size = sum((prepared / name).stat().st_size for name in sent if name != ".gitattributes")
    assert size <= 0.4 * raw
    said = world.run("publish", "--dataset", prepared, "--namespace", "brineylab")
    assert "sent 0 files in 0 commits" in said and writes(world.state()["log"]) == []


LOAD = """
import json, sys
sys.modules["curr_ab"] = None
from datasets import load_dataset
name, subset = sys.argv[1], int(sys.argv[2])
data = load_dataset(name)
stream = load_dataset(name, split="train", streaming=True)
print(json.dumps({
    "counts": {split: len(one) for split, one in data.items()},
    "columns": {split: one.column_names for split, one in data.items()},
    "splits": {split: sorted(set(one["split"])) for split, one in data.items()},
    "train": list(data["train"]["heavy"]),
    "subset": list(load_dataset(name, split=f"train[:{subset}]")["heavy"]),
    "streamed": [row["heavy"] for row in stream],
    "streamed subset": [row["heavy"] for row in stream.take(subset)],
}))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("where", ["repository", "folder", "folder without a card"])
def test_it_is_loaded_without_the_package(world, prepared, tmp_path, where) -> None:
    """Counts, columns, order and subsets are those of the shards, loaded and streamed."""
    name = NAME
    if where != "repository":
        name = tmp_path / "antibody-pairs"
        shutil.copytree(prepared, name)
    if where == "folder without a card":
        (name / "README.md").unlink()
    train, quarter = TokenDataset(prepared, "train"), len(TokenDataset(prepared, "train", "Q"))
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOAD, str(name), str(quarter)],
        env=world.environment(token=None),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Ignoring" not in done.stderr  # part of the card
    found = json.loads(done.stdout)
    shards = [
        pq.read_table(prepared / f"{entry['name']}.parquet") for entry in train.index["splits"]["train"]
    ]
    heavy = [text for shard in shards for text in shard["heavy"].to_pylist()]
    sizes = {split: len(TokenDataset(prepared, split)) for split in ("train", "validation", "test")}
    assert found["counts"] == sizes and len(heavy) == sizes["train"] and 0 < quarter < len(heavy)
    assert all(names == shards[0].column_names for names in found["columns"].values())
    assert found["splits"] == {split: [split] for split in sizes}
    assert found["train"] == found["streamed"] == heavy
    assert found["subset"] == found["streamed subset"] == heavy[:quarter]


@pytest.mark.heavy
def test_the_shards_are_rebuilt_from_the_hub_to_the_bit(world, prepared, tmp_path) -> None:
    command = ["data", "prepare", f"hf://datasets/{NAME}", "--processes", 2]
    world.run(*command, "--out", tmp_path / "out")
    assert own_files(tmp_path / "out") == own_files(prepared)
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(own_files(prepared))
    world.state()
    world.run(*command, "--out", tmp_path / "out")  # what is there is not fetched again
    assert not [path for _, path, _ in world.state()["log"] if path.endswith(".parquet")]
    # Published again from there, nothing is sent but a card that its owner may make.
    shutil.copy(prepared / "README.md", tmp_path / "out" / "README.md")
    (tmp_path / "out").rename(tmp_path / "antibody-pairs")
    said = world.run("publish", "--dataset", tmp_path / "antibody-pairs", "--namespace", "brineylab")
    assert "sent 0 files" in said
    # Its Parquet files by a pattern are sources like any others, each a part of its own, at one commit.
    pattern = f"hf://datasets/{NAME}@main/train-*.parquet"
    world.run("data", "prepare", pattern, "--cluster", "exact", "--out", tmp_path / "new")
    index = json.loads((tmp_path / "new" / "dataset.json").read_text())
    (commit,) = index["commits"]
    assert commit.startswith(f"datasets/{NAME}@") and len(commit.partition("@")[2]) == 40
    train = [name for name in parquet_files(prepared) if name.startswith("train")]
    assert [one[0] for one in index["sources"]] == [f"hf://{commit}/{name}" for name in sorted(train)]


@pytest.mark.heavy
def test_the_published_data_set_is_verified(tmp_path, prepared) -> None:
    with running_hub(tmp_path) as hub:
        hub.run("publish", "--dataset", prepared, "--namespace", "brineylab")
        said = hub.run("verify", f"datasets/{NAME}")
        assert "which give the arrays of the index" in said and f"datasets/{NAME}: verified" in said
        broken = {"kind": "datasets", "name": NAME, "revision": "main"}
        hub._call("POST", "break", broken | {"path": "train-00001.parquet", "flip": 1000})
        hub._call("POST", "break", broken | {"path": "validation-00000.parquet", "gone": True})
        said = hub.run("verify", f"hf://datasets/{NAME}", code=2)
        assert "main: train-00001.parquet is not what was prepared: SHA-256" in said
        assert "main: validation-00000.parquet is missing" in said
        assert f"not as exported: hf://datasets/{NAME}" in said.splitlines()[-1]
        said = hub.run("data", "prepare", f"hf://datasets/{NAME}", "--out", tmp_path / "out", code=2)
        assert "train-00001.parquet must have the SHA-256" in said.splitlines()[-1]
        assert not (tmp_path / "out" / "dataset.json").exists()
        assert "no folder and no repository" in hub.run("verify", "datasets/brineylab/none", code=2)


def change_index(folder: Path, change) -> None:
    index = json.loads((folder / "dataset.json").read_text())
    change(index)
    (folder / "dataset.json").write_text(json.dumps(index))


def test_whatever_differs_from_index_and_card_is_named(prepared, tmp_path) -> None:
    """A folder on disk is verified like a repository; each fault alone."""

    def forge(index: dict) -> None:
        index["splits"]["train"][0]["num_pairs"] += 1

    def recompressed(folder: Path) -> None:
        """Other bytes that say the same: the digest is made anew, and so the fingerprint stands."""
        path = folder / "test-00000.parquet"
        pq.write_table(pq.read_table(path), path, compression="gzip")
        digest = file_digest(path)
        change_index(folder, lambda index: index["splits"]["test"][0].update(parquet_sha256=digest))

    def other_residues(folder: Path) -> None:
        """A tampered file with its digest in the index: the arrays tell."""
        path = folder / "test-00000.parquet"
        pairs = pq.read_table(path)
        heavy = [text[:-1] + "A" for text in pairs["heavy"].to_pylist()]
        place = pairs.column_names.index("heavy")
        pq.write_table(pairs.set_column(place, "heavy", [heavy]), path, compression="zstd")
        digest = file_digest(path)
        change_index(folder, lambda index: index["splits"]["test"][0].update(parquet_sha256=digest))

    def other_annotation(folder: Path) -> None:
        """Other donors and genes, with digest and card made anew: arrays and fingerprint stay as they are."""
        path = folder / "train-00000.parquet"
        pairs = pq.read_table(path)
        for column in ("v_call_heavy", "donor"):
            place = pairs.column_names.index(column)
            pairs = pairs.set_column(place, column, pa.array(["IGHV9-9*09"] * len(pairs)))
        pq.write_table(pairs, path, compression="zstd")
        digest = file_digest(path)
        change_index(folder, lambda index: index["splits"]["train"][0].update(parquet_sha256=digest))
        write_card(folder)

    def edit_card(old: str, new: str):
        def edit(folder: Path) -> None:
            text = (folder / "README.md").read_text()
            assert old in text
            (folder / "README.md").write_text(text.replace(old, new, 1))

        return edit

    count = sum(len(TokenDataset(prepared, split)) for split in ("train", "validation", "test"))
    light = "| `light` | string | "
    cases = {
        "fingerprint": (lambda folder: change_index(folder, forge), "must have the fingerprint of what it"),
        "recompressed": (recompressed, "README.md is stale: its header"),
        "residues": (other_residues, "test-00000.parquet must give what dataset.json lists; sha256, annotat"),
        "annotation": (other_annotation, "train-00000.parquet must give what dataset.json lists; annotation"),
        "no card": (lambda folder: (folder / "README.md").unlink(), "README.md is missing"),
        "counts": (edit_card("num_examples: ", "num_examples: 1"), "is stale: its header"),
        "columns": (edit_card(f"{light}{count}", f"{light}7"), "section 'Columns'"),
        "splits": (edit_card("| validation | ", "| validation | 1"), "its section 'Splits'"),
        "subsets": (edit_card('`split="train[:', '`split="train[:1'), "its section 'Subsets'"),
        "license": (edit_card("license: cc-by-4.0\n", ""), "names no license"),
        "gone": (lambda folder: (folder / "train-00000.parquet").unlink(), "train-00000.parquet is missing"),
    }  # fmt: skip
    assert verify(prepared, say=lambda line: None) == []
    for name, (spoil, complaint) in cases.items():
        folder = tmp_path / name / "antibody-pairs"
        shutil.copytree(prepared, folder)
        spoil(folder)
        problems = verify(folder, say=lambda line: None)
        assert complaint in "\n".join(problems), (name, problems)
        if name not in ("residues", "annotation"):  # for which publication does not take the time
            with pytest.raises(ValueError, match=r"curr-ab card|prepare the data again"):
                describe_dataset(folder, "brineylab")


@pytest.mark.heavy
def test_a_damaged_index_is_named_in_one_line(prepared, tmp_path, capsys) -> None:
    """Downloads of other people's data must not end in a traceback, nor reach beyond their folder."""
    cases = {
        "masks": (lambda index: index.pop("masks"), "got no masks"),
        "train": (lambda index: index["splits"].pop("train"), "got the splits test, validation"),
        "report": (lambda index: index.pop("report"), "got no report"),
        "name": (lambda index: index["splits"]["test"][0].update(name="../x/test-00000"), "the shards ../x/"),
    }
    for name, (change, complaint) in cases.items():
        folder = shutil.copytree(prepared, tmp_path / name / "antibody-pairs")
        change_index(folder, change)
        (problem,) = verify(folder, say=lambda line: None)
        assert problem.startswith("main: dataset.json") and complaint in problem
        before = sorted(path for path in tmp_path.rglob("*"))
        publish = ["publish", "--dry-run", "--namespace", "brineylab", "--dataset"]
        for command in (["verify"], ["card"], publish):
            assert main([*command, str(folder)]) == 2
            said = capsys.readouterr()
            assert complaint in said.out + said.err and "Traceback" not in said.err, (name, command, said)
        assert sorted(path for path in tmp_path.rglob("*")) == before


def test_what_is_no_parquet_or_has_no_statistics(prepared, tmp_path) -> None:
    """Files of other writers, with their digests in the index."""
    folder = shutil.copytree(prepared, tmp_path / "antibody-pairs")
    path, card = folder / "test-00000.parquet", (folder / "README.md").read_text()
    pairs = pq.read_table(path)

    def update() -> list[str]:
        digest = file_digest(path)
        change_index(folder, lambda index: index["splits"]["test"][0].update(parquet_sha256=digest))
        return verify(folder, say=lambda line: None)

    pq.write_table(pairs, path, write_statistics=False)
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).statistics is None
    (problem,) = update()
    assert "is stale: its header" in problem  # which has the sizes of the files
    write_card(folder)
    assert update() == []
    columns = re.compile(r"^\| `.*", re.MULTILINE)
    assert columns.findall((folder / "README.md").read_text()) == columns.findall(card)
    path.write_bytes(b"PAR1 and no more")
    (problem,) = update()
    assert problem.startswith("main: test-00000.parquet cannot be read")
    for other in (pairs.drop_columns(["split"]), pairs.append_column("more", pa.array([[1]] * len(pairs)))):
        pq.write_table(other, path)
        assert "test-00000.parquet: it must have the columns of prepared pairs" in "".join(update())


def test_a_folder_is_verified_also_where_it_is_called_like_a_repository(
    prepared, tmp_path, monkeypatch
) -> None:
    shutil.copytree(prepared, tmp_path / "datasets" / "brineylab" / "antibody-pairs")
    monkeypatch.chdir(tmp_path)

    def no_hub(*args, **kwargs):
        raise AssertionError("the Hub is asked")

    monkeypatch.setattr("curr_ab.hub.verification.ask", no_hub)
    assert verify(f"datasets/{NAME}", say=lambda line: None) == []


def test_the_words_of_users_are_text_in_the_card(prepared, tmp_path) -> None:
    folder = shutil.copytree(prepared, tmp_path / "antibody-pairs")

    def rename(index: dict) -> None:
        index["sources"][0][0] = "/data/<img src=x>[a](b)`|.csv"
        index["request"]["settings"]["names"]["heavy_column"] = "<b>heavy</b>"
        index["subsets"] = {f"*{name}*": size for name, size in index["subsets"].items()}
        index["fingerprint"] = index_fingerprint(index)

    change_index(folder, rename)
    write_card(folder)
    text = (folder / "README.md").read_text()
    for shown in (r"| \<img src=x\>\[a\](b)\`\|.csv |", r"\<b\>heavy\</b\>", r"| \*F\* |"):
        assert shown in text
    assert verify(folder, say=lambda line: None) == []


def test_the_header_is_what_the_hub_and_datasets_read(prepared) -> None:
    from datasets import load_dataset_builder
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(prepared / "README.md").data
    sizes = {split: len(TokenDataset(prepared, split)) for split in ("train", "validation", "test")}
    assert card.license == "cc-by-4.0" and card.size_categories == ["n<1K"]
    (config,) = card.configs
    assert [one["split"] for one in config["data_files"]] == list(sizes)
    info = load_dataset_builder(str(prepared)).info  # before anything is read
    assert {name: split.num_examples for name, split in info.splits.items()} == sizes
    schema = pq.read_schema(prepared / "train-00000.parquet")
    assert info.features.arrow_schema.remove_metadata() == schema.remove_metadata()


def test_what_people_say_stays_in_the_card(prepared, family, tmp_path, capsys) -> None:
    folder, paper = tmp_path / "antibody-pairs", tmp_path / "paper.bib"
    shutil.copytree(prepared, folder)
    (folder / "README.md").unlink()
    with pytest.raises(ValueError, match=r"has no card .* --license cc-by-4\.0"):
        describe_dataset(folder, "brineylab")
    paper.write_text("@article{pairs, title = {Pairs}}\n")
    card = ["card", str(folder)]
    assert main([*card, "--namespace", "curator"]) == 2
    assert "the license must be named" in capsys.readouterr().err
    assert main([*card, "--namespace", "curator", "--license", "cc0-1.0", "--citation", str(paper)]) == 0
    text = (folder / "README.md").read_text()
    assert "license: cc0-1.0\n" in text and paper.read_text().strip() in text
    (folder / "README.md").write_text(text.replace("## Cite", "## Thanks\n\nTo all donors.\n\n## Cite"))
    assert describe_dataset(folder, "curator").note == "600 pairs"
    with pytest.raises(ValueError, match="names curator as the owner, not brineylab"):
        describe_dataset(folder, "brineylab")
    assert main([*card, "--license", "mit"]) == 0
    assert (folder / "README.md").read_text() == text.replace("cc0-1.0", "mit")
    paper.write_text("@article{pairs}\n```\n\n## Splits\n\nforged\n\n```bibtex\n")
    assert main([*card, "--citation", str(paper)]) == 2
    assert "must be BibTeX without a line of ```" in capsys.readouterr().err
    assert (folder / "README.md").read_text() == text.replace("cc0-1.0", "mit")
    assert main([*card, "--name", "other"]) == 2
    assert "must be none for prepared data (--results, --name, --base)" in capsys.readouterr().err
    assert main(["card", str(family / "CurrAb-8M-F"), "--license", "mit"]) == 2
    assert "must be none for what is no prepared data" in capsys.readouterr().err


def test_other_folders_are_published_file_by_file(tmp_path) -> None:
    """Results of a study, and tables that somebody else has made."""
    folder = tmp_path / "results"
    (folder / "cells").mkdir(parents=True)
    (folder / "dataset.json").write_text("[]")
    (folder / "cells" / "8M-F.json").write_text("{}")
    described = describe_dataset(folder, "brineylab")
    assert list(described.revisions["main"]) == ["cells/8M-F.json", "dataset.json"]


@pytest.mark.slow
def test_publications_that_are_killed_leave_nothing_half_or_doubled(tmp_path, prepared) -> None:
    """SIGKILL after ten random numbers of requests, the smaller ones first; the eleventh run finishes."""
    whole, killed = 3 + len(parquet_files(prepared)), 0
    other = tmp_path / "undisturbed"
    shutil.copytree(prepared, other)
    write_card(other, namespace="curator")
    (tmp_path / "home").mkdir()
    with running_hub(tmp_path / "home") as hub:
        hub.run("publish", "--dataset", other, "--namespace", "curator")
        # Files that have arrived are not sent again, so later runs have no more requests than these.
        num_requests = sum(method != "PUT" for method, _, _ in hub.state()["log"])
        hub.faults(
            {"method": "PUT", "path": "^/lfs/", "kind": "slow", "seconds": 0.2, "times": 1000},
            {"method": "POST", "path": "/commit/", "kind": "slow", "seconds": 0.5, "times": 1000},
        )
        command = ("publish", "--dataset", prepared, "--namespace", "brineylab")
        for last in sorted(random.Random(20).choices(range(1, num_requests), k=10)):
            process, log = hub.start(*command), []
            while process.poll() is None and len(log) < last:
                state = hub.state()  # reading it empties the log
                log += state["log"]
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            assert WRITER not in "".join(process.communicate())
            killed += process.returncode == -signal.SIGKILL
            repo = hub.state()["repos"].get(NAME)
            assert len(repo["branches"]["main"] if repo else ()) in (0, 1, whole)  # none of it, or all
        assert killed >= 5
        hub.faults()
        hub.run(*command)
        repo = hub.state()["repos"][NAME]
        assert repo["commits"] == 2 and list(repo["tags"]) == ["v0.1.0"]
        assert len(repo["branches"]["main"]) == whole
        assert parquet_files(prepared).items() <= repo["branches"]["main"].items()
        said = hub.run(*command)
        assert "sent 0 files in 0 commits" in said and writes(hub.state()["log"]) == []
