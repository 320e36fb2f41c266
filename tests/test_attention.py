"""The choice of attention: every combination of machine, packages, dropout, size of heads and number type."""

from itertools import product
from types import SimpleNamespace

import pytest
import torch
from support.tiny_models import stock_twin, tiny_config
from transformers import utils

from curr_ab import CurrAbConfig, CurrAbForMaskedLM, attention
from curr_ab.attention import WAYS, Asked, choose_attention, packs_batches, takes_packed_rows
from curr_ab.modeling import packed_attention

CUDA = torch.device("cuda")
HALF = (torch.bfloat16, torch.float16)
# What torch and the GPU are like, and what is said of torch's own kernel there.
MACHINES = {
    "as most": None,
    "ROCm": "it was never tried with ROCm",
    "no such operation": "has it no more",
    "built without": "this torch was built without it",
    "switched off": "it is switched off in torch.backends.cuda",
    "old GPU": "the GPU is older than Ampere",
}


class WithoutOperation:
    """A torch in which the operation has another name."""

    ops = SimpleNamespace(aten=SimpleNamespace())

    def __getattr__(self, name):
        return getattr(torch, name)


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this a machine with a GPU and these packages."""

    def make(kind="as most", flash_attn=False, kernels=False, triton=True):
        cuda, ops = torch.backends.cuda, WithoutOperation() if kind == "no such operation" else torch
        monkeypatch.setattr(packed_attention, "torch", ops)
        monkeypatch.setattr(torch.version, "hip", "7.0" if kind == "ROCm" else None)
        monkeypatch.setattr(cuda, "is_flash_attention_available", lambda: kind != "built without")
        monkeypatch.setattr(cuda, "flash_sdp_enabled", lambda: kind != "switched off")
        capability = (7, 5) if kind == "old GPU" else (9, 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(utils, "is_flash_attn_2_available", lambda: flash_attn)
        monkeypatch.setattr(utils, "is_kernels_available", lambda: kernels)
        monkeypatch.setattr(attention, "find_spec", lambda name: object() if triton else None)

    return make


def expected(kind, flash_attn, kernels, triton, asked):
    """Implementation, packed, and the number of ways that are passed over."""
    half = asked.dtype in HALF
    if kind == "as most" and half and asked.head_size % 8 == 0:
        return "sdpa", True, 0
    if half and kind != "old GPU" and (flash_attn or kernels):
        return "flash_attention_2", True, 1 if flash_attn else 2
    if triton and not asked.dropout:
        return "flex_attention", True, 3
    return "sdpa", False, 4


@pytest.mark.parametrize("kind", MACHINES)
def test_every_combination(machine, kind):
    """Whether a model is causal is not asked: each of them takes that as an argument."""
    taken = set()
    for flash_attn, kernels, triton in product((True, False), repeat=3):
        machine(kind, flash_attn, kernels, triton)
        sizes, dtypes = (16, 24, 32, 48, 64, 20), (*HALF, torch.float32)
        for dropout, head_size, dtype in product((0.0, 0.1), sizes, dtypes):
            asked = Asked(CUDA, dtype, head_size, dropout)
            choice = choose_attention("auto", asked)
            found = (choice.implementation, choice.packed, len(choice.passed_over))
            assert found == expected(kind, flash_attn, kernels, triton, asked), asked
            taken.add(choice.reason)
            # Who names the implementation that was chosen gets the same rows.
            named = choose_attention(choice.implementation, asked)
            assert named[:3] == (choice.implementation, choice.packed, "as asked for")
    usual = {way.words for way in WAYS}
    never = {"torch's own flash attention"} if kind != "as most" else set()
    if kind == "old GPU":
        never |= {way.words for way in WAYS if way.implementation == "flash_attention_2"}
    assert taken == usual - never


@pytest.mark.parametrize("kind", [kind for kind in MACHINES if MACHINES[kind]])
def test_a_machine_that_cannot_says_why(machine, kind):
    machine(kind)
    lines = choose_attention("auto", Asked(CUDA, torch.bfloat16, 16, 0.1)).lines
    assert lines[0] == "sdpa, padded rows: torch's attention on pairs of like length"
    assert lines[1].startswith("not torch's own flash attention: ") and lines[1].endswith(MACHINES[kind])
    assert lines[-1] == "not flex attention, compiled: it has no dropout; the model's is 0.1"


def test_a_model_that_cannot_says_why(machine):
    machine()
    sizes = "heads must have a multiple of 8 dimensions, 256 at most, not"
    for asked, reason in {
        Asked(CUDA, torch.float32, 16, 0.1): "it computes in half precision, not in float32",
        Asked(CUDA, torch.bfloat16, 20, 0.1): f"{sizes} 20",
        Asked(CUDA, torch.bfloat16, 264, 0.1): f"{sizes} 264",
    }.items():
        assert choose_attention("auto", asked).lines[1] == f"not torch's own flash attention: {reason}"
    lines = choose_attention("auto", Asked(CUDA, torch.bfloat16, 20, 0.1)).lines
    assert lines[2:4] == (
        "not the package flash-attn: flash-attn is not installed",
        "not FlashAttention 2 from the Hub, by the package kernels: kernels is not installed",
    )


def test_the_family_needs_no_other_package(machine):
    """The published plan, with its dropout, for each size."""
    from curr_ab.family import members

    machine()
    for member in members():
        config = CurrAbConfig(**member.config())
        choice = choose_attention("auto", Asked.by(config, CUDA, "bf16"))
        assert choice.lines == ("sdpa, packed rows: torch's own flash attention",), member.name
        assert choose_attention("auto", Asked.by(config, CUDA, "fp32")).packed is False


def test_machines_without_cuda():
    cpu, mac = (Asked(torch.device(kind), torch.bfloat16, 16) for kind in ("cpu", "mps"))
    assert choose_attention("auto", cpu).lines == ("sdpa, packed rows: one pair after the other, on a CPU",)
    assert choose_attention("eager", cpu)[:3] == ("eager", True, "as asked for")
    choice = choose_attention("auto", mac)
    assert (choice.implementation, choice.packed) == ("sdpa", False)
    assert all(line.endswith(": it needs CUDA, not mps") for line in choice.passed_over)


def test_what_is_named_is_taken(machine):
    machine()
    asked = Asked(CUDA, torch.float32, 16, 0.1)
    packed = {"eager": False, "sdpa": False, "flash_attention_2": True, "somebody/kernel": True}
    for name, rows in packed.items():
        assert choose_attention(name, asked)[:2] == (name, rows)
        assert takes_packed_rows(name, asked) is rows


def test_inference_packs_where_a_flash_kernel_is(machine, monkeypatch):
    """Not for flex attention, which would compile and mask anew for each batch."""
    machine()
    model = CurrAbForMaskedLM(tiny_config(hidden_size=64))
    on_gpu = {dtype: Asked(CUDA, dtype, 16) for dtype in (torch.bfloat16, torch.float32)}
    for dtype, packs in {torch.bfloat16: True, torch.float32: False}.items():
        monkeypatch.setattr(Asked, "of", lambda model, asked=on_gpu[dtype]: asked)
        assert packs_batches(model) is packs
        assert packs_batches(stock_twin(model)) is False  # whose pairs would see each other
    monkeypatch.setattr(Asked, "of", lambda model: on_gpu[torch.bfloat16])
    for name, packs in {"eager": False, "flex_attention": False, "flash_attention_2": True}.items():
        model.config._attn_implementation = name
        assert packs_batches(model) is packs


def test_a_model_as_it_lies_in_memory():
    model = CurrAbForMaskedLM(tiny_config(hidden_size=64)).bfloat16()
    assert Asked.of(model) == Asked(torch.device("cpu"), torch.bfloat16, 16, 0.0)
