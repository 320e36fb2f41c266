"""How sure predictions are: what an adapter's folder says of it, and the columns of `predict`."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.csv
import pytest
from support.cross_validations import write_run
from support.finetuned_models import TARGETS, save_base, save_tuned, tune
from support.tiny_models import PAIRS

from curr_ab.cli.main import main
from curr_ab.finetuning import BatchPredictor, cross_validate, load_finetuned, predict
from curr_ab.finetuning.adapter_manifest import differences, read_manifest
from curr_ab.finetuning.uncertainty import TRAINING, UNCERTAINTY, measure_uncertainty, read_uncertainty
from curr_ab.finetuning.uncertainty_neighbours import nearest_training, residues_of
from curr_ab.measures.repertoires import POSITIONS

NEAR = ("nearest_identity", "nearest_percentile", "applicable")
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def changed(text, count, seed=0):
    """The chain with so many residues of its middle replaced by others."""
    random = np.random.default_rng(seed)
    letters = list(text)
    for place in random.choice(np.arange(5, len(text) - 15), count, replace=False):
        letters[place] = random.choice([one for one in LETTERS if one not in (letters[place], "C", "W")])
    return "".join(letters)


@pytest.fixture(scope="module")
def training():
    """Twenty relatives of two pairs, of which none is another's copy."""
    return [(changed(PAIRS[n // 10][0], 3, n), changed(PAIRS[n // 10][1], 3, n)) for n in range(20)]


def run_folder(place, target, num_folds=2, num_pairs=20, groups=None):
    """A finished cross-validation of made-up predictions over the training pairs."""
    random = np.random.default_rng(0)
    names, folds = TARGETS[target], []
    for number in range(num_folds):
        own = np.arange(number, num_pairs, num_folds)
        if target == "number":
            labels = random.normal(0, 1, len(own))
            fold = {"labels": labels.tolist(), "predictions": (labels + own / 10).tolist()}
        elif target == "classes":
            labels = np.arange(len(own)) % len(names)
            logits = random.normal(0, 1, (len(own), len(names))) + np.eye(len(names))[labels]
            fold = {"labels": labels.tolist(), "predictions": np.exp(5 * logits)}
            fold["predictions"] /= fold["predictions"].sum(axis=1, keepdims=True)
        else:
            fold = {"labels": [[0, 1, 0]] * len(own), "predictions": [[[0.9, 0.1]] * 3] * len(own)}
        fold["ids"] = [f"pair-{one}" for one in own]
        if groups is not None:
            fold["groups"] = [groups[one] for one in own]
        folds.append(fold)
    write_run(place, target, names, folds)
    everything = np.arange(num_pairs)
    parts = [
        {
            "number": number + 1,
            "train": everything[everything % num_folds != number].tolist(),
            "validation": [],
            "test": everything[everything % num_folds == number].tolist(),
        }
        for number in range(num_folds)
    ]
    (place / "folds.json").write_text(json.dumps(parts))
    return place


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, training):
    """A folder for each target, with an uncertainty, and one of a target without."""
    place = tmp_path_factory.mktemp("tuned")
    base = save_base(place / "base")
    folders = {}
    for target in TARGETS:
        folders[target] = save_tuned(tune(base, target), place / target, base, target)
        run = run_folder(place / f"run-{target}", target)
        measure_uncertainty(run, training).write(folders[target])
    folders["old"] = save_tuned(tune(base, "number"), place / "old", base, "number")
    return folders


@pytest.mark.heavy
def test_intervals_are_of_the_level(tuned):
    model, tokenizer = load_finetuned(tuned["number"], device="cpu")
    results = predict(model, tokenizer, PAIRS)
    table = results.to_pandas()
    assert list(table) == ["id", "prediction", "low", "high", *NEAR]
    [reach] = {round(float(one), 4) for one in (table.high - table.low) / 2}
    # Errors are 0 ... 1.9 in steps of a tenth: of 20 and the one to come, 18.9 are within 1.8.
    assert reach == pytest.approx(1.8, abs=1e-3)
    half = results.to_pandas(level=0.5)
    assert ((half.high - half.low) / 2).to_numpy() == pytest.approx(1.0, abs=1e-3)
    assert np.isinf(results.to_pandas(level=0.99).high).all()  # 20 pairs do not show 99 %


@pytest.mark.heavy
def test_raw_and_folders_without_it_are_as_ever(tuned):
    for name, settings in {"number": {"raw": True}, "old": {}}.items():
        model, tokenizer = load_finetuned(tuned[name], device="cpu")
        table = predict(model, tokenizer, PAIRS).to_pandas(**settings)
        assert list(table) == ["id", "prediction"]
    assert read_uncertainty(tuned["old"]) is None


@pytest.mark.heavy
def test_probabilities_are_calibrated_and_labels_stay(tuned):
    model, tokenizer = load_finetuned(tuned["classes"], device="cpu")
    results = predict(model, tokenizer, PAIRS)
    raw, table = results.to_pandas(raw=True), results.to_pandas()
    names = [f"probability_{name}" for name in TARGETS["classes"]]
    assert list(table) == ["id", "prediction", *names, "set", *NEAR]
    sure = read_uncertainty(tuned["classes"])
    assert sure.temperature > 1.5  # the logits were multiplied by five
    powers = raw[names].to_numpy() ** (1 / sure.temperature)
    assert table[names].to_numpy() == pytest.approx(powers / powers.sum(axis=1, keepdims=True), abs=1e-5)
    assert (table.prediction == raw.prediction).all()
    for row in table.itertuples():
        inside = row.set.split(" | ")
        assert row.prediction in inside
        reach = sure.reach_at(0.9)
        expected = {n for n in TARGETS["classes"] if 1 - getattr(row, f"probability_{n}") <= reach}
        assert set(inside) == expected | {row.prediction}
    assert (results.to_pandas(level=0.99)["set"] == " | ".join(TARGETS["classes"])).all()


@pytest.mark.heavy
def test_one_by_one_the_model_speaks_for_itself(tuned):
    """The manifest compares those, and designs climb them."""
    model, tokenizer = load_finetuned(tuned["classes"], device="cpu")
    results = predict(model, tokenizer, PAIRS)
    raw = results.to_pandas(raw=True)[[f"probability_{name}" for name in TARGETS["classes"]]].to_numpy()
    assert np.stack(list(results)) == pytest.approx(raw, abs=1e-6)


@pytest.mark.heavy
def test_residues_have_the_distance_of_their_pair(tuned, training):
    model, tokenizer = load_finetuned(tuned["residues"], device="cpu")
    table = predict(model, tokenizer, [training[0], PAIRS[0]]).to_pandas()
    assert len(table) == sum(len(chain) for pair in (training[0], PAIRS[0]) for chain in pair)
    assert table.groupby("id").nearest_identity.nunique().tolist() == [1, 1]
    assert table.nearest_identity.iloc[0] == 1 > table.nearest_identity.iloc[-1]


@pytest.mark.heavy
def test_applicability_follows_the_distance(tuned, training):
    """A training pair, a relative of it, a stranger, and a chain that is none."""
    model, tokenizer = load_finetuned(tuned["number"], device="cpu")
    relative = (changed(training[0][0], 2, 99), training[0][1])
    stranger = (changed(training[0][0], 25, 7), changed(training[0][1], 25, 7))
    pairs = [training[0], relative, stranger, (training[0][0], None), ("ACDEF", "GHIKL")]
    table = predict(model, tokenizer, pairs).to_pandas()
    identities = table.nearest_identity.to_numpy()
    assert identities[0] == identities[3] == 1  # a single chain is compared with such chains
    positions = (residues_of([training[0]]) > 0).sum()
    assert identities[1] == pytest.approx(1 - 2 / positions)
    assert identities[2] < 0.85
    assert np.isnan(identities[4])
    assert table.applicable.tolist() == [True, True, False, True, False]
    assert table.nearest_percentile[0] == 100
    assert table.nearest_percentile[2] == 0


def test_the_rule_is_that_of_pairs_out_of_their_folds(tmp_path, training):
    """19 of 20 pairs that the run was measured on are near enough, by what their own fold was fitted on."""
    sure = measure_uncertainty(run_folder(tmp_path / "run", "number"), training)
    residues = residues_of(training)
    found = [
        max(nearest_training(residues[[one]], residues[[other]])[1][0] for other in range(1 - one % 2, 20, 2))
        for one in range(20)
    ]
    assert sure.neighbours.least_identity == pytest.approx(np.percentile(found, 5))
    assert f"{np.percentile(found, 5):.1%}" in sure.neighbours.rule


def test_nothing_of_the_sequences_is_kept(tmp_path, training):
    run = run_folder(tmp_path / "run", "number")
    place = tmp_path / "adapter"
    place.mkdir()
    measure_uncertainty(run, training, keep_sequences=False).write(place)
    assert [path.name for path in place.iterdir()] == [UNCERTAINTY]
    sure = read_uncertainty_of(place)
    assert sure.neighbours is None
    assert np.isfinite(sure.reach_at(0.9))


def read_uncertainty_of(place):
    (place / "config.json").write_text("{}")  # by which a folder is known as a checkpoint's
    return read_uncertainty(place)


def test_what_is_written_is_what_is_read(tmp_path, training):
    sure = measure_uncertainty(run_folder(tmp_path / "run", "classes"), training)
    place = tmp_path / "adapter"
    place.mkdir()
    sure.write(place)
    again = read_uncertainty_of(place)
    assert repr(again) == repr(sure)  # by the digest, which the plan of a bulk command holds
    assert again.reach == pytest.approx(sure.reach, rel=1e-8)
    assert (again.neighbours.training == sure.neighbours.training).all()
    assert again.neighbours.training.shape == (20, 2 * len(POSITIONS))
    assert "digest" in repr(sure)
    assert "reach" not in repr(sure)

    (place / TRAINING).unlink()
    with pytest.raises(ValueError, match=f"{TRAINING}, which is missing; copy the adapter again"):
        read_uncertainty(place)
    (place / UNCERTAINTY).write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="must be of the format"):
        read_uncertainty(place)


def test_groups_are_the_units(tmp_path, training):
    """Twenty pairs of four groups show no more than 80 %."""
    run = run_folder(tmp_path / "run", "number", groups=[one // 5 for one in range(20)])
    sure = measure_uncertainty(run, training)
    assert sure.grouped
    assert sure.num_units == 4
    assert sure.doubt(0.8) is None
    assert sure.doubt(0.9) == (
        "level 0.9 needs 9 groups that folds held apart, and this model's held 4: every value stays "
        "possible; --level 0.8 is the most that they show"
    )


def test_groups_that_share_a_pair_are_one_unit(tmp_path, training):
    """As the folds hold them together."""
    run = run_folder(tmp_path / "run", "number", groups=[one // 5 for one in range(20)])
    pairs = [training[0] if one == 5 else pair for one, pair in enumerate(training)]
    assert measure_uncertainty(run, pairs).num_units == 3
    alone = measure_uncertainty(run_folder(tmp_path / "rows", "number"), pairs)
    assert alone.num_units == 20 and alone.unit == "pairs"


@pytest.mark.heavy
def test_the_command_line_and_batches(tuned, training, tmp_path, capfd):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(
        "id,heavy,light\n" + "".join(f"{n},{','.join(pair)}\n" for n, pair in enumerate(training[:3]))
    )
    out = tmp_path / "out.csv"
    assert main(["predict", str(tuned["number"]), str(pairs), "--out", str(out), "--level", "0.99"]) == 0
    said = capfd.readouterr().err
    assert "level 0.99 needs 99 pairs" in said
    assert "applicable: at least" in said
    table = pyarrow.csv.read_csv(out)
    assert table.column_names == ["id", "prediction", "low", "high", *NEAR]
    batch = BatchPredictor(str(tuned["number"]), level=0.5)(pyarrow.csv.read_csv(pairs))
    assert batch["high"].to_numpy() - batch["low"].to_numpy() == pytest.approx(2.0, abs=1e-3)
    assert main(["predict", str(tuned["number"]), str(pairs), "--out", str(out), "--level", "1.5"]) == 2
    assert "level must be above 0 and below 1" in capfd.readouterr().err


@pytest.mark.heavy
@pytest.mark.parametrize("keeps", [True, False])
def test_a_run_leaves_it_in_its_adapter(member, planted, make_recipe, tmp_path, keeps):
    """And the manifest covers it."""
    changes = {"method": "frozen", "final": True, "epochs": 1, "training_sequences": keeps}
    recipe = replace(make_recipe("affinity"), **changes)
    cross_validate(recipe, member, [planted("affinity", 40)], tmp_path / "run")
    adapter = tmp_path / "run" / "adapter"
    manifest = read_manifest(adapter)
    assert (TRAINING in manifest.files) == keeps
    card = (adapter / "README.md").read_text()
    assert ("The training pairs are in this folder" in card) == keeps
    assert ("`nearest_identity`" in card and "--no-training-sequences" in card) == keeps
    assert UNCERTAINTY in manifest.files
    assert differences(adapter, manifest) == []
    sure = read_uncertainty(adapter)
    assert sure.num_units == 40
    assert (sure.neighbours is not None) == keeps
    assert 0.7 < sure.checked["coverage"] <= 1
    assert read_uncertainty(tmp_path / "run" / "fold-1" / "adapter") is None
