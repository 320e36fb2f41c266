"""An extra brings all that its commands need, and everyday use needs none."""

import re
import tomllib

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from support.installed import Environment
from support.tiny_models import TESTS, save_checkpoint, shake, tiny_config

from curr_ab import CurrAbForMaskedLM
from curr_ab.data import builtin_path

LEFT_OUT = ("scipy", "matplotlib", "datasets", "pandas", "duckdb", "sklearn", "accelerate", "peft")
PROGRAM = """
import sys
from curr_ab.cli.main import main
for line in sys.argv[1:]:
    if main(line.split()) != 0:
        sys.exit(f"failed: {line}")
"""
KINDS = (".md", ".py", ".ipynb", ".yaml")
ON_CPU = "--quiet --device cpu --dtype float32"
COMMANDS = {
    "core": [
        "models",
        "number pairs.csv --out numbers.csv --quiet",
        f"embed model pairs.csv --out vectors.npy {ON_CPU}",
        f"embed model pairs.parquet --out vectors/ {ON_CPU}",
        f"score model pairs.fasta --out scores.tsv {ON_CPU}",
        f"mutate model pairs.csv --mode unmasked --out mutants.parquet {ON_CPU}",
        f"restore model pairs.csv --out restored.csv {ON_CPU}",
        f"pair model pairs.csv pairs.csv --mode unmasked --out ranks.csv {ON_CPU}",
        f"generate model one.csv --given heavy --n 1 --out written.csv {ON_CPU}",
        f"design model one.csv --mode unmasked --mutations 1 --n 1 --out designs.csv {ON_CPU}",
    ],
    "train": [
        "data prepare pairs.parquet --cluster exact --subsets F=1.0 --validation 4 --out shards "
        "--processes 1 --quiet",
        "pretrain 8M-F --data shards --subset F --out run --config num_hidden_layers=1 --precision fp32 "
        "--steps 1 --warmup-steps 0 --pairs-per-step 2 --evaluation-pairs 2",
    ],
    "finetune": [
        "example-data specificity-binary --pairs 40 --out labelled.csv",
        "finetune specificity-binary --model model --data labelled.csv --out tuned --folds 2 --epochs 1 "
        "--precision fp32",
        f"predict tuned/adapter pairs.csv --out predictions.csv {ON_CPU}",
    ],
    "evaluate": [
        "evaluate fitness --model model --data fitness.csv --out measured --device cpu "
        "--mode unmasked --min-pairs 3 --shots 2",
        "evaluate regions --model model --data pairs.parquet --out measured --device cpu --pairs 2",
    ],
    "scaling": [
        "scaling reproduce --draws 20 --workers 1 --plot plots",
        "scaling advise --sequences 2M --draws 20 --workers 1",
    ],
}


@pytest.fixture
def place(tmp_path):
    """Pairs in several formats, and a model."""
    columns = ["id", "heavy", "light", "region_mask_heavy", "region_mask_light"]
    pairs = pq.read_table(builtin_path(), columns=columns).slice(0, 12)
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    few = pairs.select(["id", "heavy", "light"])
    pyarrow.csv.write_csv(few, tmp_path / "pairs.csv")
    pyarrow.csv.write_csv(few.slice(0, 1), tmp_path / "one.csv")
    fitness = few.append_column("fitness", [[place / 2 for place in range(12)]])
    pyarrow.csv.write_csv(fitness.append_column("direction", [["higher"] * 12]), tmp_path / "fitness.csv")
    with (tmp_path / "pairs.fasta").open("w") as file:
        for row in few.slice(0, 2).to_pylist():
            file.writelines(f">{row['id']}_{chain}\n{row[chain]}\n" for chain in ("heavy", "light"))
    config = tiny_config(num_hidden_layers=1, num_attention_heads=2)
    save_checkpoint(shake(CurrAbForMaskedLM(config)).eval(), tmp_path / "model")
    return tmp_path


@pytest.mark.heavy
@pytest.mark.parametrize("extra", COMMANDS)
def test_commands_run_with_nothing_but_their_extra(extra, place):
    environment = Environment(place / "site", () if extra == "core" else (extra,))
    done = environment.run(PROGRAM, *COMMANDS[extra])
    assert done.returncode == 0, done.stderr[-3_000:]
    if extra == "core":
        assert not [name for name in LEFT_OUT if (environment.folder / name).exists()]


@pytest.mark.heavy
def test_a_missing_library_names_the_extra_of_the_task(place):
    """That of what the user does, and not only of the first library that is missing."""
    done = Environment(place / "site").run(PROGRAM, *COMMANDS["finetune"][1:])
    assert 'is missing: pip install "curr-ab[finetune]"' in done.stderr


@pytest.mark.heavy
def test_the_app_needs_its_extra_and_nothing_else(place):
    program = """
from curr_ab.space.app import build_app
from curr_ab.space.model import Model
print(len(build_app(Model("demo"), None).fns))
"""
    done = Environment(place / "site", ("space",)).run(program)
    assert done.returncode == 0 and int(done.stdout) > 5, done.stderr[-3_000:]
    done = Environment(place / "core").run(PROGRAM, "space demo")
    assert 'gradio is missing: pip install "curr-ab[space]"' in done.stderr


@pytest.mark.parametrize("folder", ["README.md", "CONTRIBUTING.md", "docs", "curr_ab", "train_scripts"])
def test_every_extra_that_is_named_exists(folder):
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    place = TESTS.parent / folder
    files = [place] if place.is_file() else [one for one in place.rglob("*") if one.suffix in KINDS]
    named = [
        (one, words) for one in files for words in re.findall(r"curr[-_]ab\[([\w,-]+)\]", one.read_text())
    ]
    unknown = {
        (str(one), word)
        for one, words in named
        for word in words.split(",")
        if word not in project["optional-dependencies"]
    }
    assert not unknown
