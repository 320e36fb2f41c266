"""Dropout drawn by its gaps: the distribution of one draw for each element, and torch's seed."""

import pytest
import torch

from curr_ab.modeling.skip_dropout import dropped_elements, skip_dropout


def draws(num_elements, p, times):
    """1 where an element was dropped, [times, num_elements]."""
    torch.manual_seed(0)
    dropped = torch.zeros(times, num_elements)
    for row in dropped:
        row[dropped_elements(num_elements, p)] = 1
    return dropped


@pytest.mark.heavy
@pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 0.9])
def test_every_element_is_dropped_at_the_rate_on_its_own(p):
    times, num_elements = 20_000, 40
    dropped = draws(num_elements, p, times)
    deviation = (p * (1 - p) / times) ** 0.5
    # At every place alike: the first and the last are where a draw by gaps would go wrong.
    assert (dropped.mean(dim=0) - p).abs().max() < 4.5 * deviation
    covariance = (dropped - p).T @ (dropped - p) / times
    apart = covariance - covariance.diag().diag()
    assert apart.abs().max() < 5 * p * (1 - p) / times**0.5
    # How many fall together varies as it must.
    assert dropped.sum(dim=1).var().item() == pytest.approx(num_elements * p * (1 - p), rel=0.05)


def test_gaps_are_geometric():
    p, count = 0.1, 2_000_000
    gaps = dropped_elements(count, p).diff()
    for gap in range(1, 40):
        expected = p * (1 - p) ** (gap - 1)
        found = (gaps == gap).double().mean().item()
        assert abs(found - expected) < 5 * (expected / len(gaps)) ** 0.5, gap


def test_elements_are_ascending_and_within():
    torch.manual_seed(0)
    for num_elements in (1, 2, 17, 1000):
        for _ in range(300):
            dropped = dropped_elements(num_elements, 0.5)
            assert (dropped.diff() > 0).all()
            assert dropped.numel() == 0 or (dropped[0] >= 0 and dropped[-1] < num_elements)


def test_a_draw_that_falls_short_is_continued(monkeypatch):
    """Ten standard deviations are rare, so every gap is made 1: the shortest draw there is."""
    monkeypatch.setattr(torch, "rand", torch.zeros)
    assert torch.equal(dropped_elements(1000, 0.1), torch.arange(1000))


def test_same_seed_same_elements_and_expectation():
    torch.manual_seed(3)
    first = skip_dropout(torch.ones(100_000), 0.1)
    assert not torch.equal(skip_dropout(torch.ones(100_000), 0.1), first)
    torch.manual_seed(3)
    assert torch.equal(skip_dropout(torch.ones(100_000), 0.1), first)
    assert first.unique().tolist() == [0, pytest.approx(1 / 0.9)]
    assert first.mean().item() == pytest.approx(1, abs=5e-3)


def test_backward_drops_what_forward_dropped():
    x = torch.randn(7, 30, requires_grad=True)
    for layout in (x, x.T):  # also where memory is laid out otherwise
        out = skip_dropout(layout, 0.3)
        (grad,) = torch.autograd.grad(out, x, torch.ones_like(out).mul_(2))
        grad = grad if layout is x else grad.T
        assert torch.equal(grad != 0, out != 0)
        assert torch.allclose(grad[grad != 0], torch.tensor(2 / 0.7))


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1])
def test_rates_without_gaps_are_refused(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        dropped_elements(10, p)
