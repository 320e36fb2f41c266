"""A causal model of minutes makes chains of the right kind, in natural shares, for the heavy chain given.

The built-in corpus has a planted preference: a heavy V family has its preferred light one more often than
chance gives. A twin trained on the same chains, with the light ones shuffled, cannot know of it.
"""

import csv

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.tiny_models import TESTS

from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.evaluation import run_suite
from curr_ab.evaluation.plan import make_plan
from curr_ab.evaluation.suites import generation
from curr_ab.measures.generated import measure_sample
from curr_ab.pretraining import pretrain, resolve_plan

PLAN = TESTS.parent / "train_scripts" / "plans" / "demo-clm.yaml"
PAIRED = "preferred light V family, above chance"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]


def shuffled_corpus(path):
    """The built-in corpus, in which training pairs have the light chains of other ones."""
    pairs = pq.read_table(builtin_path())
    rows = np.arange(pairs.num_rows)
    training = np.flatnonzero(np.array(pairs["split"].to_pylist()) == "train")
    rows[training] = np.random.default_rng(0).permutation(training)
    for number, name in enumerate(pairs.schema.names):
        if name == "light" or name.endswith("_light"):
            pairs = pairs.set_column(number, name, pairs[name].take(rows))
    pq.write_table(pairs, path)
    return path


@pytest.fixture(scope="module", params=["native", "shuffled"])
def judged(request, tmp_path_factory):
    """Which pairs it was trained on, and the estimates of what it makes."""
    folder = tmp_path_factory.mktemp(request.param)
    source = "builtin" if request.param == "native" else shuffled_corpus(folder / "pairs.parquet")
    prepare([str(source)], folder / "corpus", PreparationPlan(cluster="source"))
    pretrain(resolve_plan({"data": str(folder / "corpus")}, [PLAN]), folder / "run")
    how = {"train": "builtin", "pairs": 400, "temperatures": (1.0,), "device": "cpu"}
    run_suite("generation", folder / "run", ["builtin"], folder / "out", **how)
    [path] = folder.glob("out/generation/*/measures.csv")
    with open(path, newline="") as file:
        rows = {(row["sample"].split(",")[0], row["measure"]): row for row in csv.DictReader(file)}
    return request.param, {
        key: tuple(float(row[one]) for one in ("low", "value", "high")) for key, row in rows.items()
    }


@pytest.fixture(scope="module")
def uniform():
    """Measures of training chains drawn so that V families, or CDR3 lengths, are equally frequent."""
    plan = make_plan("generation", {"train": "builtin"})
    real, reference = generation._real_pairs(generation.open_data(plan, ["builtin"]), plan)
    assert len(real) > 500
    random, found = np.random.default_rng(0), {}
    for chain in ("heavy", "light"):
        chains = reference.train.chain(chain)
        for measure, kinds in (
            (f"{chain}: V family usage, total variation", reference.family_numbers(chains, chain)),
            (f"{chain}: CDR3 length, Wasserstein", chains.cdr3_lengths),
        ):
            rows = [
                random.choice(np.flatnonzero(kinds == kind)) for kind in random.choice(np.unique(kinds), 400)
            ]
            sample = reference.train.take(rows, "uniform")
            [found[measure]] = [one for one in measure_sample(sample, reference) if one.measure == measure]
    return found


def test_what_it_makes_is_valid_natural_and_paired_as_it_was_taught(judged, uniform):
    taught, found = judged
    for given in ("given heavy", "given nothing"):
        for chain in ("heavy", "light"):
            assert found[given, f"{chain}: numbered as this chain"][1] >= 0.95
    for measure, estimate in uniform.items():
        assert found["given nothing", measure][2] < estimate.low, measure
    low, value, _ = found["given heavy", PAIRED]
    if taught == "native":
        assert low > 0.1
    else:
        assert abs(value) < 0.1 and low < 0
