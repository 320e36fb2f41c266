"""Shares of a piece of work, as they are written and as schedulers name them."""

import pytest

from curr_ab.share import Share, parse_share


def test_shares_take_every_piece_once():
    taken = [[number for number in range(10) if Share(index, 3).takes(number)] for index in range(3)]
    assert taken == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({"RANK": "1", "WORLD_SIZE": "4"}, Share(1, 4)),
        ({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3"}, Share(2, 3)),
        (
            {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1"},
            Share(2, 3),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "8",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "4",
                "SLURM_ARRAY_TASK_STEP": "4",
            },
            Share(1, 3),
        ),
    ],
    ids=["torchrun", "array", "array from 1", "array in steps"],
)
def test_the_environment_names_the_share(environment, share):
    assert parse_share("env", environment) == share
    assert parse_share(" 2/8 ", environment) == Share(2, 8)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("3/3", "from 0/3 to 2/3; got 3/3"),
        ("0/0", "must be at least 1; got 0"),
        ("1 of 3", "I/N, as 0/8"),
        ("env", "RANK/WORLD_SIZE"),
    ],
)
def test_what_is_no_share_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_share(text, {})
