"""Hostile files by what they try: to outgrow memory, to lead out of a folder, to speak to a terminal."""

import gzip
import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.tiny_models import PAIRS

from curr_ab import files
from curr_ab.checkpoint_files import find_weights, is_causal
from curr_ab.cli.main import main
from curr_ab.data import read_pairs
from curr_ab.data.reading import fasta, streams
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.hub.data_card import read_card
from curr_ab.options import read_yaml

TABLE = "id,heavy,light\n" + "".join(f"{n},{heavy},{light}\n" for n, (heavy, light) in enumerate(PAIRS))


def parquet():
    heavy, light = zip(*PAIRS, strict=True)
    packed = io.BytesIO()
    pq.write_table(pa.table({"heavy": heavy, "light": light}), packed)
    return packed.getvalue()


def zipped(members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return packed.getvalue()


def test_what_is_packed_small_and_is_large_in_memory_is_refused(tmp_path, monkeypatch):
    (tmp_path / "pairs.parquet.gz").write_bytes(gzip.compress(parquet()))
    assert sum(len(batch) for batch in read_pairs(tmp_path / "pairs.parquet.gz")) == len(PAIRS)
    monkeypatch.setattr(streams, "MOST_UNPACKED", 1_000)
    with pytest.raises(MalformedSource, match=r"at most .* GiB to be read at once; unpack it"):
        list(read_pairs(tmp_path / "pairs.parquet.gz"))
    (tmp_path / "pairs.xlsx").write_bytes(zipped({"[Content_Types].xml": "", "sheet1.xml": " " * 2_000}))
    with pytest.raises(MalformedSource, match=r"at most .* GiB to be read at once; unpack it"):
        list(read_pairs(tmp_path / "pairs.xlsx"))


def test_a_record_of_any_length_is_refused_before_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(fasta, "_RECORD_BYTES", 1_000)
    for name, letters in {"line": "A" * 5_000, "lines": "AAAA\n" * 1_000}.items():
        (tmp_path / name).write_text(f">a_heavy\n{letters}")
        with pytest.raises(MalformedSource, match="a record must be shorter than"):
            list(read_pairs(tmp_path / name))


def test_records_have_a_size_that_memory_holds(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "esm"}))
    assert not is_causal(str(tmp_path))
    monkeypatch.setattr(files, "_MOST_JSON", 10)
    with pytest.raises(ValueError, match=r"config\.json must be at most"):
        is_causal(str(tmp_path))


def test_yaml_has_neither_tags_nor_references_and_is_short(tmp_path):
    bomb = "x: [&a [1, 1], &b [*a, *a], [*b, *b]]\n"  # of ten such lines nobody could print the value
    tag, long = "x: !!python/name:os.system", f"x: {'y' * 300_000}"
    for text, said in {bomb: "references", tag: "must be YAML", long: "at most .* letters"}.items():
        (tmp_path / "plan.yaml").write_text(text)
        with pytest.raises(ValueError, match=said):
            read_yaml(tmp_path / "plan.yaml")
        (tmp_path / "README.md").write_text(f"---\nlicense: mit\n{text}\n---\n")
        assert read_card(tmp_path).license is None


def test_members_of_an_archive_are_read_and_never_written(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    outside = tmp_path / "outside.csv"
    (folder / "pairs.zip").write_bytes(zipped({str(outside): TABLE}))
    assert sum(len(batch) for batch in read_pairs(folder / "pairs.zip")) == len(PAIRS)
    (folder / "pairs.zip").write_bytes(zipped({"../outside.csv": TABLE}))
    with pytest.raises(MalformedSource, match="holds no table"):
        list(read_pairs(folder / "pairs.zip"))
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "pairs.zip"]


@pytest.mark.parametrize("name", ["../w.safetensors", "/w", "..", "", "a/b", "C:\\w", "C:w", "a\0", None])
def test_shards_lie_beside_their_index(tmp_path, name):
    (tmp_path / "w.safetensors").write_bytes(b"")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValueError, match="must name files beside it"):
        find_weights(str(folder))


def test_objects_in_arrays_are_not_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(MalformedSource, match="an array of NumPy"):
        list(read_pairs(tmp_path / "x.npy"))


def test_names_of_others_send_no_control_letters_to_a_terminal(tmp_path, capsys):
    evil = "evil\x1b]0;mine\x07\x9b2J"
    table = TABLE.replace("heavy", f"heavy {evil}").replace("light", f"light {evil}")
    (tmp_path / "pairs.csv").write_text(table, encoding="utf-8")
    words = ["number", str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "out.csv")]
    words += ["--heavy-column", f"heavy {evil}", "--light-column", f"light {evil}"]
    assert main(words) == 0
    said = "".join(capsys.readouterr())
    assert r"evil\x1b]0;mine\x07\x9b2J" in said and not set("\x1b\x07\x9b") & set(said)
