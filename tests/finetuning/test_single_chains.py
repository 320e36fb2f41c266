"""Single chains beside pairs: read as their rows are, learnt, measured and predicted."""

import itertools
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from support.tiny_models import PAIRS

from curr_ab.cli.main import main
from curr_ab.finetuning import (
    BatchPredictor,
    cross_validate,
    load_finetuned,
    predict,
    read_examples,
    resolve_recipe,
)
from curr_ab.finetuning.batches import TokenRows
from curr_ab.finetuning.beside import read_comparisons
from curr_ab.measures.fold_predictions import columns_of_run, read_run
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import UNKNOWN_LABEL

HEAVY, LIGHT = PAIRS[0]


def write_mixed(path):
    """Pairs, heavy chains and light chains in turn, with two numbers of which some are unknown."""
    rows = []
    for n, (heavy, light) in enumerate(PAIRS * 6):
        heavy, light = ((heavy, light), (heavy, None), (None, light))[n % 3]
        kd, tm = float(n % 7), 60.0 + n % 5
        rows.append({"id": f"r{n}", "heavy": heavy, "light": light, "kd": kd if n % 4 else None, "tm": tm})
        rows[-1]["binds"] = ["no", "yes"][n % 2]
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), path)
    return rows


def test_rows_stay_as_they_are(tmp_path):
    rows = write_mixed(tmp_path / "mixed.csv")
    recipe = resolve_recipe("affinity", {"unpaired": True, "label_column": "tm"})
    examples = read_examples(recipe, [str(tmp_path / "mixed.csv")])
    assert [one.chains for one in examples] == [(row["heavy"], row["light"]) for row in rows]
    (note,) = (note for note in examples.notes if note.startswith("chains: "))
    assert "heavy and light" in note and " light" in note
    tokens = TokenRows(examples.items, recipe)
    tokenizer = CurrAbTokenizer()
    expected = [
        tokenizer(*(chain for chain in one.chains if chain is not None))["input_ids"] for one in examples
    ]
    assert tokens.lengths.tolist() == list(map(len, expected))
    (part,) = tokens.parts(np.arange(4), 1)
    assert sorted(part.inputs["input_ids"][0].tolist()) == sorted(itertools.chain(*expected[:4]))


def test_pairs_are_wanted_unless_single_chains_are_said(tmp_path):
    table = tmp_path / "nanobodies.csv"
    chains = [heavy for heavy, _ in PAIRS]
    table.write_text("sequence,fitness\n" + "".join(f"{chain},{n}\n" for n, chain in enumerate(chains)))
    with pytest.raises(ValueError, match=r"heavy and a light chain; .*; or read single chains as unpaired"):
        read_examples(resolve_recipe("affinity"), [str(table)])
    examples = read_examples(resolve_recipe("affinity", {"unpaired": True, "folds": 2}), [str(table)])
    assert [one.chains for one in examples] == [(chain, None) for chain in chains]


def residues(tmp_path, columns, **changes):
    """Examples of the paratope recipe out of a Parquet table."""
    pq.write_table(pa.table(columns), tmp_path / "paratopes.parquet")
    changes = {"labels": ["N", "P"], "folds": 2, "group_by": "id", "unpaired": True, **changes}
    return read_examples(resolve_recipe("paratope", changes), [str(tmp_path / "paratopes.parquet")])


def letters_of(chain, letters="NP"):
    return [letters[residue in "YWD"] for residue in chain]


@pytest.mark.parametrize("as_text", ["".join, list, str])
def test_letters_of_residues_in_one_column(tmp_path, as_text):
    chains = [chain for pair in PAIRS for chain in pair]
    labels = [as_text(letters_of(chain)) for chain in chains]
    table = {"id": [f"c{n}" for n in range(len(chains))], "sequence": chains, "paratope": labels}
    examples = residues(tmp_path, table)
    assert [one.heavy or one.light for one in examples] == chains
    assert [one.light is None for one in examples] == [True, False] * len(PAIRS)
    for one, chain in zip(examples, chains, strict=True):
        assert one.label == tuple("NP".index(letter) for letter in letters_of(chain))


def test_labels_are_cut_with_the_chain(tmp_path):
    chains = [f"MKHLWFFLLLVAAPRWVLS{heavy}ASTKGPSVFPLAPSSKSTSGG" for heavy, _ in PAIRS]
    labels = [letters_of(chain) for chain in chains]
    labels[0][25] = "-"
    examples = residues(
        tmp_path, {"id": [*map(str, range(len(chains)))], "sequence": chains, "paratope": labels}
    )
    assert [one.heavy for one in examples] == [heavy for heavy, _ in PAIRS]
    assert examples[0].label[6] == UNKNOWN_LABEL
    assert examples[1].label == tuple("NP".index(letter) for letter in letters_of(PAIRS[1][0]))


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (
            {"heavy": [HEAVY], "light": [LIGHT], "paratope": ["N"]},
            "a pair needs a column of labels for each",
        ),
        ({"heavy": [HEAVY], "paratope": ["NX"]}, "column 'paratope': 2 labels for the"),
        ({"heavy": [HEAVY], "paratope": ["X" * len(HEAVY)]}, "'X' must be one of 0 N, 1 P, - unknown"),
        ({"heavy": [HEAVY], "paratope": [None]}, "column 'paratope': the label is missing"),
        (
            {"heavy": [HEAVY], "other": ["N"]},
            "there is no column 'paratope_heavy'; name another",
        ),
    ],
)
def test_residues_that_do_not_fit(tmp_path, columns, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        residues(tmp_path, {"id": ["a"], **columns})


def test_labels_of_the_chain_that_a_row_has(tmp_path):
    """With a column for each chain, that of an absent chain is not looked at."""
    first, second = PAIRS[:2]
    table = {
        "id": ["a", "b"],
        "heavy": [first[0], second[0]],
        "light": [None, second[1]],
        "paratope_heavy": ["".join(letters_of(one[0], "01")) for one in (first, second)],
        "paratope_light": [None, "".join(letters_of(second[1], "01"))],
    }
    one, other = residues(tmp_path, table, labels=["other", "paratope"])
    assert len(one.label) == len(first[0]) and len(other.label) == sum(map(len, second))


def test_rows_without_a_chain_are_left_out(tmp_path):
    rows = write_mixed(tmp_path / "mixed.csv")
    rows.append({**rows[0], "id": "none", "heavy": None, "light": None})
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), tmp_path / "mixed.csv")
    recipe = resolve_recipe("affinity", {"unpaired": True, "label_column": "tm"})
    examples = read_examples(recipe, [str(tmp_path / "mixed.csv")])
    assert len(examples) == len(rows) - 1
    assert any(note.endswith("1 records are left out, which hold no chain") for note in examples.notes)


@pytest.mark.heavy
@pytest.mark.parametrize("target", ["number", "classes"])
def test_from_a_mixed_table_with_gaps_to_predictions(target, member, tmp_path):
    """Two columns, single chains and pairs: folds, metrics, figures, the saved model and its command."""
    path = tmp_path / "mixed.csv"
    rows = write_mixed(path)
    columns = ["kd", "tm"]
    if target == "classes":
        columns = ["binds", "stable"]
        for n, row in enumerate(rows):
            row["stable"] = None if n % 5 == 0 else ["no", "yes"][n // 2 % 2]
        pyarrow.csv.write_csv(pa.Table.from_pylist(rows), path)
    recipe = resolve_recipe(
        "affinity" if target == "number" else "specificity-binary",
        {
            "unpaired": True,
            "label_columns": columns,
            "fold_scheme": "rows",
            "folds": 2,
            "epochs": 1,
            "precision": "fp32",
            "pooling": "mean_per_chain",
            "learning_rate": 1e-2,
            "adapter_dropout": 0.0,
            **({"labels": ["no", "yes"]} if target == "classes" else {}),
        },
    )
    results = cross_validate(recipe, member, [path], tmp_path / "run", figures=True)
    metric = "spearman" if target == "number" else "mcc"
    means = [row for row in results if "fold" not in row.details and row.metric == metric]
    assert [row.details.get("column") for row in means] == [None, *columns]
    assert means[0].value == pytest.approx((means[1].value + means[2].value) / 2)
    assert means[1].num_items == sum(row[columns[0]] is not None for row in rows)
    assert (
        tmp_path / "run" / "figures" / f"{'predicted' if target == 'number' else 'roc'}_{columns[1]}.png"
    ).exists()

    run = tmp_path / "run"
    assert columns_of_run(run) == tuple(columns)
    one = read_run(run, column=columns[1])
    assert sum(map(len, (fold.labels for fold in one.folds))) == sum(
        row[columns[1]] is not None for row in rows
    )
    with pytest.raises(ValueError, match="column must be one of those that"):
        read_run(run)

    # What the fold predicted is what its saved model says of the same rows, alone and in the command.
    kind = "prediction" if target == "number" else "probability"
    tested = pq.read_table(run / "fold-1" / "predictions.parquet").to_pydict()
    out = tmp_path / "out.csv"
    options = ["--unpaired", "--device", "cpu", "--dtype", "float32", "--quiet"]
    assert main(["predict", str(run / "fold-1" / "adapter"), str(path), "--out", str(out), *options]) == 0
    told = pyarrow.csv.read_csv(out).to_pydict()
    assert told["id"] == [row["id"] for row in rows]
    model, tokenizer = load_finetuned(run / "fold-1" / "adapter", device="cpu")
    alone = list(predict(model, tokenizer, [(row["heavy"], row["light"]) for row in rows]))
    batch = BatchPredictor(run / "fold-1" / "adapter", unpaired=True)(pa.Table.from_pylist(rows)).to_pydict()
    for index, column in enumerate(columns):
        at = [told["id"].index(one) for one in tested["id"]]
        values = told[f"{kind}_{column}"]
        assert [values[place] for place in at] == pytest.approx(
            tested[f"{kind}_{column}"], rel=1e-3, abs=1e-3
        )
        assert values == pytest.approx([one[index] for one in alone], rel=1e-3, abs=1e-4)
        assert values == pytest.approx(batch[f"{kind}_{column}"], rel=1e-3, abs=1e-4)
    # The last fit knows how sure it is of each column, and each stands beside baselines.
    assert (
        main(["predict", str(run / "adapter"), str(path), "--out", str(out), "--level", "0.5", *options]) == 0
    )
    sure = pyarrow.csv.read_csv(out)
    for column in columns:
        if target == "classes":
            assert set(sure[f"set_{column}"].to_pylist()) <= {"no", "yes", "no | yes"}
            continue
        middle = (sure[f"low_{column}"].to_numpy() + sure[f"high_{column}"].to_numpy()) / 2
        assert middle == pytest.approx(sure[f"prediction_{column}"].to_numpy(), abs=1e-3)
    assert "applicable" in sure.column_names
    comparisons = read_comparisons(run)
    assert [one.column for one in comparisons] == columns
    for one in comparisons:
        own = next(row for row in one.rows if row.kind == "run")
        headline = next(
            row
            for row in results
            if "fold" not in row.details
            and row.details.get("column") == one.column
            and row.metric == one.metric
        )
        assert own.value == pytest.approx(headline.value)
        assert {"probe", "cdr3", "one-hot"} <= {row.name for row in one.rows}
        assert one.sentence in (run / "report.md").read_text()
    card = (run / "adapter" / "README.md").read_text()
    assert f"{metric} of {columns[0]}" in card and "single chains too" in card
    assert json.loads((run / "data.json").read_text())["examples"]


@pytest.mark.heavy
@pytest.mark.parametrize("loss", ["ordinal", "ranking"])
def test_what_a_loss_leaves_open_is_in_the_saved_model(loss, member, tmp_path):
    """Thresholds between classes, and the unit of a ranking, are found after the fit."""
    path = tmp_path / "mixed.csv"
    rows = write_mixed(path)
    for n, row in enumerate(rows):
        row["level"] = ["low", "medium", "high"][n % 3]
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), path)
    task = (
        {"labels": ["low", "medium", "high"], "label_column": "level"}
        if loss == "ordinal"
        else {"label_column": "tm"}
    )
    recipe = resolve_recipe(
        "specificity-binary" if loss == "ordinal" else "affinity",
        {
            "unpaired": True,
            "fold_scheme": "rows",
            "folds": 1,
            "epochs": 2,
            "final": False,
            "loss": loss,
            "precision": "fp32",
            "learning_rate": 1e-2,
            "method": "full",
            **task,
        },
    )
    results = cross_validate(recipe, member, [path], tmp_path / "run")
    assert ("class-distance" in {row.metric for row in results}) == (loss == "ordinal")
    tested = pq.read_table(tmp_path / "run" / "fold-1" / "predictions.parquet").to_pydict()
    model, tokenizer = load_finetuned(tmp_path / "run" / "fold-1" / "adapter", device="cpu")
    by_id = {row["id"]: (row["heavy"], row["light"]) for row in rows}
    found = list(predict(model, tokenizer, [by_id[one] for one in tested["id"]]))
    if loss == "ordinal":
        names = [f"probability_{name}" for name in recipe.labels]
        assert np.array(found) == pytest.approx(np.array([tested[name] for name in names]).T, abs=1e-4)
    else:
        assert np.concatenate(found) == pytest.approx(tested["prediction"], rel=1e-4)
        assert 55 < np.mean(tested["prediction"]) < 70
