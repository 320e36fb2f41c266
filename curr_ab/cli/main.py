# PYTHON_ARGCOMPLETE_OK
"""`curr-ab`: a thin shell over the package's functions."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

from curr_ab.checkpoint_files import DEMO_FOLDERS
from curr_ab.cli.shell import Parser, add_command, run
from curr_ab.family import NAMESPACE, Member, members
from curr_ab.options import Options, option, read_options, unknown

# Modules of this folder, with their commands; a module is loaded for one of these, or for the list of all.
GROUPS = {
    "data": ("data",),
    "pretrain": ("pretrain",),
    "finetune": ("finetune", "example-data"),
    "inference": ("embed", "score", "mutate", "design", "restore", "pair", "generate", "number"),
    "prediction": ("predict", "simulate-rounds"),
    "evaluate": ("evaluate", "compare"),
    "benchmark": ("benchmark",),
    "scaling": ("scaling",),
    "hub": ("export", "adopt", "card", "publish", "verify"),
    "space": ("space",),
    "study": ("study",),
}
SHELLS = ("bash", "zsh", "fish")
COMPLETION = """

In ~/.bashrc write `eval "$(curr-ab completion bash)"`, in ~/.zshrc the same with zsh.
In ~/.config/fish/config.fish write `curr-ab completion fish | source`."""


@dataclass(frozen=True, kw_only=True)
class ModelsOptions(Options):
    """The list of members."""

    json: bool = option(False, "Print JSON, with the training plan and the published figures")
    namespace: str = option(NAMESPACE, "Owner of the repositories", metavar="NAME")


def build_parser(command: str | None = None) -> Parser:
    """The whole command line, from which the reference in docs/ is written; of a command, its group alone."""
    parser = Parser(prog="curr-ab", description="Paired antibody language models.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    text = "list the 15 members, and the folder of the model to try things with"
    add_command(commands, "models", text, _models, ModelsOptions)
    for group in [name for name, its in GROUPS.items() if command in its] or GROUPS:
        import_module(f"curr_ab.cli.{group}").add_commands(commands)
    text = "print the script that completes commands and options in your shell"
    completion = add_command(commands, "completion", text, _complete, more=COMPLETION)
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"Shell: {', '.join(SHELLS)}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of the package."""
    words = sys.argv[1:] if argv is None else argv
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(build_parser())
    return run(build_parser(words[0] if words else None), words)


def _describe(member: Member, namespace: str) -> dict[str, Any]:
    return {
        "name": member.name,
        "repo_id": member.repo_id(namespace),
        "parameters": member.size.num_parameters,
        "layers": member.size.num_layers,
        "hidden_size": member.size.hidden_size,
        "intermediate_size": member.size.intermediate_size,
        "head_dim": member.size.head_dim,
        "training_pairs": member.data.num_pairs,
        "epochs": round(member.epochs, 1),
        "num_gpus": member.size.num_gpus,
        "plan": asdict(member.plan),
        "published": [asdict(figure) for figure in member.published],
    }


def _models(args: argparse.Namespace) -> None:
    options = read_options(args, ModelsOptions)
    rows = [_describe(member, options.namespace) for member in members()]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    line = "{:<8} {:<28} {:>12} {:>6} {:>5} {:>5} {:>4} {:>10} {:>6}"
    print(
        line.format("member", "repository", "parameters", "layers", "width", "ffn", "head", "pairs", "epochs")
    )
    for row in rows:
        numbers = {name: f"{row[name]:,}" for name in ("parameters", "training_pairs")}
        print(line.format(*list((row | numbers).values())[:9]))
    print("\ntiny models to try things with, a masked one and a causal one:")
    for name, folder in DEMO_FOLDERS.items():
        print(f"{name:<8} {folder}")


def _complete(args: argparse.Namespace) -> None:
    if args.shell not in SHELLS:
        raise ValueError(unknown("shell", args.shell, SHELLS))
    from argcomplete.shell_integration import shellcode

    print(shellcode(["curr-ab"], shell=args.shell))
