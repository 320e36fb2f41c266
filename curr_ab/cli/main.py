"""`curr-ab`: a thin shell over the package's functions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from curr_ab.cli.compare import add_commands as add_comparing_commands
from curr_ab.cli.data import add_commands as add_data_commands
from curr_ab.cli.evaluate import add_commands as add_evaluation_commands
from curr_ab.cli.finetune import add_commands as add_finetuning_commands
from curr_ab.cli.finetune import add_example_command
from curr_ab.cli.hub import add_commands as add_hub_commands
from curr_ab.cli.inference import add_commands as add_inference_commands
from curr_ab.cli.pretrain import add_commands as add_pretraining_commands
from curr_ab.cli.scaling import add_commands as add_scaling_commands
from curr_ab.cli.study import add_commands as add_study_commands
from curr_ab.family import NAMESPACE, Member, members


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
        "plan": asdict(member.plan),
        "published": [asdict(figure) for figure in member.published],
    }


def _models(args: argparse.Namespace) -> None:
    rows = [_describe(member, args.namespace) for member in members()]
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'member':<8} {'repository':<28} {'parameters':>12} {'layers':>6} {'width':>5}", end="")
    print(f" {'ffn':>5} {'head':>4} {'pairs':>10} {'epochs':>6}")
    for row in rows:
        print(f"{row['name']:<8} {row['repo_id']:<28} {row['parameters']:>12,} {row['layers']:>6}", end="")
        print(f" {row['hidden_size']:>5} {row['intermediate_size']:>5} {row['head_dim']:>4}", end="")
        print(f" {row['training_pairs']:>10,} {row['epochs']:>6}")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; the reference in docs/ is printed from it."""
    parser = argparse.ArgumentParser(prog="curr-ab", description="Paired antibody language models.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    models = commands.add_parser("models", help="list the 15 members", description="List the 15 members.")
    models.add_argument("--json", action="store_true", help="with training plan and published figures")
    models.add_argument("--namespace", default=NAMESPACE, help="owner of the repositories (%(default)s)")
    models.set_defaults(run=_models)
    add_data_commands(commands)
    add_pretraining_commands(commands)
    add_finetuning_commands(commands)
    add_example_command(commands)
    add_inference_commands(commands)
    add_evaluation_commands(commands)
    add_comparing_commands(commands)
    add_scaling_commands(commands)
    add_hub_commands(commands)
    add_study_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; bad input ends in one line on standard error and exit status 2."""
    args = build_parser().parse_args(argv)
    try:
        args.run(args)
    except (ValueError, OSError) as error:
        print(f"curr-ab: {error}", file=sys.stderr)
        return 2
    return 0
