"""The shell around every command: its parser, its errors in one line, and the options that several have."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from curr_ab.cluster import ExecutorOptions, run_in_tasks
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.options import OptionError, Options, add_flags, option, read_options, unknown
from curr_ab.share import Share, parse_share
from curr_ab.training.stop import Interrupted, end_with_launcher, stoppable

if TYPE_CHECKING:  # it loads pyarrow
    from curr_ab.data.reading.table import Recognised

QUIET = "Print no progress bar and no summary"
CORES = "one for each processor core"
_NEGATIVE = re.compile(r"-\d|-\.\d")
_ADVICE = {
    FileNotFoundError: "no such file or folder; correct the name",
    FileExistsError: "a file stands in the way of a folder; name another folder, or remove the file",
    IsADirectoryError: "this is a folder; name a file",
    NotADirectoryError: "a file stands in the way of a folder; name another folder, or remove the file",
    PermissionError: "permission denied; name another file or folder, or change its permissions",
}


@dataclass(frozen=True, kw_only=True)
class InputOptions(Options):
    """The reading of a file of pairs."""

    unpaired: bool = option(False, "Read single chains rather than pairs")
    names: ColumnNames = field(default_factory=ColumnNames)


@dataclass(frozen=True, kw_only=True)
class ShareOptions(Options):
    """A share of the command's work."""

    shard: str | None = option(
        None,
        "Share of the work, as 0/8 for the first of eight processes that are given the same command and see "
        "the same folder; env takes it from torchrun's or Slurm's variables",
        shown="all of it",
        metavar="I/N",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.share  # one that is none is refused

    @property
    def share(self) -> Share | None:
        try:
            return None if self.shard is None else parse_share(self.shard)
        except ValueError as error:
            raise OptionError(str(error), "shard") from None


def say_recognised(recognised: Sequence[Recognised]) -> None:
    """Print what was recognised of each source, and what was changed or left out."""
    for one in recognised:
        first, *others = one.lines()
        say(f"{one.source}: {first}", *(f"  {line}" for line in others), sep="\n", file=sys.stderr)


class Help(argparse.RawDescriptionHelpFormatter):
    """Help whose lists are `NAME ...` and whose descriptions keep their lines, if they fit."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(textwrap.fill(line, width) for line in text.splitlines())

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs not in ("*", "+") or not isinstance(action.metavar, str):
            return super()._format_args(action, default_metavar)
        text = f"{action.metavar} ..."
        return text if action.option_strings or action.nargs == "+" else f"[{text}]"

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        """Name only the required arguments; forty more flags in brackets would hide them."""
        required = [action for action in actions if action.required or not action.option_strings]
        # More than --help; and argparse asks with the prefix "" for the names of commands.
        if prefix is None and len(required) + 1 < len(list(actions)):
            required.append(argparse.Action([], "options", nargs="*", metavar="OPTION"))
        super().add_usage(usage, required, [], prefix)


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, with the nearest name for one that it does not know."""

    def __init__(self, **about: Any) -> None:
        about.setdefault("formatter_class", Help)
        super().__init__(add_help=False, **about)
        self._positionals.title = "arguments"
        self.add_argument("-h", "--help", action="help", help="Show this help and exit")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Unknown options come first: argparse would rather miss one that is required."""
        for word in sys.argv[1:] if args is None else args:
            if word == "--" or (self._subparsers and not word.startswith("-")):
                break
            name = word.partition("=")[0]
            is_option = name.startswith("-") and name != "-" and " " not in name and not _NEGATIVE.match(name)
            if is_option and name not in self._option_string_actions:
                nearest = difflib.get_close_matches(name, self._option_string_actions, 1)
                advice = f"; did you mean {nearest[0]}?" if nearest else ""  # else --help, which has forty
                self.error(f"unknown option {name!r}{advice}")
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Commands alone: the choices of options are checked by their fields, as those of files are."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            self.error(unknown(f"{action.metavar}".lower(), value, action.choices))

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def run(parser: Parser, argv: Sequence[str] | None) -> int:
    """Run one command; bad input ends in one line on standard error and status 2, signal N in 128 + N."""
    args = parser.parse_args(argv)
    args.words = list(sys.argv[1:] if argv is None else argv)
    end_with_launcher()
    try:
        with stoppable():
            args.run(args)
    except KeyboardInterrupt as error:
        number = getattr(error, "signal_number", signal.SIGINT)
        name = signal.Signals(number).name
        print(f"{parser.prog}: stopped by {name}; run the same command again", file=sys.stderr)
        return 128 + number
    except (ValueError, OSError, ImportError) as error:
        line = _in_one_line(error, args, [parser.prog, *args.words])
        say(f"{parser.prog}: {line}", file=sys.stderr)
        return 2
    return 0


def _in_one_line(error: Exception, args: argparse.Namespace, words: Sequence[str]) -> str:
    """The message, and the flags of the fields that it names; the way out where a system's error has none.

    The command of these words is given again with the options that would make it run, where those are known.
    """
    if isinstance(error, OSError) and error.filename and type(error) in _ADVICE:
        return f"{error.filename}: {_ADVICE[type(error)]}"
    if isinstance(error, UnicodeDecodeError):
        return f"a file must be text in UTF-8; {error}"
    flags = getattr(args, "flags", {})
    named = [flags[name] for name in getattr(error, "fields", ()) if name in flags]
    line = " ".join(str(error).split()) + (f" ({', '.join(named)})" if named else "")
    ready = {flags[name]: value for name, value in getattr(error, "ready", {}).items() if name in flags}
    if ready:
        more = [word for flag, value in ready.items() for word in (flag, value) if word]
        line += f"; for example: {shlex.join([*words, *more])}"
    return line


def say(*texts: object, sep: str = " ", file: TextIO | None = None, flush: bool = False) -> None:
    """Print without letters that a terminal obeys: names and texts of others stand in what is said."""
    print(*(_harmless(str(text)) for text in texts), sep=sep, file=file, flush=flush)


def _harmless(text: str) -> str:
    return "".join(one if one.isprintable() or one in "\n\t" else repr(one)[1:-1] for one in text)


def add_command(
    commands: Any,
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], None],
    *options: type,
    more: str = "",
) -> Parser:
    """Add a command: `text` is its line in the list and, with `more` after it, its description."""
    parser: Parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.{more}")
    for kind in options:
        add_flags(parser, kind)
    parser.set_defaults(run=run)
    return parser


def hand_on(args: argparse.Namespace, out: str | Path, processes: int | None) -> str:
    """Have the command done by tasks, if the options ask for that; return the name of the executor."""
    options = read_options(args, ExecutorOptions)
    if options.executor != "processes":
        for line in run_in_tasks(args.words, options, Path(out), processes=processes):
            print(line)
    return options.executor


def refuse_for_several(things: Sequence[Any], name: str, kind: str) -> None:
    """Refuse an option that belongs to one thing where several are named."""
    if len(things) > 1:
        raise OptionError(f"{name} must be left out for several {kind}; got {len(things)}", name)


@contextmanager
def interruptible(command: str) -> Iterator[None]:
    """An interrupted run says how it goes on, and ends with the status of its signal."""
    try:
        yield
    except Interrupted as stopped:
        print(f"{command}: {stopped}", file=sys.stderr)
        raise SystemExit(stopped.exit_status) from stopped
