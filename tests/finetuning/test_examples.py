"""Labelled tables of every layout, and what each defect of one says."""

import re

import pandas as pd
import pytest

from curr_ab.finetuning import plant, read_examples, resolve_recipe
from curr_ab.words import UNKNOWN_LABEL

BINARY = resolve_recipe("specificity-binary")


@pytest.fixture(scope="module")
def planted():
    return plant("specificity-binary", 200).to_pandas()


@pytest.fixture(scope="module")
def published(planted):
    """The columns of the published files."""
    names = {"id": "name", "heavy": "h_sequence", "light": "l_sequence"}
    return planted.rename(columns=names)[["name", "h_sequence", "l_sequence", "label", "donor"]]


@pytest.fixture
def read(tmp_path):
    def read_table(table, recipe=BINARY, name="pairs.csv"):
        path = tmp_path / name
        if name.endswith("parquet"):
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False, sep="\t" if name.endswith("tsv") else ",")
        return read_examples(recipe, [str(path)])

    return read_table


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs.csv.gz", "pairs.parquet"])
def test_published_columns(read, published, name):
    examples = read(published, name=name)
    assert len(examples) == len(published)
    assert examples.label_names == ("HD", "CoV")
    row = published.iloc[3]
    one = examples[3]
    assert (one.id, one.heavy, one.light, one.number) == (row["name"], row.h_sequence, row.l_sequence, 4)
    assert [BINARY.labels[one.label] for one in examples] == published.label.tolist()
    assert [one.group for one in examples] == published.donor.tolist()
    assert (examples.num_dropped, examples.notes) == (0, ())


def test_columns_by_name(read, published):
    table = published.rename(
        columns={"h_sequence": "VH!", "l_sequence": "VL!", "label": "class", "donor": "who"}
    )
    named = {"heavy_column": "VH!", "light_column": "VL!", "label_column": "class", "group_by": "who"}
    named["id_column"] = "who"
    examples = read(table, resolve_recipe("specificity-binary", named))
    assert [one.heavy for one in examples] == published.h_sequence.tolist()
    assert examples[0].id == examples[0].group == published.donor[0]


def test_integer_labels_are_places_in_the_recipe_and_this_is_said(read, published):
    table = published.assign(label=(published.label == "CoV").astype(int))
    examples = read(table)
    assert [one.label for one in examples] == table.label.tolist()
    assert "0 is HD, 1 is CoV" in examples.notes[0]
    other_order = read(table, resolve_recipe("specificity-binary", {"labels": ["CoV", "HD"]}))
    assert "0 is CoV, 1 is HD" in other_order.notes[0]
    names = read(table, resolve_recipe("specificity-binary", {"labels": [1, 0]}))
    assert [one.label for one in names] == (1 - table.label).tolist()
    assert names.notes == ()
    # pandas writes integers as floats where a value of the column was once missing
    floats = read(
        table.assign(label=table.label.astype(float)),
        resolve_recipe("specificity-binary", {"labels": [1, 0]}),
    )
    assert [one.label for one in floats] == (1 - table.label).tolist()
    with pytest.raises(ValueError, match="labels must be 1, 0; got '2'"):
        read(changed(table, 3, label=2), resolve_recipe("specificity-binary", {"labels": [1, 0]}))


def test_fitness_layout(read, published):
    table = pd.DataFrame(
        {
            "heavy": published.h_sequence,
            "light": published.l_sequence,
            "fitness": [0.5 * n for n in range(200)],
        }
    )
    examples = read(table, resolve_recipe("affinity"))
    assert [one.label for one in examples][:3] == [0.0, 0.5, 1.0]
    assert (examples.label_names, examples[0].group) == ((), None)


def test_residue_labels(read):
    recipe = resolve_recipe("paratope")
    table = plant("paratope", 60).to_pandas()
    unknown = "--" + table.paratope_light[0][2:]
    table.loc[0, "paratope_light"] = unknown
    one = read(table, recipe)[0]
    assert len(one.label) == len(one.heavy) + len(one.light)
    heavy, light = one.label[: len(one.heavy)], one.label[len(one.heavy) :]
    assert "".join(map(str, heavy)) == table.paratope_heavy[0]
    assert light[:2] == (UNKNOWN_LABEL, UNKNOWN_LABEL)
    assert "".join(map(str, light[2:])) == unknown[2:]


def test_long_pairs_are_dropped_and_counted(read, published):
    table = published.copy()
    table.loc[:2, "h_sequence"] = [chain[:55] + "GGGGS" * 20 + chain[55:] for chain in table.h_sequence[:3]]
    examples = read(table)
    assert (len(examples), examples.num_dropped, examples[0].number) == (197, 3, 4)
    assert "3 of 200 pairs have more than 315 residues: dropped" in examples.notes[0]
    with pytest.raises(ValueError, match="max_residues must leave a pair; got 50"):
        read(published, resolve_recipe("specificity-binary", {"max_residues": 50}))


def test_repeated_and_contradictory_pairs_are_told(read, published):
    again = published.iloc[:3].assign(name="again", label=["CoV"] * 2 + ["HD"])
    again.loc[0, "label"] = published.label[0]
    again.loc[1, "label"] = "HD" if published.label[1] == "CoV" else "CoV"
    again.loc[2, "label"] = published.label[2]
    notes = read(pd.concat([published, again])).notes
    assert notes[0].startswith("3 pairs repeat the residues of an earlier one")
    assert notes[1].startswith("1 of them have another label than the first")


def test_fingerprint(read, published):
    same, again = read(published).fingerprint, read(published, name="other.csv").fingerprint
    table = published.copy()
    table.loc[0, "label"] = "HD" if table.label[0] == "CoV" else "CoV"
    assert same == again != read(table).fingerprint


def swapped(table):
    return table.rename(columns={"h_sequence": "l_sequence", "l_sequence": "h_sequence"})


def changed(table, place, **values):
    table = table.astype(object)
    for column, value in values.items():
        table.loc[place, column] = value
    return table


DEFECTS = {
    "no label column": (
        lambda t: t.drop(columns="label"),
        "there is no column 'label'; name another with label_column; the columns are name, h_sequence, "
        "l_sequence, donor",
    ),
    "no heavy column": (
        lambda t: t.drop(columns="h_sequence"),
        "a record needs a heavy and a light chain; name their columns; the",
    ),
    "no donor column": (
        lambda t: t.drop(columns="donor"),
        "there is no column of the donor; hold another column's values apart with group_by, or take the "
        "fold_scheme rows, whose folds may leak; the columns are name,",
    ),
    "swapped columns": (
        swapped,
        "the columns are swapped; set heavy_column to l_sequence and light_column to h_sequence",
    ),
    "one class": (
        lambda t: t.assign(label="HD"),
        "every example is labelled 'HD'; a class is learnt against another",
    ),
    "unknown text": (
        lambda t: changed(t, 6, label="healthy"),
        "record 7, column 'label': labels must be HD, CoV; got 'healthy': name those of your data",
    ),
    "more classes": (
        lambda t: t.assign(label=[n % 3 for n in range(len(t))]),
        "record 3, column 'label': 2 is beyond the recipe's 2 labels (0 HD, 1 CoV)",
    ),
    "missing label": (
        lambda t: changed(t, 4, label=None),
        "record 5, column 'label': the label is missing; complete it or remove the record",
    ),
    "missing group": (
        lambda t: changed(t, 4, donor=None),
        "record 5, column 'donor': the group is missing; complete it or remove the record",
    ),
    "missing group as a float": (
        lambda t: changed(t, 4, donor=float("nan")).assign(donor=lambda f: f.donor.astype(str)),
        "record 5, column 'donor': the group is missing; complete it or remove the record",
    ),
    "missing chain": (
        lambda t: changed(t, 9, l_sequence=None),
        "record 10: one of the two chains is missing",
    ),
    "nucleotides": (
        lambda t: changed(t, 9, l_sequence="GACATCCAGATGACC" * 20),
        "record 10: the column holds nucleotides",
    ),
    "stop codon": (lambda t: changed(t, 1, h_sequence=t.h_sequence[1][:60] + "*"), "record 2: a stop codon"),
    "rare class": (
        lambda t: t[(t.label == "HD") | (t.index.isin(t[t.label == "CoV"].index[:3]))],
        "3 examples labelled 'CoV' are fewer than the 5 parts of the folds; take fewer folds or",
    ),
    "no record": (lambda t: t.iloc[:0], "the table holds no record"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects(read, published, defect):
    damage, problem = DEFECTS[defect]
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        read(damage(published))
    if "labelled" not in problem:
        assert "pairs.csv" in str(caught.value)


def test_absent_class(read, published):
    with pytest.raises(ValueError, match="no example is labelled 'Flu'; leave the class out"):
        read(published, resolve_recipe("specificity-multiclass"))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("low", "record 5, column 'fitness': 'low' must be a number"),
        (None, "record 5, column 'fitness': the label is missing"),
        ("inf", "'inf' is not a finite number"),
    ],
)
@pytest.mark.heavy
def test_numbers_that_are_none(read, value, problem):
    table = plant("affinity", 20).to_pandas()
    with pytest.raises(ValueError, match=re.escape(problem)):
        read(changed(table, 4, fitness=value), resolve_recipe("affinity"))
    with pytest.raises(ValueError, match=re.escape("the values of 'fitness' must differ; all are 1.0")):
        read(table.assign(fitness=1), resolve_recipe("affinity"))


def test_numbers_far_from_zero(read):
    """fp32 has seven digits: a saved model would answer something else than was measured."""
    table = plant("affinity", 20).to_pandas()
    assert len(read(table.assign(fitness=table.fitness + 100), resolve_recipe("affinity"))) == 20
    with pytest.raises(ValueError, match="cannot hold such numbers to that degree; subtract a constant"):
        read(table.assign(fitness=table.fitness + 1e6), resolve_recipe("affinity"))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("0101", "record 5, column 'paratope_heavy': 4 labels for the"),
        (None, "record 5, column 'paratope_heavy': the label is missing"),
        ("2", "'2' must be one of 0 other, 1 paratope, - unknown"),
    ],
)
def test_residue_labels_that_do_not_fit(read, value, problem):
    table = plant("paratope", 20).to_pandas()
    value = value * len(table.heavy[4]) if value == "2" else value
    with pytest.raises(ValueError, match=re.escape(problem)):
        read(changed(table, 4, paratope_heavy=value), resolve_recipe("paratope"))
    with pytest.raises(ValueError, match="there is no column 'paratope_light'; name another"):
        read(table.drop(columns="paratope_light"), resolve_recipe("paratope"))


def test_odd_chains_are_not_taken_for_swapped(read, published):
    """A few swapped pairs are told; fragments without any motif are nobody's mistake."""
    table = published.copy()
    table.loc[:20, ["h_sequence", "l_sequence"]] = table.loc[:20, ["l_sequence", "h_sequence"]].to_numpy()
    assert "the chains of 21 pairs look swapped, such as record 1" in read(table).notes[0]
    fragments = published.assign(h_sequence=[h[10 : 30 + n % 9] for n, h in enumerate(published.h_sequence)])
    assert not [note for note in read(fragments).notes if "swapped" in note]


def test_fasta_has_no_labels(tmp_path, published):
    path = tmp_path / "pairs.fasta"
    path.write_text(f">a\n{published.h_sequence[0]}:{published.l_sequence[0]}\n")
    with pytest.raises(ValueError, match="a FASTA file has none"):
        read_examples(BINARY, [str(path)])


def test_hub_data_set(tmp_path, published, monkeypatch):
    """`hf://` goes through the same columns; a local folder stands in for the Hub."""
    import datasets

    published.to_parquet(tmp_path / "train.parquet")
    commit = "0123456789" * 4
    monkeypatch.setattr("curr_ab.data.reading.remote._commit", lambda *asked: commit)

    def local(name, config, *, revision):
        assert (name, revision) == ("owner/name", commit)
        return real(str(tmp_path), config)

    real = datasets.load_dataset_builder
    monkeypatch.setattr(datasets, "load_dataset_builder", local)
    examples = read_examples(BINARY, ["hf://owner/name?split=train"])
    assert [one.heavy for one in examples] == published.h_sequence.tolist()


def test_several_sources_are_numbered_through(tmp_path, published):
    for name, part in (("a.csv", published[:120]), ("b.csv", published[120:])):
        part.to_csv(tmp_path / name, index=False)
    examples = read_examples(BINARY, [str(tmp_path / "*.csv")])
    assert [one.number for one in examples] == list(range(1, 201))


def test_a_table_of_another_task_is_no_advice_to_rename_the_classes(read, published):
    problem = "labels must be shuffled, native; got 'HD': remove or rename a column that does not say"
    with pytest.raises(ValueError, match=problem):
        read(published.sort_values("label", ascending=False), resolve_recipe("pairing"))


LEADER, CONSTANT = "MDWTWRFLFVVAAATGVQS", "ASTKGPSVFPLAPSSKSTSGGTAALGC"


@pytest.mark.heavy
def test_labels_of_residues_are_cut_with_their_chain(read):
    recipe = resolve_recipe("paratope")
    rows = plant("paratope", 20).to_pandas()
    columns = [f"{recipe.label_column}_{chain}" for chain in ("heavy", "light")]
    truth = read(rows, recipe)
    whole = rows.copy()
    whole["heavy"] = LEADER + rows["heavy"] + CONSTANT
    in_domain = read(whole, recipe)
    whole[columns[0]] = "1" * len(LEADER) + rows[columns[0]] + "1" * len(CONSTANT)
    for examples in (read(whole, recipe), in_domain):
        assert [(one.heavy, one.label) for one in examples] == [(one.heavy, one.label) for one in truth]
    whole.loc[4, columns[0]] += "0"
    length = len(whole.heavy[4])
    message = f"record 5, {length + 1} labels for the {length} residues of the heavy chain, of which 20 to"
    with pytest.raises(ValueError, match=re.escape(message)):
        read(whole, recipe)
