"""Inputs of each reader, and what became of them: an answer or one line, soon, and nothing else."""

from __future__ import annotations

import hashlib
import random
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuzz.damage import anything, damaged
from fuzz.readers import READERS

LONGEST_S = 10.0  # that a reader may take
ENDINGS = (".csv", ".tsv", ".fasta", ".json", ".jsonl", ".parquet", ".xlsx", ".csv.gz", ".txt", "")


@dataclass
class Outcome:
    """What became of the inputs of a reader."""

    read: int
    refused: int
    longest_s: float
    failures: list[str]  # what went wrong, and what the input is drawn by


def inputs(name: str, num: int, seed: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """The damaged files of a reader, one after the other, each with the seed that it is drawn by.

    Of tables one in five is no damaged file but was never any.
    """
    whole = {path: path.read_bytes() for path in READERS[name].make(folder)}
    for number in range(num):
        drawn_by = f"{seed} {name} {number}"
        rng = random.Random(drawn_by)
        if name == "tables" and rng.random() < 0.2:
            path = folder / f"anything{rng.choice(ENDINGS)}"
            path.write_bytes(anything(rng))
            yield drawn_by, path
            path.unlink()
        else:
            path = rng.choice(list(whole))
            path.write_bytes(damaged(whole[path], path.name, rng))
            yield drawn_by, path
            path.write_bytes(whole[path])


def counts(total: int) -> dict[str, int]:
    """Inputs of each reader, by its weight."""
    weights = sum(reader.weight for reader in READERS.values())
    return {name: -(-total * reader.weight // weights) for name, reader in READERS.items()}


def digest(name: str, num: int, seed: int, folder: Path) -> str:
    """SHA-256 of all inputs of a reader."""
    found = hashlib.sha256()
    for _, path in inputs(name, num, seed, folder):
        found.update(f"{path.relative_to(folder)} {path.stat().st_size} ".encode() + path.read_bytes())
    return found.hexdigest()


def try_reader(name: str, num: int, seed: int, folder: Path) -> Outcome:
    """Have a reader read its inputs."""
    outcome = Outcome(0, 0, 0.0, [])
    for drawn_by, path in inputs(name, num, seed, folder):
        began = time.monotonic()
        try:
            READERS[name].read(path)
            outcome.read += 1
        except (ValueError, OSError):  # one line of the command line
            outcome.refused += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of native code is no Exception
            where = " ".join(" ".join(traceback.format_tb(error.__traceback__, -1)).split())
            outcome.failures.append(f"{drawn_by!r}, {path.name}: {error!r:.300} {where}")
        took = time.monotonic() - began
        outcome.longest_s = max(outcome.longest_s, took)
        if took > LONGEST_S:
            outcome.failures.append(f"{drawn_by!r}, {path.name}: took {took:.1f} s")
    return outcome
