"""Which pair stands at which place: every pair once an epoch, in a new order each time, without memory."""

import numpy as np
import pytest

from curr_ab.randomness import random_stream, sampled, sampled_in_stretches, shuffled


@pytest.mark.parametrize("size", [1, 2, 3, 7, 128, 129, 1_000, 70_001])
def test_a_shuffle_is_a_permutation(size):
    items = shuffled(np.arange(size), size, random_stream(0, "test"))
    assert sorted(items) == list(range(size))


def test_every_epoch_has_every_pair_in_another_order():
    places = np.arange(300)
    items = sampled(42, "paired", places, 100)
    epochs = items.reshape(3, 100)
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[1], epochs[2])


def test_a_place_is_found_without_those_before_it():
    whole = sampled(1, "paired", np.arange(1_000), 64)
    assert np.array_equal(sampled(1, "paired", np.array([999, 3, 500]), 64), whole[[999, 3, 500]])


@pytest.mark.heavy
def test_orders_are_as_random_as_they_should_be():
    """Each item comes first about equally often, and neighbours stay neighbours no more than by chance."""
    orders = np.array([shuffled(np.arange(20), 20, random_stream(seed, "test")) for seed in range(4_000)])
    for place in (0, 7, 19):
        counts = np.bincount(orders[:, place], minlength=20)
        chi_squared = ((counts - 200) ** 2 / 200).sum()
        assert chi_squared < 43.8, (place, counts)  # 19 degrees of freedom, p = 0.001
    followed = (np.diff(orders, axis=1) == 1).mean()
    assert followed == pytest.approx(1 / 20, abs=0.005)


def test_seed_and_source_change_the_order():
    orders = {
        tuple(sampled(*key, np.arange(50), 50)) for key in ((1, "paired"), (2, "paired"), (1, "unpaired"))
    }
    assert len(orders) == 3


def test_empty_data_are_refused():
    with pytest.raises(ValueError, match="the paired data are empty"):
        sampled(1, "paired", np.arange(3), 0)


BOUNDS = np.array([0, 30, 60, 67, 97, 127])  # five shards, one of them short


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 9])
def test_stretches_have_every_pair_once_an_epoch_and_few_shards_at_a_time(at_once):
    items = sampled_in_stretches(42, "paired", np.arange(3 * 127), BOUNDS, at_once)
    for epoch in items.reshape(3, 127):
        assert sorted(epoch) == list(range(127))
        shards = np.searchsorted(BOUNDS, epoch, side="right") - 1
        sizes, groups = np.diff(BOUNDS), []
        while len(shards):
            # What comes first belongs to a stretch, which is as long as all of its shards.
            group = list(dict.fromkeys(shards.tolist()))[:at_once]
            length = sizes[group].sum()
            assert set(shards[:length]) == set(group)
            groups.append(length)
            shards = shards[length:]
        assert len(groups) == -(-5 // at_once)
    orders = items.reshape(3, 127)
    assert not np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[1], orders[2])


def test_a_place_in_a_stretch_is_found_without_those_before_it():
    whole = sampled_in_stretches(1, "paired", np.arange(1_000), BOUNDS, 2)
    places = np.array([999, 3, 500, 126, 127])
    assert np.array_equal(sampled_in_stretches(1, "paired", places, BOUNDS, 2), whole[places])
    assert not np.array_equal(sampled_in_stretches(2, "paired", np.arange(1_000), BOUNDS, 2), whole)


@pytest.mark.heavy
def test_shards_and_their_pairs_come_in_an_order_as_random_as_it_should_be():
    bounds = np.arange(0, 21, 4)  # five shards of four
    orders = np.array([sampled_in_stretches(seed, "test", np.arange(20), bounds, 2) for seed in range(4_000)])
    for place in (0, 7, 19):
        counts = np.bincount(orders[:, place], minlength=20)
        assert ((counts - 200) ** 2 / 200).sum() < 43.8, (place, counts)
