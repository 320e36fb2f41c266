"""The process keeps freed memory: a second use of it takes no new pages from the system."""

import subprocess
import sys

from curr_ab.training.processes import keep_freed_memory

# Blocks below and above glibc's thresholds as they are, freed all at once as after a backward pass.
PROGRAM = """
import resource, sys
from curr_ab.training.processes import keep_freed_memory
assert sys.argv[1] != "keep" or keep_freed_memory()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(size * 1_000_000) for size in [2, 40] * 5]
    del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults[1:]))
"""


def pages_taken(how):
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_kept():
    if not sys.platform.startswith("linux"):
        assert not keep_freed_memory()
        return
    assert pages_taken("leave") > 10_000
    assert pages_taken("keep") < 100
