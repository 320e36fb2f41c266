"""`python -m faults`: try every long command with random faults, and write down what became of each try."""

from __future__ import annotations

import os
from importlib import import_module

for name, value in {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}.items():
    os.environ.setdefault(name, value)
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# The libraries read these variables when they are imported.
import_module("faults.bench").main()
