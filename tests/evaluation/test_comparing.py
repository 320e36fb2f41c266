"""Two runs side by side: a better one is better, groups are swapped whole, and what cannot be paired."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support.cross_validations import write_run

from curr_ab.cli.main import main
from curr_ab.evaluation import compare_runs
from curr_ab.measures.fold_predictions import read_run

NAMES = ("HD", "CoV")


def predictions(generator, labels, skill, names=2):
    """Probabilities that know the label so well."""
    scores = generator.normal(size=(len(labels), names))
    scores[range(len(labels)), labels] += skill
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def two_runs(tmp_path, skills, *, groups=False, names=NAMES, sizes=(60, 60, 60, 60, 60)):
    """Runs of two members on the same folds."""
    labels = [np.arange(size) % len(names) for size in sizes]
    places = []
    for number, skill in enumerate(skills):
        generator = np.random.default_rng(number)
        folds = []
        for fold, known in enumerate(labels):
            made = {"labels": known, "predictions": predictions(generator, known, skill, len(names))}
            if groups:
                made["groups"] = [f"donor {fold} {place % 6}" for place in range(len(known))]
            folds.append(made)
        member = f"{number}M-F"
        places.append(write_run(tmp_path / member, "classes", names, folds, model=member))
    return places


def test_a_better_member_is_found_better(tmp_path):
    first, second = two_runs(tmp_path, (1.5, 0.5))
    found = compare_runs(first, second, metrics=["accuracy", "auroc"], draws=110)
    assert (found.first, found.second, found.num_pairs, found.units) == ("0M-F", "1M-F", 300, "pairs")
    by_name = {row.metric: row for row in found.metrics}
    for name in ("accuracy", "auroc"):
        row = by_name[name]
        assert row.first > row.second
        assert row.over_folds.p < 0.05 and row.p_predictions < 0.01
        assert 0 < row.over_folds.low < row.over_folds.difference == pytest.approx(row.first - row.second)
    assert by_name["accuracy"].test_of_predictions == "exact McNemar"
    run = read_run(first)
    right = [(fold.predictions.argmax(1) == fold.labels).mean() for fold in run.folds]
    assert by_name["accuracy"].first == pytest.approx(np.mean(right))
    assert by_name["accuracy"].first_error == pytest.approx(np.std(right, ddof=1) / np.sqrt(5))


def test_groups_are_swapped_as_a_whole(tmp_path):
    first, second = two_runs(tmp_path, (1.0, 0.9), groups=True, names=("HD", "Flu", "CoV"))
    found = compare_runs(first, second, metrics=["accuracy", "macro-f1"], draws=50)
    assert (found.units, found.num_units) == ("groups", 30)
    assert [row.metric for row in found.metrics] == ["accuracy", "macro-f1"]
    assert {row.test_of_predictions for row in found.metrics} == {"permutation"}


def test_a_run_beside_itself(tmp_path):
    first, _ = two_runs(tmp_path, (1.0, 1.0))
    for row in compare_runs(first, first, metrics=["accuracy", "aupr"], draws=20).metrics:
        assert row.over_folds.p == row.p_predictions == 1


def test_residues_and_numbers(tmp_path):
    generator = np.random.default_rng(0)
    labels = [[[0, 1, -100, 0, 1, 0], [1, 0, 0, 0]] * 4] * 2
    probabilities = [
        [[predictions(generator, np.maximum(one, 0), 2.0) for one in fold] for fold in labels]
        for _ in range(2)
    ]
    runs = [
        write_run(
            tmp_path / f"residues-{number}",
            "residues",
            ("other", "paratope"),
            [{"labels": fold, "predictions": told} for fold, told in zip(labels, made, strict=True)],
        )
        for number, made in enumerate(probabilities)
    ]
    found = compare_runs(*runs, metrics=["mcc"], draws=50)
    assert (found.num_pairs, found.num_units) == (16, 16)  # a pair's residues are swapped together
    assert found.first == f"8M-F ({runs[0]})"
    assert len(read_run(runs[0]).folds[0].labels) == 36  # nine known residues in two pairs, four times

    measured = generator.normal(size=(2, 50))
    runs = [
        write_run(
            tmp_path / f"number-{number}",
            "number",
            (),
            [{"labels": fold, "predictions": fold + noise * generator.normal(size=50)} for fold in measured],
        )
        for number, noise in enumerate((0.3, 3.0))
    ]
    found = compare_runs(*runs, draws=100)
    spearman = found.metrics[0]
    assert spearman.metric == "spearman" and spearman.first > spearman.second + 0.3
    assert spearman.p_predictions < 0.02


def test_what_cannot_be_paired(tmp_path):
    first, second = two_runs(tmp_path, (1.0, 1.0))
    folds = [{"labels": np.arange(60) % 2, "predictions": np.full((60, 2), 0.5)}] * 5
    others = {
        "their examples .fingerprints. must be equal": {"examples": "f" * 64},
        "their labels must be equal; got HD, CoV and HD, Flu": {"names": ("HD", "Flu")},
        "their targets must be equal; got classes and number": {"target": "number", "names": ()},
        "their numbers of folds must be equal; got 5 and 4": {"folds": folds[:4]},
        "fold 3 tests other pairs, such as '3-0'": {
            "folds": [*folds[:2], {**folds[2], "ids": [f"x{place}" for place in range(60)]}, *folds[3:]]
        },
        "fold 1 has other labels": {"folds": [{**folds[0], "labels": 1 - folds[0]["labels"]}, *folds[1:]]},
    }
    for number, (complaint, change) in enumerate(others.items()):
        chosen = {"target": "classes", "names": NAMES, "folds": folds, **change}
        if chosen["target"] == "number":
            numbers = {"labels": np.arange(60.0), "predictions": np.zeros(60)}
            chosen["folds"] = [numbers] * 5
        other = write_run(tmp_path / f"other-{number}", **chosen)
        with pytest.raises(ValueError, match=complaint):
            compare_runs(first, other)
    with pytest.raises(ValueError, match=r"metrics of these runs must be of accuracy, .*; got 'spearman'"):
        compare_runs(first, second, metrics=["spearman"])
    (second / "fold-4" / "predictions.parquet").unlink()
    with pytest.raises(ValueError, match="fold 4 is not done"):
        compare_runs(first, second)
    with pytest.raises(ValueError, match=r"must be a folder of `curr-ab finetune`; it has no folds\.json"):
        compare_runs(first, tmp_path)


def test_command(tmp_path, capsys):
    first, second = two_runs(tmp_path, (1.5, 0.5))
    command = [
        "compare",
        str(first),
        str(second),
        "--metric",
        "accuracy",
        "--metric",
        "auroc",
        "--draws",
        "99",
    ]
    assert main(command) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("specificity: 0M-F (first) and 1M-F (second), 5 folds, 300 pairs")
    assert [line.split()[0] for line in shown[3:5]] == ["accuracy", "auroc"]
    assert max(map(len, shown)) <= 110
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"][0]["over_folds"]["p"] == pytest.approx(float(shown[3].split()[-2]), rel=0.01)
    assert main(["compare", str(first), str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def several_columns(folder, noise):
    """A run in two folds that learns two columns at once; the second is known of every other pair."""
    generator = np.random.default_rng(0)
    labels = generator.normal(size=(2, 40))
    write_run(
        folder, "number", (), [{"labels": one, "predictions": one} for one in labels], model=folder.name
    )
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "label_columns": ["HIC", "Tm2"]}))
    for number, label in enumerate(labels, start=1):
        path = folder / f"fold-{number}" / "predictions.parquet"
        columns = pq.read_table(path, columns=["id", "number"]).to_pydict()
        columns |= {"label_HIC": label, "prediction_HIC": -label}
        columns |= {"label_Tm2": [one if place % 2 else None for place, one in enumerate(label)]}
        columns |= {"prediction_Tm2": label + noise * generator.normal(size=40)}
        pq.write_table(pa.table(columns), path)
    return folder


def test_one_of_several_columns(tmp_path, capsys):
    first, second = (several_columns(tmp_path / name, noise) for name, noise in (("a", 0.1), ("b", 5.0)))
    [found] = compare_runs(first, second, column="Tm2", metrics=["spearman"], draws=50).metrics
    assert found.first > 0.9 > 0.5 > found.second
    command = ["compare", str(first), str(second), "--draws", "50"]
    assert main([*command, "--column", "HIC", "--metric", "spearman"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("specificity (HIC): a (first)") and shown[3].split()[1] == "-1.0000"
    for more in [], ["--column", "Tm3"]:
        assert main([*command, *more]) == 2
        assert "learns, HIC, Tm2; got" in (said := capsys.readouterr().err) and "--column" in said
    plain, _ = two_runs(tmp_path, (1.0, 1.0))
    with pytest.raises(ValueError, match="column must be left out for a run of one column; got 'HIC'"):
        compare_runs(plain, plain, column="HIC")
