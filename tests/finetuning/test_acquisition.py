"""What to measure next: strategies on made-up draws, diverse batches, pools of designs, and rounds."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.csv
import pytest
from support.cross_validations import write_run
from support.finetuned_models import save_base, save_tuned, tune
from support.tiny_models import PAIRS

from curr_ab.cli.main import main
from curr_ab.finetuning import plant, resolve_recipe
from curr_ab.finetuning.acquisition import acquisition_order, choose_batch, spread
from curr_ab.finetuning.acquisition_assay import Assay, read_assay
from curr_ab.finetuning.acquisition_plan import AcquisitionPlan, RoundsPlan
from curr_ab.finetuning.acquisition_rounds import run_rounds, table_of
from curr_ab.finetuning.uncertainty import measure_uncertainty
from curr_ab.measures.repertoires import identities

# Three models on four pairs: the last is the best on average, the second is what they disagree about most.
DRAWS = np.array([[0.0, -9.0, 1.0, 3.0], [0.1, 9.0, 1.2, 3.1], [0.2, 0.0, 1.1, 3.2]])


@pytest.mark.parametrize(
    ("by", "expected"), [("greedy", [3, 2, 0, 1]), ("ucb", [1, 3, 2, 0]), ("uncertainty", [1, 0, 2, 3])]
)
def test_each_strategy_has_its_order(by, expected):
    order, scores = acquisition_order(DRAWS, by, np.random.default_rng(0))
    deviation = DRAWS.std(axis=0, ddof=1)
    wanted = {"greedy": DRAWS.mean(axis=0), "ucb": DRAWS.mean(axis=0) + deviation, "uncertainty": deviation}
    assert scores == pytest.approx(wanted[by])
    assert order[0] == expected[0]
    assert (np.diff(scores[order]) <= 0).all()


def test_thompson_takes_the_best_of_a_model_drawn_each_time():
    first = [acquisition_order(DRAWS, "thompson", np.random.default_rng(n))[0][0] for n in range(300)]
    # Of the three models two have the last pair on top, one the second pair.
    assert np.mean(np.equal(first, 3)) == pytest.approx(2 / 3, abs=0.1)
    assert set(first) == {1, 3}
    order, _ = acquisition_order(DRAWS, "thompson", np.random.default_rng(0))
    assert sorted(order) == [0, 1, 2, 3]


def test_a_single_model_is_sure():
    assert (spread(DRAWS[:1]) == 0).all()


def test_a_diverse_batch_holds_no_copies():
    """Of five families of ten near-copies, five are chosen from five; without, from the best one alone."""
    random = np.random.default_rng(0)
    centres = random.integers(1, 21, (5, 200)).astype(np.uint8)
    residues = np.repeat(centres, 10, axis=0)
    residues[np.arange(50), random.integers(0, 200, 50)] = 1
    order = np.arange(50)
    assert set(choose_batch(order, 10) // 10) == {0}
    chosen = choose_batch(order, 10, residues)
    assert set(chosen // 10) == {0, 1, 2, 3}  # of four times as many, the first forty
    assert chosen[0] == 0  # the best comes first
    assert len(set(choose_batch(order, 4, residues) // 10)) == 2  # of the first sixteen, both families
    pairs = [(a, b) for a in chosen[:4] for b in chosen[:4] if a < b]
    assert max(identities(residues[a], residues[b]) for a, b in pairs) < 0.2
    assert (choose_batch(order[:3], 5, residues) == [0, 1, 2]).all()


def planted_assay(num=160, width=6, seed=0, target="number"):
    random = np.random.default_rng(seed)
    features = random.normal(0, 1, (num, width))
    value = features @ np.arange(1, width + 1) + random.normal(0, 0.5, num)
    return Assay(
        features=features,
        labels=value if target == "number" else (value > np.quantile(value, 0.9)).astype(int),
        target=target,
        num_classes=0 if target == "number" else 2,
        wanted=0 if target == "number" else 1,
        sign=1.0,
        residues=random.integers(1, 21, (num, 288)).astype(np.uint8),
    )


ROUNDS = RoundsPlan(rounds=2, per_round=8, first=10, repetitions=6, members=3, strategies=("greedy", "ucb"))


@pytest.mark.heavy
@pytest.mark.parametrize("target", ["number", "classes"])
def test_chosen_pairs_find_more_than_random_ones(target):
    rows = table_of(run_rounds(planted_assay(target=target), ROUNDS, AcquisitionPlan())).to_pylist()
    last = {row["strategy"]: row for row in rows if row["round"] == 2}
    assert set(last) == {"greedy", "ucb", "random"}
    for name in ("greedy", "ucb"):
        assert last[name]["gain_low"] > 0
        assert last[name]["measured"] == 26
    start = [row for row in rows if row["round"] == 0]
    assert {row["gain"] for row in start} == {0}  # all begin with the same pairs
    assert {row["score_gain"] for row in start} == {0}


@pytest.mark.heavy
def test_low_is_high_of_the_opposite():
    assay = planted_assay()
    plan = replace(ROUNDS, repetitions=2)
    low = run_rounds(replace(assay, sign=-1.0), plan, AcquisitionPlan(goal="low"))
    high = run_rounds(replace(assay, labels=-assay.labels), plan, AcquisitionPlan())
    assert low.found["greedy"] == pytest.approx(-high.found["greedy"])
    assert low.score["greedy"] == pytest.approx(high.score["greedy"])
    gains = [row["gain"] for row in table_of(low).to_pylist() if row["round"] == 2]
    assert gains == pytest.approx([row["gain"] for row in table_of(high).to_pylist() if row["round"] == 2])


def test_weights_count_in_the_regressions():
    """Rows that are wrong and weigh next to nothing teach nothing."""
    assay, wrong = planted_assay(), np.arange(160) % 2 == 0
    spoilt = replace(assay, labels=np.where(wrong, -assay.labels, assay.labels))
    weighed = replace(spoilt, weights=np.where(wrong, 1e-6, 1.0))
    by_chance = [
        one.draws(np.arange(160), 3, np.random.default_rng(0)).mean(axis=0) for one in (spoilt, weighed)
    ]
    found = [assay.score(draws, np.arange(160)) for draws in by_chance]
    assert found[0] < 0.6 and found[1] > 0.95


def test_bounds_are_not_what_a_round_finds(tmp_path):
    table = plant("affinity", 24).to_pandas()
    table["weight"] = [2.0] + [1.0] * 23
    table["fitness"] = [f">{one:.2f}" if n < 4 else f"{one:.2f}" for n, one in enumerate(table.fitness)]
    table.to_csv(tmp_path / "assay.csv", index=False)
    recipe = resolve_recipe("affinity", {"fold_scheme": "rows", "weight_column": "weight"})
    plan = replace(ROUNDS, features="cdr3")
    assay = read_assay(recipe, "demo", [tmp_path / "assay.csv"], plan, AcquisitionPlan())
    assert len(assay.labels) == len(assay.features) == len(assay.residues) == 20
    assert assay.notes[-1] == "rounds leave the 4 bounds out: what they hide cannot be found"
    assert assay.weights is None  # of what is left all weigh the same


@pytest.mark.heavy
def test_nothing_of_what_is_held_out_is_measured():
    """Labels of pairs that no strategy has chosen change nothing of what it chooses."""
    assay, seen = planted_assay(), []

    class Watched(Assay):
        def draws(self, measured, count, randomness):
            seen.append(measured)
            return super().draws(measured, count, randomness)

        def score(self, predicted, part):
            assert not set(part) & set(seen[-1])
            parts.append(tuple(part))
            return super().score(predicted, part)

    parts = []
    run_rounds(Watched(**vars(assay)), replace(ROUNDS, repetitions=2), AcquisitionPlan(diverse=True))
    assert {len(part) for part in parts} == {32}
    assert len(set(parts)) == 2  # one for each repetition, the same for all strategies
    assert all(len(set(measured.tolist())) == len(measured) for measured in seen)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of numbers with three folds whose models differ, and the training set of its adapter."""
    import torch

    place = tmp_path_factory.mktemp("run")
    base = save_base(place / "base")
    for number in range(4):
        model = tune(base, "number")
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.mul_(1 + 0.3 * number)
        save_tuned(model, place / "run" / (f"fold-{number}/adapter" if number else "adapter"), base, "number")
    made_up = [{"labels": [0.0, 1.0], "predictions": [0.5, 0.5], "ids": ["a", "b"]}] * 2
    folder = write_run(place / "made-up", "number", (), made_up)
    parts = '[{"number": 1, "train": [1], "validation": [], "test": [0]}, '
    (folder / "folds.json").write_text(parts + '{"number": 2, "train": [0], "validation": [], "test": [1]}]')
    measure_uncertainty(folder, PAIRS[:2]).write(place / "run" / "adapter")
    return place / "run"


@pytest.fixture
def pool(tmp_path):
    """Pairs of which two were measured and one is there twice, as designs: ids are those of their parents."""
    path = tmp_path / "designs.csv"
    pairs = [*PAIRS[:4], PAIRS[3]]
    rows = [f"parent,{number},{heavy},{light}\n" for number, (heavy, light) in enumerate(pairs)]
    path.write_text("id,design,heavy,light\n" + "".join(rows))
    return path


@pytest.mark.heavy
def test_designs_are_a_pool(run, pool, tmp_path, capfd):
    out = tmp_path / "next.csv"
    words = ["predict", str(run / "adapter"), str(pool), "--out", str(out), "--acquire", "9"]
    assert main([*words, "--by", "greedy", "--keep-columns", "design"]) == 0
    table = pyarrow.csv.read_csv(out).to_pandas()
    assert sorted(table.design) == [2, 3]  # neither the training pairs nor the second of a pair twice
    assert table["rank"].tolist() == [1, 2]
    assert table.id.tolist() == [f"parent/{number + 1}" for number in table.design]
    assert (np.diff(table.prediction) <= 0).all()
    assert (table.deviation > 0).all()
    assert table.heavy.tolist() == [PAIRS[number][0] for number in table.design]
    assert all(reason.startswith("greedy: predicted ") for reason in table.reason)
    assert "like the nearest that was measured" in table.reason[0]
    assert "like the nearest that is chosen above" in table.reason[1]
    assert [path.name for path in tmp_path.iterdir() if "models" in path.name] == []

    assert main([*words, "--by", "greedy", "--goal", "low", "--diverse", "--quiet"]) == 0
    lowest = pyarrow.csv.read_csv(out).to_pandas()
    assert lowest.prediction[0] == table.prediction.iloc[-1]


@pytest.mark.heavy
def test_a_killed_choice_goes_on(run, pool, tmp_path, monkeypatch):
    """Models that have predicted the pool are not asked again, and the choice is the same."""
    import curr_ab.finetuning.acquisition_pool as module

    out, other = tmp_path / "next.csv", tmp_path / "other.csv"
    words = ["predict", str(run / "adapter"), str(pool), "--acquire", "2", "--quiet", "--out"]
    assert main([*words, str(other)]) == 0
    real, calls = module._chosen, []

    def killed(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_chosen", killed)
    assert main([*words, str(out)]) == 130
    monkeypatch.setattr(module, "_chosen", real)
    predicted = module.PredictTask.table
    monkeypatch.setattr(module.PredictTask, "table", lambda *given: calls.append(1) or predicted(*given))
    assert main([*words, str(out)]) == 0
    assert calls == []
    assert out.read_bytes() == other.read_bytes()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--diverse"], "diverse must be left out without acquire"),
        (["--acquire", "2", "--shard", "0/2"], "shard must be left out with acquire"),
        (["--acquire", "2", "--label", "HD"], "label must be left out for a number"),
        (["--acquire", "2", "--ensemble", "adapter"], "ensemble must be two models or more"),
        (["--acquire", "2", "--by", "best"], "by must be one of"),
    ],
)
def test_what_cannot_be_chosen_is_refused(run, pool, tmp_path, capfd, more, message):
    out = tmp_path / "next.csv"
    assert main(["predict", str(run / "adapter"), str(pool), "--out", str(out), "--quiet", *more]) == 2
    assert message in capfd.readouterr().err
    assert not out.exists()


@pytest.mark.heavy
def test_a_model_without_folds_beside_it(run, pool, tmp_path, capfd):
    words = [str(run / "fold-1" / "adapter"), str(pool), "--out", str(tmp_path / "n.csv"), "--acquire", "2"]
    assert main(["predict", *words]) == 2
    assert "found 0 beside" in capfd.readouterr().err


@pytest.mark.heavy
def test_training_pairs_that_are_not_known_are_said(run, pool, tmp_path, capfd):
    """An adapter that keeps none of them cannot tell what was measured; one that does says nothing."""
    words = [str(pool), "--out", str(tmp_path / "next.csv"), "--acquire", "2"]
    said = "does not hold its training pairs, so that these may be chosen"
    assert main(["predict", str(run / "adapter"), *words]) == 0
    assert said not in capfd.readouterr().err
    ensemble = ["--ensemble", *(str(run / f"fold-{number}" / "adapter") for number in (1, 2))]
    assert main(["predict", str(run / "fold-1" / "adapter"), *words, *ensemble]) == 0
    assert said in capfd.readouterr().err


@pytest.mark.heavy
def test_one_of_several_numbers_is_wanted(tmp_path, capfd):
    pool = tmp_path / "pool.csv"
    pool.write_text("heavy,light\n" + "".join(f"{heavy},{light}\n" for heavy, light in PAIRS[:4]))
    base, columns = save_base(tmp_path / "base"), ("HIC", "Tm2")
    model = tune(base, "number", labels=columns)
    model.config.problem_type = "regression"
    folders = [save_tuned(model, tmp_path / name, base, "number", labels=columns) for name in "ab"]
    out = tmp_path / "next.csv"
    words = ["predict", str(folders[0]), str(pool), "--acquire", "2", "--quiet", "--out"]
    ensemble = ["--ensemble", str(folders[0]), str(folders[1])]
    for label, message in ([], "HIC, Tm2; got none"), (["--label", "Tm3"], "unknown label 'Tm3'"):
        assert main([*words, str(out), *ensemble, *label]) == 2
        assert message in capfd.readouterr().err
        assert not (tmp_path / "next.csv.models").exists()  # before anything is predicted
    assert main([*words, str(out), *ensemble, "--label", "Tm2"]) == 0
    table = pyarrow.csv.read_csv(out).to_pandas()
    assert main(["predict", str(folders[0]), str(pool), "--quiet", "--out", str(tmp_path / "all.csv")]) == 0
    predicted = pyarrow.csv.read_csv(tmp_path / "all.csv").to_pandas()["prediction_Tm2"]
    assert table.prediction[0] == pytest.approx(predicted.max(), abs=1e-5)
    assert "predicted Tm2 " in table.reason[0]


@pytest.mark.heavy
def test_the_command_tries_rounds_out(tmp_path, capfd):
    """On planted numbers by features of residues alone: a table and a picture."""
    out = tmp_path / "rounds"
    data = tmp_path / "twice.csv"
    table = plant("affinity", 80).to_pandas()
    table.iloc[[*range(80), 0]].to_csv(data, index=False)
    words = ["simulate-rounds", "affinity", "--model", "demo", "--data", str(data)]
    words += ["--out", str(out), "--features", "cdr3", "--rounds", "1", "--first", "16", "--members", "2"]
    assert main([*words, "--repetitions", "2", "--strategies", "ucb"]) == 0
    said = capfd.readouterr().out
    assert "against random after 32 pairs" in said
    assert said.startswith("1 pairs repeat the residues of an earlier one")
    assert pyarrow.csv.read_csv(out / "rounds.csv")["measured"].to_pylist() == [16, 32, 16, 32]
    assert (out / "rounds.png").stat().st_size > 5_000
    table = (out / "rounds.csv").read_bytes()
    done = json.loads((out / "repetitions.json").read_text())
    (out / "repetitions.json").write_text(json.dumps({**done, "repetitions": done["repetitions"][:1]}))
    (out / "rounds.csv").unlink()
    assert main([*words, "--repetitions", "2", "--strategies", "ucb"]) == 0  # as after a kill
    assert (out / "rounds.csv").read_bytes() == table
    capfd.readouterr()
    assert main([*words, "--strategies", "greedy"]) == 2
    assert "is of another assay, model or plan: choose another folder" in capfd.readouterr().err
    assert main([*words, "--per-round", "60"]) == 2
    assert "rounds must leave a part of the pool" in capfd.readouterr().err
    assert main([*words, "--label", "HD"]) == 2
    assert "label must be left out for a number" in capfd.readouterr().err
