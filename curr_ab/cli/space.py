"""`curr-ab space`: a model in the browser."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from curr_ab.cli.shell import add_command
from curr_ab.options import Options, option, read_options
from curr_ab.space.settings import MOST_REFERENCE_PAIRS, NUM_REFERENCE_PAIRS


@dataclass(frozen=True, kw_only=True)
class SpaceOptions(Options):
    """The place of the app, and its reference."""

    host: str = option(
        "127.0.0.1", "Address to serve on; 0.0.0.0 is every one of this machine", metavar="NAME"
    )
    port: int = option(7860, "Port to serve on", least=1, most=65_535)
    reference_pairs: int = option(
        NUM_REFERENCE_PAIRS,
        "Number of pairs of the built-in corpus that percentiles are among; 0 is none",
        least=0,
        most=MOST_REFERENCE_PAIRS,
    )


def add_commands(commands: Any) -> None:
    """Add the app to the subcommands of `curr-ab`."""
    text = "show a model in the browser: score, mutate, restore, pair and generate by hand"
    more = " `curr-ab publish --space MODEL` puts the same app on the Hub."
    parser = add_command(commands, "space", text, _space, SpaceOptions, more=more)
    parser.add_argument("model", metavar="MODEL", help="Member (350M-F), demo, Hub id or folder")


def _space(args: argparse.Namespace) -> None:
    options = read_options(args, SpaceOptions)
    from curr_ab.space import serve

    serve(args.model, **vars(options), folder=None)
