"""What docs/how-to/finetune.md says of recipes and data is what happens."""

import re
import shlex
from pathlib import Path

from curr_ab.cli.finetune import ExampleOptions, add_commands
from curr_ab.cli.shell import Parser
from curr_ab.finetuning import plant, resolve_recipe
from curr_ab.finetuning.recipe import shipped_recipes
from curr_ab.options import read_options

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "how-to" / "finetune.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_own_recipe_in_five_minutes(tmp_path, monkeypatch, capsys):
    """The file and the lines of the document, on a table with the columns that it names."""
    monkeypatch.chdir(tmp_path)
    (recipe,) = blocks("yaml")
    Path("binders.yaml").write_text(recipe)
    table = plant("specificity-binary", 120).to_pandas()
    table["binds"] = table.label.map({"HD": "no binder", "CoV": "binder"})
    table = table.rename(columns={"donor": "lineage"}).drop(columns=["label", "clone"])
    table.to_csv("binders.csv", index=False)
    program = blocks("python")[0]
    variables = {}
    exec(program, variables)
    assert variables["recipe"].labels == ("no binder", "binder")
    assert (variables["recipe"].name, variables["recipe"].pairs_per_step) == ("binders", 32)
    assert len(variables["examples"]) == 120
    assert capsys.readouterr().out.splitlines()[0] == "120"


def test_table_of_recipes():
    rows = re.findall(r"^\| `([a-z-]+)` \| .* \| (\d+) \| (\d+) \| (\w+) \|$", TEXT, re.MULTILINE)
    assert {name for name, *_ in rows} == set(shipped_recipes())
    for name, epochs, pairs, groups in rows:
        recipe = resolve_recipe(name)
        held_apart = f"{recipe.group_by}s" if recipe.group_by else "nothing"
        assert (str(recipe.epochs), str(recipe.pairs_per_step), held_apart) == (epochs, pairs, groups)


def test_commands_and_options_exist():
    commands = Parser().add_subparsers()
    add_commands(commands)
    lines = [shlex.split(line, comments=True) for line in "".join(blocks("sh")).splitlines()]
    examples = [line[2:] for line in lines if line[1] == "example-data"]
    parsed = [commands.choices["example-data"].parse_args(line) for line in examples]
    assert [args.task for args in parsed] == ["specificity-binary", "pairing"]
    assert [read_options(args, ExampleOptions).pairs for args in parsed] == [600, None]
    parser = commands.choices["finetune"]
    finetunes = [parser.parse_args(line[2:]) for line in lines if line[1] == "finetune"]
    assert {args.recipe for args in finetunes} <= shipped_recipes().keys() and len(finetunes) >= 3
    for flag in set(re.findall(r"--([a-z]+-[a-z-]+|labels|folds|negatives|method)\b", TEXT)):
        assert f"--{flag}" in parser.format_help(), flag


def test_what_it_names_exists():
    for path in re.findall(r"`((?:curr_ab|tests)/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists(), path
