"""Exports of a study's members: made where they are missing or behind, by one process that proves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from curr_ab.family import SHAPE, member
from curr_ab.files import remove_folder
from curr_ab.hub.card import write_card
from curr_ab.hub.exports import export
from curr_ab.hub.fresh_process import FreshProcess
from curr_ab.hub.manifest import CARD, MANIFEST, RESULTS, read_manifest
from curr_ab.results import checkpoint_digest, read_results
from curr_ab.study.cells import Cell, CellFolder


def export_cells(
    cells: Mapping[Path, tuple[Cell, CellFolder]], say: Callable[[str], None] = print
) -> dict[Path, str]:
    """Bring every export to what its cell is now; those that could not be, with the reason."""
    problems: dict[Path, str] = {}
    with ExitStack() as stack:
        fresh_process: FreshProcess | None = None
        for out, (cell, folder) in cells.items():
            checkpoint = folder.run.checkpoint(cell.plan.steps)
            fits = _is_export_of(out, checkpoint)
            if fits and _shows(out, folder):
                continue
            try:
                if fits:  # measured anew: the card alone is behind
                    write_card(out, results=[folder.results_file])
                    say(f"{out}: a new card")
                    continue
                fresh_process = fresh_process or stack.enter_context(FreshProcess())
                remove_folder(out)
                several = len(cell.plan.checkpoint_at) > 1
                difference = export(
                    member(cell.member),
                    folder.run.checkpoints if several else checkpoint,
                    out,
                    results=[folder.results_file],
                    rehearsal=is_rehearsal(cell),
                    fresh_process=fresh_process,
                )
                say(f"{out}: loads as stock and as remote code, logits within {difference:.1g}")
            except (ValueError, OSError) as error:
                problems[out] = str(error)
                say(f"{out}: not exported: {error}")
    return problems


def is_rehearsal(cell: Cell) -> bool:
    """True if the model has another shape than its name says."""
    published, own = member(cell.member).config(), cell.plan.model_config
    return any(own[key] != published[key] for key in SHAPE)


def _is_export_of(out: Path, checkpoint: Path) -> bool:
    return (out / MANIFEST).is_file() and read_manifest(out).weights == checkpoint_digest(checkpoint)


def _shows(out: Path, folder: CellFolder) -> bool:
    shown = out / RESULTS
    return (out / CARD).is_file() and shown.is_file() and read_results(shown) == folder.results()
