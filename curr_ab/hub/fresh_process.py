"""Processes that know nothing of this package and load checkpoints as other people do."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import IO, Any

from curr_ab.files import scratch_folder
from curr_ab.workers import describe_end

LOADER = Path(__file__).with_name("loader.py")
# All that the loader gets of our environment: code of a repository is to find no token there, and no address.
_KEPT = (
    *("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"),
)


@dataclass(frozen=True)
class Loaded:
    """Result of a load for one pair: the class of the model, the ids, the logits of every token."""

    model_class: str
    input_ids: list[int]
    logits: list[list[float]]


class FreshProcess:
    """Loader of one checkpoint after another; its cache of remote code is its own and ends with it.

    Code of a repository runs in a process apart, so that it cannot change how others are loaded.
    """

    def __enter__(self) -> FreshProcess:
        self._stack = ExitStack()
        self._scratch = self._stack.enter_context(scratch_folder("curr-ab-load-"))
        self._loaders: dict[bool, _Loader] = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for loader in self._loaders.values():
            loader.close()
        self._stack.close()

    def load(self, folder: Path, way: str, pair: tuple[str, str], input_ids: Sequence[int] | None) -> Loaded:
        """Load `folder` in one way: "stock" or "remote", or "source", which takes the given ids."""
        foreign = way == "remote"
        if foreign not in self._loaders:
            self._loaders[foreign] = _Loader(Path(mkdtemp(dir=self._scratch)))
        request = {"folder": str(folder.resolve()), "way": way, "pair": pair, "input_ids": input_ids}
        answer = self._loaders[foreign].ask(request)
        if "error" in answer:
            raise ValueError(f"{folder} does not load ({way}): {answer['error']}")
        return Loaded(**answer)

    def forget_code(self) -> None:
        """End the process in which code has run: what comes next is not to be loaded by what it has left."""
        if loader := self._loaders.pop(True, None):
            loader.close()


class _Loader:
    """One process, with a home of its own, no token, and no network where the system lets it be cut off."""

    def __init__(self, home: Path) -> None:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {
            **dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), str(home)),
            "HF_HOME": str(home / "huggingface"),
            "PYTHONUSERBASE": site.getuserbase(),  # it may hold transformers, and follows from HOME
            "USER": "nobody",
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",  # the recorded logits are those of float32 on a CPU
            "TQDM_DISABLE": "1",
        }
        # The log goes to a file: a full pipe that nobody reads would stop the process.
        self._log: IO[str] = (home / "log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(LOADER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            cwd=home,
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request, in which an error is under that name."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["no output"])[-1]
            code = self._process.wait()
            # A checkpoint may end its process; of one that was killed nothing is known.
            kind = ChildProcessError if code < 0 else ValueError
            raise kind(f"{request['folder']}: the process that loads it {describe_end(code)}: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # the process has ended already; `ask` has said so
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._log.close()
