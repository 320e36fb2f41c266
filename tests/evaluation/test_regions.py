"""The suite `regions`: a hand loop over stock ESM, medians, groups, figures."""

import csv
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curr_ab.evaluation import run_suite
from curr_ab.evaluation.measurement import read_measurement
from curr_ab.evaluation.suites.regions import (
    estimate_regions,
    position_losses,
    read_summaries,
    region_figures,
)
from curr_ab.words import REGIONS, VOCABULARY


@pytest.fixture(scope="module")
def measured(stock_folder, corpus, tmp_path_factory):
    """Results and folder of 6 pairs."""
    out = tmp_path_factory.mktemp("regions")
    results = run_suite("regions", stock_folder, corpus, out, pairs=6, seed=1)
    [folder] = out.glob("regions/stock-*")
    return results, folder


@pytest.mark.heavy
def test_positions_are_those_of_a_hand_loop_with_stock_esm(stock_folder, corpus, measured):
    from transformers import EsmForMaskedLM

    stock = EsmForMaskedLM.from_pretrained(stock_folder).eval()
    rows = {
        row["id"]: row for path in corpus.glob("test*.parquet") for row in pq.read_table(path).to_pylist()
    }
    positions = pq.read_table(measured[1] / "positions.parquet").to_pylist()
    told = {(one["id"], one["chain"], one["position"]): one for one in positions}
    assert len(told) == len(positions)
    chosen = list(dict.fromkeys(one["id"] for one in positions))
    assert len(chosen) == 6
    assert len(positions) == sum(len(rows[one]["heavy"]) + len(rows[one]["light"]) for one in chosen)
    for one in chosen[:2]:
        heavy, light = rows[one]["heavy"], rows[one]["light"]
        ids = torch.tensor([0, *map(VOCABULARY.index, heavy), 0, 0, *map(VOCABULARY.index, light), 2])
        for chain, start, text in (("heavy", 1, heavy), ("light", len(heavy) + 3, light)):
            for place in range(0, len(text), 7):
                masked = ids.clone()
                masked[start + place] = 32
                with torch.no_grad():
                    logits = stock(input_ids=masked[None]).logits[0, start + place]
                row = told[one, chain, place + 1]
                expected = -logits.log_softmax(-1)[ids[start + place]].item()
                assert row["loss"] == pytest.approx(expected, abs=1e-4)
                assert row["residue"] == text[place]
                assert row["region"] == REGIONS[int(rows[one][f"region_mask_{chain}"][place]) - 1]
                assert row["segment"] == rows[one][f"segment_mask_{chain}"][place]
                assert row["residue_mutated"] == (rows[one][f"mutation_mask_{chain}"][place] == "1")
                assert row["chain_mutated"] == (rows[one][f"mutations_{chain}"] > 0)


@pytest.mark.heavy
def test_results_are_means_and_medians_of_the_positions(measured):
    results, folder = measured
    positions = pq.read_table(folder / "positions.parquet").to_pylist()
    found = {(row.metric, row.details["place"], row.details["group"]): row for row in results}
    wanted = {
        ("heavy CDR3", "all"): lambda one: one["chain"] == "heavy" and one["region"] == "CDR3",
        ("light FWR", "all"): lambda one: one["chain"] == "light" and "FWR" in one["region"],
        ("heavy FWR3", "mutated chains"): lambda one: (
            one["chain"] == "heavy" and one["region"] == "FWR3" and one["chain_mutated"]
        ),
        ("CDRH3 D", "all"): lambda one: (
            one["chain"] == "heavy" and one["region"] == "CDR3" and one["segment"] == "D"
        ),
        ("pair", "mutated residues"): lambda one: one["chain_mutated"] and one["residue_mutated"],
        ("pair", "germline residues"): lambda one: one["chain_mutated"] and not one["residue_mutated"],
        ("pair", "unmutated chains"): lambda one: not one["chain_mutated"],
    }
    for (place, group), belongs in wanted.items():
        losses = [one["loss"] for one in positions if belongs(one)]
        mean, median = found["loss", place, group], found["median-loss", place, group]
        assert mean.value == pytest.approx(np.mean(losses), abs=1e-5)
        assert median.value == pytest.approx(np.median(losses), abs=1e-6)
        assert mean.num_items == median.num_items == len(losses)
        assert mean.standard_error > 0
        assert median.standard_error > 0


@pytest.mark.heavy
def test_a_uniform_model_loses_the_same_everywhere(uniform_folder, corpus, tmp_path):
    for row in run_suite("regions", uniform_folder, corpus, tmp_path, pairs=3):
        assert row.value == pytest.approx(math.log(33), abs=1e-5)


def test_a_position_is_of_the_pair_it_is_said_to_be(deep, tokenizer):
    """One residue that is unknown has no loss, and the others keep their places."""
    pairs = pa.table({"id": ["a"], "heavy": ["EVXLVESGGG"], "light": ["DIQMTQSPSS"]})
    from curr_ab.data.schema import PAIR_SCHEMA

    whole = pa.table(
        [
            pairs[name] if name in pairs.column_names else pa.nulls(1, PAIR_SCHEMA.field(name).type)
            for name in PAIR_SCHEMA.names
        ],
        schema=PAIR_SCHEMA,
    )
    table = position_losses(deep, tokenizer, whole).to_pylist()
    assert [one["position"] for one in table if one["chain"] == "heavy"] == [1, 2, *range(4, 11)]
    assert {one["region"] for one in table} == {None}
    assert {one["chain_mutated"] for one in table} == {None}


def test_estimates_need_two_pairs():
    columns = {"pair": [0, 0], "loss": [1.0, 2.0], "chain": ["heavy"] * 2, "region": ["CDR3"] * 2}
    columns |= {"segment": ["D"] * 2, "chain_mutated": [True] * 2, "residue_mutated": [True] * 2}
    assert estimate_regions(pa.table(columns), 0) == []


@pytest.mark.heavy
def test_the_draw_of_pairs_is_that_of_the_seed(shallow_folder, corpus, tmp_path, blank_charts):
    def ids(out, seed):
        run_suite("regions", shallow_folder, corpus, out, pairs=3, seed=seed)
        [path] = out.glob("regions/*/positions.parquet")
        return pq.read_table(path)["id"].unique().to_pylist()

    first = ids(tmp_path / "a", 0)
    assert ids(tmp_path / "b", 0) == first
    assert ids(tmp_path / "c", 1) != first


@pytest.mark.heavy
def test_figures_show_the_models_side_by_side(uniform_folder, folder, corpus, tmp_path):
    for model in (uniform_folder, folder):
        run_suite("regions", model, corpus, tmp_path, pairs=4)
    names = {path.name for path in (tmp_path / "regions" / "figures").iterdir()}
    expected = {"heavy_regions", "light_regions", "cdrh3_segments", "mutated_residues"}
    assert names == {f"{name}.png" for name in expected}
    record = read_measurement(next(tmp_path.glob("regions/ours-*")))
    summaries = read_summaries(tmp_path / "regions", record)
    assert list(summaries) == ["ours", "uniform"]
    figure = region_figures(summaries)["heavy_regions"]
    drawn = [container.lines[0].get_ydata() for container in figure.axes[0].containers]
    with open(next(tmp_path.glob("regions/ours-*/summary.csv"))) as file:
        rows = {(row["place"], row["group"]): row for row in csv.DictReader(file)}
    ours = [float(rows[f"heavy {region}", "mutated chains"]["median"]) for region in REGIONS]
    assert drawn[0] == pytest.approx(ours)
    assert drawn[1] == pytest.approx([math.log(33)] * 7, abs=1e-5)


@pytest.mark.heavy
def test_figures_show_the_models_of_the_same_pairs(uniform_folder, shallow_folder, corpus, tmp_path):
    """Another number type is another line of the picture; other pairs, or another separator, are another."""
    run_suite("regions", uniform_folder, corpus, tmp_path, pairs=3)
    run_suite("regions", shallow_folder, corpus, tmp_path, pairs=3, dtype="bfloat16")
    [ours] = tmp_path.glob("regions/ours-*")
    run_suite("regions", shallow_folder, corpus, tmp_path, pairs=2)
    run_suite("regions", uniform_folder, corpus, tmp_path, pairs=3, separator="<cls>")
    record = read_measurement(ours)
    assert list(read_summaries(tmp_path / "regions", record)) == ["ours bfloat16", "uniform"]


def test_pairs_without_regions_are_refused(folder, tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("heavy,light\nEVQLVESGGG,DIQMTQSPSS\nEVQLVESGGG,DIQMTQSPST\n")
    with pytest.raises(ValueError, match="at least 2 pairs must have regions; got 0 of 2"):
        run_suite("regions", folder, table, tmp_path)
