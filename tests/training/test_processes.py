"""The process keeps freed memory: a second use of it takes no new pages from the system."""

import os
import signal
import subprocess
import sys

import psutil

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


LAUNCHER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline(), flush=True)
time.sleep(60)
"""
LAUNCHED = """
import os, sys, time
from curr_ab.training.stop import Stopped, end_with_launcher, stoppable
end_with_launcher()
try:
    with stoppable():
        print(os.getpid(), flush=True)
        time.sleep(60)
except Stopped as stopped:
    open(os.environ["ENDED"], "w").write(str(stopped.signal_number))
"""


STUCK = """
import os, signal, time
from curr_ab.training import stop
stop._PATIENCE = 0.5
stop.end_with_launcher()
signal.signal(signal.SIGTERM, lambda *_: open(os.environ["ENDED"], "w").write("asked"))
print(os.getpid(), flush=True)
while True:
    time.sleep(60)
"""


def test_a_process_that_waits_for_another_ends_with_its_launcher_too(tmp_path):
    """One that is in the middle of an exchange with a process that is gone saves nothing any more."""
    assert ended_with_launcher(STUCK, tmp_path / "ended") == "asked"


def test_a_process_ends_with_its_launcher(tmp_path):
    """A launcher that is killed cannot end those that it has started."""
    assert ended_with_launcher(LAUNCHED, tmp_path / "ended") == str(int(signal.SIGTERM))


def ended_with_launcher(program, ended):
    """What the program has written into the file; its launcher is killed, and it must end."""
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "none", "ENDED": str(ended)}
    command = [sys.executable, "-c", LAUNCHER, program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as launcher:
        child = psutil.Process(int(launcher.stdout.readline()))
        launcher.kill()
    _, left = psutil.wait_procs([child], timeout=30)
    for one in left:
        one.kill()
    assert not left
    return ended.read_text()
