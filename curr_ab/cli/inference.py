"""`curr-ab embed | score | mutate | design | restore | pair | generate | number`."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.cli.shell import InputOptions, Parser, ShareOptions, add_command, hand_on, say, say_recognised
from curr_ab.cluster import ExecutorOptions
from curr_ab.inference.settings import (
    DesignSettings,
    Dtype,
    EmbedSettings,
    GenerateSettings,
    GenerationPlan,
    LoadingOptions,
    MutateSettings,
    NumberSettings,
    PairSettings,
    RestorationPlan,
    RestoreSettings,
    ScoreSettings,
)
from curr_ab.options import OptionError, Options, add_flags, option, read_flags, read_options
from curr_ab.words import CHAINS

if TYPE_CHECKING:
    from curr_ab.checkpoints import Checkpoint
    from curr_ab.inference.checks import Checked
    from curr_ab.inference.records import Reader
    from curr_ab.inference.tasks import BulkTask

# In bfloat16 a logit changes with the batch that it is in, and so would what is drawn or chosen by it.
_SAME_IN_ANY_BATCH: Dtype = "float32"
_INPUT = "Files of pairs, packed or not: CSV, Excel, Parquet, JSON, AIRR, 10x, OAS or FASTA; or `builtin`"


@dataclass(frozen=True, kw_only=True)
class BulkOptions(ShareOptions):
    """The results, and the work on any number of pairs."""

    out: str = option(
        help="File of the results: .csv, .tsv or .parquet, of arrays .npy or .safetensors, of chains .fasta; "
        "a name with / at its end is a folder of parts",
        metavar="FILE",
    )
    keep_columns: tuple[str, ...] = option(
        (), "Columns of the input to write beside the results; all for all of them", metavar="NAME"
    )
    keep_going: bool = option(
        False, "Leave out records that cannot be used, and list them beside the results, rather than stop"
    )
    report: Path | None = option(
        None, "Table of what became of each row of the input: .csv, .tsv or .parquet", metavar="FILE"
    )
    resume: bool = option(False, "Go on where an interrupted run ended; shares do so in any case")
    join: bool = option(False, "Join the parts of shares, if the last one did not, and compute nothing")
    processes: int = option(1, "Number of processes, each on a GPU of its own", least=1)
    records_per_part: int | None = option(
        None, "Number of records that are written together", shown="chosen by the command", least=1
    )
    tokens_per_batch: int | None = option(
        None, "Number of tokens that are computed at once", shown="2,000 on a CPU, 32,768 on a GPU", least=1
    )
    quiet: bool = option(False, "Print no progress bar and no line on the number type")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.join and (self.shard or self.resume):
            raise OptionError("join must be given without shard and resume: nothing is computed", "join")


@dataclass(frozen=True, kw_only=True)
class MutantsOptions(Options):
    """More mutants than fit a command line."""

    mutants_file: Path | None = option(
        None, "File with a mutant in each line", flag="mutants", metavar="FILE"
    )


@dataclass(frozen=True, kw_only=True)
class AllowedOptions(Options):
    """Residues that may stand at one position."""

    allow_at: tuple[str, ...] = option(
        (), "Residues that alone may be filled in at a position", metavar="H:101=AVL"
    )


def add_commands(commands: Any) -> None:
    """Add the commands to `curr-ab`."""
    add_bulk_command(commands, "embed", "embed pairs, pooled or residue by residue", _embed, EmbedSettings)
    add_bulk_command(
        commands, "score", "score pairs by pseudo-log-likelihood and perplexity", _score, ScoreSettings
    )
    text = "score all single mutants by their log-odds, or the mutants that are given"
    add_bulk_command(commands, "mutate", text, _mutate, MutateSettings, MutantsOptions)
    text = "propose mutants that are likelier, nearer to germline, or better by a fine-tuned head"
    add_bulk_command(commands, "design", text, _design, DesignSettings)
    text = "fill in unknown residues, which are written X, *, _ or <mask>"
    add_bulk_command(commands, "restore", text, _restore, RestoreSettings, AllowedOptions)
    add_bulk_command(commands, "pair", "rank light chains for each heavy chain", _pair, PairSettings)
    text = "generate light chains for heavy ones, heavy chains for light ones, or pairs"
    add_bulk_command(commands, "generate", text, _generate, GenerateSettings)
    text = "number the residues of chains, and name their regions"
    parser = add_command(commands, "number", text, _number, NumberSettings)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=_INPUT)
    add_flags(parser.add_argument_group("results"), BulkOptions, leave_out=("tokens_per_batch",))
    add_flags(parser.add_argument_group("executor"), ExecutorOptions)
    add_flags(parser.add_argument_group("input"), InputOptions)


def _number(args: argparse.Namespace) -> None:
    settings, options = read_options(args, NumberSettings), read_options(args, BulkOptions)
    if hand_on(args, options.out, options.processes) != "processes":
        return
    read = replace(read_input(args), wanted=())  # one chain can be numbered without the other
    from curr_ab.inference.number_tables import NumberTask

    _run_task(options, NumberTask(**vars(settings)), None, read)


def add_bulk_command(
    commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], None], *settings: type
) -> Parser:
    """Add a command whose results are of any number of pairs, by a model."""

    def checked(args: argparse.Namespace) -> None:
        for options in (*settings, BulkOptions, InputOptions, LoadingOptions):
            read_options(args, options)  # a wrong value is refused before torch is loaded
        bulk = read_options(args, BulkOptions)
        if hand_on(args, bulk.out, bulk.processes) == "processes":
            run(args)

    parser = add_command(commands, name, text, checked, *settings)
    help = "Member (350M-F), demo, Hub id, folder, ESM-2 checkpoint or PEFT adapter"
    parser.add_argument("model", metavar="MODEL", help=help)
    add_flags(parser.add_argument_group("results"), BulkOptions)
    add_flags(parser.add_argument_group("executor"), ExecutorOptions)
    if name == "pair":
        parser.add_argument("heavies", metavar="HEAVIES", help="File of heavy chains, or of pairs")
        parser.add_argument("lights", metavar="LIGHTS", help="File of light chains, or of pairs")
    else:
        nargs, more = ("*", "; none where nothing is given") if name == "generate" else ("+", "")
        parser.add_argument("inputs", nargs=nargs, metavar="INPUT", help=_INPUT + more)
    leave_out = ("unpaired",) if name in ("pair", "generate") else ()
    add_flags(parser.add_argument_group("input"), InputOptions, leave_out=leave_out)
    add_flags(parser.add_argument_group("model"), LoadingOptions)
    return parser


def _embed(args: argparse.Namespace) -> None:
    read = read_input(args)
    from curr_ab.inference.tasks import EmbedTask

    run_with_model(args, EmbedTask(**read_flags(args, EmbedSettings), tokens_per_batch=tokens_of(args)), read)


def _score(args: argparse.Namespace) -> None:
    read = read_input(args)
    from curr_ab.inference.tasks import ScoreTask

    run_with_model(args, ScoreTask(**read_flags(args, ScoreSettings), tokens_per_batch=tokens_of(args)), read)


def _mutate(args: argparse.Namespace) -> None:
    given, file = read_flags(args, MutateSettings), read_options(args, MutantsOptions).mutants_file
    if file is not None:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        if not any(lines):
            raise OptionError(
                f"mutants_file must hold mutants, one in a line; {file} is empty", "mutants_file"
            )
        given["mutants"] = (*given.get("mutants", ()), *filter(None, lines))
    read = read_input(args)
    from curr_ab.inference.mutation import parse_mutant
    from curr_ab.inference.tasks import MutateTask

    task = MutateTask(**given, tokens_per_batch=tokens_of(args))
    for mutant in task.mutants:
        parse_mutant(mutant)
    run_with_model(args, task, read, "masked-lm")


def _design(args: argparse.Namespace) -> None:
    settings, loading, read = (
        read_flags(args, DesignSettings),
        read_options(args, LoadingOptions),
        read_input(args),
    )
    from curr_ab.inference import Checkpoint
    from curr_ab.inference.design_tables import DesignTask

    device = Checkpoint(name=args.model, **vars(loading)).device_of()
    task = DesignTask(**settings, tokens_per_batch=tokens_of(args)).stamped(str(device))
    run_with_model(args, task, read, dtype=_SAME_IN_ANY_BATCH)


def _restore(args: argparse.Namespace) -> None:
    allowed = tuple(map(_allowed, read_options(args, AllowedOptions).allow_at))
    plan = RestorationPlan(**read_flags(args, RestorationPlan), allowed_at=allowed)
    ends, read = read_options(args, RestoreSettings).ends, read_input(args)
    from curr_ab.inference.tasks import RestoreTask

    run_with_model(
        args, RestoreTask(plan=plan, ends=ends, tokens_per_batch=tokens_of(args)), read, "masked-lm"
    )


def _allowed(text: str) -> tuple[str, int, str]:
    match = re.fullmatch(r"([HL]):([1-9]\d*)=(.+)", text)
    if match is None:
        raise OptionError(f"allow_at must be like H:101=AVL; got {text!r}", "allow_at")
    return ("heavy" if match[1] == "H" else "light"), int(match[2]), match[3]


def _pair(args: argparse.Namespace) -> None:
    settings = read_options(args, PairSettings)
    from curr_ab.inference.records import chain_reader
    from curr_ab.inference.tasks import PairTask

    names = read_options(args, InputOptions).names
    read_lights = chain_reader(args.lights, "light", names=replace(names, heavy=None))
    lights = tuple(record for record in read_lights() if not record.left_out)
    for light in lights:
        read_lights.check(light)
    task = PairTask(**vars(settings) | {"lights": lights}, tokens_per_batch=tokens_of(args))
    head = "sequence-classification" if settings.by == "head" else "lm"
    keep = read_options(args, BulkOptions).keep_columns
    read = chain_reader(args.heavies, "heavy", names=replace(names, light=None), keep=keep)
    run_with_model(args, task, read, head)


def _generate(args: argparse.Namespace) -> None:
    settings, options = read_flags(args, GenerateSettings), read_options(args, BulkOptions)
    plan: GenerationPlan = settings["plan"]
    if (plan.given == "nothing") == bool(args.inputs):
        what = "no INPUT" if args.inputs else f"an INPUT with {plan.given} chains"
        raise OptionError(f"given must be other than {plan.given}, or the command must have {what}", "given")
    from curr_ab.inference.generation_tables import GenerateTask, summary
    from curr_ab.inference.output import Output
    from curr_ab.inference.records import BlankReader, chain_reader

    if plan.common and options.records_per_part is not None:
        message = "records_per_part must be left out with common: all heavy chains make one part"
        raise OptionError(message, "records_per_part", "common")
    if plan.given == "nothing":
        read: Reader = BlankReader((), wanted=(), count=plan.n)
    else:
        names = read_options(args, InputOptions).names
        read = chain_reader(args.inputs, plan.given, names=names, keep=options.keep_columns)
        if plan.fix or "input" in plan.not_in:
            read = replace(read, wanted=CHAINS)
    task = GenerateTask(**settings, tokens_per_batch=tokens_of(args)).stamped()
    run_with_model(args, task, read, dtype=_SAME_IN_ANY_BATCH)
    output = Output.of(options.out)
    alone = output.file is not None and output.file.exists() and not output.folder.exists()
    if not options.quiet and (alone or output.is_finished):  # and not parts of it
        wanted = 1 if plan.given == "nothing" else plan.n
        say(*summary(options.out, wanted), sep="\n", file=sys.stderr)


def tokens_of(args: argparse.Namespace) -> int | None:
    """Tokens in a batch."""
    return read_options(args, BulkOptions).tokens_per_batch


def read_input(args: argparse.Namespace) -> Reader:
    """The records of the input, with the columns that are kept."""
    options = read_options(args, InputOptions)
    from curr_ab.inference.records import reader

    keep = read_options(args, BulkOptions).keep_columns
    return reader(args.inputs, names=options.names, unpaired=options.unpaired, keep=keep)


def run_with_model(
    args: argparse.Namespace, task: BulkTask, read: Reader, head: str = "lm", dtype: Dtype | None = None
) -> None:
    """Run a task; `dtype` stands where the user leaves it open."""
    loading = read_options(args, LoadingOptions)
    if dtype is not None and loading.dtype == "auto":
        loading = replace(loading, dtype=dtype)
    from curr_ab.inference import Checkpoint

    run_checkpoint(args, task, read, Checkpoint(name=args.model, head=head, **vars(loading)))


def run_checkpoint(args: argparse.Namespace, task: BulkTask, read: Reader, checkpoint: Checkpoint) -> None:
    """Run a task with what is loaded by the checkpoint."""
    options = read_options(args, BulkOptions)
    from curr_ab.inference.records import needs_numbering

    if options.quiet:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    if not options.quiet and not options.join:
        precision = checkpoint.precision()
        name = str(precision.dtype).removeprefix("torch.")
        say(f"{name} on {checkpoint.device_of()}: {precision.reason}", file=sys.stderr)
        if needs_numbering(task.parts_of_pairs, read):
            say(
                "regions: numbered by alignment (IMGT), because the input has no region masks",
                file=sys.stderr,
            )
    _run_task(options, task, checkpoint, read)


def _run_task(options: BulkOptions, task: BulkTask, checkpoint: Checkpoint | None, read: Reader) -> None:
    from curr_ab.inference.bulk import join_parts, run_bulk
    from curr_ab.inference.output import Output

    if options.join:
        join_parts(task, options.out)
        return
    names = ("resume", "share", "processes", "records_per_part", "keep_going", "report")
    how = {name: getattr(options, name) for name in names}
    checked = run_bulk(
        task,
        checkpoint,
        read,
        options.out,
        say=(lambda recognised: None) if options.quiet else say_recognised,
        progress=not options.quiet,
        **how,
    )
    say_left_out(checked, options.out)
    share = options.share
    if share is not None and share.count > 1 and (missing := Output.of(options.out).describe_missing()):
        say(f"share {share} is done; {missing}", file=sys.stderr)


def say_left_out(checked: Checked, out: str) -> None:
    """Print how many records were left out, and where they are listed."""
    from curr_ab.inference.output import Output

    for reason, count in Counter(checked.left_out.values()).items():
        say(f"left out, {reason}: {count:,}", file=sys.stderr)
    if checked.problems:
        total = f"{len(checked.problems):,} of {checked.total:,} records"
        say(f"{total} were left out; {Output.of(out).skipped} lists them", file=sys.stderr)
