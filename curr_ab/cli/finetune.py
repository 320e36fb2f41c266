"""`curr-ab finetune`, the same for `accelerate launch`, and `curr-ab example-data`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from curr_ab.checkpoint_files import DEMO_FOLDERS
from curr_ab.cli.shell import Parser, add_command, interruptible, run, say
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.family import DEMO, find_demo
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.recipe_files import resolve_recipe, shipped_recipes
from curr_ab.hub import jobs
from curr_ab.options import OptionError, Options, add_flags, flag_words, option, read_flags, read_options

DESCRIPTION = f"""Fine-tune a member for a task: a fit for each fold, what each predicts, metrics, an adapter.

RECIPE is {", ".join(shipped_recipes())}, or a YAML file of your own.
The same command goes on where the run in OUT stands. To use several devices, start the same arguments with
`accelerate launch --config_file train_scripts/accelerate/ddp.yaml train_scripts/finetune.py`."""

PAIRS = "pairs"  # without labels, which every command takes
_OF_RECIPE = ("heavy", "light", "id")  # names of columns that a recipe has itself


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(Options):
    """Options that are not part of a recipe."""

    model: str = option(help="Member, folder or repository to fine-tune, such as 350M-F", metavar="MODEL")
    data: tuple[str, ...] = option(help="Labelled pairs: CSV, TSV, Parquet, hf://owner/name", metavar="FILE")
    adapt_data: tuple[str, ...] = option(
        (),
        "Pairs or single chains without labels, in any form that is read, for the masked training of "
        "adapt_epochs; columns are recognised by their names",
        metavar="FILE",
    )
    out: Path | None = option(None, "Folder of the run; needed except for a dry run", metavar="FOLDER")
    dry_run: bool = option(False, "Print the recipe and what it takes, and train nothing")
    launcher: Literal["local", "jobs"] = option(
        "local", "Way to train: here, or in a job on a machine of the Hub, with data and OUT there"
    )


@dataclass(frozen=True, kw_only=True)
class ExampleOptions(Options):
    """The table that `example-data` writes."""

    out: Path = option(help="File to write: .csv, .tsv or .parquet", metavar="FILE")
    pairs: int | None = option(None, "Number of pairs", shown="600; of `pairs` all there are", least=1)
    seed: int = option(0, "Seed of the pairs that are drawn", least=0)


def add_commands(commands: Any) -> None:
    """Add `finetune` and `example-data` to the command line."""
    text = "fine-tune a member for a task, with cross-validation"
    add_arguments(commands.add_parser("finetune", help=text, description=DESCRIPTION))
    text = "write pairs to try things on, or labelled ones with a planted signal for a shipped recipe"
    parser = add_command(commands, "example-data", text, write_examples, ExampleOptions)
    help = f"Name of a shipped recipe, such as specificity-binary, or `{PAIRS}` for pairs without labels"
    parser.add_argument("task", metavar="RECIPE", help=help)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe's fields as options, and what is not part of a recipe."""
    parser.add_argument("recipe", metavar="RECIPE", help="Name of a shipped recipe, or a YAML file")
    add_flags(parser, FinetuneOptions)
    add_flags(parser.add_argument_group("job", "With the launcher jobs"), jobs.JobOptions)
    recipe = parser.add_argument_group(
        "recipe", "Changes of the file, in which they are written `name: value`"
    )
    add_flags(recipe, Recipe, leave_out=("name",))
    add_flags(parser.add_argument_group("input"), ColumnNames, leave_out=_OF_RECIPE)
    parser.set_defaults(run=_finetune)


def _finetune(args: argparse.Namespace) -> None:
    """Resolve the recipe, then print what it takes or fine-tune."""
    options = read_options(args, FinetuneOptions)
    recipe = resolve_recipe(args.recipe, read_flags(args, Recipe))
    names = read_options(args, ColumnNames)
    job = read_options(args, jobs.JobOptions)
    jobs.refuse_without_job(options.launcher, job, options.out)
    if options.launcher == "jobs":
        from curr_ab.hub.job_start import start

        start([_run_of(recipe, options, names)], job, dry_run=options.dry_run)
        return
    if options.dry_run:
        from curr_ab.finetuning.preview import preview

        text = preview(recipe, options.model, options.data, names=names, adapt_data=options.adapt_data)
        say(text)
        return
    if options.out is None:
        raise OptionError("out must name the folder of the run; got none", "out")
    from curr_ab.finetuning import cross_validate

    with interruptible("finetune"):
        cross_validate(
            recipe,
            options.model,
            options.data,
            options.out,
            names=names,
            figures=True,
            adapt_data=options.adapt_data,
        )


def _run_of(recipe: Recipe, options: FinetuneOptions, names: ColumnNames) -> jobs.Run:
    """The run for a job, which reads tables and model where they are mounted."""
    folder = jobs.require_bucket(jobs.address_of(options.out))
    data = [jobs.require_address(name, "data") for name in options.data]
    if options.adapt_data:
        data += ["--adapt-data", *(jobs.require_address(name, "adapt_data") for name in options.adapt_data)]
    if Path(options.model).exists() and find_demo(options.model) is None:
        jobs.require_address(options.model, "model")
    return jobs.Run(
        f"finetune {recipe.name}",
        folder,
        (
            *("finetune", jobs.SETTINGS_FILE, "--model", options.model, "--data", *data),
            *("--out", jobs.FOLDER, *flag_words(names)),
        ),
        recipe.to_dict(),
        "finetune",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command of `train_scripts/finetune.py`; exit status 2 for bad input, 128 + N after signal N."""
    parser = Parser(prog="finetune", description=DESCRIPTION)
    add_arguments(parser)
    return run(parser, argv)


def write_examples(args: argparse.Namespace) -> None:
    """Write the pairs, or those with a planted signal, in the format of the file's suffix."""
    import pyarrow.csv

    from curr_ab.files import replacing, write_parquet

    options = read_options(args, ExampleOptions)
    delimiters = {".csv": ",", ".tsv": "\t"}
    suffix = options.out.suffix
    if suffix not in (*delimiters, ".parquet"):
        raise OptionError(f"out must end in .csv, .tsv or .parquet; got {options.out}", "out")
    if args.task == PAIRS and options.seed:
        raise OptionError(f"seed must be left out for {PAIRS}, which are always the same", "seed")
    table = _example_pairs(options.pairs) if args.task == PAIRS else _planted(args.task, options)
    if suffix == ".parquet":
        write_parquet(options.out, table)
        return
    with replacing(options.out) as temporary:
        format = pyarrow.csv.WriteOptions(delimiter=delimiters[suffix])
        pyarrow.csv.write_csv(table, temporary, format)


def _example_pairs(num_pairs: int | None) -> Any:
    """The first of the pairs that lie beside `demo`."""
    import pyarrow.csv

    table = pyarrow.csv.read_csv(DEMO_FOLDERS[DEMO] / "pairs.csv")
    if num_pairs is not None and num_pairs > len(table):
        message = f"pairs must be at most {len(table)}, as many as there are; got {num_pairs:,}"
        raise OptionError(message, "pairs")
    return table.slice(0, num_pairs)


def _planted(task: str, options: ExampleOptions) -> Any:
    from curr_ab.extras import needs_extra

    with needs_extra("finetune"):
        from curr_ab.finetuning.example_data import plant
    return plant(task, options.pairs or 600, options.seed)
