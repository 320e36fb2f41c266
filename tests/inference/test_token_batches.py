"""Batches of token sequences: what a model is given of them."""

from types import SimpleNamespace

import pytest
import torch

from curr_ab.inference import token_batches
from curr_ab.modeling.modeling_curr_ab import FLASH_KWARGS


@pytest.mark.parametrize("packs", [True, False])
def test_batches_of_a_gpu_say_where_each_sequence_begins(packs, monkeypatch):
    """With a flash kernel one row, its boundaries and the longest of them; else padded rows."""
    monkeypatch.setattr(token_batches, "packs_batches", lambda model: packs)
    model = SimpleNamespace(device=torch.device("meta"), config=SimpleNamespace(pad_token_id=1))
    sequences = [torch.arange(4, 4 + length) for length in (5, 9, 7)]
    seen = []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor)  # the numbers stay to be looked at

    def run(batch):
        seen.append(batch.model_inputs)
        return batch.members

    assert token_batches.map_batches(run, sequences, model) == [0, 1, 2]
    (inputs,) = seen
    if not packs:
        assert inputs.keys() == {"input_ids"} and inputs["input_ids"].shape == (3, 9)
        return
    assert inputs.keys() == FLASH_KWARGS | {"input_ids", "position_ids"}
    assert inputs["cu_seq_lens_q"].dtype == torch.int32
    assert inputs["cu_seq_lens_q"].tolist() == inputs["cu_seq_lens_k"].tolist() == [0, 9, 16, 21]
    assert inputs["max_length_q"] == inputs["max_length_k"] == 9 and type(inputs["max_length_q"]) is int
    assert inputs["position_ids"][0].tolist() == [*range(9), *range(7), *range(5)]
