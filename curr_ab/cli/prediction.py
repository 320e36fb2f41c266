"""`curr-ab predict` and `curr-ab simulate-rounds`: what members predict, and what to measure next."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.cli.inference import (
    BulkOptions,
    add_bulk_command,
    read_input,
    run_checkpoint,
    say_left_out,
    tokens_of,
)
from curr_ab.cli.shell import add_command, say, say_recognised
from curr_ab.extras import needs_extra
from curr_ab.finetuning.acquisition_plan import AcquireOptions, AcquisitionPlan, RoundsPlan
from curr_ab.finetuning.recipe_files import resolve_recipe
from curr_ab.inference.records import Reader
from curr_ab.inference.settings import LoadingOptions, PredictSettings
from curr_ab.options import OptionError, Options, add_flags, option, read_flags, read_options

if TYPE_CHECKING:
    from curr_ab.finetuning.prediction import TunedCheckpoint
    from curr_ab.finetuning.uncertainty import Uncertainties, Uncertainty

_OF_BULK = ("processes", "records_per_part", "keep_going", "report")


@dataclass(frozen=True, kw_only=True)
class AssayOptions(Options):
    """The assay on which rounds are tried out."""

    model: str = option(help="Member, folder or repository whose features are used", metavar="MODEL")
    data: tuple[str, ...] = option(help="Labelled pairs, all of the assay", metavar="FILE")
    out: Path = option(help="Folder of rounds.csv and rounds.png", metavar="FOLDER")
    label_column: str | None = option(None, "Column of the labels", shown="the recipe's", metavar="NAME")


def add_commands(commands: Any) -> None:
    """Add the commands to `curr-ab`."""
    text = "predict labels or numbers with a fine-tuned member, or choose what to measure next"
    parser = add_bulk_command(commands, "predict", text, _predict, PredictSettings, AcquireOptions)
    add_flags(parser.add_argument_group("acquisition", "With acquire"), AcquisitionPlan)
    text = "try out on a measured assay what rounds of chosen pairs gain against random ones"
    parser = add_command(commands, "simulate-rounds", text, _simulate, AssayOptions, RoundsPlan)
    parser.add_argument("recipe", metavar="RECIPE", help="Name of a shipped recipe, or a YAML file")
    add_flags(parser.add_argument_group("acquisition"), AcquisitionPlan, leave_out=("by",))


def _predict(args: argparse.Namespace) -> None:
    loading, settings = read_options(args, LoadingOptions), read_options(args, PredictSettings)
    acquires = _acquires(args)
    with needs_extra("finetune"):
        from curr_ab.finetuning.prediction import PredictTask, TunedCheckpoint
        from curr_ab.finetuning.uncertainty import read_uncertainty
    model = TunedCheckpoint(args.model, **vars(loading))
    sure = read_uncertainty(args.model, revision=loading.revision, namespace=loading.namespace)
    if acquires:
        _acquire(args, model, sure)
        return
    if sure is not None and not settings.raw and not read_options(args, BulkOptions).quiet:
        say(*sure.explained(settings.level), sep="\n", file=sys.stderr)
    task = PredictTask(**vars(settings), uncertainty=sure, tokens_per_batch=tokens_of(args))
    run_checkpoint(args, task, _rows(args), model)


def _rows(args: argparse.Namespace) -> Reader:
    """Rows as they are: a head answers for what it was trained on."""
    return replace(read_input(args), splits_pairs=False)


def _acquires(args: argparse.Namespace) -> bool:
    """True where pairs are to be chosen; options that have no meaning with it, or without, are refused."""
    options, bulk = read_options(args, AcquireOptions), read_options(args, BulkOptions)
    read_options(args, AcquisitionPlan)  # a wrong value is refused before one that is out of place
    if options.acquire is None:
        if given := [*read_flags(args, AcquisitionPlan), *(["ensemble"] if options.ensemble else [])]:
            message = f"{given[0]} must be left out without acquire, which chooses"
            raise OptionError(message, given[0], "acquire")
        return False
    for name, is_given in {"shard": bulk.shard is not None, "join": bulk.join}.items():
        if is_given:
            raise OptionError(f"{name} must be left out with acquire: a choice is of the whole pool", name)
    return True


def _acquire(
    args: argparse.Namespace, model: TunedCheckpoint, sure: Uncertainty | Uncertainties | None
) -> None:
    from curr_ab.finetuning.acquisition_pool import acquire, ensemble

    options, bulk = read_options(args, AcquireOptions), read_options(args, BulkOptions)
    assert options.acquire is not None
    if (sure is None or sure.neighbours is None) and not bulk.quiet:
        say(
            f"{args.model} does not hold its training pairs, so that these may be chosen: leave them out of "
            "the pool",
            file=sys.stderr,
        )
    checked = acquire(
        ensemble(options.ensemble, model),
        _rows(args),
        Path(bulk.out),
        read_options(args, AcquisitionPlan),
        options.acquire,
        uncertainty=sure,
        tokens_per_batch=bulk.tokens_per_batch,
        say=(lambda recognised: None) if bulk.quiet else say_recognised,
        progress=not bulk.quiet,
        **{name: getattr(bulk, name) for name in _OF_BULK},
    )
    say_left_out(checked, bulk.out)


def _simulate(args: argparse.Namespace) -> None:
    options, plan = read_options(args, AssayOptions), read_options(args, RoundsPlan)
    acquisition = read_options(args, AcquisitionPlan)
    columns = {} if options.label_column is None else {"label_column": options.label_column}
    recipe = resolve_recipe(args.recipe, {"fold_scheme": "rows", **columns})
    with needs_extra("finetune"):
        from curr_ab.finetuning.acquisition_rounds import simulate

    for line in simulate(recipe, options.model, options.data, options.out, plan, acquisition):
        say(line)
