"""`python -m faults`: try every long command with random faults, and write down what became of each try."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from support.local_hub import start_hub

# An end that is asked for unmounts the small disk too.
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
with tempfile.TemporaryDirectory(prefix="faults") as home:
    hub, server = start_hub(Path(home))
    try:
        os.environ |= hub.environment() | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        # The libraries read these variables when they are imported.
        import_module("faults.bench").main(hub)
    finally:
        server.kill()
        server.wait()
