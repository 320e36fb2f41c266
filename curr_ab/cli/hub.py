"""`curr-ab export | adopt | card | publish | verify`: checkpoints on their way to the Hub."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from curr_ab.cli.shell import refuse_for_several, sentence
from curr_ab.family import NAMESPACE
from curr_ab.options import Options, add_flags, option, read_options

_PROVED = "loads as stock and as remote code; largest difference of a logit"


@dataclass(frozen=True, kw_only=True)
class HubOptions(Options):
    """How the Hub is asked."""

    attempts: int = option(8, "Number of attempts at each call that fails", least=1)


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """The export of one member."""

    weights: Path = option(help="Checkpoint, or the folder of a run's checkpoints", metavar="FOLDER")
    out: Path = option(help="Folder of the export, which does not exist yet", metavar="FOLDER")
    results: tuple[Path, ...] = option((), "Files of measured numbers for the card", metavar="FILE")
    namespace: str = option(NAMESPACE, "Owner that the card names", metavar="NAME")
    rehearsal: bool = option(False, "Export a model of another shape, to try the way to the Hub")


@dataclass(frozen=True, kw_only=True)
class AdoptOptions(Options):
    """Exports of the published code's checkpoints."""

    out: Path = option(help="Folder of the exports", metavar="FOLDER")
    data: Literal["F", "H", "Q"] | None = option(
        None, "Training set of checkpoints that do not record it", shown="as recorded"
    )
    namespace: str = option(NAMESPACE, "Owner that the cards name", metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class CardOptions(Options):
    """Changes of a card."""

    results: tuple[Path, ...] = option(
        (), "Files of measured numbers, instead of those of the card", shown="as now", metavar="FILE"
    )
    namespace: str | None = option(None, "Owner that the card names", shown="as now", metavar="NAME")
    name: str | None = option(None, "Name of the repository of an adapter", shown="as now", metavar="NAME")
    base: str | None = option(
        None,
        "Repository with the weights that an adapter was tuned on, in place of a folder",
        shown="as now",
        metavar="ID",
    )


@dataclass(frozen=True, kw_only=True)
class PublishOptions(HubOptions):
    """How repositories are made on the Hub."""

    namespace: str = option(help="Owner of the repositories", metavar="NAME")
    dataset: tuple[Path, ...] = option((), "Folders that become data-set repositories", metavar="FOLDER")
    dry_run: bool = option(False, "Print the plan and send nothing")
    private: bool = option(False, "Create repositories as private")
    collection: str | None = option(None, "Title of a collection that all are added to", metavar="TITLE")
    release: str | None = option(
        None, "Tag of the branch main", shown="v and the version of this package", metavar="TAG"
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(HubOptions):
    """How repositories are downloaded and compared."""

    namespace: str = option(NAMESPACE, "Owner of a member's repository", metavar="NAME")
    scratch: Path | None = option(
        None,
        "Folder that one revision at a time is downloaded to",
        shown="a temporary one",
        metavar="FOLDER",
    )


def add_commands(commands: Any) -> None:
    """Add the way to the Hub to the subcommands of `curr-ab`."""
    parser = commands.add_parser(
        "export",
        help="write a training checkpoint as a folder that is a Hub repository",
        description="Write a training checkpoint as a folder that is a Hub repository, and prove it.",
    )
    parser.add_argument("member", metavar="MEMBER", help="Member that the checkpoint is of, such as 350M-F")
    add_flags(parser, ExportOptions)
    parser.set_defaults(run=_export)

    parser = commands.add_parser(
        "adopt",
        help="write checkpoints of the published code as exports",
        description="Write checkpoints of the published code as exports, recognised by their shapes.",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="Checkpoints, or runs with checkpoint-N folders"
    )
    add_flags(parser, AdoptOptions)
    parser.set_defaults(run=_adopt)

    text = "make the cards of exports and adapters anew"
    parser = commands.add_parser("card", help=text, description=sentence(text))
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="Exports, or what fine-tuning left")
    add_flags(parser, CardOptions)
    parser.set_defaults(run=_card)

    parser = commands.add_parser(
        "publish",
        help="bring exports, adapters and data to the Hub",
        description="Bring exports, adapters and data to the Hub. What is there already is not sent again: "
        "repeat the command after an interruption, or after a change.",
    )
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="Exports, or what fine-tuning left")
    add_flags(parser, PublishOptions)
    parser.set_defaults(run=_publish)

    text = "download repositories and compare files, logits and cards with their manifests"
    parser = commands.add_parser("verify", help=text, description=sentence(text))
    parser.add_argument("ids", nargs="+", metavar="ID", help="Members, repositories, or exports on disk")
    add_flags(parser, VerifyOptions)
    parser.set_defaults(run=_verify)


def _export(args: argparse.Namespace) -> None:
    options = read_options(args, ExportOptions)
    from curr_ab.family import member
    from curr_ab.hub import export

    difference = export(
        member(args.member),
        options.weights,
        options.out,
        results=options.results,
        namespace=options.namespace,
        rehearsal=options.rehearsal,
    )
    print(f"{options.out}: {_PROVED} {difference:.1g}")


def _adopt(args: argparse.Namespace) -> None:
    options = read_options(args, AdoptOptions)
    from curr_ab.hub import adopt

    made = adopt(args.folders, options.out, data=options.data, namespace=options.namespace)
    for folder, difference in made.items():
        print(f"{folder}: {_PROVED} {difference:.1g}")


def _card(args: argparse.Namespace) -> None:
    options = read_options(args, CardOptions)
    for name in ("results", "name", "base"):
        if getattr(options, name):
            refuse_for_several(args.folders, name, "folders")
    from curr_ab.hub import write_card

    for folder in args.folders:
        write_card(
            folder,
            results=options.results,
            namespace=options.namespace,
            name=options.name,
            base_model=options.base,
        )
        print(f"{folder}/README.md")


def _publish(args: argparse.Namespace) -> None:
    options = read_options(args, PublishOptions)
    from curr_ab import __version__
    from curr_ab.hub import publish

    publish(
        args.folders,
        namespace=options.namespace,
        datasets=options.dataset,
        dry_run=options.dry_run,
        private=options.private,
        collection=options.collection,
        release=options.release or f"v{__version__}",
        attempts=options.attempts,
    )


def _verify(args: argparse.Namespace) -> None:
    options = read_options(args, VerifyOptions)
    from curr_ab.hub import verify
    from curr_ab.hub.fresh_process import FreshProcess

    with FreshProcess() as fresh_process:
        found = {name: verify(name, **vars(options), fresh_process=fresh_process) for name in args.ids}
    for name, problems in found.items():
        for problem in problems:
            print(f"{name}: {problem}")
        print(f"{name}: {f'not as exported, problems: {len(problems)}' if problems else 'verified'}")
    if broken := [name for name, problems in found.items() if problems]:
        raise ValueError(f"not as exported: {', '.join(broken)}")
