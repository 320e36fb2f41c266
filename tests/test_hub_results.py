"""Numbers in the forms of the Hub: of data that lie there, with its words, and nothing of other data."""

from __future__ import annotations

from dataclasses import replace

import huggingface_hub
import pytest
import yaml

from curr_ab.hub_results import eval_results, hub_data_set, model_index
from curr_ab.results import Result

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOSS = Result(
    model="350M-F",
    task="test-loss",
    metric="loss",
    value=0.25,
    standard_error=0.00123,
    num_items=1000,
    dataset="CurrAb-pairs 222bc8632dd1",
    split="test",
    checkpoint="a" * 64,
    source="curr-ab evaluate loss 350M-F CurrAb-pairs",
    code_version="0.1.0",
)
BINDING = replace(
    LOSS,
    task="specificity-binary",
    metric="mcc",
    dataset="hf://datasets/lab/binders",
    details={"method": "lora"},
)


@pytest.mark.parametrize(
    ("dataset", "place"),
    [
        ("CurrAb-pairs 222bc8632dd1", ("curator/CurrAb-pairs", None)),
        ("CurrAb-pairs", ("curator/CurrAb-pairs", None)),
        ("hf://datasets/lab/binders", ("lab/binders", None)),
        (f"hf://datasets/lab/binders@{COMMIT}/train.parquet 12ab", ("lab/binders", COMMIT)),
        ("hf://datasets/lab/binders 12ab", ("lab/binders", None)),
        ("corpus 222bc8632dd1", None),
        ("mine/CurrAb-pairs", None),
        ("folder/pairs.csv", None),
    ],
)
def test_only_data_of_the_hub_have_a_place_there(dataset, place) -> None:
    row = replace(LOSS, dataset=dataset)
    assert hub_data_set(row, "curator") == place
    assert len(model_index([row], "curator", "fill-mask")) == (place is not None)
    assert (eval_results([row], "curator") is None) == (place is None)


def test_task_types_are_the_words_of_the_hub() -> None:
    """The model's own pipeline for what it does by itself, its head's for the rest."""

    def task_type(row, pipeline="fill-mask"):
        [only] = model_index([row], "curator", pipeline)
        return only.task_type

    regions = replace(
        LOSS, task="regions", metric="median-loss", details={"place": "heavy CDR3", "group": "all"}
    )
    fitness = replace(LOSS, task="fitness", metric="spearman")
    assert [task_type(row) for row in (LOSS, regions, fitness)] == ["fill-mask"] * 3
    assert task_type(LOSS, "text-generation") == "text-generation"
    drawn = replace(
        LOSS, task="generation", metric="light: unique", details={"sample": "given heavy, temperature 1"}
    )
    assert task_type(drawn, "text-generation") == "text-generation"
    assert task_type(BINDING) == task_type(BINDING, "text-classification") == "text-classification"
    assert task_type(BINDING, "token-classification") == "token-classification"


def test_the_file_beside_the_card_is_what_the_hub_s_client_reads() -> None:
    if not hasattr(huggingface_hub, "parse_eval_result_entries"):
        pytest.skip("a client before 1.0 does not read these files")
    parse_eval_result_entries = huggingface_hub.parse_eval_result_entries
    text = eval_results([LOSS, replace(BINDING, dataset=f"hf://datasets/lab/binders@{COMMIT}")], "curator")
    loss, binding = parse_eval_result_entries(yaml.safe_load(text))
    assert (loss.dataset_id, loss.task_id, loss.value) == ("curator/CurrAb-pairs", "test-loss", 0.25)
    assert loss.notes == (
        "loss, test, 1,000 items, standard error 0.0012; "
        "curr-ab evaluate loss 350M-F CurrAb-pairs (curr-ab 0.1.0)"
    )
    assert (binding.dataset_id, binding.task_id) == ("lab/binders", "specificity-binary-mcc-method-lora")
    assert binding.dataset_revision == COMMIT and "method lora" in binding.notes


def test_numbers_that_their_details_or_splits_tell_apart_are_tasks_of_their_own() -> None:
    """A number of a model has one place, which is data set and task: another would take it."""
    rows = [
        BINDING,
        replace(BINDING, details={"method": "full"}),
        replace(BINDING, details={"method": "full", "rank": 8}),
        replace(BINDING, split="validation"),
        replace(BINDING, details={}),
        replace(BINDING, dataset=f"hf://datasets/lab/binders@{COMMIT}/assays/Flu_1.csv 12ab", details={}),
    ]
    entries = yaml.safe_load(eval_results(rows, "curator"))
    assert [entry["dataset"]["task_id"] for entry in entries] == [
        "specificity-binary-mcc-method-lora",
        "specificity-binary-mcc-method-full",
        "specificity-binary-mcc-method-full-rank-8",
        "specificity-binary-mcc-validation-method-lora",
        "specificity-binary-mcc",
        "specificity-binary-mcc-assays-flu-1-csv",
    ]


def test_two_numbers_for_one_place_on_the_hub_are_refused() -> None:
    """As of two commits of one data set."""
    rows = [replace(BINDING, dataset=f"hf://datasets/lab/binders{at}") for at in ("", f"@{COMMIT}")]
    with pytest.raises(ValueError, match=r"specificity-binary-mcc-method-lora of lab/binders must have one"):
        eval_results(rows, "curator")


def test_parts_and_real_pairs_are_in_neither() -> None:
    """What the Hub says of a model is about all of the data, and about what the model made."""
    fold = replace(BINDING, details={"fold": 1})
    real = replace(LOSS, task="generation", metric="light: unique", details={"sample": "held-out pairs"})
    assert model_index([fold, real], "curator", "fill-mask") == []
    assert eval_results([fold, real], "curator") is None
