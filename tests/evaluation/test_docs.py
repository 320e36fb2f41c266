"""docs/how-to/evaluate.md shows every suite, with the defaults that it has."""

import re
from pathlib import Path

from curr_ab.evaluation import PLANS

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "how-to" / "evaluate.md").read_text()


def test_every_suite_is_in_the_table_and_run():
    assert re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE) == list(PLANS)
    assert re.findall(r"^curr-ab evaluate (\w+)", DOCUMENT, re.MULTILINE) == list(PLANS)


def test_defaults_are_those_stated():
    fitness = PLANS["fitness"]()
    assert (fitness.shots, fitness.repeats) == ((8, 32, 128), 10)
    assert PLANS["specificity"]().protocol == "grouped"
    assert all(plan().dtype == "float32" for plan in PLANS.values())
    from curr_ab.measures.statistics import DRAWS

    assert DRAWS == 500
