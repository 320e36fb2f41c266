"""A batch is a function of seed, step and rank: the same work for any number of processes, and no padding."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support.many_shards import write_many_shards

from curr_ab.data import PreparationPlan, TokenDataset, builtin_path, prepare
from curr_ab.pretraining.batches import TrainingData, drawn, unpaired_fraction
from curr_ab.pretraining.model import build_model
from curr_ab.pretraining.step import summed_loss
from curr_ab.training.costs import choose_attention, takes_packed_rows


def rows_of(batches):
    """The records of some micro-batches as (input, position of answer, answer) tuples, in no order."""
    rows = []
    for batch in batches.micro_batches:
        inputs = batch.model_inputs
        ids, bounds = inputs["input_ids"][0].tolist(), inputs["cu_seq_lens_q"].tolist()
        answers = dict(zip(inputs["output_positions"].tolist(), batch.targets.tolist(), strict=True))
        for start, end in pairwise(bounds):
            here = tuple((at - start, answer) for at, answer in answers.items() if start <= at < end)
            rows.append((tuple(ids[start:end]), here))
    return sorted(rows)


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_the_global_batch_does_not_depend_on_the_number_of_processes(make_plan, single_chains, objective):
    plan = make_plan(
        objective=objective, curriculum="constant", unpaired_fraction=0.4, unpaired_data=str(single_chains)
    )
    data = TrainingData(plan)
    for step in (0, 3, 77):
        alone = data.step(step, 0, 1, 3)
        for processes in (2, 4, 8):
            parts = [data.step(step, rank, processes, 1) for rank in range(processes)]
            assert sorted(row for part in parts for row in rows_of(part)) == rows_of(alone)
            assert {part.num_targets for part in parts} == {alone.num_targets}
            assert sum(len(part.micro_batches[0].targets) for part in parts) == alone.num_targets


def test_micro_batches_by_tokens_hold_at_most_as_many_and_are_as_many_everywhere(make_plan, single_chains):
    plan = make_plan(
        pairs_per_step=32,
        pairs_per_micro_batch=0,
        tokens_per_micro_batch=1_200,
        curriculum="unpaired-then-paired",
        curriculum_midpoint=0.5,
        unpaired_data=str(single_chains),
    )
    data = TrainingData(plan)
    whole = TrainingData(replace(plan, tokens_per_micro_batch=None))
    counts = {}
    for step in (1, 4):  # of single chains, of pairs
        for processes in (1, 2, 4):
            parts = [data.step(step, rank, processes, 1) for rank in range(processes)]
            (counts[step, processes],) = {len(part.micro_batches) for part in parts}
            assert all(batch.num_tokens <= 1_200 for part in parts for batch in part.micro_batches)
            rows = sorted(row for part in parts for row in rows_of(part))
            assert rows == rows_of(whole.step(step, 0, 1, 1))
    assert [counts[4, n] for n in (1, 2, 4)] == [8, 4, 2]  # four pairs of about 240 tokens
    assert all(counts[1, n] < counts[4, n] for n in (1, 2))
    one = TrainingData(replace(plan, tokens_per_micro_batch=1)).step(4, 1, 4, 1)
    assert len(one.micro_batches) == 8  # a record each, because it cannot be less


def test_rows_are_packed_without_padding_and_positions_restart(make_plan):
    batches = TrainingData(make_plan()).step(5, 0, 1, 3)
    assert len(batches.micro_batches) == 3
    for batch in batches.micro_batches:
        inputs = batch.model_inputs
        ids, positions, bounds = (inputs[k] for k in ("input_ids", "position_ids", "cu_seq_lens_q"))
        assert ids.shape == positions.shape == (1, batch.num_tokens) and (ids != 1).all()
        lengths = bounds.diff()
        assert torch.equal(positions[0], torch.cat([torch.arange(n) for n in lengths]))
        assert inputs["max_length_q"] == lengths.max() and bounds.dtype == torch.int32


def test_an_epoch_shows_every_pair_of_the_subset_once(make_plan):
    plan = make_plan(subset="Q", mask_token_share=0.0, random_token_share=0.0)
    data = TrainingData(plan)
    steps = len(data.paired) // plan.pairs_per_step
    seen = [row[0] for step in range(steps) for row in rows_of(data.step(step, 0, 1, 1))]
    subset = TokenDataset(plan.data, "train", "Q")
    known = [tuple(subset[pair].tolist()) for pair in range(len(subset))]
    assert len(seen) == len(set(seen)) == steps * plan.pairs_per_step
    assert set(seen) <= set(known) and len(known) - len(seen) < plan.pairs_per_step


def test_shards_at_once_bound_the_shards_of_a_batch_and_nothing_else(make_plan, tmp_path):
    """Still a function of seed and step, for any number of processes, and every pair once an epoch."""
    folder = write_many_shards(tmp_path / "many", num_shards=20, pairs_per_shard=8)
    index = json.loads((folder / "dataset.json").read_text())
    index["subsets"]["Q"] = 148  # half of the 19th shard is in it
    (folder / "dataset.json").write_text(json.dumps(index))
    plan = make_plan(data=str(folder), subset="Q", shards_at_once=4, pairs_per_step=16)
    data = TrainingData(plan)
    seen = np.concatenate([drawn(plan, "paired", data.paired, 16 * n + np.arange(16)) for n in range(37)])
    assert np.bincount(seen[: 4 * 148]).tolist() == [4] * 148
    for step in range(37):
        assert len(set(seen[16 * step :][:16] // 8)) <= 8  # of two stretches, where one ends
    alone = rows_of(TrainingData(plan).step(30, 0, 1, 1))
    parts = [TrainingData(plan).step(30, rank, 4, 1) for rank in range(4)]
    assert sorted(row for part in parts for row in rows_of(part)) == alone
    anywhere = drawn(replace(plan, shards_at_once=None), "paired", data.paired, np.arange(32))
    assert len(set(anywhere[:16] // 8)) > 8


def test_masks_differ_from_step_to_step_and_from_seed_to_seed(make_plan):
    targets = [
        TrainingData(make_plan(seed=seed)).step(step, 0, 1, 1).micro_batches[0].targets.tolist()
        for seed, step in ((1, 0), (1, 1), (2, 0))
    ]
    assert len({tuple(target) for target in targets}) == 3


def test_preferring_cdr3_masks_it_more_and_the_sequence_as_much(make_plan):
    def shares(**changes):
        plan = make_plan(pairs_per_step=64, mask_token_share=0.0, random_token_share=0.0, **changes)
        data = TrainingData(plan)
        known = {tuple(data.paired[i].tolist()): i for i in range(len(data.paired))}
        cdr3, rest = [], []
        for step in range(8):
            for ids, answers in rows_of(data.step(step, 0, 1, 1)):
                region = data.paired.mask(known[ids], "region_mask")
                predicted = np.zeros(len(ids), bool)
                predicted[[at for at, _ in answers]] = True
                cdr3.append(predicted[region == 6])
                rest.append(predicted[(region != 6) & (region > 0)])
        return np.concatenate(cdr3).mean(), np.concatenate(rest).mean(), np.concatenate(cdr3 + rest).mean()

    plain, preferred = shares(), shares(cdr3_mask_fraction=0.25)
    assert plain == pytest.approx((0.15, 0.15, 0.15), abs=0.01)
    assert preferred[0] == pytest.approx(0.25, abs=0.01) and preferred[2] == pytest.approx(0.15, abs=0.005)
    assert preferred[1] < 0.145


def test_cdr3_cannot_be_preferred_where_it_is_not_known(make_plan, tmp_path):
    bare = pq.read_table(builtin_path(), columns=["id", "heavy", "light"]).slice(0, 50)
    pq.write_table(bare, tmp_path / "bare.parquet")
    prepare([str(tmp_path / "bare.parquet")], tmp_path / "bare", PreparationPlan(cluster="exact"))
    with pytest.raises(ValueError, match="cdr3_mask_fraction needs region masks"):
        TrainingData(make_plan(data=str(tmp_path / "bare"), cdr3_mask_fraction=0.25))


# --- curricula ---------------------------------------------------------------------------------------------


def test_the_sigmoid_of_the_curriculum_paper(make_plan, single_chains):
    """CurrAb, pcbi.1013473: .700 at the start, .50 at 0.8166, .324 at the end, mean .625."""
    plan = make_plan(curriculum="sigmoid", unpaired_data=str(single_chains), steps=10_000, warmup_steps=0)
    fractions = np.array([unpaired_fraction(plan, step) for step in range(10_001)])
    assert fractions[0] == pytest.approx(0.700, abs=5e-4)
    assert fractions[8_166] == pytest.approx(0.50, abs=5e-4)
    assert fractions[-1] == pytest.approx(0.324, abs=5e-4)
    assert fractions.mean() == pytest.approx(0.625, abs=5e-4)
    assert (np.diff(fractions) < 0).all()


def test_the_other_curricula(make_plan, single_chains):
    def at(kind, progress, **changes):
        plan = make_plan(curriculum=kind, unpaired_data=str(single_chains), steps=100, **changes)
        return unpaired_fraction(plan, int(100 * progress))

    assert at("constant", 0.0) == at("constant", 0.99) == 0.625
    switch = [at("unpaired-then-paired", x, curriculum_midpoint=0.5) for x in (0, 0.49, 0.5, 0.99)]
    assert switch == [1, 1, 0, 0]
    assert unpaired_fraction(make_plan(), 3) == 0


def test_batches_hold_the_share_of_single_chains_that_the_curriculum_says(make_plan, single_chains):
    plan = make_plan(curriculum="sigmoid", unpaired_data=str(single_chains), pairs_per_step=128, steps=300)
    data = TrainingData(plan)
    drawn = [data.step(step, 0, 1, 1) for step in range(300)]
    for part in (slice(0, 100), slice(200, 300)):
        expected = np.mean([unpaired_fraction(plan, step) for step in range(300)[part]])
        assert np.mean([b.num_unpaired / b.num_records for b in drawn[part]]) == pytest.approx(
            expected, abs=0.015
        )
    counts = [b.num_unpaired for b in drawn[:100]]
    # Drawn place by place, not one draw for the whole batch.
    assert 3 < np.std(counts) < 8 and 0 < min(counts) < max(counts) < 128
    singles = [row for row, _ in rows_of(drawn[0]) if row.count(0) == 1]
    assert len(singles) == drawn[0].num_unpaired


# --- rows --------------------------------------------------------------------------------------------------


def test_padded_rows_hold_the_same_and_give_the_same_losses(make_plan):
    plan = make_plan()
    model = build_model(plan, "sdpa").eval()
    packed = TrainingData(plan).step(2, 0, 1, 2).micro_batches
    padded = TrainingData(plan, pad=True).step(2, 0, 1, 2).micro_batches
    for one, other in zip(packed, padded, strict=True):
        ids, mask = other.model_inputs["input_ids"], other.model_inputs["attention_mask"]
        assert ids.shape == mask.shape == (4, one.model_inputs["max_length_q"])
        assert torch.equal(ids[mask.bool()], one.model_inputs["input_ids"][0])
        assert (ids[~mask.bool()] == 1).all() and mask.float().mean() > 0.95  # like lengths together
        losses = [float(summed_loss(model, batch).detach()) for batch in (one, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("device", "flash", "precision", "dropout", "expected", "packed"),
    [
        ("cpu", True, "bf16", 0.1, "sdpa", True),
        ("cuda", True, "bf16", 0.1, "flash_attention_2", True),
        ("cuda", True, "fp32", 0.1, "sdpa", False),
        ("cuda", False, "bf16", 0.0, "flex_attention", True),
        ("cuda", False, "bf16", 0.1, "sdpa", False),
    ],
)
def test_attention_suits_device_precision_and_dropout(
    monkeypatch, device, flash, precision, dropout, expected, packed
):
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: flash)
    chosen = choose_attention("auto", precision, torch.device(device), dropout)
    assert chosen == expected and takes_packed_rows(chosen, torch.device(device)) is packed
    assert choose_attention("eager", precision, torch.device(device), dropout) == "eager"
