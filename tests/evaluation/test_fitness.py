"""The suite `fitness`: signs, controls, few-shot, and assays that cannot be used."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr
from support.assay_tables import write
from support.tiny_models import PAIRS

from curr_ab.data import builtin_path
from curr_ab.evaluation import make_plan, run_suite, write_tables
from curr_ab.evaluation.suites.assays import (
    germline_distances,
    nearest_distances,
    read_assays,
    read_germlines,
)
from curr_ab.evaluation.suites.fitness import few_shot
from curr_ab.inference import score
from curr_ab.measures.statistics import correlate

NUM_PAIRS = 48


@pytest.fixture(scope="module")
def pairs():
    table = pq.read_table(
        builtin_path(), columns=["id", "heavy", "light", "mutations_heavy", "mutations_light"]
    )
    return table.slice(2_000, NUM_PAIRS).to_pylist()


@pytest.fixture(scope="module")
def likelihoods(folder, pairs):
    """Mean log-probability of each pair, by the public function."""
    from curr_ab import load

    model, tokenizer = load(folder, device="cpu")
    found = score(model, tokenizer, [(row["heavy"], row["light"]) for row in pairs], mode="unmasked")
    return np.array([float(one.log_probabilities.double().nanmean()) for one in found])


def measure(model, tables, out, **options):
    options = {"mode": "unmasked", "shots": (), "min_pairs": 10, **options}
    return run_suite("fitness", model, tables, out, **options)


def number(results, metric="spearman", **details):
    [row] = [
        row
        for row in results
        if row.metric == metric and all(row.details.get(key) == value for key, value in details.items())
    ]
    return row


@pytest.mark.heavy
def test_a_planted_relation_has_the_sign_of_the_direction(folder, pairs, likelihoods, tmp_path):
    noise = 0.3 * likelihoods.std() * np.random.default_rng(0).normal(size=NUM_PAIRS)
    rows = [
        {
            "heavy": row["heavy"],
            "light": row["light"],
            "fitness": value,
            "mutations_heavy": 1,
            "mutations_light": 2,
        }
        for row, value in zip(pairs, likelihoods + noise, strict=True)
    ]
    expected = spearmanr(likelihoods, likelihoods + noise).statistic
    assert expected > 0.8
    table = write(tmp_path / "binding.csv", rows)
    for direction, sign in (("higher", 1), ("lower", -1)):
        found = number(measure(folder, table, tmp_path, direction=direction), score="pair")
        assert found.value == pytest.approx(sign * expected, abs=1e-9)
        assert 0 < found.standard_error < 0.15
        assert found.num_items == NUM_PAIRS
        assert found.details == {"assay": "binding", "score": "pair", "mode": "unmasked", "min_pairs": 10}


def test_partial_correlation_is_gone_when_the_score_is_germline_distance():
    random = np.random.default_rng(0)
    distance = random.integers(0, 25, 400).astype(float)
    fitness = -distance + 4 * random.normal(size=400)
    score = -distance + 1 * random.normal(size=400)  # knows nothing but the distance
    plain, partial = correlate(score, fitness, 0), correlate(score, fitness, 0, distance)
    assert plain.value > 0.75
    assert abs(partial.value) < 0.1
    assert partial.low < 0 < partial.high
    # A score that knows something beyond it keeps that.
    knowing = correlate(score + (fitness + distance), fitness, 0, distance)
    assert knowing.value > 0.5
    assert knowing.low > 0.4
    # Nothing is left of a score that is the distance itself, nor of one that ranks nothing.
    assert correlate(-distance, fitness, 0, distance).value == 0
    assert correlate(np.zeros(400), fitness, 0).value == 0


def test_partial_correlation_is_that_of_the_formula():
    random = np.random.default_rng(1)
    x, y, z = random.normal(size=(3, 60))
    y = y + x + z
    xy, xz, yz = (spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    formula = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert correlate(x, y, 0, z).value == pytest.approx(formula)


@pytest.mark.heavy
def test_the_interval_covers_the_truth():
    random = np.random.default_rng(2)
    covered = 0
    for seed in range(60):
        x, y = random.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 80).T
        found = correlate(x, y, seed)
        covered += found.low < 6 / np.pi * np.arcsin(0.3) < found.high
    assert covered >= 51  # of 60; 95 % is 57


@pytest.mark.heavy
def test_a_model_is_controlled_for_the_mutations_of_each_chain(folder, pairs, tmp_path):
    random = np.random.default_rng(0)
    rows = [{**row, "fitness": -row["mutations_heavy"] + random.normal()} for row in pairs]
    results = measure(folder, write(tmp_path / "a.csv", rows), tmp_path, direction="higher")
    [path] = tmp_path.glob("fitness/*/scores/a.parquet")
    scores = pq.read_table(path)
    for part, distance in (
        ("heavy", [row["mutations_heavy"] for row in pairs]),
        ("pair", [row["mutations_heavy"] + row["mutations_light"] for row in pairs]),
    ):
        expected = correlate(
            scores[f"score_{part}"].to_numpy(), scores["fitness"].to_numpy(), 0, np.array(distance, float)
        )
        assert number(results, "partial-spearman", score=part).value == pytest.approx(expected.value)
        assert "germline" not in number(results, score=part).details


@pytest.mark.heavy
def test_chains_are_scored_apart(folder, pairs, tmp_path):
    rows = [{"heavy": r["heavy"], "light": r["light"], "fitness": i} for i, r in enumerate(pairs[:12])]
    with pytest.warns(UserWarning, match="not controlled"):
        measure(folder, write(tmp_path / "a.csv", rows), tmp_path, direction="higher")
    [path] = tmp_path.glob("fitness/*/scores/a.parquet")
    from curr_ab import load

    model, tokenizer = load(folder, device="cpu")
    one = next(score(model, tokenizer, [{"heavy": pairs[0]["heavy"], "light": None}], mode="unmasked"))
    table = pq.read_table(path).to_pylist()
    assert table[0]["score_heavy"] == pytest.approx(float(one.log_probabilities.mean()), abs=1e-6)
    assert table[0]["score_heavy"] != pytest.approx(table[0]["score_pair"], abs=1e-3)


@pytest.mark.heavy
def test_without_germlines_every_number_says_so(folder, pairs, tmp_path):
    rows = [{"heavy": r["heavy"], "light": r["light"], "fitness": i} for i, r in enumerate(pairs[:20])]
    table = write(tmp_path / "a.csv", rows)
    with pytest.warns(UserWarning, match="a: the distance from germline is not controlled for"):
        results = measure(folder, table, tmp_path, direction="higher")
    assert {row.metric for row in results} == {"spearman"}
    assert {row.details["germline"] for row in results} == {"not controlled"}
    germlines = tmp_path / "v.fasta"
    germlines.write_text(f">IGHV1\n{PAIRS[0][0][:98]}\n>IGKV1\n{PAIRS[0][1][:95]}\n")
    options = {"direction": "higher", "germlines": str(germlines)}
    results = measure(folder, table, tmp_path, **options)
    assert {row.metric for row in results} == {"spearman", "partial-spearman"}
    assert all("germline" not in row.details for row in results)
    germlines.write_text(germlines.read_text().replace("IGHV1", "renamed"))
    said = []
    measure(folder, table, tmp_path, say=said.append, **options)
    assert "measured already" not in said[0]  # other germlines under the same name


def test_distance_to_the_nearest_germline_counts_edits(tmp_path):
    gene, other = "EVQLVESGGGLVQPGGSLRLSCAAS", "QVQLQQSGAELARPGASVKMSCKAS"
    germlines = {"one": gene, "two": other}
    chains = [
        gene + "GFTFSDYW",
        "EVQLVESGGGLVQPGRSLRLSCAASGFT",  # one substitution
        gene[:9] + gene[10:] + "GFTF",  # one deletion
        gene[:5] + "W" + gene[5:] + "GFTF",  # one insertion
        other[:10] + "WW" + other[12:] + "GYTF",
        gene[2:] + "GFTF",  # its first two residues are missing
    ]
    assert nearest_distances(chains, germlines).tolist() == [0, 1, 1, 1, 2, 2]
    fasta = tmp_path / "v.fasta"
    fasta.write_text(">one human\nEVQL..VESGGG\nLVQPGGSLRLSCAAS\n>two\n" + other + "\n")
    assert read_germlines(fasta) == germlines
    fasta.write_text(">one\nGAGGTGCAG\n")
    with pytest.raises(ValueError, match="one is nucleotides"):
        read_germlines(fasta)
    identities = pa.table({"v_identity_heavy": [0.9, 1.0], "v_identity_light": [1.0, 0.5]})
    nulls = pa.nulls(2, pa.int32())
    for chain in ("heavy", "light"):
        identities = identities.append_column(f"mutations_{chain}", nulls)
    assert germline_distances(identities, None)["pair"] == pytest.approx([0.1, 0.5])


@pytest.mark.heavy
def test_pairs_without_a_distance_are_left_out_of_partial_correlation(folder, pairs, tmp_path):
    """And the distance is counted, or a share, for both chains alike."""
    shares = {"v_identity_heavy": 0.9, "v_identity_light": 0.95}
    rows = [{**row, **shares, "fitness": i} for i, row in enumerate(pairs[:24])]
    rows[3]["mutations_light"] = ""
    said = []
    table = write(tmp_path / "a.csv", [{k: v for k, v in row.items() if k not in shares} for row in rows])
    results = measure(folder, table, tmp_path, direction="higher", say=said.append)
    assert "  a: the distance from germline is known of 23 of 24 pairs, which partial-spearman is of" in said
    assert number(results, "partial-spearman", score="heavy").num_items == 23
    assert number(results, score="heavy").num_items == 24
    [assay] = read_assays([str(write(tmp_path / "b.csv", rows))], "higher")
    found = germline_distances(assay.pairs, None)
    assert found["heavy"] == pytest.approx(0.1) and found["light"] == pytest.approx(0.05)
    for row in rows[: 24 - 9]:
        row["mutations_heavy"] = ""
    few = write(tmp_path / "c.csv", [{k: v for k, v in row.items() if k not in shares} for row in rows])
    with pytest.warns(UserWarning, match="not controlled for .known of 9 of 24 pairs."):
        results = measure(folder, few, tmp_path, direction="higher")
    assert {row.metric for row in results} == {"spearman"}


@pytest.mark.heavy
def test_few_shot_learns_what_the_likelihood_has_wrong(folder, tmp_path):
    """The more of eight residues are D instead of W, the better; the model finds W likelier."""
    heavy, light = PAIRS[0]
    random = np.random.default_rng(0)
    rows = []
    for code in random.permutation(2**8)[:60]:  # each loop once
        loop = np.where(code >> np.arange(8) & 1, "W", "D")
        fitness = np.sum(loop == "D") + 0.3 * random.normal()
        mutant = heavy[:100] + "".join(loop) + heavy[108:]
        mutations = {"mutations_heavy": 8, "mutations_light": 0}
        rows.append({"heavy": mutant, "light": light, "fitness": fitness, **mutations})
    table = write(tmp_path / "loop.csv", rows)
    options = {"direction": "higher", "shots": (8, 500), "repeats": 3}
    results = measure(folder, table, tmp_path, **options)
    assert number(results, score="pair").value < 0
    few = number(results, shots=8)
    assert few.value > 0.8
    assert few.num_items == 60 - 8
    assert not [row for row in results if row.details.get("shots") == 500]  # there are not so many
    assert measure(folder, table, tmp_path / "again", **options) == results  # seeded


def test_one_training_set_has_no_error_and_sizes_are_checked():
    random = np.random.default_rng(0)
    assert (
        few_shot(
            random.normal(size=(60, 4)), random.normal(size=60), shots=8, repeats=1, seed=0
        ).standard_error
        is None
    )
    for shots in ((8, 8), (1,), (0, 8)):
        with pytest.raises(ValueError, match="shots must be different numbers of at least 2"):
            make_plan("fitness", {"shots": shots})
    assert make_plan("fitness", {"shots": ()}).shots == ()


def test_few_shot_of_noise_is_chance():
    random = np.random.default_rng(0)
    found = few_shot(random.normal(size=(300, 20)), random.normal(size=300), shots=32, repeats=10, seed=0)
    assert abs(found.value) < 0.1
    assert found.num_pairs == 268


@pytest.mark.heavy
def test_small_and_constant_assays_are_listed_as_skipped(folder, pairs, tmp_path):
    base = [
        {
            "heavy": r["heavy"],
            "light": r["light"],
            "mutations_heavy": i % 3,
            "mutations_light": 0,
            "fitness": i,
        }
        for i, r in enumerate(pairs[:20])
    ]
    tables = [
        write(tmp_path / "large.csv", base),
        write(tmp_path / "small.csv", base[:5]),
        write(tmp_path / "flat.csv", [row | {"fitness": 1} for row in base]),
        write(tmp_path / "gaps.csv", [row | {"fitness": "" if i % 2 else i} for i, row in enumerate(base)]),
    ]
    said = []
    results = measure(folder, tables, tmp_path, direction="higher", say=said.append)
    [path] = tmp_path.glob("fitness/*/skipped.json")
    assert json.loads(path.read_text()) == {
        "small": "5 pairs have a fitness, fewer than 10",
        "flat": "all fitness values are equal",
    }
    assert "  skipped, small: 5 pairs have a fitness, fewer than 10" in said
    assert "skipped: " in write_tables(tmp_path, "fitness")
    assert number(results, assay="gaps", score="pair").num_items == 10
    mean = number(results, assays=2, score="pair")
    both = [number(results, assay=name, score="pair").value for name in ("large", "gaps")]
    assert mean.value == pytest.approx(np.mean(both))
    assert mean.standard_error == pytest.approx(abs(both[0] - both[1]) / 2)
    with pytest.raises(ValueError, match="all were skipped: small: 5 pairs"):
        measure(folder, tables[1], tmp_path, direction="higher")


@pytest.mark.heavy
def test_repeats_of_a_pair_are_one_pair_with_their_mean(folder, pairs, tmp_path):
    """As separate rows they would be in training and test part, and narrow the bootstrap."""
    mutations = {"mutations_heavy": 1, "mutations_light": 0}
    chains = [{"heavy": r["heavy"], "light": r["light"]} | mutations for r in pairs[:20]]
    once = [row | {"fitness": float(i)} for i, row in enumerate(chains)]
    thrice = [row | {"fitness": i + shift} for shift in (0, -0.4, 0.4) for i, row in enumerate(chains)]
    said = []
    found = measure(folder, write(tmp_path / "a.csv", thrice), tmp_path, direction="higher", say=said.append)
    assert "  a: 20 pairs, with 40 repeats merged into their means; 0 rows have no number" in said
    other = measure(folder, write(tmp_path / "b" / "a.csv", once), tmp_path, direction="higher")
    key = {"score": "pair", "metric": "spearman"}
    assert number(found, **key).standard_error == pytest.approx(number(other, **key).standard_error)
