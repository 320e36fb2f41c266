"""The files pushed with every checkpoint follow the rules of remote code."""

import ast
import re
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModel

import curr_ab.modeling
import curr_ab.tokenization
from curr_ab.modeling.configuration_curr_ab import AUTO_MAP

ALLOWED = {"torch", "transformers", "tokenizers"} | sys.stdlib_module_names
FOLDERS = [Path(package.__file__).parent for package in (curr_ab.modeling, curr_ab.tokenization)]
# What transformers' loader searches the text for, wherever it stands.
LOOKS_RELATIVE = re.compile(r"^\s*(?:from|import)\s+\.(\S*)", re.MULTILINE)


def read_payload():
    """Sources by folder and name; `__init__.py` belongs to the package and stays here."""
    return {
        (folder.name, path.name): path.read_text()
        for folder in FOLDERS
        for path in folder.glob("*.py")
        if path.name != "__init__.py"
    }


def broken_rules(payload):
    """Every rule that the sources break, in words."""
    broken = []
    names = [name for _, name in payload]
    broken += [f"{name} stands in two folders" for name in set(names) if names.count(name) > 1]
    for (folder, name), source in payload.items():
        tree = ast.parse(source)
        siblings = {other.removesuffix(".py") for place, other in payload if place == folder}
        relative = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Try) and any(
                isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in ast.walk(node)
            ):
                broken.append(f"{name} imports inside try")
            if "TYPE_CHECKING" in (getattr(node, "id", None), getattr(node, "attr", None)):
                broken.append(f"{name} uses TYPE_CHECKING")
            if {"import_module", "__import__"} & {getattr(node, "id", None), getattr(node, "attr", None)}:
                broken.append(f"{name} imports by name")
            if isinstance(node, ast.Import):
                modules = {alias.name.split(".")[0] for alias in node.names}
                broken += [f"{name} imports {module}" for module in modules - ALLOWED]
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                module = node.module.split(".")[0]
                if module not in ALLOWED:
                    broken.append(f"{name} imports {module}")
            if isinstance(node, ast.ImportFrom) and node.level > 0:
                if node.level > 1 or not node.module or "." in node.module:
                    broken.append(f"{name} has a relative import that is not from a sibling file")
                elif node.module not in siblings:
                    broken.append(f"{name} imports {node.module}, which is not pushed beside it")
                relative.add(node.module)
        for found in LOOKS_RELATIVE.findall(source):
            if found not in relative:
                broken.append(f"{name} has a line of text that looks like a relative import")
    return broken


def test_payload_breaks_no_rule():
    payload = read_payload()
    assert {name for _, name in payload} == {
        "configuration_curr_ab.py",
        "modeling_curr_ab.py",
        "packed_attention.py",
        "pairwise_attention.py",
        "skip_dropout.py",
        "tokenization_curr_ab.py",
    }
    assert broken_rules(payload) == []


@pytest.mark.parametrize(
    ("added", "complaint"),
    [
        ("import numpy", "imports numpy"),
        ("import curr_ab.family", "imports curr_ab"),
        ("from curr_ab.family import MEMBERS", "imports curr_ab"),
        ("def f():\n    from scipy import stats", "imports scipy"),
        ("from ..data import shards", "not from a sibling file"),
        ("import typing\nif typing.TYPE_CHECKING:\n    import torch", "uses TYPE_CHECKING"),
        ("import importlib\nimportlib.import_module('curr_ab.family')", "imports by name"),
        ("__import__('curr_ab')", "imports by name"),
        ("from . import configuration_curr_ab", "not from a sibling file"),
        ("from .tokenization_curr_ab import VOCABULARY", "not pushed beside it"),
        ("try:\n    import torch\nexcept ImportError:\n    pass", "imports inside try"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", "uses TYPE_CHECKING"),
        (
            'def f():\n    """Once it was\n    from .layers import Layer\n    """',
            "looks like a relative import",
        ),
    ],
)
@pytest.mark.heavy
def test_each_rule_is_seen_to_break(added, complaint):
    payload = read_payload()
    payload["modeling", "modeling_curr_ab.py"] += f"\n{added}\n"
    assert any(complaint in rule for rule in broken_rules(payload))


def test_two_files_of_one_name_are_seen():
    payload = read_payload()
    payload["tokenization", "modeling_curr_ab.py"] = ""
    assert any("two folders" in rule for rule in broken_rules(payload))


def test_every_public_class_is_in_the_auto_map():
    """A custom config with one class missing from the map makes that Auto class raise."""
    mapped = {reference.split(".")[1] for reference in AUTO_MAP.values()}
    assert mapped == set(curr_ab.modeling.__all__) - {"CurrAbPreTrainedModel"}
    for reference in AUTO_MAP.values():
        file, _, name = reference.partition(".")
        assert hasattr(sys.modules[f"curr_ab.modeling.{file}"], name)


def test_importing_the_package_leaves_stock_esm_alone(tmp_path):
    from transformers import EsmConfig, EsmModel

    EsmModel(EsmConfig(vocab_size=33, pad_token_id=1, hidden_size=24, num_hidden_layers=1)).save_pretrained(
        tmp_path
    )
    assert type(AutoConfig.from_pretrained(tmp_path)) is EsmConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is EsmModel
