"""An extra brings all that its commands need, and everyday use needs none."""

import json

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from support.installed import Environment
from support.tiny_models import save_checkpoint, shake, tiny_config

from curr_ab import CurrAbForMaskedLM
from curr_ab.data import builtin_path

LEFT_OUT = ("scipy", "matplotlib", "datasets", "pandas", "duckdb", "sklearn", "accelerate", "peft")
PROGRAM = """
import json, sys
from curr_ab.cli.main import main
for words in json.loads(sys.argv[1]):
    if main(words) != 0:
        sys.exit(f"failed: {' '.join(words)}")
"""
QUIET = ["--quiet", "--device", "cpu", "--dtype", "float32"]
EVERYDAY = [
    ["number", "pairs.csv", "--out", "numbers.csv", "--quiet"],
    ["embed", "model", "pairs.csv", "--out", "vectors.npy", *QUIET],
    ["embed", "model", "pairs.parquet", "--out", "vectors/", *QUIET],
    ["score", "model", "pairs.fasta", "--out", "scores.tsv", *QUIET],
    ["mutate", "model", "pairs.csv", "--out", "mutants.parquet", "--mode", "unmasked", *QUIET],
    ["restore", "model", "pairs.csv", "--out", "restored.csv", *QUIET],
    ["pair", "model", "pairs.csv", "pairs.csv", "--out", "ranks.csv", "--mode", "unmasked", *QUIET],
    ["generate", "model", "pairs.csv", "--given", "heavy", "--n", "1", "--out", "written.csv", *QUIET],
    ["design", "model", "pairs.csv", "--mode", "unmasked", "--mutations", "1", "--n", "1"]
    + ["--out", "designs.csv", *QUIET],
    ["models"],
]
TRAIN = [
    ["data", "prepare", "pairs.parquet", "--cluster", "exact", "--subsets", "F=1.0", "--out", "shards"]
    + ["--processes", "1", "--quiet"],
    ["pretrain", "8M-F", "--data", "shards", "--subset", "F", "--out", "run", "--steps", "1"]
    + ["--warmup-steps", "0", "--pairs-per-step", "2", "--evaluation-pairs", "2", "--precision", "fp32"]
    + ["--config", '{"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2}'],
]
FINETUNE = [
    ["example-data", "specificity-binary", "--pairs", "40", "--out", "labelled.csv"],
    ["finetune", "specificity-binary", "--model", "model", "--data", "labelled.csv", "--out", "tuned"]
    + ["--folds", "2", "--epochs", "1", "--precision", "fp32"],
    ["predict", "tuned/final", "pairs.csv", "--out", "predictions.csv", *QUIET],
]
EVALUATE = [
    [
        "evaluate",
        "fitness",
        "--model",
        "model",
        "--data",
        "fitness.csv",
        "--device",
        "cpu",
        "--out",
        "measured",
    ]
    + ["--mode", "unmasked", "--min-pairs", "3", "--shots", "2"],
    ["evaluate", "regions", "--model", "model", "--data", "pairs.parquet", "--device", "cpu"]
    + ["--out", "measured", "--pairs", "2"],
]
SCALING = [
    ["scaling", "reproduce", "--draws", "2", "--workers", "1", "--plot", "plots"],
    ["scaling", "advise", "--sequences", "2M", "--workers", "1"],
]


@pytest.fixture
def place(tmp_path):
    """Pairs in several formats, and a model."""
    pairs = pq.read_table(builtin_path()).slice(0, 12)
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    few = pairs.select(["id", "heavy", "light"])
    pyarrow.csv.write_csv(few, tmp_path / "pairs.csv")
    fitness = few.append_column("fitness", [[place / 2 for place in range(12)]])
    pyarrow.csv.write_csv(fitness.append_column("direction", [["higher"] * 12]), tmp_path / "fitness.csv")
    with (tmp_path / "pairs.fasta").open("w") as file:
        for row in few.to_pylist():
            file.writelines(f">{row['id']}_{chain}\n{row[chain]}\n" for chain in ("heavy", "light"))
    config = tiny_config(num_hidden_layers=1, num_attention_heads=2)
    save_checkpoint(shake(CurrAbForMaskedLM(config)).eval(), tmp_path / "model")
    return tmp_path


COMMANDS = {"core": EVERYDAY, "train": TRAIN, "finetune": FINETUNE, "evaluate": EVALUATE, "scaling": SCALING}


@pytest.mark.heavy
@pytest.mark.parametrize("extra", COMMANDS)
def test_commands_run_with_nothing_but_their_extra(extra, place):
    environment = Environment(place / "site", () if extra == "core" else (extra,))
    done = environment.run(PROGRAM, json.dumps(COMMANDS[extra]))
    assert done.returncode == 0, done.stderr[-3_000:]
    if extra == "core":
        assert not [name for name in LEFT_OUT if (environment.folder / name).exists()]


def test_a_missing_library_names_the_extra_of_the_task(place):
    """That of what the user does, and not only of the first library that is missing."""
    done = Environment(place / "site").run(PROGRAM, json.dumps(FINETUNE[1:]))
    assert 'is missing: pip install "curr-ab[finetune]"' in done.stderr
