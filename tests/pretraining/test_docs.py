"""docs/how-to/pretrain.md names settings of the plan that exist."""

import re
from dataclasses import fields
from pathlib import Path

from curr_ab.attention import WAYS
from curr_ab.pretraining.plan import PretrainingPlan

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "how-to" / "pretrain.md").read_text()


def test_every_setting_named_exists():
    known = {field.name for field in fields(PretrainingPlan)} | {way.implementation for way in WAYS}
    for name in re.findall(r"`([a-z0-9_]+_[a-z0-9_]+)`", DOCUMENT):
        assert name in known, name
