"""Negatives of the pairing task: foreign chains, no leak, and no hint in a single chain or in germline."""

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.tree import DecisionTreeClassifier

from curr_ab.data import builtin_path
from curr_ab.finetuning import plant, read_examples, resolve_recipe, split_folds

SCHEMES = [
    {"negatives": negatives, **scheme}
    for negatives in ("shuffled", "matched")
    for scheme in ({"group_by": "donor"}, {"group_by": "clone"}, {"fold_scheme": "rows"})
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three tenths of the corpus; clones are whole."""
    path = tmp_path_factory.mktemp("pairing") / "pairs.parquet"
    pq.write_table(pq.read_table(builtin_path()).slice(0, 6_000), path)
    return str(path)


@pytest.fixture(scope="module")
def cells(source):
    return pq.read_table(source).to_pylist()


@pytest.fixture(scope="module")
def of_id(cells):
    return {row["id"]: row for row in cells}


@pytest.fixture
def read(source):
    def read_corpus(**overrides):
        recipe = resolve_recipe("pairing", overrides)
        return recipe, read_examples(recipe, [source])

    return read_corpus


def origins(one, of_id):
    """The cells that a negative's chains are from."""
    heavy, light = one.id.split("/")
    return of_id[heavy], of_id[light]


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_negatives(scheme, read, cells, of_id):
    recipe, examples = read(**scheme)
    natives = [one for one in examples if one.label == 1]
    negatives = [one for one in examples if one.label == 0]
    assert len(natives) == len(negatives) > (2_500 if recipe.negatives == "matched" else 5_900)
    assert not {(one.heavy, one.light) for one in negatives} & {(row["heavy"], row["light"]) for row in cells}
    # A single chain says nothing: each is there once in either class.
    assert Counter(one.heavy for one in natives) == Counter(one.heavy for one in negatives)
    assert Counter(one.light for one in natives) == Counter(one.light for one in negatives)
    assert len({one.number for one in examples}) == len({one.id for one in examples}) == len(examples)
    for one in negatives:
        heavy, light = origins(one, of_id)
        assert (one.heavy, one.light) == (heavy["heavy"], light["light"])
        assert heavy["donor"] == light["donor"]
        assert heavy["clone"] != light["clone"]
        if recipe.negatives == "matched":
            assert heavy["v_call_light"].split("*")[0] == light["v_call_light"].split("*")[0]
            assert (heavy["mutations_light"] > 0) == (light["mutations_light"] > 0)


@pytest.mark.parametrize("group", ["donor", "clone"])
@pytest.mark.heavy
def test_no_cell_gives_chains_to_two_parts(group, read, of_id):
    recipe, examples = read(group_by=group, early_stopping=2)
    for fold in split_folds(examples, recipe):
        groups = [
            {of_id[cell][group] for one in examples.take(part) for cell in one.id.split("/")}
            for part in (fold.train, fold.validation, fold.test)
        ]
        assert all(groups)
        assert not groups[0] & groups[1]
        assert not (groups[0] | groups[1]) & groups[2]


def accuracy(examples, folds, describe):
    """Of a tree that sees only what `describe` says of the chains."""
    seen = np.array([describe(one) for one in examples])
    labels = np.array([one.label for one in examples])
    scores = [DecisionTreeClassifier(random_state=0).fit(seen[f.train], labels[f.train]) for f in folds]
    return np.mean(
        [model.score(seen[f.test], labels[f.test]) for model, f in zip(scores, folds, strict=True)]
    )


@pytest.mark.heavy
def test_mutation_status_and_germline_tell_shuffled_but_not_matched_pairs(read, cells):
    heavies, lights = {row["heavy"]: row for row in cells}, {row["light"]: row for row in cells}

    def status(one):
        return heavies[one.heavy]["mutations_heavy"] > 0, lights[one.light]["mutations_light"] > 0

    families = {
        gene.split("-")[0]: n for n, gene in enumerate(sorted({row["v_call_light"] for row in cells}))
    }

    def germline(one):
        return heavies[one.heavy]["v_call_heavy"][4:5], families[
            lights[one.light]["v_call_light"].split("-")[0]
        ]

    recipe, shuffled = read(negatives="shuffled")
    folds = split_folds(shuffled, recipe)
    assert accuracy(shuffled, folds, status) > 0.62
    assert accuracy(shuffled, folds, germline) > 0.62
    recipe, matched = read(negatives="matched")
    folds = split_folds(matched, recipe)
    assert abs(accuracy(matched, folds, status) - 0.5) < 0.01
    assert abs(accuracy(matched, folds, germline) - 0.5) < 0.01


@pytest.mark.heavy
def test_the_same_again(read):
    assert read()[1].fingerprint == read()[1].fingerprint != read(seed=7)[1].fingerprint


@pytest.fixture
def table(tmp_path):
    def write(frame, **overrides):
        path = tmp_path / "pairs.csv"
        frame.to_csv(path, index=False)
        return read_examples(resolve_recipe("pairing", overrides), [str(path)])

    return write


@pytest.fixture(scope="module")
def natives():
    return plant("pairing", 300).to_pandas()


def test_without_donors_it_is_said(table, natives):
    examples = table(natives[["id", "heavy", "light", "clone"]], group_by="clone")
    assert len(examples) > 570
    assert "300 pairs name no donor: their light chains are exchanged without regard to it" in examples.notes


def test_pairs_without_a_partner_are_dropped_and_counted(table, natives):
    natives = natives.copy()
    natives.loc[0, "donor"] = "alone"
    examples = table(natives)
    assert "1 of 300 native pairs have no partner for an exchange: dropped" in examples.notes
    assert "sim" in examples[0].id
    assert examples[0].number == 2


def test_nothing_to_exchange(table, natives):
    with pytest.raises(ValueError, match=r"no light chain can be exchanged \(shuffled\)"):
        table(natives.assign(clone="one"))


def test_named_natives_are_taken_and_numbers_are_refused(table, natives):
    labels = ["native", "shuffled", "native"] * 100
    examples = table(natives.assign(label=labels))
    assert any("200 of 300 pairs are native and kept" in note for note in examples.notes)
    with pytest.raises(ValueError, match=r"column 'label' holds numbers.*which pairs are native"):
        table(natives.assign(label=[0, 1, 1] * 100))
    given = table(natives.assign(label=[0, 1, 1] * 100), negatives="given", labels=["native", "shuffled"])
    assert (len(given), given.label_names) == (300, ("native", "shuffled"))


def test_matched_needs_germline(table, natives):
    with pytest.raises(ValueError, match="matched negatives need v_call_light, and mutations_light or"):
        table(natives.drop(columns="mutations_light"), negatives="matched")
    natives = natives.copy()
    natives.loc[4, "v_call_light"] = None
    with pytest.raises(
        ValueError, match="record 5, columns of the light chain: V gene or mutations are missing"
    ):
        table(natives, negatives="matched")
