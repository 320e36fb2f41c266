"""`curr-ab export | adopt | card | publish | verify`: checkpoints on their way to the Hub."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from curr_ab.cli.shell import add_command, refuse_for_several, say
from curr_ab.family import NAMESPACE, member
from curr_ab.hub.space_settings import SpaceSettings
from curr_ab.options import Options, option, read_options

_PROVED = "loads as stock and as remote code; largest difference of a logit"


@dataclass(frozen=True, kw_only=True)
class HubOptions(Options):
    """Calls to the Hub."""

    attempts: int = option(8, "Number of attempts at each call that fails", least=1)


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """The export of one member."""

    weights: Path = option(help="Checkpoint, or the folder of a run's checkpoints", metavar="FOLDER")
    out: Path = option(help="Folder of the export, which does not exist yet", metavar="FOLDER")
    results: tuple[Path, ...] = option((), "Files of measured numbers for the card", metavar="FILE")
    namespace: str = option(NAMESPACE, "Owner that the card names", metavar="NAME")
    rehearsal: bool = option(False, "Export a model of another shape, to try the way to the Hub")
    sign: str | None = option(
        None,
        "Sign with this private key (PEM), or with sigstore",
        shown="no signature",
        metavar="KEY",
    )


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
    base_model: str | None = option(
        None,
        "Repository with the weights that an adapter was tuned on, in place of a folder",
        shown="as now",
        flag="base",
        metavar="ID",
    )
    license: str | None = option(
        None, "Licence of prepared data, by the Hub's word such as cc-by-4.0", shown="as now", metavar="NAME"
    )
    citation: Path | None = option(
        None, "BibTeX file that says how to cite prepared data", shown="as now", metavar="FILE"
    )


@dataclass(frozen=True, kw_only=True)
class PublishOptions(HubOptions):
    """Repositories to create or change."""

    namespace: str = option(help="Owner of the repositories", metavar="NAME")
    datasets: tuple[Path, ...] = option(
        (),
        "Prepared data, or folders of results, that become data-set repositories",
        flag="dataset",
        metavar="FOLDER",
    )
    spaces: tuple[str, ...] = option(
        (), "Models on the Hub, or demo, that get a Space with an app", flag="space", metavar="MODEL"
    )
    space_settings: SpaceSettings = field(default_factory=SpaceSettings)
    dry_run: bool = option(False, "Print the plan and send nothing")
    private: bool = option(False, "Create repositories as private")
    collection: str | None = option(None, "Title of a collection that all are added to", metavar="TITLE")
    release: str | None = option(
        None, "Tag of the branch main", shown="v and the version of this package", metavar="TAG"
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(HubOptions):
    """Repositories to download and compare."""

    namespace: str = option(NAMESPACE, "Owner of a member's repository", metavar="NAME")
    scratch: Path | None = option(
        None,
        "Folder that one revision at a time is downloaded to",
        shown="a temporary one",
        metavar="FOLDER",
    )
    identity: str | None = option(
        None,
        "Who must have signed: a public key (PEM), or a name that the issuer knows",
        shown="whoever",
        metavar="KEY",
    )
    issuer: str | None = option(
        None, "Address of the login that vouched for a sigstore identity", shown="none", metavar="URL"
    )
    run_code: bool = option(
        True, "Also load with the code of the repository, which runs without our tokens; else stock ESM alone"
    )


def add_commands(commands: Any) -> None:
    """Add the way to the Hub to the subcommands of `curr-ab`."""
    text = "write a training checkpoint as a folder that is a Hub repository, and prove it"
    parser = add_command(commands, "export", text, _export, ExportOptions)
    parser.add_argument("member", metavar="MEMBER", help="Member that the checkpoint is of, such as 350M-F")

    text = "write checkpoints of the published code as exports, recognised by their shapes"
    parser = add_command(commands, "adopt", text, _adopt, AdoptOptions)
    help = "Checkpoints, or runs with checkpoint-N folders"
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help=help)

    text = "make the cards of exports, adapters and prepared data anew"
    parser = add_command(commands, "card", text, _card, CardOptions)
    help = "Exports, what fine-tuning left, or prepared data"
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help=help)

    text = "bring exports, adapters, data and apps to the Hub"
    more = " What is there already is not sent again: repeat the command after an interruption or a change."
    parser = add_command(commands, "publish", text, _publish, PublishOptions, more=more)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="Exports, or what fine-tuning left")

    text = "download repositories and compare files, logits and cards with their manifests"
    parser = add_command(commands, "verify", text, _verify, VerifyOptions)
    help = (
        "Members, repositories, data sets (datasets/OWNER/NAME), Spaces (spaces/OWNER/NAME), or exports and "
    )
    help += "prepared data on disk"
    parser.add_argument("ids", nargs="+", metavar="ID", help=help)


def _export(args: argparse.Namespace) -> None:
    options = read_options(args, ExportOptions)
    from curr_ab.hub import export

    difference = export(member(args.member), **vars(options))
    say(f"{options.out}: {_PROVED} {difference:.1g}")


def _adopt(args: argparse.Namespace) -> None:
    options = read_options(args, AdoptOptions)
    from curr_ab.hub import adopt

    for folder, difference in adopt(args.folders, **vars(options)).items():
        say(f"{folder}: {_PROVED} {difference:.1g}")


def _card(args: argparse.Namespace) -> None:
    options = read_options(args, CardOptions)
    for name in ("results", "name", "base_model"):
        if getattr(options, name):
            refuse_for_several(args.folders, name, "folders")
    from curr_ab.hub import write_card

    for folder in args.folders:
        write_card(folder, **vars(options))
        say(f"{folder}/README.md")


def _publish(args: argparse.Namespace) -> None:
    options = read_options(args, PublishOptions)
    from curr_ab import __version__
    from curr_ab.hub import publish, publish_spaces

    settings = vars(options) | {"release": options.release or f"v{__version__}"}
    if models := settings.pop("spaces"):
        publish_spaces(models, folders=args.folders, **settings)
    else:
        publish(args.folders, **settings)


def _verify(args: argparse.Namespace) -> None:
    options = read_options(args, VerifyOptions)
    from curr_ab.hub import verify
    from curr_ab.hub.fresh_process import FreshProcess

    with FreshProcess() as process:
        problems = {name: verify(name, **vars(options), say=say, fresh_process=process) for name in args.ids}
    for name, lines in problems.items():
        for line in lines:
            say(f"{name}: {line}")
        say(f"{name}: {f'not as exported, problems: {len(lines)}' if lines else 'verified'}")
    if broken := [name for name, lines in problems.items() if lines]:
        raise ValueError(f"not as exported: {', '.join(broken)}")
