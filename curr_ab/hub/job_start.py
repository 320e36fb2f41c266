"""The start of jobs on machines of the Hub, each once, and what became of earlier ones."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from curr_ab import __version__
from curr_ab.hub.job_plan import ATTEMPTS_AT_CALLS, CONTENT_LABEL, LABEL, PlannedJob, find_machine, plan_lines
from curr_ab.hub.jobs import JobOptions, Run
from curr_ab.hub.remote import HubError, is_transient, one_line, told_in_one_line, with_backoff
from curr_ab.options import OptionError

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo, Volume

Say = Callable[[str], None]
_LEAST_SECRET = 6  # characters; a shorter text may stand in a command by chance
_LIVE = ("SCHEDULING", "RUNNING")
# Newer than the oldest client that the package takes.
_NEEDED = ("volumes", "attempts", "labels")


def start(
    runs: Sequence[Run], options: JobOptions, *, dry_run: bool = False, most: int = 0, say: Say = print
) -> None:
    """Print plan and prices, then start a job for each run that has none yet; `most` may be live at a time.

    A run whose job is live or has completed is left as it is; one whose job has failed goes on in another.
    """
    from huggingface_hub import HfApi

    _require_client()
    api = HfApi(library_name="curr-ab", library_version=__version__)
    with told_in_one_line():
        secrets = _secrets(options.secret, required=not dry_run)
        machine = find_machine(api, options.flavor)
        account = "" if dry_run else _account(api)
        pinned = _Pinning(api, required=not dry_run)
        jobs = [PlannedJob.of(run, options, machine, pinned) for run in runs]
        _refuse_secrets(jobs, options.image, secrets)
        say("\n".join(plan_lines(jobs, options, machine)))
        if not dry_run:
            _start(api, jobs, options, account, secrets, most, say)


def _require_client() -> None:
    from huggingface_hub import HfApi
    from huggingface_hub import __version__ as client

    function = getattr(HfApi, "run_job", None)
    if function is None or not set(_NEEDED) <= set(inspect.signature(function).parameters):
        raise OptionError(
            f"launcher must be another with huggingface_hub {client}, whose jobs have no volumes or "
            "attempts: pip install -U huggingface_hub",
            "launcher",
        )


def _start(
    api: HfApi,
    jobs: Sequence[PlannedJob],
    options: JobOptions,
    account: str,
    secrets: Mapping[str, str],
    most: int,
    say: Say,
) -> None:
    namespace = options.namespace or account
    live, waiting = 0, []
    for job in jobs:
        listed = _earlier(api, (account, namespace), job.labels[LABEL])
        alive = [info for info in listed if info.status.stage in _LIVE]
        if alive:
            live += 1
            said = f"{alive[-1].url} is {alive[-1].status.stage} already"
            if not _is_same(alive[-1], job):
                said += (
                    f", by another command or on other data: wait for it, end it with `hf jobs cancel "
                    f"{alive[-1].id}`, or name another out"
                )
            say(f"{job.run.title}: {said}")
        elif listed and listed[-1].status.stage == "COMPLETED" and _is_same(listed[-1], job):
            say(
                f"{job.run.title}: {listed[-1].url} has completed; what it left is in {job.run.out}; name "
                "another out to run it anew"
            )
        else:
            if listed:
                say(f"{job.run.title}: {_failure(api, listed[-1], secrets)}")
            waiting.append(job)
    for job in waiting:
        if most and live >= most:
            say(f"{job.run.title}: waits, {most} jobs are live; the same command starts it later")
            continue
        say(f"{job.run.title}: {_submit(api, job, options, namespace, secrets)}")
        live += 1


def _account(api: HfApi) -> str:
    from huggingface_hub.errors import LocalTokenNotFoundError

    try:
        return str(with_backoff("login", ATTEMPTS_AT_CALLS, api.whoami)["name"])
    except LocalTokenNotFoundError:
        raise ValueError("not logged in to the Hub; run `hf auth login`, or set HF_TOKEN") from None


def _secrets(names: Sequence[str], *, required: bool) -> dict[str, str]:
    """The values, of the environment or of the login; they go to the Hub and are shown nowhere."""
    from huggingface_hub import get_token

    values = {name: os.environ.get(name) or (name == "HF_TOKEN" and get_token()) or "" for name in names}
    for name, value in values.items():
        if required and not value:
            way = "run `hf auth login`" if name == "HF_TOKEN" else f"export {name}"
            raise OptionError(f"secret {name} must be set; got nothing: {way}, or leave it out", "secret")
    return values


def _refuse_secrets(jobs: Sequence[PlannedJob], image: str, secrets: Mapping[str, str]) -> None:
    """Refuse a command that shows a secret, which everybody sees who may look at the job."""
    from huggingface_hub import get_token

    values = {**secrets, "the login": get_token() or ""}
    for job in jobs:
        shown = "\n".join([image, *job.command, *job.environment.values(), *job.labels.values()])
        for name, value in values.items():
            if len(value) >= _LEAST_SECRET and value in shown:
                raise OptionError(
                    f"the command of {job.run.title} must not show the value of {name}: give it by its name",
                    "secret",
                )


class _Pinning:
    """Gives volumes the commit that their repository has now, for all jobs and all attempts alike."""

    def __init__(self, api: HfApi, *, required: bool) -> None:
        self.api, self.required = api, required  # False: what is not there, or private, is only shown
        self._found: dict[str, Volume] = {}

    def __call__(self, volume: Volume) -> Volume:
        if volume.mount_path not in self._found:
            self._found[volume.mount_path] = self._look(volume)
        return self._found[volume.mount_path]

    def _look(self, volume: Volume) -> Volume:
        from huggingface_hub import Volume as NewVolume
        from huggingface_hub.errors import BucketNotFoundError, RepositoryNotFoundError

        try:
            if volume.type == "bucket":
                if self.required:
                    with_backoff(volume.source, ATTEMPTS_AT_CALLS, self.api.bucket_info, volume.source)
                return volume
            if not self.required and volume.revision:
                return volume
            look = partial(self.api.repo_info, repo_type=volume.type, revision=volume.revision)
            commit = with_backoff(volume.source, ATTEMPTS_AT_CALLS, look, volume.source).sha
        except (BucketNotFoundError, RepositoryNotFoundError):
            if not self.required:
                return volume
            way = ""
            if volume.type == "bucket":
                way = f": `hf buckets create {volume.source} --private` makes it"
            raise ValueError(f"the {volume.type} {volume.source} must be on the Hub; got none{way}") from None
        return NewVolume(**{**vars(volume), "revision": volume.revision or commit})


def _earlier(api: HfApi, namespaces: Sequence[str], label: str) -> list[JobInfo]:
    """Jobs of the same folder that these owners have, the newest last."""

    def look(namespace: str) -> list[JobInfo]:
        return list(api.list_jobs(labels={LABEL: label}, namespace=namespace))

    owners = dict.fromkeys(namespaces)
    found = [job for owner in owners for job in with_backoff("jobs", ATTEMPTS_AT_CALLS, look, owner)]
    return sorted(found, key=lambda job: str(job.created_at))


def _is_same(info: JobInfo, job: PlannedJob) -> bool:
    """True for a job of the same command with the same data."""
    return (info.labels or {}).get(CONTENT_LABEL) == job.labels[CONTENT_LABEL]


def _failure(api: HfApi, info: JobInfo, secrets: Mapping[str, str]) -> str:
    """What became of a job, its last words, and what to do."""
    from huggingface_hub import get_token

    said = f"{info.url} is {info.status.stage}"
    if info.status.message:
        said += f" ({info.status.message})"
    try:
        log = [
            line
            for line in api.fetch_job_logs(job_id=info.id, namespace=info.owner.name, tail=20)
            if line.strip()
        ]
    except Exception:  # it was only for the message
        log = []
    if log:
        said += f": {log[-1].strip()}"
    said += f"; another goes on from its last saved state; all it said: hf jobs logs {info.id}"
    return _masked(said, [*secrets.values(), get_token() or ""])


def _masked(text: str, secrets: Sequence[str]) -> str:
    for value in filter(None, secrets):
        text = text.replace(value, "***")
    return one_line(ValueError(text))


def _submit(
    api: HfApi, job: PlannedJob, options: JobOptions, namespace: str, secrets: Mapping[str, str]
) -> str:
    try:
        info = api.run_job(
            image=options.image,
            command=job.command,
            env=job.environment,
            secrets=dict(secrets),
            flavor=options.flavor,
            timeout=options.seconds,
            attempts=options.attempts,
            labels=job.labels,
            volumes=job.volumes,
            namespace=namespace,
        )
    except Exception as error:
        # Not tried again: it may have begun, and the answer been lost; two would write into one folder.
        if not is_transient(error):
            raise
        raise HubError(
            f"{job.run.title}: {one_line(error)}; the same command sees whether the job has begun"
        ) from None
    return f"{info.url} is {info.status.stage}; its log: hf jobs logs {info.id} --follow"
