"""Files on other machines: in memory, on a web server, behind names that hold secrets."""

from __future__ import annotations

import functools
import gc
import gzip
import http.server
import io
import pickle
import shutil
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
from support.pair_files import pairs_of, plain_text

from curr_ab.data import MalformedSource, PreparationPlan, prepare, read_pairs
from curr_ab.data.reading.formats import open_table
from curr_ab.data.reading.remote import RemoteFile, shown
from curr_ab.data.reading.sources import expand_sources

PLAN = PreparationPlan(cluster="exact", validation=2, test=2, subsets={"F": 1.0})


def pairs(source: object) -> list[tuple[str, str]]:
    return [
        pair
        for batch in read_pairs(source)
        for pair in zip(batch["heavy"].to_pylist(), batch["light"].to_pylist(), strict=True)
    ]


def two_tables(text: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.csv", text)
        archive.writestr("y.csv", "z")
    return packed.getvalue()


@pytest.fixture
def memory():
    """A file system in which files of a test are put by name."""
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True) if system.ls("/") else None


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The folder in which copies lie while they are read; it is empty at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    gc.collect()
    assert not list(folder.iterdir())


@pytest.fixture
def web(tmp_path):
    """A web server, which cannot seek, and the folder that it serves; it asks `user` for a password."""
    folder = tmp_path / "web"
    folder.mkdir()
    asked: list[tuple[str, str]] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.command, self.path))
            if "locked" in self.path and "Authorization" not in self.headers:
                self.send_error(401)
            elif "cut" in self.path:
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"heavy,light\n")
            else:
                super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_patterns_and_packed_files_elsewhere(corpus, memory, copies) -> None:
    memory.pipe("/archive/b.csv.gz", gzip.compress(plain_text(corpus[:20]).encode()))
    memory.pipe("/archive/a.csv", plain_text(corpus[20:30]).encode())
    memory.pipe("/archive/more/c.zip", two_tables(plain_text(corpus[30:32])))
    assert expand_sources("memory://archive/*.csv*") == [
        "memory://archive/a.csv",
        "memory://archive/b.csv.gz",
    ]
    assert pairs("memory://archive/*.csv*") == pairs_of(corpus[20:30]) + pairs_of(corpus[:20])
    assert pairs("memory://archive/**/*.zip#x.csv") == pairs_of(corpus[30:32])


def test_files_of_the_address_file_are_read_where_they_are(corpus, write, copies) -> None:
    path = write("a.csv", plain_text(corpus[:5]))
    assert expand_sources(f"file://{path}") == [str(path)]
    assert pairs(f"file://{Path(path).parent}/*.csv") == pairs_of(corpus[:5])


def test_errors_name_file_and_line(memory, copies) -> None:
    memory.pipe("/a/bad.csv", b"heavy,light\nEVQ,DIQ\nEVQ,DIQ,X\n")
    with pytest.raises(MalformedSource, match=r"^memory://a/bad.csv, line 3: Expected 2 columns") as raised:
        pairs("memory://a/bad.csv")
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # as from a worker
    with pytest.raises(ValueError, match=r"no file matches memory://a/none\.csv"):
        expand_sources("memory://a/none.csv")
    with pytest.raises(ValueError, match=r"memory://a is a folder; name its files with a pattern"):
        expand_sources("memory://a")


@pytest.mark.parametrize(
    ("address", "library"),
    [("s3://b/x.csv", "s3fs"), ("gs://b/x.csv", "gcsfs"), ("https://b/x.csv", "aiohttp")],
)
def test_a_library_that_is_missing_is_named(address, library, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # also where it is there, and was loaded before
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {})
    with pytest.raises(ImportError, match=rf"^{library} is missing for {address}: pip install {library}$"):
        expand_sources(address)


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(ValueError, match=r"zz://b/x\.csv: the protocol must be s3, gs, https, hf.*got 'zz'"):
        expand_sources("zz://b/x.csv")


def test_a_table_holds_its_copy_and_nobody_else_does(corpus, memory, copies) -> None:
    memory.pipe("/a/x.csv", plain_text(corpus[:5]).encode())
    (source,) = expand_sources("memory://a/x.csv")
    table = open_table(source)
    assert len(list(copies.iterdir())) == 1
    assert sum(batch.num_rows for batch in table.read(["heavy"])) == 5
    source_name = table.source
    del table
    assert type(source_name) is str and not list(copies.iterdir())


def test_few_copies_are_there_at_a_time(corpus, memory, copies) -> None:
    for number in range(4):
        memory.pipe(f"/a/{number}.csv", plain_text(corpus[number : number + 1]).encode())
    most = max(len(list(copies.iterdir())) for _ in read_pairs("memory://a/*.csv"))
    assert most == 1


def test_a_copy_that_does_not_fit_is_refused(corpus, memory, copies, monkeypatch) -> None:
    memory.pipe("/a/x.csv", plain_text(corpus[:5]).encode())
    usage = shutil.disk_usage(copies)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(
        OSError, match=r"temporary must have room for a copy of memory://a/x\.csv of 0.0 MB; it has 0.0;"
    ):
        pairs("memory://a/x.csv")


def test_a_copy_that_breaks_off_is_an_error(corpus, memory, copies, monkeypatch) -> None:
    text = plain_text(corpus[:5])
    memory.pipe("/a/x.csv", text.encode())
    cut = text[: text.rindex("\n", 0, -1) + 1]  # between two lines, where no reader would notice it
    monkeypatch.setattr(type(memory), "get_file", lambda self, path, to: Path(to).write_text(cut))
    with pytest.raises(
        OSError, match=r"^memory://a/x\.csv cannot be fetched \([\d,]+ of [\d,]+ bytes came\); run"
    ):
        pairs("memory://a/x.csv")


def test_chains_of_cells_are_paired(corpus, memory, copies) -> None:
    lines = ["cell_id,sequence_id,locus,sequence_aa"]
    for row in corpus[:10]:
        lines += [
            f"{row['id']},{row['id']}h,IGH,{row['heavy']}",
            f"{row['id']},{row['id']}l,IGK,{row['light']}",
        ]
    memory.pipe("/a/cells.csv", "\n".join([*lines, ""]).encode())
    assert sorted(pairs("memory://a/cells.csv")) == sorted(pairs_of(corpus[:10]))


@pytest.mark.parametrize("head", [1 << 20, 4_000], ids=["whole", "cut"])
def test_files_of_one_sample_are_told_by_their_heads(corpus, memory, copies, monkeypatch, head) -> None:
    monkeypatch.setattr("curr_ab.data.reading.samples._HEAD_BYTES", head)
    for locus, chain in (("IGH", "heavy"), ("IGK", "light")):
        lines = ["cell_id,sequence_id,locus,sequence_aa"]
        lines += [f"{row['id']},{row['id']},{locus},{row[chain]}" for row in corpus[:400]]
        memory.pipe(f"/a/s_{locus}.csv.gz", gzip.compress("\n".join([*lines, ""]).encode()))
    memory.pipe("/a/other.csv", plain_text(corpus[400:405]).encode())
    assert sorted(pairs("memory://a/*.csv*")) == sorted(pairs_of(corpus[:405]))


@pytest.mark.heavy
def test_prepare_records_the_version_and_notices_a_change(corpus, memory, tmp_path) -> None:
    for number in range(3):
        text = plain_text(corpus[number * 20 : number * 20 + 20])
        memory.pipe(f"/a/{number}.csv", text.encode())
        Path(tmp_path, f"{number}.csv").write_text(text)
    index = prepare("memory://a/*.csv", tmp_path / "out", PLAN)
    here = prepare(f"{tmp_path}/*.csv", tmp_path / "here", PLAN)
    assert index["fingerprint"] == here["fingerprint"]
    assert [source[0] for source in index["sources"]] == [f"memory://a/{n}.csv" for n in range(3)]
    assert [source[3] for source in index["sources"]] == [source[3] for source in here["sources"]]
    assert prepare("memory://a/*.csv", tmp_path / "out", PLAN) == index
    changed = (tmp_path / "1.csv").read_text().replace("sim", "mis")  # as long as before
    memory.pipe("/a/1.csv", changed.encode())
    with pytest.raises(ValueError, match=r"memory://a/1\.csv has changed since"):
        prepare("memory://a/*.csv", tmp_path / "out", PLAN)


def test_a_web_server_is_asked_once_for_the_content(corpus, web, copies) -> None:
    folder, host, asked = web
    (folder / "a.csv").write_text(plain_text(corpus[:30]))
    assert pairs(f"http://{host}/a.csv") == pairs_of(corpus[:30])
    assert asked.count(("GET", "/a.csv")) == 1


def test_secrets_of_an_address_are_neither_shown_nor_recorded(corpus, web, tmp_path) -> None:
    folder, host, _ = web
    (folder / "locked.csv").write_text(plain_text(corpus[:30]))
    (folder / "locked_bad.csv").write_text("heavy,light\nEVQ,DIQ,X\n")
    query = "X-Signature=verysecret&Expires=9"
    address = f"http://user:hushhush@{host}/locked.csv?{query}"
    index = prepare(address, tmp_path / "out", PLAN)
    assert index["report"]["kept"] == 30
    assert index["sources"][0][0] == f"http://{host}/locked.csv"
    assert prepare(f"{address}more", tmp_path / "out", PLAN) == index  # signed anew, it is the same file
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    messages = []
    for bad in ("locked_bad.csv", "cut_locked.csv", "none_locked.csv"):
        with pytest.raises((ValueError, OSError)) as raised:
            pairs(f"http://user:hushhush@{host}/{bad}?{query}")
        assert isinstance(raised.value, MalformedSource) or raised.value.__cause__ is None
        messages.append(str(raised.value))
    assert f"http://{host}/locked_bad.csv, line 2: Expected 2 columns" in messages[0]
    assert f"http://{host}/cut_locked.csv cannot be fetched (" in messages[1]
    assert "no file matches http://" in messages[2]
    for secret in ("hushhush", "verysecret"):
        assert secret.encode() not in written and secret not in "".join(messages)
    with pytest.raises(MalformedSource, match="two addresses differ in their query alone"):
        expand_sources([address, f"{address}more"])


def test_addresses_are_shown_without_what_may_be_secret() -> None:
    assert shown("GET https://u:p@h.org/a/b.csv?sig=1&x=2#t failed") == "GET https://h.org/a/b.csv#t failed"
    assert shown("s3://u:p@ss@h.org/a.csv") == "s3://h.org/a.csv"
    assert shown("is this it?") == "is this it?"
    with pytest.raises(ValueError, match="unknown option 'token'; choose") as raised:
        pairs("hf://owner/name?token=hf_verysecret")
    assert "verysecret" not in str(raised.value)
    remote = RemoteFile("s3://key:secret@bucket/x.zip?versionId=3", "t.csv")
    assert remote == "s3://bucket/x.zip#t.csv"
    again = pickle.loads(pickle.dumps(remote))
    assert (again, again.address, again.part) == (remote, remote.address, "t.csv")


def test_all_names_of_a_repository_are_of_one_commit(monkeypatch) -> None:
    """Somebody commits between the look at one name and at the next."""
    commits = iter("12")

    class Repository:
        endpoint = token = None

        def resolve_path(self, path):
            return SimpleNamespace(
                repo_type="dataset",
                repo_id="owner/name",
                revision="main",
                path_in_repo=path.rpartition("/")[2],
            )

        def info(self, path):
            return {"type": "file"}

    def open_system(address):
        return Repository(), address.removeprefix("hf://")

    def look(self, *args, **options):
        return SimpleNamespace(sha=next(commits) * 40)

    monkeypatch.setattr("curr_ab.data.reading.remote._file_system", open_system)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", look)
    names = [f"hf://datasets/owner/name/{split}.parquet" for split in ("train", "test")]
    place = f"hf://datasets/owner/name@{'1' * 40}"
    assert expand_sources(names) == [f"{place}/train.parquet", f"{place}/test.parquet"]
    assert expand_sources(names[0]) == [f"hf://datasets/owner/name@{'2' * 40}/train.parquet"]
