"""Export: a training checkpoint becomes a folder that is a Hub repository, proved to be the same model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from curr_ab import __version__
from curr_ab.checkpoint_files import is_causal
from curr_ab.family import NAMESPACE, Member
from curr_ab.files import claimed, file_digest, replacing_folder
from curr_ab.hub.card import write_card
from curr_ab.hub.fresh_process import FreshProcess
from curr_ab.hub.manifest import (
    MANIFEST,
    RECORDED_EVERY,
    REVISIONS,
    TOLERANCE,
    Manifest,
    Probe,
    file_table,
    step_name,
)
from curr_ab.hub.serving import write_serving_files
from curr_ab.hub.signatures import Signer
from curr_ab.hub.training_checkpoints import (
    TrainingCheckpoint,
    differing_shape,
    find_checkpoints,
    read_model,
    recognise,
)
from curr_ab.options import OptionError
from curr_ab.quantities import largest_difference
from curr_ab.words import EXAMPLE_PAIR


def export(
    member: Member,
    weights: str | Path,
    out: str | Path,
    *,
    results: Sequence[str | Path] = (),
    namespace: str = NAMESPACE,
    rehearsal: bool = False,
    sign: str | None = None,
    fresh_process: FreshProcess | None = None,
) -> float:
    """Write the export of one member and prove it; returns the largest difference of a logit from the source.

    A causal checkpoint becomes the causal twin of the member, such as `CLM-8M-F`.

    `weights` is a checkpoint, or the folder of a run's checkpoints: the last becomes `main`, and each a
    revision. `results` are files of measured numbers for the card. A `rehearsal` is a model of another shape
    under the member's name, to try the way to the Hub; its card says so. `sign` is the file of a
    private key, or `sigstore`. A `fresh_process` proves several exports, because starting one takes longer
    than a small export.
    """
    signer = Signer(sign) if sign else None
    out = Path(out)
    _refuse_full(out)
    checkpoints = find_checkpoints(Path(weights))
    causal = is_causal(str(checkpoints[-1].folder))
    if member.causal and not causal:
        raise ValueError(
            f"{weights} must be a causal model, as {member.name} is; got a masked one: export it as "
            f"{replace(member, causal=False).name}"
        )
    member = replace(member, causal=causal)
    with _alone(out), replacing_folder(out) as unfinished:
        with nullcontext(fresh_process) if fresh_process else FreshProcess() as process:
            manifest, difference = _export_all(member, checkpoints, unfinished, rehearsal, process)
        replace(manifest, namespace=namespace).write(unfinished)
        write_card(unfinished, results=results)
        if signer is not None:
            signer.sign(unfinished, member.repo_name)
    return difference


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the name of an export, whose folder does not exist yet."""
    lock = out.with_name(f".{out.name}.lock")
    with claimed(out.parent, f"exports {out.name} to", lock_name=lock.name):
        try:
            _refuse_full(out)  # whoever held it may have filled it
            yield
        finally:
            with suppress(PermissionError):  # Windows keeps what is open
                lock.unlink()


def _refuse_full(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; remove it, or name another folder for the export")


def adopt(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    data: str | None = None,
    namespace: str = NAMESPACE,
    fresh_process: FreshProcess | None = None,
) -> dict[Path, float]:
    """Exports of checkpoints that the published code wrote, recognised by their shapes, as folders of `out`.

    `data` names the training set (F, H or Q) of checkpoints that do not record it.
    """
    plans: dict[Path, tuple[Path, Member]] = {}
    for folder in map(Path, folders):
        last = find_checkpoints(folder)[-1]
        recognised = recognise(last, read_model(last), data)
        target = Path(out) / recognised.repo_name
        if target in plans:
            raise ValueError(f"{plans[target][0]} and {folder} are both {recognised.name}; adopt one of them")
        plans[target] = folder, recognised
    with nullcontext(fresh_process) if fresh_process else FreshProcess() as process:
        return {
            target: export(recognised, folder, target, namespace=namespace, fresh_process=process)
            for target, (folder, recognised) in plans.items()
        }


def _export_all(
    member: Member,
    checkpoints: list[TrainingCheckpoint],
    out: Path,
    rehearsal: bool,
    fresh_process: FreshProcess,
) -> tuple[Manifest, float]:
    """All revisions, and the manifest of `main` with the table of them."""
    worst = 0.0
    written: dict[str, Manifest] = {}
    digests: dict[str, str] = {}
    # A single checkpoint is `main` and nothing else.
    for checkpoint in checkpoints if len(checkpoints) > 1 else ():
        assert checkpoint.step is not None
        name = step_name(checkpoint.step)
        folder = out / REVISIONS / name
        written[name], difference = _export_one(member, checkpoint, folder, rehearsal, fresh_process)
        digests[name] = file_digest(folder / MANIFEST)
        worst = max(worst, difference)
    _refuse_equal_steps(written)
    if not written:
        return _export_one(member, checkpoints[0], out, rehearsal, fresh_process)
    last = next(reversed(written))
    shutil.copytree(out / REVISIONS / last, out, dirs_exist_ok=True)
    return replace(written[last], revisions=digests), worst


def _refuse_equal_steps(written: dict[str, Manifest]) -> None:
    by_weights: dict[str, str] = {}
    for name, manifest in written.items():
        if manifest.weights in by_weights:
            raise ValueError(
                f"{by_weights[manifest.weights]} and {name} have the same weights; one of them is wrong"
            )
        by_weights[manifest.weights] = name


def _export_one(
    member: Member, checkpoint: TrainingCheckpoint, folder: Path, rehearsal: bool, fresh_process: FreshProcess
) -> tuple[Manifest, float]:
    from safetensors import SafetensorError

    from curr_ab.tokenization import CurrAbTokenizer

    model = read_model(checkpoint)
    wrong = differing_shape(model, member)
    if wrong and not rehearsal:
        raise ValueError(f"{checkpoint.folder} does not have the shape of {member.name}: {wrong[0]}")
    if rehearsal and not wrong:
        message = f"{checkpoint.folder} has the shape of {member.name}: export it without rehearsal"
        raise OptionError(message, "rehearsal")
    tokenizer = CurrAbTokenizer()
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(f"{folder} cannot be written: {error}") from None
    tokenizer.save_pretrained(folder)
    write_serving_files(folder)
    _refuse_other_member(checkpoint, member)
    if checkpoint.training is not None:
        checkpoint.training.write(folder)  # what is known of a training, whatever else the file may hold
    input_ids: list[int] = tokenizer(*EXAMPLE_PAIR)["input_ids"]
    probe, difference = prove(folder, checkpoint.folder, input_ids, fresh_process)
    manifest = Manifest(
        member=member.name,
        step=checkpoint.step,
        rehearsal=rehearsal,
        code_version=__version__,
        source=checkpoint.folder.name,
        probe=probe,
        files=file_table(folder),
    )
    manifest.write(folder)
    return manifest, difference


def _refuse_other_member(checkpoint: TrainingCheckpoint, member: Member) -> None:
    named = checkpoint.training.name if checkpoint.training else None
    if named is not None and named.upper() != member.name:
        raise ValueError(f"{checkpoint.folder} was trained as {named}, not as {member.name}")


def prove(
    folder: Path, source: Path, input_ids: list[int], fresh_process: FreshProcess
) -> tuple[Probe, float]:
    """Load the source with stock ESM, the export as stock and as remote code: ids and logits must agree."""
    expected = fresh_process.load(source, "source", EXAMPLE_PAIR, input_ids).logits
    worst = 0.0
    for way in ("stock", "remote"):
        seen = fresh_process.load(folder, way, EXAMPLE_PAIR, None)
        if seen.input_ids != input_ids:
            raise ValueError(f"{folder} ({way}): the tokenizer gives other ids than the one of training")
        difference = largest_difference(expected, seen.logits)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{folder} ({way}) is not the model of {source}: a logit differs by {difference:.2g}"
            )
        worst = max(worst, difference)
    return Probe(*EXAMPLE_PAIR, input_ids=input_ids, logits=expected[::RECORDED_EVERY]), worst
