"""Jobs on machines of the Hub: their options, the run that one is of, and what it can see there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from curr_ab.options import OptionError, Options, departures, option

# On the disk of a job; hf://datasets/OWNER/NAME/x is mounted as /hf/datasets/OWNER/NAME/x.
DISK, MOUNTS = "/tmp/curr-ab", "/hf"
FOLDER, SETTINGS_FILE = f"{DISK}/out", f"{DISK}/settings.yaml"
_ADDRESS = re.compile(r"hf://(datasets|buckets|models|spaces)/")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, kw_only=True)
class JobOptions(Options):
    """The machine of a job, and what it is given."""

    flavor: str | None = option(
        None, "Machine of a job, such as a100-large; `hf jobs hardware` lists them", metavar="NAME"
    )
    image: str = option("python:3.12", "Docker image of a job, or hf.co/spaces/OWNER/NAME", metavar="IMAGE")
    install: str | None = option(
        None,
        "Requirement that pip installs first in a job, such as a wheel in a bucket; `no` where the image has "
        "the package",
        shown="this version of curr-ab from its index, with the extra that the command needs",
        metavar="REQUIREMENT",
    )
    timeout: str = option("1d", "Time after which the Hub ends an attempt, as 90m, 12h or 2d", metavar="TIME")
    attempts: int = option(
        3, "Number of attempts at a job, each of which goes on from the last saved state", least=1
    )
    secret: tuple[str, ...] = option(
        (),
        "Names of variables that a job gets as secrets, such as HF_TOKEN for private repositories, whose "
        "value may also be that of `hf auth login`",
        metavar="NAME",
    )
    namespace: str | None = option(None, "Owner of the jobs, who pays", shown="the account", metavar="NAME")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.secret:
            if not name.isidentifier() or name.startswith("hf_"):  # not shown: it may be the secret itself
                raise OptionError(
                    "secret must be the name of a variable; got something else: set a variable, and name it",
                    "secret",
                )
        _ = self.seconds

    @property
    def seconds(self) -> int:
        """The timeout of an attempt."""
        written = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", self.timeout)
        if written is None or not float(written[1]):
            raise OptionError(f"timeout must be as 90m, 12h or 2d; got {self.timeout!r}", "timeout")
        return int(float(written[1]) * _UNITS[written[2]])


@dataclass(frozen=True)
class Workload:
    """Operations of a training, as far as they are known before it begins."""

    flops_per_step: float
    num_parameters: int
    steps: int
    steps_per_state: int  # between two saved states


@dataclass(frozen=True)
class Run:
    """A command whose folder lies in a bucket; addresses among words and settings are mounted."""

    title: str
    out: str  # hf://buckets/OWNER/NAME/FOLDER
    words: tuple[str, ...]  # of curr-ab
    settings: Mapping[str, Any]  # content of the file that the words name as SETTINGS_FILE
    extra: str  # of the package, that the command needs
    # Addresses, and folders on the disk: a mount is too slow for data that are read at random.
    data: tuple[tuple[str, str], ...] = ()
    workload: Workload | None = None
    gpus: int | None = None  # processes that train; None: as many as the machine has GPUs


def is_address(text: str) -> bool:
    """True for hf://datasets/…, hf://buckets/… and so on, which can be mounted."""
    return _ADDRESS.match(text) is not None


def address_of(out: PurePath | None) -> str | None:
    """An address that was given as a folder, with both of its slashes."""
    return None if out is None else re.sub(r"^hf:/+", "hf://", out.as_posix())


def refuse_without_job(launcher: str, options: JobOptions, out: PurePath | None = None) -> None:
    """Refuse the options of jobs, and a folder in a bucket, where no job is asked for."""
    if launcher == "jobs":
        return
    if given := sorted(departures(options)):
        raise OptionError(f"{given[0]} must be left out for the launcher {launcher}", given[0], "launcher")
    if out is not None and out.parts[:1] == ("hf:",):
        raise OptionError(
            f"out must be a folder of this machine for the launcher {launcher}; got {address_of(out)}: "
            "choose the launcher jobs, or a folder",
            *("out", "launcher"),
        )


def require_bucket(out: str | None, field: str = "out") -> str:
    """The address, if it is of a folder in a bucket, where several attempts can go on from each other."""
    if out is None or not re.fullmatch(r"hf://buckets/[^/]+/[^/]+/.+", out):
        raise OptionError(
            f"{field} must be a folder in a bucket, hf://buckets/OWNER/NAME/FOLDER, for the launcher jobs; "
            f"got {out or 'none'}: `hf buckets create OWNER/NAME --private` makes a bucket",
            field,
        )
    return out.rstrip("/")


def require_address(name: str | None, field: str) -> str:
    """The address, if it can be mounted; a job does not see the files of this machine."""
    if name is not None and name.startswith("hf://") and not is_address(name):
        raise OptionError(
            f"{field} must say what it is, as hf://models/OWNER/NAME or hf://datasets/OWNER/NAME; got {name}",
            field,
        )
    if name is None or not is_address(name):
        raise OptionError(
            f"{field} must be on the Hub for the launcher jobs, as hf://buckets/OWNER/NAME/FOLDER or "
            f"hf://datasets/OWNER/NAME; got {name or 'none'}: copy it there with "
            f"`hf buckets sync {name or 'FOLDER'} hf://buckets/OWNER/NAME/FOLDER`",
            field,
        )
    return name
