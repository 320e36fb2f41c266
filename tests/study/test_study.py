"""A whole study: what it leaves, what it says, and how it is taken up again."""

import json
import shutil

import pytest
from conftest import cell, tables  # type: ignore[import-not-found]
