"""`curr-ab export | adopt | card | publish | verify`: checkpoints on their way to the Hub."""

from __future__ import annotations

import argparse
from typing import Any


def _export(args: argparse.Namespace) -> None:
    from curr_ab.family import member
    from curr_ab.hub import export

    difference = export(
        member(args.member),
        args.weights,
        args.out,
        results=args.results,
        namespace=args.namespace,
        rehearsal=args.rehearsal,
    )
    print(f"{args.out}: loads as stock and as remote code; largest difference of a logit {difference:.1g}")


def _adopt(args: argparse.Namespace) -> None:
    from curr_ab.hub import adopt

    for folder, difference in adopt(args.folders, args.out, data=args.data, namespace=args.namespace).items():
        print(f"{folder}: loads as stock and as remote code; largest difference of a logit {difference:.1g}")


def _card(args: argparse.Namespace) -> None:
    from curr_ab.hub import write_card

    for option in ("results", "name", "base"):
        if getattr(args, option) and len(args.folders) > 1:
            raise ValueError(f"--{option} belongs to one folder; name one")
    for folder in args.folders:
        write_card(
            folder, results=args.results, namespace=args.namespace, name=args.name, base_model=args.base
        )
        print(f"{folder}/README.md")


def _publish(args: argparse.Namespace) -> None:
    from curr_ab import __version__
    from curr_ab.hub import publish

    publish(
        args.folders,
        namespace=args.namespace,
        datasets=args.dataset,
        dry_run=args.dry_run,
        private=args.private,
        collection=args.collection,
        release=args.release or f"v{__version__}",
        attempts=args.attempts,
    )


def _verify(args: argparse.Namespace) -> None:
    from curr_ab.hub import verify
    from curr_ab.hub.fresh_process import FreshProcess

    options = {"namespace": args.namespace, "scratch": args.scratch, "attempts": args.attempts}
    with FreshProcess() as fresh_process:
        found = {name: verify(name, **options, fresh_process=fresh_process) for name in args.ids}
    for name, problems in found.items():
        for problem in problems:
            print(f"{name}: {problem}")
        print(f"{name}: {f'not as exported, problems: {len(problems)}' if problems else 'verified'}")
    if broken := [name for name, problems in found.items() if problems]:
        raise ValueError(f"not as exported: {', '.join(broken)}")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count above 0")
    return int(text)


def _add_export(commands: Any, namespace: str) -> None:
    text = "a training checkpoint as a folder that is a Hub repository"
    parser = commands.add_parser(
        "export", help=text, description=f"{text.capitalize()}, proved in a fresh process."
    )
    parser.add_argument("member", metavar="MEMBER", help="such as 350M-F")
    parser.add_argument(
        "--weights", required=True, metavar="DIR", help="a checkpoint, or the folder of a run's checkpoints"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="a folder that is not there yet")
    parser.add_argument(
        "--results", nargs="+", default=[], metavar="FILE", help="measured numbers for the card"
    )
    parser.add_argument("--namespace", default=namespace, help="owner that the card names (%(default)s)")
    parser.add_argument(
        "--rehearsal", action="store_true", help="a model of another shape, to try the way to the Hub"
    )
    parser.set_defaults(run=_export)


def _add_adopt(commands: Any, namespace: str) -> None:
    text = "checkpoints of the published code as exports"
    parser = commands.add_parser(
        "adopt", help=text, description=f"{text.capitalize()}; the members are recognised by their shapes."
    )
    parser.add_argument(
        "folders", nargs="+", metavar="DIR", help="a checkpoint, or a run with checkpoint-N folders"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the exports")
    parser.add_argument(
        "--data", metavar="F|H|Q", help="training set, where the checkpoints do not record it"
    )
    parser.add_argument("--namespace", default=namespace, help="owner that the cards name (%(default)s)")
    parser.set_defaults(run=_adopt)


def _add_card(commands: Any) -> None:
    text = "the cards of exports and adapters made anew"
    parser = commands.add_parser("card", help=text, description=f"{text.capitalize()}.")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="an export, or what fine-tuning left")
    parser.add_argument(
        "--results",
        nargs="+",
        default=[],
        metavar="FILE",
        help="measured numbers, instead of those that it has",
    )
    parser.add_argument("--namespace", help="owner that the card names (as now)")
    parser.add_argument("--name", help="of the repository of an adapter (as now)")
    parser.add_argument(
        "--base",
        metavar="ID",
        help="repository with the weights that an adapter was tuned on, where now a folder is named",
    )
    parser.set_defaults(run=_card)


def _add_publish(commands: Any) -> None:
    text = "bring exports, adapters and data to the Hub"
    parser = commands.add_parser(
        "publish",
        help=text,
        description="Bring exports, adapters and data to the Hub. What is there already is not sent again: "
        "repeat the command after an interruption, or after a change.",
    )
    parser.add_argument("folders", nargs="*", metavar="DIR", help="an export, or what fine-tuning left")
    parser.add_argument("--namespace", required=True, help="owner of the repositories")
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder that becomes a data-set repository",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and send nothing")
    parser.add_argument("--private", action="store_true", help="create repositories as private")
    parser.add_argument("--collection", metavar="TITLE", help="add all to a collection of that title")
    parser.add_argument("--release", metavar="TAG", help="tag of main (v and the version of this package)")
    parser.add_argument("--attempts", type=_count, default=8, help="for each call that fails (%(default)s)")
    parser.set_defaults(run=_publish)


def _add_verify(commands: Any, namespace: str) -> None:
    text = "download repositories and compare them with their manifests"
    parser = commands.add_parser(
        "verify", help=text, description=f"{text.capitalize()}: files, logits, cards."
    )
    parser.add_argument("ids", nargs="+", metavar="ID", help="a member, a repository, or an export on disk")
    parser.add_argument("--namespace", default=namespace, help="owner of a member's repository (%(default)s)")
    parser.add_argument("--scratch", metavar="DIR", help="where one revision at a time is downloaded to")
    parser.add_argument("--attempts", type=_count, default=8, help="for each call that fails (%(default)s)")
    parser.set_defaults(run=_verify)


def add_commands(commands: Any) -> None:
    """Add the way to the Hub to the subcommands of `curr-ab`."""
    from curr_ab.family import NAMESPACE

    _add_export(commands, NAMESPACE)
    _add_adopt(commands, NAMESPACE)
    _add_card(commands)
    _add_publish(commands)
    _add_verify(commands, NAMESPACE)
