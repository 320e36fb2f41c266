"""The operations that benchmarks divide by the peak are those that torch counts."""

import pytest
import torch
from benchmarks.roofline import (
    Peak,
    adapter_flops,
    exact_score_flops,
    forward_flops,
    length_of,
    pretraining_flops,
    products,
    share,
)
from support.tiny_models import TINY
from torch.utils.flop_counter import FlopCounterMode

from curr_ab import CurrAbConfig, CurrAbForMaskedLM

LENGTH = 40


def counted(model, ids, train=False, **inputs):
    with FlopCounterMode(display=False) as counter:
        out = model(ids, **inputs)
        if train:
            out.logits.sum().backward()
    return counter.get_total_flops()


def test_operations_are_those_that_torch_counts():
    model = CurrAbForMaskedLM(CurrAbConfig(**TINY))
    model.set_attn_implementation("eager")
    ids = torch.randint(4, 24, (1, LENGTH))
    body = LENGTH * forward_flops(model.config, LENGTH)
    assert counted(model.esm, ids) == pytest.approx(body, rel=0.01)
    answers = torch.arange(0, LENGTH)[: int(0.15 * LENGTH)]
    trained = counted(model, ids, train=True, output_positions=answers)
    assert trained == pytest.approx(LENGTH * pretraining_flops(model.config, LENGTH), rel=0.01)
    one_copy = counted(model.esm, ids, output_positions=answers[:1])
    assert exact_score_flops(model.config, LENGTH, 3) < 3 * one_copy < 3 * body
    # Of a frozen body two parts of three, and of its attention all.
    assert 2 * body < LENGTH * adapter_flops(model.config, LENGTH) < 3 * body


def test_a_share_is_of_the_same_number_type_and_processes():
    peaks = {Peak("fp32", 1): (200e9, 100e9), Peak("fp32", 2): (180e9, 90e9)}
    assert share(peaks, "fp32", 1, 50e9) == "50% of the fp32 peak"
    assert share(peaks, "fp32", 2, 45e9) == "50% of the fp32 peak"
    assert share(peaks, "bf16", 1, 50e9) == "no peak in bf16"
    assert Peak("fp32", 2).name == "fp32, 2 processes"


def test_products_count_what_all_processes_compute():
    assert products("fp32", 2, size=8, repeats=3)(0) == 2 * 3 * 2 * 8**3
    assert length_of([10, 10]) == 10 and length_of([10, 30]) == 25
