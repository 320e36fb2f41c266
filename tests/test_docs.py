"""What the pages of docs/ show is what happens: their code and commands run, their links lead somewhere."""

import argparse
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.documents import (
    ROOT,
    anchors_of,
    blocks_of,
    code_in_lines,
    commands_in,
    links_of,
    shell_lines,
)
from support.finetuned_models import save_tuned, tune
from support.tiny_models import PAIRS
from support.v_genes import FASTA as V_GENES

import curr_ab
from curr_ab.cli.main import build_parser, main
from curr_ab.finetuning import plant

DOCS = ROOT / "docs"
GENERATED = {DOCS / "tree.md", DOCS / "study" / "report.md"}
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.parent.name != "cli" and page not in GENERATED]
# Pages that cannot run as they stand, and the tests that run their examples.
RUN_BY = {
    "how-to/engines.md": "inference/test_engines.py",  # other people's engines
    "how-to/jobs.md": "hub/test_jobs.py",  # machines of the Hub
    "how-to/publish.md": "hub/test_docs.py",  # the weights of a member, and the Hub
    "how-to/space.md": "space/test_api.py",  # an app that runs
    "tasks.md": "benchmark/tasks/test_catalogue.py",  # files of other people
}
# Code of the other pages that is not run, with the reason. What fits nothing any more is an error.
NOT_RUN = {
    r"^pip ": "the tests have no network",
    r"RESULTS\.csv|unpaired/\*\*|oas/\*": "files of the reader",
    r"^amulety ": "another program; its call is made in tests/modeling/test_usual_doors.py",
    r"^(accelerate|torchrun|sbatch) |slurm/one_member|embed 650M-F": "several GPUs or Slurm",
    r"plans/tiny\.yaml .*--out runs/tiny$": "minutes; the same with fewer steps is run",
    r"^make study|^curr-ab study (?!--preset mini --dry-run)": "minutes to weeks; tests/study",
    r"^curr-ab (card|publish) |predict brineylab/|hf://datasets/": "the Hub; tests/hub",
}
# Options of other programs that the text names.
OTHERS_OPTIONS = {
    "--cpu",  # accelerate
    "--num_processes",
    "--parallel-tmpdir",  # diamond
    "--scoring-strategy",  # AbLang2
    "--trust-remote-code",  # vLLM
    "--wide",  # benchmarks
    "--other",
}
# What pages take for granted beside `pairs.csv`.
GIVEN = {
    "how-to/design.md": ("genes.fasta", "natural.csv", "run/adapter"),
    "how-to/finetune.md": ("binders.csv",),
    "how-to/pretrain.md": ("train_scripts",),
}
OWN = [
    page
    for page in PAGES
    if page.relative_to(DOCS).as_posix() not in RUN_BY
    and any(block.language == "python" or shell_lines(block) for block in blocks_of(page.read_text()))
]

SLOW = {
    "how-to/benchmark.md": "two benchmarks",
    "faq.md": "a minute or more",
    "how-to/evaluate.md": "six suites",
    "how-to/finetune.md": "three trainings",
    "how-to/mutate.md": "a minute or more",
    "how-to/pair.md": "a minute or more",
    "how-to/prepare.md": "four preparations of 20,000 pairs",
    "how-to/scaling.md": "a minute or more",
    "how-to/score.md": "a minute or more",
}


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
    monkeypatch.setenv("PYTHONPATH", str(Path(curr_ab.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def give(name: str) -> None:
    """Make what a page takes for granted, in small."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    match name:
        case "train_scripts":
            path.symlink_to(ROOT / "train_scripts")
        case "genes.fasta":
            path.write_text("".join(f">{gene}\n{residues}\n" for gene, residues in V_GENES.items()))
        case "natural.csv":
            rows = [f"{number},{heavy},{light}\n" for number, (heavy, light) in enumerate(PAIRS)]
            path.write_text("id,heavy,light\n" + "".join(rows))
        case "binders.csv":
            table = plant("specificity-binary", 120).to_pandas()
            table["binds"] = table["label"].map({"HD": "no binder", "CoV": "binder"})
            table["lineage"] = table["donor"]
            table[["id", "heavy", "light", "lineage", "binds"]].to_csv(path)
        case "run/adapter":
            labels = ("other", "binder")
            demo = curr_ab.resolve("demo")
            save_tuned(tune(demo, labels=labels), path, demo, labels=labels)
        case _:
            raise AssertionError(f"nobody makes {name}")


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
    for name in GIVEN.get(named(page), ()):
        give(name)
    names, printed = {}, ""
    for block in blocks_of(page.read_text()):
        if block.language == "python" and not reason_not_to_run(block.text):
            exec(compile(block.text, named(page), "exec"), names)
        for line in shell_lines(block):
            if not reason_not_to_run(line):
                run_line(line)
        if block.language == "yaml" and (file := re.match(r"# (\S+\.yaml)\n", block.text)):
            Path(file[1]).write_text(block.text)
        if block.language == "text":
            assert printed.splitlines() == block.text.splitlines()
        printed = capfd.readouterr().out


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_commands_are_understood(page, monkeypatch):
    """Those too that are not run, and those within a line of text that say where results go."""
    for name in ("RANK", "WORLD_SIZE"):  # of a launcher, for `--shard env`
        monkeypatch.setenv(name, str(("RANK", "WORLD_SIZE").index(name)))
    text = page.read_text()
    lines = [code for code in code_in_lines(text) if "--out " in code]
    for block in blocks_of(text):
        lines += shell_lines(block)
        if block.language == "python":
            compile(block.text, page.name, "exec")
    for command in [command for line in lines for command in commands_in(line)]:
        assert callable(build_parser().parse_args(shlex.split(command)).run), command


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a parser and of all its commands."""
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    commands = [command for group in groups for command in group.choices.values()]
    return set(parser._option_string_actions).union(*map(options_of, commands))


def test_options_and_files_named_in_the_text_are_there():
    known, lost = options_of(build_parser()) | OTHERS_OPTIONS, []
    for page in [ROOT / "README.md", *PAGES]:
        text = page.read_text()
        options = re.findall(r"(?<![\w-])--[a-z][\w-]*", "\n".join(code_in_lines(text)))
        lost += [f"{page.name}: {option}" for option in options if option not in known]
        paths = re.findall(r"(?<![\w/.-])(?:curr_ab|tests|train_scripts|model_cards)/[\w/.-]*\w", text)
        lost += [f"{page.name}: {path}" for path in paths if not (ROOT / path).exists()]
    assert lost == []


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
    yield from sorted([*ROOT.glob("model_cards/*.md"), *ROOT.glob("curr_ab/demo*/*.md")])


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
    assert len(pages) == 10
    for package, shown in pages.items():
        assert sorted(shown) == sorted(importlib.import_module(package).__all__), package
