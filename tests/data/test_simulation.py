"""Simulated pairs carry a truth that fits their residues, families that could leak, a signal of pairing."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest

from curr_ab.data import builtin_path, simulate_pairs
from curr_ab.data.simulation import PREFERENCE, PREFERRED_LIGHT, mutate, translate
from curr_ab.words import CHAINS


@pytest.fixture(scope="module")
def simulated() -> list[dict]:
    return simulate_pairs(150, seed=3, num_donors=5).to_pylist()


@pytest.fixture(scope="module", params=["fresh", "builtin"])
def rows(request) -> list[dict]:
    """Freshly simulated pairs, and those of the package."""
    if request.param == "builtin":
        return pq.read_table(builtin_path()).to_pylist()
    return request.getfixturevalue("simulated")


@pytest.mark.heavy
def test_same_seed_same_pairs(simulated) -> None:
    assert simulate_pairs(150, seed=3, num_donors=5).to_pylist() == simulated
    assert simulate_pairs(150, seed=4, num_donors=5).to_pylist() != simulated


@pytest.mark.heavy
def test_masks_fit_the_residues(rows) -> None:
    for row in rows:
        for chain in CHAINS:
            residues = row[chain]
            regions, segments = row[f"region_mask_{chain}"], row[f"segment_mask_{chain}"]
            mutations = row[f"mutation_mask_{chain}"]
            assert len(regions) == len(segments) == len(mutations) == len(residues)
            assert list(dict.fromkeys(regions)) == list("1234567")
            assert regions == "".join(sorted(regions))
            assert mutations.count("1") == row[f"mutations_{chain}"]
            start, end = regions.index("6"), regions.rindex("6") + 1
            assert row[f"cdr3_{chain}"] == residues[start:end]
            assert residues[start - 1] == "C"
            assert residues[end] in "WF"
            assert set(segments) <= set("VDJN" if chain == "heavy" else "VJN")
            assert (segments[0], segments[-1]) == ("V", "J")
            assert not set(residues) - set("ACDEFGHIKLMNPQRSTVWY")


@pytest.mark.heavy
def test_members_of_a_clone_are_relatives(rows) -> None:
    """One rearrangement, one donor, one split; residues differ only where a mutation is noted."""
    clones = defaultdict(list)
    for row in rows:
        clones[row["clone"]].append(row)
    assert max(map(len, clones.values())) >= 3
    for members in clones.values():
        for name in (
            "donor",
            "split",
            "v_call_heavy",
            "j_call_light",
            "region_mask_heavy",
            "segment_mask_light",
        ):
            assert len({row[name] for row in members}) == 1, name
        for row in members[1:]:
            for chain in CHAINS:
                for position, (one, other) in enumerate(zip(members[0][chain], row[chain], strict=True)):
                    masks = (
                        members[0][f"mutation_mask_{chain}"][position]
                        + row[f"mutation_mask_{chain}"][position]
                    )
                    assert one == other or "1" in masks


def test_pairing_carries_a_signal() -> None:
    rows = pq.read_table(builtin_path()).to_pylist()
    family = {chain: [row[f"v_call_{chain}"][:5] for row in rows] for chain in CHAINS}
    preferred = np.mean([PREFERRED_LIGHT[h] == light for h, light in zip(*family.values(), strict=True)])
    by_chance = Counter(family["light"])
    chance = np.mean([by_chance[PREFERRED_LIGHT[h]] / len(rows) for h in family["heavy"]])
    assert preferred > PREFERENCE > chance + 0.2
    levels = np.array([[row["mutations_heavy"], row["mutations_light"]] for row in rows])
    assert np.corrcoef(levels.T)[0, 1] > 0.6
    naive = levels == 0
    assert (naive[:, 0] & naive[:, 1]).mean() > 0.15
    heavy = levels[levels[:, 0] > 0, 0]
    assert 5 < heavy.mean() < 20


def test_splits_of_the_builtin_corpus() -> None:
    splits = Counter(pq.read_table(builtin_path(), columns=["split"])["split"].to_pylist())
    assert set(splits) == {"train", "validation", "test"}
    assert 0.85 < splits["train"] / splits.total() < 0.95


def test_mutation_spares_anchors_and_makes_no_stop() -> None:
    random = np.random.default_rng(0)
    germline = np.frombuffer(b"TGTTGGCAAAGATATTGGGGC" * 20, np.uint8)
    assert np.array_equal(mutate(germline, 0.0, (0, 1), random), germline)
    for _ in range(50):
        mutated = mutate(germline, 0.2, (0, 1), random)
        assert translate(mutated)[:2] == "CW"
        assert "*" not in translate(mutated)
        assert 0.05 < np.mean(mutated != germline) < 0.4


def test_bad_requests_and_missing_simulator(monkeypatch) -> None:
    with pytest.raises(ValueError, match="must be at least 1; got"):
        simulate_pairs(0)
    monkeypatch.setitem(sys.modules, "GenAIRR", None)
    with pytest.raises(ValueError, match=r'GenAIRR is missing: pip install "curr-ab\[simulate\]"'):
        simulate_pairs(10)


@pytest.mark.slow
def test_the_script_makes_the_builtin_corpus(tmp_path, monkeypatch) -> None:
    from curr_ab.data import simulation as make_builtin

    monkeypatch.setattr(make_builtin, "builtin_path", lambda: str(tmp_path / "builtin.parquet"))
    make_builtin.main()
    assert pq.read_table(tmp_path / "builtin.parquet").equals(pq.read_table(builtin_path()))
    assert (tmp_path / "builtin.parquet").stat().st_size < 4_000_000
