"""What documents show: blocks of code, lines of a shell, commands, links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SHELL = ("sh", "bash")


class Block(NamedTuple):
    language: str  # as written behind the fence
    text: str


def blocks_of(text: str) -> list[Block]:
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [Block(language, re.sub(rf"^{indent}", "", code, flags=re.M)) for indent, language, code in found]


def shell_lines(block: Block) -> list[str]:
    """The lines of a shell, joined where one goes on; none of a block that is something else."""
    joined = re.sub(r"\\\n\s*", "", block.text).splitlines()
    lines = [line for line in joined if line.strip() and not line.startswith("#")]
    is_shell = block.language in SHELL or (not block.language and lines and lines[0].startswith("curr-ab "))
    return lines if is_shell else []


def commands_in(line: str) -> Iterator[str]:
    """The arguments of every `curr-ab` in a line, also where a launcher, a loop or a script starts it."""
    code = re.sub(r"(^|\s)#.*", "", line)
    words = r"[^;&|>\"]*(?:\"[^\"]*\"[^;&|>\"]*)*"
    programs = r"curr-ab|-m curr_ab|train_scripts/(pretrain|finetune)\.py"
    for script, arguments in re.findall(rf"(?:^|[\s\"])(?:{programs}) ({words})", code):
        yield f"{script} {arguments}"


def code_in_lines(text: str) -> list[str]:
    """The code within lines of text."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def links_of(text: str) -> list[str]:
    """Targets of Markdown's links and pictures that are not addresses, code left out."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"[a-z]+:", link)]


def anchors_of(text: str) -> set[str]:
    """The anchors that the Hub, GitHub and the site alike make of headings."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", one.lower()).strip()) for one in headings}
