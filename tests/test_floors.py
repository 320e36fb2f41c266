"""The floors of the house: no import points up, also none inside a function or named in a string."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "curr_ab"
GROUND = ("files", "randomness", "workers", "quantities", "words", "options", "extras", "results", "family")
GROUND += ("published", "training_record", "checkpoint_files", "domains", "number_types", "reach", "share")
GROUND += ("claims", "cluster", "hub_results", "formulas", "attention")
# Files that several floors draw and write pages with: templates and style of pages, SVG charts, pictures.
GROUND += ("pages", "charts", "pictures")
# From the top down. Rooms of one floor do not know each other, but on the ground floor they may.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("study",),
    ("benchmark",),
    ("evaluation", "hub"),
    ("pretraining", "finetuning", "space"),
    ("probes",),
    ("measures", "inference", "scaling"),
    ("training", "checkpoints"),
    ("data",),
    GROUND,
    ("modeling", "tokenization", "demo", "demo_clm"),  # the last are checkpoints, with copies of the others
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
NAME = re.compile(r"curr_ab((?:\.[a-z_]+)+)")


def names(tree: ast.AST) -> Iterator[str]:
    """Dotted names below `curr_ab` that the code imports, at the top, inside functions or by a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "curr_ab":
            for alias in node.names:
                yield f"{node.module}.{alias.name}".removeprefix("curr_ab.")
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("curr_ab.") for a in node.names if a.name.startswith("curr_ab."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            yield from (match[1][1:] for match in NAME.finditer(node.value))


def arrows() -> Iterator[tuple[str, str]]:
    """(importing module, what it imports), both without `curr_ab.`"""
    for path in HOUSE.rglob("*.py"):
        module = ".".join(path.relative_to(HOUSE).with_suffix("").parts)
        if not module.startswith(("modeling", "tokenization")):
            yield from ((module, name) for name in names(ast.parse(path.read_text(encoding="utf-8"))))


def points_up(module: str, imported: str) -> bool:
    above, below = module.split(".")[0], imported.split(".")[0]
    if above == below or above == "__init__" or below not in FLOOR:
        return False
    return FLOOR[below] < FLOOR[above] or (FLOOR[below] == FLOOR[above] and above not in GROUND)


def test_every_room_stands_on_a_floor():
    rooms = {path.stem for path in HOUSE.iterdir() if not path.name.startswith(("__pycache__", "__init__"))}
    assert rooms - {"py"} == set(FLOOR)


def test_no_import_points_up():
    assert sorted({(a, b) for a, b in arrows() if points_up(a, b)}) == []


@pytest.mark.parametrize(
    "text",
    [
        "from curr_ab.study import Preset",
        "def f():\n    import curr_ab.cli.main",
        "def f():\n    from curr_ab import evaluation",
        "importlib.import_module('curr_ab.hub.card')",
    ],
)
def test_an_import_that_points_up_is_seen(text):
    assert any(points_up("data.shards", name) for name in names(ast.parse(text)))


@pytest.mark.heavy
def test_no_files_import_each_other_in_a_circle():
    """Also not through others, and not inside functions."""
    modules = {".".join(path.relative_to(HOUSE).with_suffix("").parts) for path in HOUSE.rglob("*.py")}
    below: dict[str, set[str]] = {}
    for module, name in arrows():
        found = name if name in modules else name.rpartition(".")[0]
        if found in modules and not module.endswith("__init__"):
            below.setdefault(module, set()).add(found)
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for found in sorted(below.get(module, ())):
                visit(found, (*way, module))
            done.add(module)

    for module in sorted(below):
        visit(module, ())


@pytest.mark.parametrize("module", ["cli.main", "checkpoint_files", "hub.publication", "hub.verification"])
def test_who_asks_the_hub_first_waits_for_no_torch(module):
    program = f"import sys, curr_ab.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
