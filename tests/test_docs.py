"""What the pages of docs/ show is what happens: their code and commands run, their links lead somewhere."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.documents import ROOT, anchors_of, blocks_of, commands_in, links_of, shell_lines

import curr_ab
from curr_ab.cli.main import build_parser, main

DOCS = ROOT / "docs"
GENERATED = {DOCS / "tree.md", DOCS / "study" / "report.md"}
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.parent.name != "cli" and page not in GENERATED]
# Pages that assume more than the package's pairs and `demo`, and the tests that run them in what they assume.
RUN_BY = {
    "concepts/checkpoint.md": "modeling/test_causal.py",
    "how-to/design.md": "inference/test_design_docs.py",
    "how-to/engines.md": "inference/test_engines.py",
    "how-to/evaluate.md": "evaluation/test_docs.py",
    "how-to/finetune.md": "finetuning/test_docs.py",
    "how-to/generate.md": "inference/test_generation_docs.py",
    "how-to/many-pairs.md": "inference/test_docs.py",
    "how-to/prepare.md": "data/test_docs.py",
    "how-to/pretrain.md": "pretraining/test_docs.py",
    "how-to/publish.md": "hub/test_docs.py",
    "how-to/study.md": "study/test_docs.py",
}
# Code of the other pages that is not run, with the reason. What fits nothing any more is an error.
NOT_RUN = {
    r"^pip ": "the tests have no network",
    r"RESULTS\.csv": "a file of the reader",
}
OWN = [
    page
    for page in PAGES
    if page.relative_to(DOCS).as_posix() not in RUN_BY
    and any(block.language == "python" or shell_lines(block) for block in blocks_of(page.read_text()))
]

SLOW = ("faq.md", "how-to/mutate.md", "how-to/pair.md", "how-to/score.md")  # a minute or more


def reason_not_to_run(code: str) -> str | None:
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, code)), None)


def named(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the package's pairs, and the programs `curr-ab` and `python`."""
    Path(tmp_path, "pairs.csv").write_bytes(Path(curr_ab.resolve("demo"), "pairs.csv").read_bytes())
    programs = tmp_path / ".bin"
    programs.mkdir()
    for name, module in (("curr-ab", "-m curr_ab"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_line(line: str) -> None:
    """A line of the shell; commands of the package that need no shell run in this process."""
    if re.search(r"[|>;&*]|\$\w", line.partition(" #")[0]) or not line.startswith("curr-ab "):
        subprocess.run(["bash", "-ec", line], check=True)
    else:
        assert main(shlex.split(line, comments=True)[1:]) == 0, line


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # of libraries that examples use
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (named(page) in SLOW), id=named(page)) for page in OWN],
)
def test_a_page_runs_as_it_stands(page, place, capfd):
    names, printed = {}, ""
    for block in blocks_of(page.read_text()):
        if block.language == "python" and not reason_not_to_run(block.text):
            exec(compile(block.text, named(page), "exec"), names)
        for line in shell_lines(block):
            if not reason_not_to_run(line):
                run_line(line)
        if block.language == "text":
            assert printed.splitlines() == block.text.splitlines()
        printed = capfd.readouterr().out


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_commands_are_understood(page, monkeypatch):
    """Those too that are not run, and those within a line of text."""
    for name in ("RANK", "WORLD_SIZE"):  # of a launcher, for `--shard env`
        monkeypatch.setenv(name, str(("RANK", "WORLD_SIZE").index(name)))
    blocks = blocks_of(page.read_text())
    for block in blocks:
        for line in shell_lines(block):
            for command in commands_in(line):
                assert callable(build_parser().parse_args(shlex.split(command)).run), command
        if block.language == "python":
            compile(block.text, page.name, "exec")


def test_what_is_not_run_is_there():
    blocks = [block for page in OWN for block in blocks_of(page.read_text())]
    code = [block.text for block in blocks if block.language == "python"]
    code += [line for block in blocks for line in shell_lines(block)]
    assert [one for one in NOT_RUN if not any(re.search(one, text) for text in code)] == []
    for page, tests in RUN_BY.items():
        assert f'"{Path(page).name}"' in (ROOT / "tests" / tests).read_text(), tests


def documents():
    """Every document that links: the pages, those in the root, and the cards that lie in the tree."""
    yield from sorted(DOCS.rglob("*.md"))
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted([*ROOT.glob("model_cards/*.md"), *ROOT.glob("curr_ab/demo/*.md")])


def test_links_lead_somewhere():
    lost = []
    for page in documents():
        for link in links_of(page.read_text()):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors_of(target.read_text())):
                lost.append(f"{page.relative_to(ROOT)}: {link}")
    assert lost == []


def generate():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_of_a_command_that_is_gone_is_found(tmp_path, monkeypatch, capsys):
    module = generate()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "CLI", tmp_path / "docs" / "cli")
    module.CLI.mkdir(parents=True)
    (module.CLI / "gone.md").write_text("# curr-ab gone\n")
    monkeypatch.setattr(module, "wanted", lambda: {module.CLI / "score.md": "# curr-ab score\n"})
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert module.main() == 1
    assert re.findall(r"cli/(\w+)\.md is behind", capsys.readouterr().err) == ["score", "gone"]
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    assert module.main() == 0
    assert [path.name for path in module.CLI.iterdir()] == ["score.md"]


def test_every_public_name_has_its_place_in_the_reference():
    pages = {}
    for page in sorted((DOCS / "api").glob("*.md")):
        package, options = re.search(r"^::: (\S+)\n((?:    .*\n)+)", page.read_text(), re.MULTILINE).groups()
        pages[package] = yaml.safe_load(options)["options"]["members"]
    assert len(pages) == 9
    for package, shown in pages.items():
        assert sorted(shown) == sorted(importlib.import_module(package).__all__), package
