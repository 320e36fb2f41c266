"""Fresh processes within a second or two: their parent has imported torch, and forks them.

What reads its environment when it is imported, huggingface_hub and all that imports it, each of them
imports itself. One that a test kills, or whose start is the matter, is better started as usual.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

_PARENT = """
import json, os, sys, tempfile
import httpx, pyarrow.parquet, scipy.optimize, scipy.stats, sklearn.metrics, tokenizers
import torch._dynamo, torch.distributed.fsdp, torch.distributed.tensor
assert "huggingface_hub" not in sys.modules
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
output, program, arguments, environment, folder = json.loads(line)
for descriptor, path in enumerate((os.devnull, *output)):
    opened = os.open(path, os.O_WRONLY if descriptor else os.O_RDONLY)
    os.dup2(opened, descriptor)
    os.close(opened)
sys.stdin = open(0, closefd=False)
os.environ.clear()
os.environ.update(environment)
os.chdir(folder)
tempfile.tempdir = None  # as the environment says
sys.argv[1:] = arguments
exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
"""


@cache
def _parent() -> subprocess.Popen[str]:
    """One for each test process; its children find the package as it is installed."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", _PARENT]
    process = subprocess.Popen(
        command, env=inherited, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(process.communicate)  # closes what it reads, with which it ends
    return process


def run_warm(
    program: str, arguments: Sequence[str] = (), *, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run([sys.executable, "-P", "-c", program, *arguments])`, with what it wrote."""
    parent = _parent()
    assert parent.stdin is not None and parent.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        output = [Path(folder, name) for name in ("stdout", "stderr")]
        for path in output:
            path.touch()
        request = [list(map(str, output)), program, list(arguments), dict(environment), os.getcwd()]
        parent.stdin.write(json.dumps(request) + "\n")
        parent.stdin.flush()
        code = int(parent.stdout.readline())
        return subprocess.CompletedProcess(program, code, *(path.read_text() for path in output))
