"""The plan of jobs: machine and price, and each run as the Hub gets it, with volumes and command."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from curr_ab import __version__
from curr_ab.hub.job_folder import SETTINGS
from curr_ab.hub.jobs import FOLDER, MOUNTS, SETTINGS_FILE, JobOptions, Run, is_address
from curr_ab.hub.remote import with_backoff
from curr_ab.hub.wheel import is_from_index
from curr_ab.options import OptionError, unknown
from curr_ab.quantities import format_duration
from curr_ab.training.launch import launch_words

if TYPE_CHECKING:
    from huggingface_hub import HfApi, Volume

LABEL, CONTENT_LABEL = "curr-ab-run", "curr-ab-content"
ATTEMPTS_AT_CALLS = 4


@dataclass(frozen=True)
class Machine:
    """Hardware of the Hub with its price."""

    name: str
    description: str
    gpu: str  # name of its GPU; empty: it has none
    num_gpus: int
    dollars_per_hour: float


def find_machine(api: HfApi, flavor: str | None) -> Machine:
    found = {one.name: one for one in with_backoff("jobs", ATTEMPTS_AT_CALLS, api.list_jobs_hardware)}
    if flavor not in found:
        what = f"flavor must name a machine for the launcher jobs; got none; choose one of {', '.join(found)}"
        raise OptionError(what if flavor is None else unknown("flavor", flavor, found), "flavor")
    one = found[flavor]
    hours = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1}
    if one.unit_label not in hours:
        raise ValueError(f"the price of {flavor} is by the {one.unit_label}, a unit that is not known here")
    gpu, parts = one.accelerator, [one.cpu, one.ram]
    if gpu is not None:
        parts.insert(0, f"{gpu.quantity} x {gpu.model} with {gpu.vram}")
    return Machine(
        flavor,
        f"{one.pretty_name}, {', '.join(parts)}",
        gpu.model if gpu else "",
        int(gpu.quantity) if gpu else 0,
        one.unit_cost_usd / hours[one.unit_label],
    )


@dataclass(frozen=True)
class PlannedJob:
    """A run as the Hub gets it."""

    run: Run
    command: list[str]
    environment: dict[str, str]
    volumes: list[Volume]
    labels: dict[str, str]
    seconds: float | None  # that the whole of it is expected to take

    @classmethod
    def of(
        cls, run: Run, options: JobOptions, machine: Machine, pinned: Callable[[Volume], Volume]
    ) -> PlannedJob:
        """Mount every address, `pinned` at a commit, and refuse a timeout in which no state is saved."""
        import yaml

        gpus = machine.num_gpus if run.gpus is None else run.gpus
        if gpus > machine.num_gpus:
            raise OptionError(
                f"flavor must have {gpus} GPUs for {run.title}; got {machine.name} with {machine.num_gpus}: "
                "choose a larger one, or launch.gpus_per_cell=N",
                "flavor",
            )
        places: dict[str, Volume] = {}
        _mounted(run.out, places, read_only=False)
        if options.install is None and not is_from_index():
            raise OptionError(
                "install must be given where this package does not come from an index, as a job could not "
                "get it there; got none: put a wheel into a bucket, and name it as "
                f"hf://buckets/OWNER/NAME/WHEEL[{run.extra}], or `no` for an image with the package",
                "install",
            )
        install = f"curr-ab[{run.extra}]=={__version__}" if options.install is None else options.install
        words = [_mounted(word, places) for word in run.words]
        data = [
            # A published data set has no arrays: they are made anew from its Parquet files.
            word
            for address, folder in run.data
            for word in (
                "--prepare" if address.startswith("hf://datasets/") else "--copy",
                _mounted(address, places),
                folder,
            )
        ]
        settings = {
            key: _mounted(value, places) if isinstance(value, str) else value
            for key, value in run.settings.items()
        }
        keep = ["python", "-m", "curr_ab.hub.job_folder", _mounted(run.out, places), FOLDER]
        keep += [
            "--settings",
            SETTINGS_FILE,
            *data,
            "--",
            "python",
            *launch_words(gpus),
            "-m",
            "curr_ab",
            *words,
        ]
        if install != "no":
            script = f'python -m pip install --quiet {shlex.quote(_mounted(install, places))} && exec "$@"'
            keep = ["sh", "-c", script, "curr-ab", *keep]
        seconds = _expected_seconds(run, options, machine, max(1, gpus))
        environment = {SETTINGS: yaml.safe_dump(settings, sort_keys=False)}
        volumes = [pinned(volume) for volume in places.values()]
        sources = [(volume.source, volume.revision) for volume in volumes]
        content = json.dumps([keep[keep.index("--") :], run.data, sources, environment])
        labels = {
            "name": re.sub(r"[^\w.-]+", "-", f"curr-ab {run.title}"),
            LABEL: _digest(run.out),
            CONTENT_LABEL: _digest(content),
        }
        return cls(run, keep, environment, volumes, labels, seconds)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mounted(word: str, places: dict[str, Volume], *, read_only: bool = True) -> str:
    """The path of an address in the job, whose repository or bucket is mounted; other words stay."""
    if not is_address(word):
        return word
    from huggingface_hub import Volume, parse_hf_uri

    uri = parse_hf_uri(word)
    revision = "" if uri.revision is None else "@" + quote(uri.revision, safe="")
    prefix = word.removeprefix("hf://").partition("/")[0]
    place = f"{MOUNTS}/{prefix}/{uri.id}{revision}"
    volume = Volume(
        type=uri.type, source=uri.id, mount_path=place, revision=uri.revision, read_only=read_only
    )
    places.setdefault(place, volume)  # the first is the folder of the run, which is written to
    return f"{place}/{uri.path_in_repo}" if uri.path_in_repo else place


def _expected_seconds(run: Run, options: JobOptions, machine: Machine, gpus: int) -> float | None:
    """Seconds of the whole run; refuses an attempt that would end before a state is saved."""
    from curr_ab.training.costs import expected_utilization, named_peak

    work, peak = run.workload, named_peak(machine.gpu)
    if work is None or peak is None:
        return None
    step = work.flops_per_step / (peak * expected_utilization(work.num_parameters) * gpus)
    # Twice, because the estimate is rough and the job must install and copy first.
    if options.seconds < (needed := 2 * step * min(work.steps_per_state, work.steps)):
        raise OptionError(
            f"timeout must be above the time in which a state is saved, for {run.title} on {machine.name} "
            f"about {format_duration(needed / 2)}, twice over; got {options.timeout}: raise it, or save more "
            "often with save_every",
            *("timeout", "save_every"),
        )
    return step * work.steps


def plan_lines(jobs: Sequence[PlannedJob], options: JobOptions, machine: Machine) -> Iterator[str]:
    """The lines of the plan: machine and price, limits, and each job with its volumes and command."""
    price, hours = machine.dollars_per_hour, options.seconds / 3600
    yield f"machine   {machine.name}: {machine.description}; ${price:,.2f} an hour"
    most = f"at most ${price * hours * options.attempts * len(jobs):,.2f}"
    number = f"{len(jobs)} job" + "s" * (len(jobs) != 1)
    yield f"limits    {options.timeout} for each of {options.attempts} attempts, {number}: {most}"
    yield f"image     {options.image}"
    yield f"secrets   {', '.join(options.secret) or 'none'}"
    expected = [job.seconds for job in jobs if job.seconds is not None]
    for job in jobs:
        took = "" if job.seconds is None else f", about {_priced(job.seconds, price)}"
        gpus = job.run.gpus
        idle = f", on {gpus} of {machine.num_gpus} GPUs" if gpus and gpus < machine.num_gpus else ""
        yield f"{job.run.title}: {job.run.out}{took}{idle}"
        for volume in job.volumes:
            yield f"  volume  {volume.to_uri()}"
        yield f"  command {shlex.join(job.command)}"
    if len(expected) == len(jobs):
        yield f"expected  {_priced(sum(expected), price)}, if the expected shares of the peak are reached"
    else:
        yield (
            "expected  no estimate of the time for this command and machine; nor is a timeout refused in "
            "which no state is saved"
        )


def _priced(seconds: float, dollars_per_hour: float) -> str:
    return f"{format_duration(seconds)} and ${seconds / 3600 * dollars_per_hour:,.2f}"
