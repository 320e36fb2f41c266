"""The place of a bulk command's results: its parts, the plan that they follow, and how they are joined."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.files import claimed, read_object, remove_folder, remove_leftovers, write_json
from curr_ab.inference.formats import assemble, write_index, writer_for
from curr_ab.inference.records import Record
from curr_ab.options import OptionError
from curr_ab.share import Share

_PLAN = "plan.json"
ALONE = Share(0, 1)  # a process without others has all parts
# What a run alone need not find unchanged: it looks at every part, and the input may have grown.
_LOOKED_AT = ("input", "parts")
_MOST_PARTS = 10_000_000  # of 1,024 records each; what is more is damage, and would be counted for hours
_NAMED = 20  # shares in one line, and parts of each


@dataclass(frozen=True)
class KeptColumns:
    """Columns of the user that go beside the results, and whether they were asked for by name."""

    names: tuple[str, ...]
    named: bool

    def beside(self, table: pa.Table, records: Sequence[Record], key: str) -> pa.Table:
        """The results with the user's columns; `key` is the column of results that holds ids."""
        rows = pc.index_in(table[key], pa.array([record.id for record in records], pa.string()))
        for place, name in enumerate(self.names):
            if name not in table.column_names:
                values = pa.array([record.kept[place] for record in records], pa.string())
                table = table.append_column(name, values.take(rows.combine_chunks()))
            elif self.named and name != key:
                problem = f"keep_columns must leave out {name!r}, which the results have of their own"
                raise OptionError(f"{problem}; rename it in the input", "keep_columns")
        return table


_NOTHING = KeptColumns((), named=False)


@dataclass(frozen=True)
class Output:
    """A file, with the folder of its parts beside it while it grows, or a folder of parts alone.

    `plan.json` says what the parts belong to, how many they are, and among how many shares they are divided.
    A share computes its own; who finds all parts there joins them. After shares the plan stays in the folder,
    as finished: one that comes late, or again, finds that nothing is left to do.
    """

    file: Path | None
    folder: Path
    kept: KeptColumns

    @classmethod
    def of(cls, out: str | os.PathLike[str], kept: KeptColumns = _NOTHING) -> Output:
        text = os.fspath(out)
        if text.endswith("/") or Path(text).is_dir():
            return cls(None, Path(text), kept)
        path = Path(text)
        writer_for(path)
        if kept.names and path.suffix in (".npy", ".safetensors", ".fasta"):
            held = "chains" if path.suffix == ".fasta" else "numbers"
            problem = f"{path}: {path.suffix} holds {held} alone; keep columns in .csv or .parquet"
            raise OptionError(problem, "keep_columns")
        return cls(path, path.with_name(path.name + ".parts"), kept)

    def part(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.parquet"

    @property
    def skipped(self) -> Path:
        """The list of records that were left out."""
        return self.folder / "skipped.csv" if self.file is None else self.file.with_suffix(".skipped.csv")

    @property
    def plan(self) -> dict[str, Any]:
        """The plan that the parts follow; empty where there is none."""
        file = self.folder / _PLAN
        plan = {"shares": 1} | read_object(file) if file.exists() else {}
        for name, least in {"parts": 0, "shares": 1}.items():
            if name in plan and not (type(plan[name]) is int and least <= plan[name] <= _MOST_PARTS):
                raise ValueError(
                    f"{file}: {name} must be a count up to {_MOST_PARTS:,}; got {plan[name]!r}; remove "
                    f"{self.folder}"
                )
        return plan

    @property
    def is_finished(self) -> bool:
        """True where all parts were joined."""
        return "finished" in self.plan and (self.file is None or self.file.exists())

    @contextmanager
    def entered(self, plan: Mapping[str, Any], share: Share | None, *, resume: bool) -> Iterator[None]:
        """Hold a share of the folder, which is empty or of the same run; None is a run alone.

        A share goes on in a folder that others have begun, a run alone only to resume it. Fails early where
        nothing can be written.
        """
        if any(self.folder.glob("[!.]*")) and not self.plan:  # in this order: another may begin meanwhile
            raise ValueError(f"{self.folder} is not empty, and nothing says what it holds; name another")
        with claimed(self.folder, "opens", wait=True):
            earlier = self.plan
            if earlier and share is None and not resume:
                problem = "holds the parts of an earlier run: resume it, or remove the folder"
                raise OptionError(f"{self.folder} {problem}", "resume")
            known = {"kept_columns": []} | earlier  # an earlier version did not write that there are none
            differing = [key for key, value in plan.items() if earlier and known.get(key) != value]
            if changed := [key for key in differing if share is not None or key not in _LOOKED_AT]:
                raise self._of_another_run(changed[0])
            if self.file is None or differing or not self.is_finished:
                shares = share.count if share is not None else earlier.get("shares", 1)
                write_json(self.folder / _PLAN, {**plan, "shares": shares})
        own = share or ALONE
        doing = f"computes share {share} in" if share is not None else "computes in"
        with claimed(self.folder, doing, lock_name=f".share-{own.index}-of-{own.count}.lock"):
            yield

    def _of_another_run(self, changed: str) -> ValueError:
        return ValueError(
            f"{self.folder} holds parts of another run (the {changed.replace('_', ' ')} differs): "
            "remove the folder, or run with the settings of then"
        )

    def missing(self) -> list[int]:
        """The numbers of the parts that are not there yet."""
        plan = self.plan
        if not plan:
            raise ValueError(f"{self.folder} holds no parts: none were computed, or they were removed")
        if "parts" not in plan:
            raise OptionError(f"{self.folder} was begun by an earlier version; resume it", "resume")
        there = {path.stem[5:] for path in self.folder.glob("part-*.parquet")}
        if self.is_finished:  # asked last: parts that were joined go after it is written
            return []
        return [number for number in range(plan["parts"]) if f"{number:06}" not in there]

    def describe_missing(self) -> str:
        """The parts that are not there yet, by the shares that they are of; empty where none is missing."""
        missing = self.missing()
        if not missing:
            return ""
        num_parts, num_shares = self.plan["parts"], self.plan["shares"]
        of_shares: dict[int, list[str]] = {}
        for number in missing:
            of_shares.setdefault(number % num_shares, []).append(str(number))
        named = [f"{_some(of_shares[index])} of share {index}/{num_shares}" for index in sorted(of_shares)]
        return f"{len(missing):,} of {num_parts:,} parts are missing: {_some(named, '; ')}"

    def join(self, settings: str | None = None, *, wait: bool = False) -> None:
        """Join the parts, which must all be there; only one process does.

        `settings` are those of the task where its parts were computed by others.
        """
        missing, plan = self.describe_missing(), self.plan
        if settings is not None and settings != plan.get("task"):
            raise self._of_another_run("task")
        if missing:
            alone = plan["shares"] == 1
            advice = "resume the run" if alone else "run those shares again"
            raise OptionError(f"{self.folder}: {missing}; {advice}", "resume" if alone else "shard")
        with claimed(self.folder, "joins the parts in", lock_name=".join.lock", wait=wait):
            if not self.is_finished:
                self._join(plan)
        if self.file is not None and plan["shares"] == 1:
            remove_folder(self.folder)

    def _join(self, plan: Mapping[str, Any]) -> None:
        parts = [self.part(number) for number in range(plan["parts"])]
        if self.file is not None:
            assemble(parts, self.file)
            if plan["shares"] == 1:
                return  # the whole folder goes
        else:
            write_index(parts, self.folder)
        with claimed(self.folder, "opens", wait=True):  # a share that opens it sees all parts or the end
            write_json(self.folder / _PLAN, {**plan, "finished": True})
            kept = set(parts) if self.file is None else set()
            for left in set(self.folder.glob("part-*.parquet")) - kept:
                left.unlink()  # joined, or of an input that has become shorter
            remove_leftovers(self.folder)


def _some(names: list[str], separator: str = ", ") -> str:
    """The names, or the first of them and the number of the others."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return separator.join(names[:_NAMED]) + more
