"""The 15 members, down to the last parameter."""

import dataclasses

import pytest
import torch
from support.tiny_models import stock_config
from transformers import EsmForMaskedLM

from curr_ab import MEMBERS, CurrAbConfig, CurrAbForMaskedLM, member, members
from curr_ab.family import DATA_SIZES, SIZES, find_member, num_gpus
from curr_ab.published import FIGURES
from curr_ab.scaling.compute import TOKENS_PER_PAIR
from curr_ab.training.costs import PEAK_FLOPS, expected_utilization, training_flops_per_token

# Counted once on stock ESM models of these shapes.
PARAMETERS = {
    "8M": 7_512_474,
    "35M": 33_501_394,
    "150M": 148_140_154,
    "350M": 355_252_514,
    "650M": 651_043_254,
}
PUBLISHED_MILLIONS = {"8M": 7.51, "35M": 33.50, "150M": 148.14, "350M": 355.25, "650M": 651.04}


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.heavy
def test_parameter_counts(name):
    size = member(name).size
    config = CurrAbConfig(**member(name).config())
    with torch.device("meta"):
        ours, stock = CurrAbForMaskedLM(config), EsmForMaskedLM(stock_config(config))
    for model in (ours, stock):
        model.tie_weights()
        assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size.name]
    assert size.num_parameters == PARAMETERS[size.name]
    assert round(size.num_parameters / 1e6, 2) == PUBLISHED_MILLIONS[size.name]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_as_few_gpus_as_finish_in_nine_hours(size):
    one = member(f"{size.name}-F")
    tokens = one.plan.steps * one.plan.pairs_per_step * TOKENS_PER_PAIR
    flops = tokens * training_flops_per_token(CurrAbConfig(**one.config()), TOKENS_PER_PAIR)
    hours = flops / (expected_utilization(size.num_parameters) * PEAK_FLOPS["H200"]) / 3600
    assert hours / size.num_gpus < 9 and (size.num_gpus == 1 or hours / (size.num_gpus / 2) > 9)
    assert num_gpus(size.num_parameters) == size.num_gpus
    assert one.plan.pairs_per_step % size.num_gpus == 0


def test_gpus_of_shapes_that_are_no_members():
    assert [num_gpus(count) for count in (1, 100_000_000, 10**12)] == [1, 2, 4]


def test_five_sizes_times_three_data_sizes():
    assert len(MEMBERS) == 15
    assert list(MEMBERS)[:4] == ["8M-F", "8M-H", "8M-Q", "35M-F"]
    assert len({one.repo_id() for one in members()}) == 15
    assert [size.head_dim for size in SIZES] == [16, 24, 32, 48, 64]
    assert [data.num_pairs for data in DATA_SIZES] == [1_648_726, 824_363, 412_182]


def test_names_and_repositories():
    one = member("350M-F")
    assert one.repo_id() == "brineylab/CurrAb-350M-F"
    assert one.repo_id("somebody") == "somebody/CurrAb-350M-F"
    assert one.repo_name == "CurrAb-350M-F"
    assert member("currab-350m-f") is find_member("CurrAb-350M-F") is one
    assert find_member("350M-X") is None
    with pytest.raises(ValueError, match=r"'350M-X'; did you mean .*350M-F\?$"):
        member("350M-X")


def test_plan_is_the_published_one():
    assert [round(member(f"8M-{letter}").epochs, 1) for letter in "FHQ"] == [38.8, 77.6, 155.3]
    assert all(one.plan == member("8M-F").plan for one in members())


def test_published_figures_carry_member_and_source():
    assert {figure.member for figure in FIGURES} == set(MEMBERS)
    assert all(figure.source for figure in FIGURES)
    assert len(set(FIGURES)) == len(FIGURES)
    counts = {task: sum(figure.task == task for figure in FIGURES) for task in {f.task for f in FIGURES}}
    assert counts["test-loss-2025-05"] == 15
    assert counts["test-loss-2025-09"] == 11
    losses = {f.member: f.value for f in FIGURES if f.task == "test-loss-2025-05"}
    assert losses["8M-Q"] == 0.2932 and losses["150M-F"] == 0.2857 and losses["650M-H"] == 0.2895
    assert all(figure in member(figure.member).published for figure in FIGURES)


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        MEMBERS["1B-F"] = member("8M-F")
    with pytest.raises(dataclasses.FrozenInstanceError):
        member("8M-F").plan.seed = 1
