"""The next step is prepared ahead and sent in one block; inside a step nobody waits for the device."""

import threading

import pytest
import torch
from support.tiny_models import TINY
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from curr_ab import CurrAbConfig, CurrAbForMaskedLM
from curr_ab.training.packed_rows import TokenBatch
from curr_ab.training.transfer import packed_block, prepared_ahead, sent, unpacked

# What tells the host a value, or a shape that depends on values: on a GPU each of them waits.
WAITS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2", "item")


class CountWaits(TorchDispatchMode):
    """Names of the operations that a GPU would have to be waited for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if name in WAITS or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def by_boundaries(module, query, key, value, mask, dropout=0.0, scaling=1.0, **boundaries):
    """In place of a kernel for packed rows: its arguments, and no attention across pairs."""
    assert mask is None and set(boundaries) >= {"cu_seq_lens_q", "max_length_q"}
    number = torch.arange(query.shape[2])
    pair = torch.bucketize(number, boundaries["cu_seq_lens_q"][1:], right=True)
    allowed = pair[:, None] == pair
    out = F.scaled_dot_product_attention(query, key, value, allowed, dropout_p=dropout, scale=scaling)
    return out.transpose(1, 2), None


@pytest.fixture
def by_boundaries_registered():
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register("flash_by_boundaries", by_boundaries)
    yield "flash_by_boundaries"
    ALL_ATTENTION_FUNCTIONS._global_mapping.pop("flash_by_boundaries")


def packed_row(*lengths):
    torch.manual_seed(0)
    bounds = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    ids = torch.randint(4, 24, (1, int(bounds[-1])))
    ids[0, ::7] = CurrAbConfig(**TINY).mask_token_id
    answers = torch.arange(0, ids.shape[1], 7)
    inputs = {
        "input_ids": ids,
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "output_positions": answers,
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }
    return TokenBatch(inputs, torch.randint(4, 24, (len(answers),)), answers.numpy(), ids.shape[1])


@pytest.mark.parametrize("lengths", [(30, 41, 30), (37,)])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_micro_batch_never_waits_for_the_device(by_boundaries_registered, dropout, lengths):
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = CurrAbForMaskedLM(CurrAbConfig(**TINY | rates)).train()
    model.config._attn_implementation = by_boundaries_registered
    batch = packed_row(*lengths)
    with CountWaits() as waits:
        loss = F.cross_entropy(model(**batch.model_inputs).logits, batch.targets, reduction="sum")
        loss.backward()
    assert waits.found == []
    with CountWaits() as waits:
        bool(batch.targets.any()), batch.targets[batch.targets > 5]
    assert len(waits.found) == 2, "the count counts"


@pytest.mark.parametrize("lengths", [(30, 41, 30), (37,)])
def test_boundaries_give_what_the_positions_give(lengths):
    """To the bit: values that are looked at, and the boundaries that the packer knows."""
    model = CurrAbForMaskedLM(CurrAbConfig(**TINY)).eval()
    inputs = packed_row(*lengths).model_inputs
    alone = {name: inputs[name] for name in ("input_ids", "position_ids", "output_positions")}
    assert torch.equal(model(**inputs).logits, model(**alone).logits)


def test_a_block_holds_what_was_put_in():
    batch = packed_row(30, 41)
    tensors = [batch.targets, batch.model_inputs["cu_seq_lens_q"], torch.arange(3, dtype=torch.uint8)]
    tensors += [torch.zeros(0, dtype=torch.int64), torch.rand(2, 5)]
    there = list(unpacked(packed_block(tensors, pinned=False), tensors, torch.device("cpu")))
    for one, other in zip(tensors, there, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    (moved,) = sent([batch], torch.device("meta"))
    assert {name: value.shape for name, value in moved.model_inputs.items() if torch.is_tensor(value)} == {
        name: value.shape for name, value in batch.model_inputs.items() if torch.is_tensor(value)
    }
    assert moved.targets.device.type == moved.model_inputs["input_ids"].device.type == "meta"


def test_the_next_step_is_prepared_while_one_runs():
    prepared = {step: threading.Event() for step in range(3, 6)}

    def prepare(step):
        prepared[step].set()
        return step

    for expected, step in zip(range(3, 6), prepared_ahead(prepare, 3, 6), strict=True):
        assert step == expected
        assert step == 5 or prepared[step + 1].wait(30)


def test_an_error_belongs_to_its_step():
    def prepare(step):
        if step == 2:
            raise OSError("shard 7 is gone")
        return step

    steps = prepared_ahead(prepare, 0, 5)
    assert [next(steps), next(steps)] == [0, 1]
    with pytest.raises(OSError, match="shard 7 is gone"):
        next(steps)


def test_whoever_stops_leaves_no_thread():
    steps = prepared_ahead(lambda step: step, 0, 1_000)
    next(steps)
    steps.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("next-step")]
