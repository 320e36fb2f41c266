"""Example data hold what the recipes learn."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from curr_ab.cli.finetune import add_commands
from curr_ab.cli.shell import Parser
from curr_ab.data import builtin_path
from curr_ab.finetuning import plant, read_examples, resolve_recipe, split_folds
from curr_ab.finetuning.example_data import MOTIFS, TASKS
from curr_ab.finetuning.recipe_files import shipped_recipes


def make(task, path, *options):
    commands = Parser().add_subparsers()
    add_commands(commands)
    args = commands.choices["example-data"].parse_args([task, "--out", str(path), *options])
    args.run(args)


def test_every_shipped_recipe_has_example_data():
    assert set(TASKS) == set(shipped_recipes())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@pytest.mark.heavy
def test_each_recipe_reads_and_splits_its_own(task, suffix, tmp_path):
    path = tmp_path / f"pairs.{suffix}"
    make(task, path, "--pairs", "300")
    recipe = resolve_recipe(task)
    examples = read_examples(recipe, [str(path)])
    assert len(examples) == (600 if task == "pairing" else 300)
    assert len(split_folds(examples, recipe)) == 5


def test_motifs_are_where_the_label_says():
    table = plant("specificity-multiclass", 400)
    for row in table.to_pylist():
        found = {label for label, motif in MOTIFS.items() if motif in row["heavy"]}
        assert found == {row["label"]} - {"HD"}
    labels, counts = np.unique(table["label"].to_pylist(), return_counts=True)
    assert labels.tolist() == ["CoV", "Flu", "HD"]
    assert counts.min() > 80
    of_clone = {(row["clone"], row["label"]) for row in table.to_pylist()}
    assert len(of_clone) == len({clone for clone, _ in of_clone})


def test_paratope_is_in_loops_alone():
    """The same residues are there in frameworks too, so that a residue by itself does not tell."""
    touched, letters = [], []
    for row in plant("paratope", 200).to_pylist():
        letters += row["heavy"]
        touched += row["paratope_heavy"]
    tyrosines = [mask for letter, mask in zip(letters, touched, strict=True) if letter == "Y"]
    assert 0.3 < tyrosines.count("1") / len(tyrosines) < 0.7
    assert 0.04 < touched.count("1") / len(touched) < 0.15


@pytest.mark.parametrize("task", ["affinity", "developability"])
@pytest.mark.heavy
def test_numbers_follow_the_residues(task):
    corpus = {row["id"]: row for row in pq.read_table(builtin_path()).to_pylist()}
    loops, numbers = [], []
    for row in plant(task, 500).to_pylist():
        cell = corpus[row["id"]]
        placed = zip(
            cell["heavy"] + cell["light"], cell["region_mask_heavy"] + cell["region_mask_light"], strict=True
        )
        counted = [residue for residue, region in placed if region in "246"]
        loops.append([counted.count(residue) for residue in "ACDEFGHIKLMNPQRSTVWY"])
        numbers.append(row["fitness"])
    residues, *_ = np.linalg.lstsq(np.array(loops, float), np.array(numbers), rcond=None)
    explained = np.corrcoef(np.array(loops) @ residues, numbers)[0, 1] ** 2
    assert 0.9 < explained < 0.999


@pytest.mark.heavy
def test_the_same_again():
    assert plant("affinity", 50).equals(plant("affinity", 50))
    assert not plant("affinity", 50).equals(plant("affinity", 50, seed=1))


def test_refused(tmp_path):
    with pytest.raises(ValueError, match="'specificity'; did you mean specificity-binary"):
        plant("specificity")
    with pytest.raises(ValueError, match=r"pairs must be at most .*; got 30,000"):
        plant("pairing", 30_000)
    with pytest.raises(ValueError, match=r"must end in \.csv, \.tsv or \.parquet"):
        make("pairing", tmp_path / "pairs.xlsx")
    assert not list(tmp_path.iterdir())
