"""Verify: what is on the Hub, or is to go there, is proved by what it says of itself; downloaded anew."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from curr_ab.checkpoint_files import resolve
from curr_ab.data.shards import INDEX_NAME
from curr_ab.family import NAMESPACE
from curr_ab.finetuning.adapter_record import RECORD
from curr_ab.hub.data_card import is_prepared
from curr_ab.hub.data_sets import (
    data_card_problems,
    data_files,
    data_note,
    data_problems,
    data_set_id,
    other_files,
)
from curr_ab.hub.export_verification import Check
from curr_ab.hub.finetuned_verification import check_finetuned, is_finetuned
from curr_ab.hub.fresh_process import FreshProcess
from curr_ab.hub.manifest import MANIFEST
from curr_ab.hub.places import DiskPlace, HubPlace, Place
from curr_ab.hub.remote import HubError, is_transient, one_line, status_of
from curr_ab.hub.space_verification import SPACE_PREFIX, verify_space
from curr_ab.options import OptionError
from curr_ab.reach import NoAnswer, ask

Say = Callable[[str], None]


def verify(
    name: str | Path,
    *,
    namespace: str = NAMESPACE,
    scratch: str | Path | None = None,
    attempts: int = 8,
    identity: str | None = None,
    issuer: str | None = None,
    run_code: bool = True,
    say: Say = print,
    fresh_process: FreshProcess | None = None,
) -> list[str]:
    """The problems of what has this name; empty where all is well.

    It is a member, `demo`, the id or the folder of an export or of what fine-tuning left; a data set as
    `datasets/OWNER/NAME`, or prepared data; or a Space as `spaces/OWNER/NAME`, whose API is asked once and
    must answer what the model answers here. Of a model it runs the code that the repository holds, as
    `trust_remote_code=True` does.

    `scratch` is where one revision at a time is downloaded to; `fresh_process` verifies several in the same
    process. Code runs without our tokens, other code than this package's apart, and none without `run_code`.
    With an `identity` an export must be signed: by the private key whose public one is in the file
    `identity`, or by who is called so at the `issuer`. What is not is not run.
    """
    if identity is None and issuer is not None:
        raise OptionError("identity must be given with an issuer; got the issuer alone", "identity")
    if str(name).startswith(SPACE_PREFIX) and not Path(name).exists():
        _refuse_identity(name, identity)
        return verify_space(str(name).removeprefix(SPACE_PREFIX), attempts=attempts, say=say)
    data_set = None if Path(name).is_dir() else data_set_id(str(name))
    place: Place
    if data_set is not None:
        place = HubPlace(data_set, str(scratch) if scratch else None, attempts, "dataset")
        _ask(place, (INDEX_NAME,))
    else:
        source = str(name) if Path(name).is_dir() else resolve(name, namespace)
        if Path(source).is_dir():
            place = DiskPlace(source)
        else:
            place = HubPlace(source, str(scratch) if scratch else None, attempts)
            _ask(place, (MANIFEST, RECORD))

    def say_of(line: str) -> None:
        say(f"{name} {line}")

    try:
        heads, tags = place.revisions()
        with ExitStack() as stack:
            with place.folder(heads["main"]) as folder:
                if data_set is not None or is_prepared(folder):
                    _refuse_identity(name, identity)
                    problems = _data_problems(folder, data_set, str(scratch) if scratch else None, say_of)
                    return [f"main: {problem}" for problem in problems]
                if is_finetuned(folder):
                    _refuse_identity(name, identity)
                    repo_id = place.name if isinstance(place, HubPlace) else None
                    return [f"main: {problem}" for problem in check_finetuned(folder, repo_id, say_of)]
                process = fresh_process or stack.enter_context(FreshProcess())
                check = Check(place, (identity, issuer), process, run_code, say_of)
                problems, main = check.main(folder)
            # Its folder is gone: one revision at a time lies on the disk.
            if main is not None:
                problems += check.steps(heads, main)
            return problems + check.tags(heads, tags)
    except (HubError, ValueError):
        raise
    except Exception as error:
        if status_of(error) is None and not is_transient(error) and not isinstance(error, OSError):
            raise
        raise HubError(f"{place.name}: {one_line(error)}") from None


def _ask(place: HubPlace, names: tuple[str, ...]) -> None:
    """Ask once and soon; a Hub that answers, if only with an error, is asked again afterwards."""
    try:
        ask(place.name, names, repo_type=place.repo_type)
    except NoAnswer as error:
        if error.status is None:
            raise


def _refuse_identity(name: str | Path, identity: str | None) -> None:
    """Refuse to look for a signature where none can be."""
    if identity is not None:
        raise OptionError(f"identity must be left out for {name}; exports alone are signed", "identity")


def _data_problems(folder: Path, data_set: str | None, scratch: str | None, say: Say) -> list[str]:
    """Problems of the files of prepared data, their rows, columns, splits, card and arrays."""
    if not is_prepared(folder):
        return [f"it holds no prepared data ({INDEX_NAME}); other data sets have nothing to verify by"]
    if problems := data_problems(folder, scratch=scratch, rebuild=True):
        return problems
    files = len(data_files(folder)) - 1
    say(f"main: {data_note(folder)} in {files} Parquet files, which give the arrays of the index")
    return data_card_problems(folder, data_set) + (other_files(folder) if data_set else [])
