"""Muon in fp32 takes the way of torch's, which rounds to bf16, and never multiplies in bf16."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from curr_ab.pretraining.model import build_model
from curr_ab.pretraining.muon import Muon, orthogonalized
from curr_ab.pretraining.step import build_optimizers

SHAPES = ((12, 12), (48, 16), (16, 48))


class TypesOfProducts(TorchDispatchMode):
    """The number types of the matrix products that run."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.seen.add(args[0].dtype)
        return function(*args, **(kwargs or {}))


def stepped(kind, steps=4):
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape) / 4) for shape in SHAPES]
    optimizer = kind(parameters, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return parameters, optimizer


def test_it_takes_the_way_of_torch_without_its_rounding():
    mine, theirs = stepped(Muon), stepped(torch.optim.Muon)
    for one, other in zip(mine[0], theirs[0], strict=True):
        assert not torch.equal(one, other)
        torch.testing.assert_close(one, other, atol=5e-4, rtol=0)  # they moved by 1e-2
    states = [optimizer.state_dict()["state"] for _, optimizer in (mine, theirs)]
    assert [set(state) for state in states[0].values()] == [{"momentum_buffer"}] * len(SHAPES)
    for number, state in states[1].items():
        assert torch.equal(states[0][number]["momentum_buffer"], state["momentum_buffer"])


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one(shape):
    group = torch.optim.Muon([torch.nn.Parameter(torch.zeros(shape))]).param_groups[0]
    values = torch.linalg.svdvals(
        orthogonalized(torch.randn(shape, generator=torch.Generator().manual_seed(1)), group)
    )
    assert values.min() > 0.6 and values.max() < 1.3


@pytest.mark.parametrize(("precision", "products"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_are_of_the_type_of_the_plan(make_plan, precision, products):
    plan = make_plan(optimizer="muon", precision=precision)
    model = build_model(plan, "sdpa")
    *_, muon = build_optimizers(model, plan)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with TypesOfProducts() as types:
        muon.step()
    assert types.seen == {products}
