"""Shards give back pairs, aligned masks and nested subsets, and notice when they are not what they were."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.many_shards import write_many_shards
from support.pair_files import plain_text

from curr_ab import CurrAbTokenizer
from curr_ab.data import PreparationPlan, TokenDataset, decode_pair, encode_pairs, prepare, shards
from curr_ab.data.schema import MASK_LETTERS
from curr_ab.tokenization import tokenization_curr_ab
from curr_ab.words import VOCABULARY

PLAN = PreparationPlan(cluster="source", pairs_per_shard=3_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The built-in corpus in several shards."""
    path = tmp_path_factory.mktemp("shards") / "builtin"
    prepare("builtin", path, PLAN)
    return path


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.heavy
def test_round_trip_with_masks(folder, split) -> None:
    data = TokenDataset(folder, split)
    rows = [
        row for path in sorted(folder.glob(f"{split}-*.parquet")) for row in pq.read_table(path).to_pylist()
    ]
    assert len(rows) == len(data)
    assert data.mask_names == tuple(MASK_LETTERS)
    for pair in [*range(0, len(rows), 37), len(rows) - 1]:
        row, tokens = rows[pair], data[pair]
        heavy, light = row["heavy"], row["light"]
        expected = ["<cls>", *heavy, "<cls>", "<cls>", *light, "<eos>"]
        assert [VOCABULARY[token] for token in tokens] == expected
        assert decode_pair(tokens, data.heavy_length(pair)) == (heavy, light)
        for mask, letters in MASK_LETTERS.items():
            of_heavy, of_light = row[f"{mask}_heavy"], row[f"{mask}_light"]
            padded = f"?{of_heavy}??{of_light}?"
            assert data.mask(pair, mask).tolist() == [letters.find(letter) + 1 for letter in padded]
        regions = data.mask(pair, "region_mask")
        cdr3 = "".join(
            VOCABULARY[token] for token in tokens[: 1 + len(heavy)][regions[: 1 + len(heavy)] == 6]
        )
        assert cdr3 == row["cdr3_heavy"]


def test_tokens_are_those_of_the_tokenizer(corpus) -> None:
    """The vocabulary stands in both places, because a worker must not load transformers to encode."""
    assert VOCABULARY == tokenization_curr_ab.VOCABULARY
    tokenizer = CurrAbTokenizer()
    heavies, lights = [row["heavy"] for row in corpus[:50]], [row["light"] for row in corpus[:50]]
    for heavy, light, expected in (
        (heavies, lights, tokenizer(heavies, lights)),
        (heavies, [None] * 50, tokenizer(heavies)),
        ([None] * 50, lights, tokenizer(light=lights)),
    ):
        tokens, offsets = encode_pairs(pa.array(heavy, pa.string()), pa.array(light, pa.string()))
        records = [tokens[start:end].tolist() for start, end in itertools.pairwise(offsets)]
        assert records == expected["input_ids"]


def test_records_without_masks(corpus, write, tmp_path) -> None:
    rows = corpus[:60]
    lines = [plain_text(rows[:1], "id,heavy,light,region_mask_heavy").splitlines()[0]]
    lines += [
        f"{r['id']},{r['heavy']},{r['light']},{r['region_mask_heavy'] if n % 2 else ''}"
        for n, r in enumerate(rows)
    ]
    path = write("a.csv", "\n".join(lines) + "\n")
    prepare(path, tmp_path / "out", PreparationPlan(cluster="exact"))
    data = TokenDataset(tmp_path / "out")
    assert data.mask_names == ("region_mask",)
    source_masks = {row["heavy"]: row["region_mask_heavy"] for row in rows[1::2]}
    for pair in range(len(data)):
        heavy, _ = decode_pair(data[pair], data.heavy_length(pair))
        expected = [int(letter) for letter in source_masks.get(heavy, "0" * len(heavy))]
        assert data.mask(pair, "region_mask").tolist() == [
            0,
            *expected,
            *[0] * (len(data[pair]) - 1 - len(heavy)),
        ]
    with pytest.raises(ValueError, match=r"mask must be one of region_mask in .*; got 'mutation_mask'"):
        data.mask(0, "mutation_mask")
    prepare(path, tmp_path / "bare", PreparationPlan(cluster="exact", masks=False))
    assert TokenDataset(tmp_path / "bare").mask_names == ()


@pytest.mark.heavy
def test_subsets_are_nested_beginnings(folder, tmp_path) -> None:
    full, half, quarter = (TokenDataset(folder, "train", subset) for subset in "FHQ")
    whole = TokenDataset(folder)
    assert len(full) == len(whole)
    assert (len(half), len(quarter)) == (round(len(whole) / 2), round(len(whole) / 4))
    for subset in (half, quarter):
        for pair in (0, len(subset) // 2, len(subset) - 1):
            assert subset[pair].tolist() == whole[pair].tolist()
        with pytest.raises(IndexError):
            subset[len(subset)]
        assert subset.lengths().tolist() == whole.lengths().tolist()[: len(subset)]
    # A beginning is a fair sample only if the order says nothing: compare a quarter's V families with all.
    calls = [
        row
        for path in sorted(folder.glob("train-*"))
        if path.suffix == ".parquet"
        for row in pq.read_table(path)["v_call_heavy"].to_pylist()
    ]
    share = [np.mean([call.startswith("IGHV3") for call in part]) for part in (calls[: len(quarter)], calls)]
    assert abs(share[0] - share[1]) < 0.03


def test_draws_of_subsets_share_no_pair(tmp_path) -> None:
    folder = write_many_shards(tmp_path / "many", num_shards=10, pairs_per_shard=9)
    index = json.loads((folder / "dataset.json").read_text())
    index["subsets"] = {"F": 16, "Q": 8}
    (folder / "dataset.json").write_text(json.dumps(index))
    whole = TokenDataset(folder)
    places = {("F", 1): 0, ("Q", 1): 16, ("F", 2): 24, ("Q", 2): 40, ("F", 3): 48, ("Q", 3): 64}
    for (subset, draw), first in places.items():
        data = TokenDataset(folder, "train", subset, draw)
        here = range(first, first + {"F": 16, "Q": 8}[subset])
        assert [data[pair].tolist() for pair in range(len(data))] == [whole[pair].tolist() for pair in here]
        assert data.lengths().tolist() == whole.lengths()[here.start : here.stop].tolist()
        assert data.num_tokens == data.lengths().sum()
        shards_here = sorted({pair // 9 for pair in here})
        assert len(data.shard_bounds) == len(shards_here) + 1 and data.shard_bounds[-1] == len(here)
        with pytest.raises(IndexError):
            data[len(data)]
    damaged = folder / "train-00005.tokens.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    TokenDataset(folder, "train", "Q", 3).verify_arrays()  # begins two shards later
    with pytest.raises(ValueError, match=r"train-00005.* has changed"):
        TokenDataset(folder, "train", "F", 3).verify_arrays()
    with pytest.raises(
        ValueError, match="4 draws of the subsets F, Q take 96 different pairs, and the training"
    ):
        TokenDataset(folder, "train", "Q", 4)
    with pytest.raises(ValueError, match="draw 1 must be of a subset"):
        TokenDataset(folder, draw=1)


@pytest.mark.heavy
def test_subsets_by_count(folder, tmp_path) -> None:
    counts = {"Q": 1_000, "F": 4_000, "H": 2_000}
    index = prepare("builtin", tmp_path / "out", replace(PLAN, subsets=counts))
    assert list(index["subsets"].items()) == [("F", 4_000), ("H", 2_000), ("Q", 1_000)]
    for split in ("validation", "test"):
        assert index["splits"][split] == TokenDataset(folder).index["splits"][split]
    with pytest.raises(ValueError, match="subset F wants 1,648,726 pairs, and the training set has"):
        prepare("builtin", tmp_path / "paper", replace(PLAN, subsets={"F": 1_648_726}))


def test_random_access_over_shards(folder) -> None:
    data = TokenDataset(folder)
    assert len(data.index["splits"]["train"]) > 3
    lengths = data.lengths()
    assert len(lengths) == len(data)
    for pair in (0, 2_999, 3_000, 5_999, 6_000, len(data) - 1):
        assert len(data[pair]) == lengths[pair]
        assert data[pair].flags.writeable  # a copy, which keeps no file open


@pytest.mark.parametrize("num_shards", [3, 60])
def test_a_batch_maps_what_it_contains_once(tmp_path, monkeypatch, num_shards) -> None:
    data = TokenDataset(write_many_shards(tmp_path / "many", num_shards, 7))
    mapped: list[str] = []
    real = shards._map

    def recorded(path: str) -> memoryview:
        mapped.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(shards, "_map", recorded)
    for _ in range(2):
        data.gather([15, 20, 3, 16, 20], ["region_mask"])
    arrays = ("offsets", "tokens", "region_mask")
    assert sorted(mapped) == sorted(f"train-{shard:05d}.{array}.npy" for shard in (0, 2) for array in arrays)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_maps_are_few_read_no_pages_around_a_pair_and_keep_no_file_open(tmp_path, monkeypatch) -> None:
    folder = write_many_shards(tmp_path / "many", 6, 7)
    data = TokenDataset(folder)
    expected = data.gather(range(42), ["region_mask"]).masks[0].tolist()

    def maps() -> list[str]:
        """Flags of each map of the folder."""
        flags, inside = [], False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if "-" in line.split()[0]:
                inside = str(folder) in line
            elif inside and line.startswith("VmFlags:"):
                flags.append(line)
        return flags

    assert len(maps()) == 6 * 3
    assert all(" rr " in line for line in maps()), "pages are read ahead"
    assert not [one for one in Path("/proc/self/fd").iterdir() if str(folder) in os.path.realpath(one)]
    del data
    monkeypatch.setattr(shards, "_MAX_MAPS", 4)
    data = TokenDataset(folder)
    assert data.gather(range(42), ["region_mask"]).masks[0].tolist() == expected
    assert len(maps()) == 4


def test_sums_of_lengths_are_those_of_all_pairs_and_hold_a_block_in_memory(tmp_path, monkeypatch) -> None:
    folder = write_many_shards(tmp_path / "many", 2, 30_000)
    index = json.loads((folder / "dataset.json").read_text())
    for num_pairs in (60_000, 30_001, 13):
        index["subsets"]["Q"] = num_pairs
        (folder / "dataset.json").write_text(json.dumps(index))
        lengths = TokenDataset(folder, "train", "Q").lengths().astype(np.float64)
        assert len(lengths) == num_pairs
        expected = lengths.sum(), lengths.max(), float(np.square(lengths).sum() / lengths.sum())
        monkeypatch.setattr("curr_ab.data.shards._BLOCK", 1_000)
        data = TokenDataset(folder, "train", "Q")
        tracemalloc.start()
        assert (data.num_tokens, data.longest, data.squared_length) == expected
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60_000  # bytes; one byte a pair would be more
        monkeypatch.undo()


def test_many_pairs_at_once_over_shards(folder) -> None:
    data = TokenDataset(folder, "train")
    pairs = np.random.default_rng(0).integers(0, len(data), 200)
    pairs = np.array([2_999, 3_000, 0, len(data) - 1, 2_999, *pairs])
    gathered = data.gather(pairs, ["region_mask", "mutation_mask"])
    assert gathered.tokens.tolist() == np.concatenate([data[pair] for pair in pairs]).tolist()
    assert gathered.lengths.tolist() == [len(data[pair]) for pair in pairs]
    for name, mask in zip(("region_mask", "mutation_mask"), gathered.masks, strict=True):
        assert mask.tolist() == np.concatenate([data.mask(pair, name) for pair in pairs]).tolist()
    assert len(data.gather([]).tokens) == 0
    for outside in (-1, len(data)):
        with pytest.raises(IndexError, match=f"below {len(data)}"):
            data.gather([0, outside])


def test_pickles_without_its_arrays(folder) -> None:
    data = TokenDataset(folder)
    first = data[0].tolist()
    pickled = pickle.dumps(data)
    assert len(pickled) < 50_000
    assert pickle.loads(pickled)[0].tolist() == first


def test_missing_and_changed_shards(corpus, write, tmp_path) -> None:
    with pytest.raises(ValueError, match="holds no prepared data"):
        TokenDataset(tmp_path)
    prepare(write("a.csv", plain_text(corpus[:100])), tmp_path / "out", PreparationPlan(cluster="exact"))
    data = TokenDataset(tmp_path / "out")
    data.verify()
    with pytest.raises(ValueError, match="no split 'dev'"):
        TokenDataset(tmp_path / "out", "dev")
    with pytest.raises(ValueError, match="subsets F, H, Q of train, not 'X'"):
        TokenDataset(tmp_path / "out", subset="X")
    with pytest.raises(ValueError, match="subset 'F' is a part of train, not of test; leave the subset out"):
        TokenDataset(tmp_path / "out", "test", "F")
    path = tmp_path / "out" / "train-00000.tokens.npy"
    tokens = np.load(path)
    tokens[5] = 4 if tokens[5] != 4 else 5
    np.save(path, tokens)
    with pytest.raises(ValueError, match="has changed since it was prepared"):
        TokenDataset(tmp_path / "out").verify()
    with pytest.raises(ValueError, match="has changed since it was prepared"):
        TokenDataset(tmp_path / "out").verify_arrays()
    TokenDataset(tmp_path / "out", "test").verify_arrays()
    np.save(path, tokens[:-1])
    with pytest.raises(ValueError, match=r"does not match dataset\.json"):
        TokenDataset(tmp_path / "out")[0]


def test_arrays_of_a_subset_are_verified_and_no_others(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    smallest = TokenDataset(tmp_path / "copy", subset="Q")
    last = sorted((tmp_path / "copy").glob("train-*.tokens.npy"))[-1]
    last.write_bytes(last.read_bytes()[:-1] + b"?")
    smallest.verify_arrays()
    with pytest.raises(ValueError, match=f"{last.name} has changed"):
        TokenDataset(tmp_path / "copy").verify_arrays()
