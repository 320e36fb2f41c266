"""Labels of several columns, with bounds, units, weights and replicates, as tables hold them."""

import re

import pytest
from support.tiny_models import PAIRS

from curr_ab.finetuning import read_examples, resolve_recipe
from curr_ab.words import UNKNOWN_LABEL

COLUMNS = ("kd", "tm")


@pytest.fixture
def read(tmp_path):
    """The examples of a table with these columns beside ids and chains, a row for each value."""

    def read_table(columns, task="affinity", pairs=PAIRS, **changes):
        (num_rows,) = {len(values) for values in columns.values()}
        chains = (pairs * num_rows)[:num_rows]
        rows = [["id", "heavy", "light", *columns]]
        rows += [
            [f"ab-{n}", *pair, *values]
            for n, (pair, *values) in enumerate(zip(chains, *columns.values(), strict=True), 1)
        ]
        path = tmp_path / "table.tsv"
        path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
        changes = {"label_column": next(iter(columns)), **changes}
        return read_examples(resolve_recipe(task, {"folds": 2, **changes}), [str(path)])

    return read_table


@pytest.mark.parametrize("gap", ["", "nan", "NA", "n/a", "ND"])
def test_several_numbers_with_gaps(read, gap):
    table = {"kd": [1, 2, gap, gap, 5], "tm": [60, gap, 70, gap, 80]}
    examples = read(table, label_columns=COLUMNS)
    assert [one.label for one in examples] == [(1, 60), (2, None), (None, 70), (5, 80)]
    assert [one.number for one in examples] == [1, 2, 3, 5]
    assert any(note.endswith("1 of 5 records have no label: left out") for note in examples.notes)
    assert "'tm' is known of 3 of 4 examples" in examples.notes
    filled = read({**table, "kd": [1, 2, 3, gap, 5]}, label_columns=COLUMNS)
    assert filled.fingerprint != examples.fingerprint


def test_several_labels_of_two_classes(read):
    table = {"binds": ["yes", "No", "", "yes", "no"], "stable": [1, "", 0, "0.0", 1]}
    how = {"labels": ["no", "yes"], "label_columns": list(table), "group_by": "id"}
    examples = read(table, "specificity-binary", **how)
    unknown = UNKNOWN_LABEL
    assert [one.label for one in examples] == [(1, 1), (0, unknown), (unknown, 0), (1, 0), (0, 1)]
    with pytest.raises(ValueError, match="every example in 'stable' is labelled 'yes'"):
        read({**table, "stable": [1, "", "", 1, 1]}, "specificity-binary", **how)


def test_bounds_and_units(read):
    examples = read({"kd": [">100 nM", "12.5 nM", "<= 0.1nM", "3e-1 nM"]})
    assert [(one.label, one.bounds) for one in examples] == [
        (100, (1,)),
        (12.5, ()),
        (0.1, (-1,)),
        (0.3, ()),
    ]
    assert "the unit nM of 'kd' is that of all rows, and left out" in examples.notes
    assert any(note.startswith("2 of 4 values of 'kd' are bounds") for note in examples.notes)
    assert any("a probe takes them" in one for one in read({"kd": [">1", 2, 3, 4]}, method="probe").notes)
    plain = read({"kd": ["100 nM", "12.5 nM", "0.1nM", "3e-1 nM"]})
    assert plain.fingerprint != examples.fingerprint
    several = read({"kd": [1, ">2", "", 4], "tm": [60, 70, "<50", 65]}, label_columns=COLUMNS)
    assert [one.bounds for one in several] == [(), (1, 0), (0, -1), ()]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (["1 nM", "2 nM", "3 uM", 4], "record 3, column 'kd': the unit must be that of record 1 of "),
        (["1 nM", "2 nM", "3", "4 nM"], "nM; got none: write all in one unit"),
        (["1", "1,000", "3", "4"], "record 2, column 'kd': '1,000' must be a number"),
        (["1", "5-10", "3", "4"], "'5-10' must be a number"),
        (["1", "~5", "3", "4"], "'~5' must be a number"),
        (["1", ">inf", "3", "4"], "'>inf' must be a number"),
        ([">1", ">2", "<3", ">4"], "the values of 'kd' must be numbers; all are bounds"),
        ([1, ">2", "<3", 1], "the values of 'kd' must differ; all are 1.0"),
    ],
)
def test_numbers_that_cannot_be_read(read, values, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        read({"kd": values})


def test_weights(read):
    table = {"kd": [1, 2, 3, 4], "count": [1, 2.5, 1, 1]}
    examples = read(table, weight_column="count")
    assert [one.weight for one in examples] == table["count"]
    assert examples.fingerprint != read(table).fingerprint
    assert read(table).fingerprint == read({**table, "count": [1] * 4}, weight_column="count").fingerprint
    for value, problem in [
        (0, "record 2, column 'count': the weight must be above 0; got 0"),
        ("", "record 2, column 'count': the weight is missing"),
        (">2", "column 'count': '>2' must be a number"),
    ]:
        with pytest.raises(ValueError, match=re.escape(problem)):
            read({**table, "count": [1, value, 1, 1]}, weight_column="count")
    with pytest.raises(ValueError, match="there is no column 'n'; name another with weight_column"):
        read(table, weight_column="n")


def test_replicates(read):
    first, second = PAIRS[:2]
    table = {"kd": [1, 4, 10, 7, ">9"], "count": [1, 2, 1, 1, 1], "lab": [*"aabaa"]}
    how = {"pairs": [first, first, first, second, second], "weight_column": "count"}
    kept = read(table, **how)
    assert [one.label for one in kept] == [1, 4, 10, 7, 9]
    averaged = read(table, replicates="averaged", **how)
    found = [(one.label, one.weight, one.bounds) for one in averaged]
    assert found == [(4.75, 4, ()), (7, 1, ()), (9, 1, (1,))]
    assert "3 records of 1 antibodies are averaged, those of each" in averaged.notes
    by_lab = read(table, replicates="averaged", group_by="lab", **how)
    assert [(one.label, one.weight) for one in by_lab] == [(3, 3), (10, 1), (7, 1), (9, 1)]
    gaps = {"kd": [1, "", 3, 4], "tm": [60, 70, "", 64]}
    several = read(gaps, label_columns=COLUMNS, replicates="averaged", pairs=[first, first, second, second])
    # One weight for all columns, also for the one that a single row has.
    assert [(one.label, one.weight) for one in several] == [((1, 65), 2), ((3.5, 64), 2)]


def test_a_rare_class_is_told(read):
    table = {"label": ["no"] * 28 + ["yes"] * 2}
    notes = read(table, "specificity-binary", labels=["no", "yes"], group_by="id").notes
    assert "'yes' is 6.7 % of the labels of 'label': mcc and aupr say more than accuracy" in notes


@pytest.mark.parametrize(
    ("task", "changes", "problem"),
    [
        ("affinity", {"label_columns": ["a"]}, "label_columns must be two or more different columns; got a;"),
        ("affinity", {"label_columns": ["a", "a"]}, "label_columns must be two or more different"),
        ("paratope", {"label_columns": ["a", "b"]}, "label_columns must be none for residues"),
        ("specificity-multiclass", {"label_columns": ["a", "b"]}, "labels must be two for several label_col"),
        ("affinity", {"loss": "ordinal"}, "loss must be one of mse, huber, ranking for the target number"),
        ("specificity-binary", {"loss": "ordinal"}, "loss must be cross_entropy for two labels; got ordinal"),
        ("paratope", {"loss": "mse"}, "loss must be one of cross_entropy for the target residues; got mse"),
        (
            "affinity",
            {"loss": "huber", "method": "probe"},
            "loss must be none for probe, as a regression has its own",
        ),
        (
            "affinity",
            {"loss": "ranking", "pairs_per_micro_batch": 4, "method": "lora"},
            "pairs_per_micro_batch must be at least pairs_per_step for the loss ranking",
        ),
        ("specificity-binary", {"replicates": "averaged"}, "replicates must be kept for the target classes"),
        ("pairing", {"unpaired": True}, "unpaired must be no for shuffled negatives"),
        ("pairing", {"weight_column": "n"}, "weight_column must be none for shuffled negatives"),
        ("pairing", {"label_columns": ["a", "b"]}, "negatives must be given"),
    ],
)
def test_what_a_recipe_cannot_say(task, changes, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        resolve_recipe(task, changes)


def test_one_column_replaces_several(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("like: affinity\nlabel_columns: [kd, tm]\n")
    assert resolve_recipe(path).tasks == COLUMNS
    assert resolve_recipe(path, {"label_column": "kd"}).tasks == ("kd",)
