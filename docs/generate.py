"""Write what the documents take from the code: the table of members, the tree, the command line.

`python docs/generate.py` writes, `--check` only compares and fails where a document is behind the code.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from curr_ab.cli.main import build_parser
from curr_ab.family import members

ROOT = Path(__file__).parents[1]
INTRODUCTION = [
    "Written by `make fix` from the program itself. `--help` after any command prints its section.",
    "",
    "A list is written with spaces, `--layers 0 -1`, and comes after the words without a flag. A number may",
    "be written 5000, 5_000, 5K or 5e3; `none` takes away a number that may be absent. `--final` is yes and",
    "`--no-final` no. A wrong value and an unknown option or command end in one line and exit status 2.",
]
# What a docstring cannot say, because the entry is a folder or no Python.
DESCRIPTIONS = {
    "curr_ab": "the library: everything that is not pushed to the Hub",
    "model_cards": "the 15 cards, and the measured results that they show",
    "modeling": "configuration and model, pushed with every checkpoint",
    "tokenization": "tokenizer, pushed with every checkpoint",
    "train_scripts": "what `accelerate launch` and Slurm start",
    "tests": "mirrors the packages; golden/ to compare with, compat/ for other versions",
    "docs": "what the README cannot hold",
    "Makefile": "one command per verb: `make help`",
    "constraints-cpu.txt": "the torch for machines without a GPU",
}


def members_table() -> str:
    """The 15 as a Markdown table."""
    lines = [
        "| member | repository | parameters | layers | width | training pairs | epochs |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for one in members():
        lines.append(
            f"| {one.name} | `{one.repo_id()}` | {one.size.num_parameters:,} | {one.size.num_layers} "
            f"| {one.size.hidden_size} | {one.data.num_pairs:,} | {one.epochs:.1f} |"
        )
    return "\n".join(lines)


def first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    return docstring.splitlines()[0].rstrip(".") if docstring else ""


def tree_entries() -> Iterator[tuple[str, str]]:
    """Every top-level folder, every module of the packages, and what each is for."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [Path(name) for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    tops = dict.fromkeys(path.parts[0] for path in files)
    for top in sorted(tops, key=lambda name: ((ROOT / name).is_file(), name)):
        is_folder = (ROOT / top).is_dir()
        if top in DESCRIPTIONS:
            yield (f"{top}/" if is_folder else top), DESCRIPTIONS[top]
        if is_folder and top not in ("tests", "docs"):
            yield from package_entries(ROOT / top, [ROOT / path for path in files])


def package_entries(folder: Path, files: list[Path], depth: int = 1) -> Iterator[tuple[str, str]]:
    indent = "  " * depth
    for entry in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if entry.suffix == ".py" and entry in files and entry.name != "__init__.py":
            yield f"{indent}{entry.name}", first_line(entry)
        elif (entry / "__init__.py").is_file() and not entry.is_symlink():
            yield f"{indent}{entry.name}/", first_line(entry / "__init__.py")
            yield from package_entries(entry, files, depth + 1)


def tree() -> str:
    """The annotated tree of the repository."""
    entries = list(tree_entries())
    width = max(len(name) for name, _ in entries) + 2
    return "```\n" + "\n".join(f"{name:<{width}}{text}".rstrip() for name, text in entries) + "\n```"


def command_line() -> str:
    """docs/cli.md: the help of every command."""
    parts = ["# Command line", "", *INTRODUCTION, ""]
    parsers = list(all_parsers(build_parser()))
    for name, parser in parsers[1:]:
        about = marked(parser.description or "").splitlines()[0].partition(". ")[0].rstrip(".")
        parts.append(f"- [`{name}`](#{name.replace(' ', '-')}): {about}")
    for name, parser in parsers[1:]:
        parts += ["", f"## `{name}`", "", marked(parser.description or "")]
        parts += ["", "```", parser.format_usage().removeprefix("usage: ").rstrip(), "```"]
        for group in parser._action_groups:
            parts += group_lines(parser, group)
    return "\n".join(parts) + "\n"


def group_lines(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup) -> Iterator[str]:
    """The arguments of one kind, an item each; `--help` is the same everywhere."""
    formatter = parser._get_formatter()
    actions = [one for one in group._group_actions if one.dest != "help"]
    if not actions or isinstance(actions[0], argparse._SubParsersAction):
        return
    yield from ("", f"**{group.title}**" + (f": {group.description}" if group.description else ""), "")
    for one in actions:
        values = "" if one.nargs == 0 else formatter._format_args(one, str(one.metavar))
        names = [f"{name} {values}".strip() for name in one.option_strings] or [str(one.metavar)]
        yield f"- {', '.join(f'`{name}`' for name in names)}: {marked((one.help or '').replace('%%', '%'))}"


def marked(text: str) -> str:
    """Text as Markdown that shows its stars and angles; what stands in backticks shows them anyway."""
    code = text.split("`")
    code[::2] = [re.sub(r"[*_]", r"\\\g<0>", part).replace("<", "&lt;") for part in code[::2]]
    return "`".join(code)


def all_parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield parser.prog, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from all_parsers(sub)


def fill_blocks(text: str) -> str:
    """The text with the contents of each `<!-- generated: NAME -->` block made anew."""
    makers = {"members": members_table, "tree": tree}
    return re.sub(
        r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)",
        lambda match: match[1] + makers[match[2]]() + "\n" + match[3],
        text,
        flags=re.DOTALL,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    readme = ROOT / "README.md"
    wanted = {readme: fill_blocks(readme.read_text()), ROOT / "docs" / "cli.md": command_line()}
    behind = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in behind:
        if check:
            print(f"{path.relative_to(ROOT)} is behind the code: run `make fix`", file=sys.stderr)
        else:
            path.write_text(wanted[path])
    return 1 if check and behind else 0


if __name__ == "__main__":
    sys.exit(main())
