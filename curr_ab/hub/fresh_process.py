"""A process that knows nothing of this package and loads checkpoints as other people do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

LOADER = Path(__file__).with_name("loader.py")


@dataclass(frozen=True)
class Loaded:
    """Result of a load for one pair: the class of the model, the ids, the logits of every token."""

    model_class: str
    input_ids: list[int]
    logits: list[list[float]]


class FreshProcess:
    """Loader of one checkpoint after another; its cache of remote code is its own and ends with it."""

    def __enter__(self) -> FreshProcess:
        self._scratch = tempfile.TemporaryDirectory(prefix="curr-ab-")
        environment = {
            **os.environ,
            "HF_MODULES_CACHE": str(Path(self._scratch.name) / "modules"),
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",  # the recorded logits are those of float32 on a CPU
            "TQDM_DISABLE": "1",
        }
        environment.pop("PYTHONPATH", None)
        # The log goes to a file: a full pipe that nobody reads would stop the process.
        self._log: IO[str] = open(Path(self._scratch.name) / "log", "w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(LOADER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            cwd=self._scratch.name,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # the process has ended already; `load` has said so
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._log.close()
        self._scratch.cleanup()

    def load(self, folder: Path, way: str, pair: tuple[str, str], input_ids: Sequence[int] | None) -> Loaded:
        """Load `folder` in one way: "stock" or "remote", or "source", which takes the given ids."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"folder": str(folder.resolve()), "way": way, "pair": pair, "input_ids": input_ids}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["no output"])[-1]
            raise ValueError(f"{folder}: the process that loads it ended too early: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ValueError(f"{folder} does not load ({way}): {answer['error']}")
        return Loaded(**answer)
