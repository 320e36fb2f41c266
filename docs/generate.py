"""Write what the documents take from the code: the command line, tables of members, the tree.

`python docs/generate.py` writes, `--check` only compares and fails where a document is behind the code.
A page of `docs/cli/` is written whole; of other files, what stands between `<!-- generated: NAME -->` and
`<!-- end -->`.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from curr_ab.cli.main import build_parser
from curr_ab.family import DATA_SIZES, SIZES, members

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from benchmarks.gpu import document_table  # noqa: E402
from faults.table import fault_table  # noqa: E402

CLI = ROOT / "docs" / "cli"
INTRODUCTION = """# Command line

Each page shows what `--help` prints. Of all commands holds:

- A list is written with spaces, `--layers 0 -1`, and comes after the words without a flag.
- A number may be written 5000, 5_000, 5K or 5e3; `none` takes away a number that may be absent.
- `--final` is yes, `--no-final` no.
- A wrong value and an unknown option or command end in one line and exit status 2.
"""
# The commands by what people do; one that is in no group, or not there any more, is an error.
GROUPS = {
    "Use a model": "embed score mutate restore pair number generate design predict space models",
    "Fine-tune": "finetune simulate-rounds example-data compare",
    "Prepare data and train": "data pretrain evaluate benchmark",
    "Scaling laws": "scaling study",
    "Publish": "export adopt card publish verify",
    "Your shell": "completion",
}
# What a docstring cannot say, because the entry is a folder or no Python.
DESCRIPTIONS = {
    ".ci": "what CI runs, and what a release tells of itself",
    "curr_ab": "the library: everything that is not pushed to the Hub",
    "model_cards": "the 15 cards, and the measured results that they show",
    "modeling": "configuration and model, pushed with every checkpoint",
    "tokenization": "tokenizer, pushed with every checkpoint",
    "train_scripts": "what `accelerate launch` and Slurm start",
    "tests": "mirrors the packages; golden/ to compare with, compat/ for other versions",
    "docs": "what the README cannot hold",
    "Makefile": "one command per verb: `make help`",
    "constraints-cpu.txt": "the torch for machines without a GPU",
    "requirements-lock.txt": "all else that `make` installs, by version and digest: `make lock`",
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


def sizes_table() -> str:
    """The 15 in short: a row for each size, a column for each data size."""
    head = "".join(f" | {data.num_pairs:,} pairs" for data in DATA_SIZES)
    lines = [f"| parameters | layers | width{head} |", "|---:|---:|---:" + "|---" * len(DATA_SIZES) + "|"]
    for size in SIZES:
        names = "".join(f" | `{one.name}`" for one in members() if one.size == size)
        lines.append(f"| {size.num_parameters:,} | {size.num_layers} | {size.hidden_size}{names} |")
    return "\n".join(lines)


def commands() -> dict[str, list[tuple[str, argparse.ArgumentParser]]]:
    """The commands that do something, such as `curr-ab data prepare`, by group."""
    (subcommands,) = build_parser()._subparsers._group_actions
    grouped = {title: names.split() for title, names in GROUPS.items()}
    if sorted(subcommands.choices) != sorted(name for names in grouped.values() for name in names):
        raise SystemExit("GROUPS must name every command once; correct it in docs/generate.py")
    return {
        title: [one for name in names for one in leaves(subcommands.choices[name])]
        for title, names in grouped.items()
    }


def command_pages() -> dict[Path, str]:
    """docs/cli/: a page for each command, and one that lists them."""
    pages, index = {}, [INTRODUCTION]
    for title, group in commands().items():
        index += [f"## {title}", ""]
        for name, parser in group:
            path = CLI / page_name(name)
            about = marked(parser.description or "")
            pages[path] = command_page(name, about, parser)
            first = about.splitlines()[0].partition(". ")[0].rstrip(".")
            index.append(f"- [`{name}`]({path.name}): {first}")
        index.append("")
    return pages | {CLI / "index.md": "\n".join(index).rstrip() + "\n"}


def command_page(name: str, about: str, parser: argparse.ArgumentParser) -> str:
    parts = [f"# {name}", "", about, ""]
    parts += ["```", parser.format_usage().removeprefix("usage: ").rstrip(), "```"]
    for group in parser._action_groups:
        parts += group_lines(parser, group)
    return "\n".join(parts) + "\n"


def page_name(command: str) -> str:
    return command.removeprefix("curr-ab ").replace(" ", "-") + ".md"


def navigation() -> str:
    """The command line's part of the site's navigation."""
    return "\n".join(
        f"      - {title}:\n" + "\n".join(f"          - cli/{page_name(name)}" for name, _ in group)
        for title, group in commands().items()
    )


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


def leaves(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A command, or those that it consists of."""
    subcommands = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not subcommands:
        yield parser.prog, parser
    for action in subcommands:
        for sub in action.choices.values():
            yield from leaves(sub)


def fill_blocks(text: str) -> str:
    """The text with the contents of each `<!-- generated: NAME -->` block made anew."""
    makers = {
        "members": members_table,
        "sizes": sizes_table,
        "tree": tree,
        "commands": navigation,
        "faults": fault_table,
        "gpus": document_table,
    }
    return re.sub(
        r"^([# ]*<!-- generated: (\w+) -->\n).*?^([# ]*<!-- end -->)",
        lambda match: match[1] + makers[match[2]]() + "\n" + match[3],
        text,
        flags=re.DOTALL | re.MULTILINE,
    )


def wanted() -> dict[Path, str]:
    """Every file that is generated, or has a part that is, and what must stand in it."""
    written = [ROOT / "README.md", ROOT / "mkdocs.yml", *(ROOT / "docs").rglob("*.md")]
    filled = {path: fill_blocks(path.read_text()) for path in written if path.parent != CLI}
    return filled | command_pages()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    texts = wanted()
    behind = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    left_over = [path for path in CLI.glob("*.md") if path not in texts]
    for path in behind + left_over:
        if check:
            print(f"{path.relative_to(ROOT)} is behind the code: run `make fix`", file=sys.stderr)
        elif path in texts:
            path.write_text(texts[path])
        else:
            path.unlink()
    return 1 if check and behind + left_over else 0


if __name__ == "__main__":
    sys.exit(main())
