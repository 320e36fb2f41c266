"""Variable domains in longer sequences: their places, chains, numbering; what is not one is told apart."""

import random

import pytest
from support.pair_files import corpus
from support.whole_chains import CONSTANT, RECEPTOR, single_chain, whole_chain

from curr_ab.domains import CHAIN_OF, find_domains, in_scheme, t_cell_receptor
from curr_ab.words import CHAINS, EXAMPLE_PAIR

__all__ = ["corpus"]
HEAVY, LIGHT = EXAMPLE_PAIR


def cut(text):
    return [text[one.start : one.end] for one in find_domains(text)]


def kind_of(row, chain):
    return "heavy" if chain == "heavy" else {"K": "kappa", "L": "lambda"}[row["v_call_light"][2]]


@pytest.mark.parametrize("count", [100, pytest.param(3_000, marks=pytest.mark.heavy)])
def test_nothing_of_a_domain_is_lost_or_added(corpus, count):
    draw = random.Random(0)
    rows = draw.sample(corpus, min(count, len(corpus)))
    chains = [(row[chain], kind_of(row, chain)) for row in rows for chain in CHAINS]
    wrong = [domain for domain, kind in chains if cut(whole_chain(domain, kind, draw)) != [domain]]
    assert len(wrong) <= len(chains) // 500
    wrong = [domain for domain, _ in chains if cut(domain) != [domain]]
    assert len(wrong) <= len(chains) // 1000


@pytest.mark.parametrize(("seed", "count"), [(3, 200), pytest.param(5, 1_000, marks=pytest.mark.heavy)])
def test_both_domains_of_an_scfv(corpus, seed, count):
    draw = random.Random(seed)
    for row in draw.sample(corpus, count):
        one = single_chain(row["heavy"], row["light"], draw)
        domains = {CHAIN_OF[d.chain]: one.text[d.start : d.end] for d in find_domains(one.text)}
        assert domains == {"heavy": one.heavy, "light": one.light}


@pytest.mark.parametrize("missing", [1, 2, 3, 5, 8])
def test_a_truncated_end_is_not_cut_further(missing):
    for domain in EXAMPLE_PAIR:
        assert cut(domain[missing:]) == [domain[missing:]]
        assert cut(domain[: -min(missing, 5)]) == [domain[: -min(missing, 5)]]


def test_a_mutated_end_belongs_to_the_domain():
    """The alignment alone leaves out the last residue where it is not the usual one."""
    for last in "LPA":
        domain = HEAVY[:-1] + last
        assert cut(domain + CONSTANT["heavy"]) == [domain]


def test_letters_of_any_case_and_unknown_ones():
    assert cut(HEAVY.lower()) == [HEAVY.lower()]
    masked = HEAVY[:40] + "X*_" + HEAVY[43:]
    assert cut(masked) == [masked]


def test_what_is_not_a_domain_of_an_antibody():
    assert find_domains(RECEPTOR) == []
    assert t_cell_receptor(RECEPTOR) == "A"
    for text in (*CONSTANT.values(), "", "MKTAYIAKQR", "G" * 200):
        assert find_domains(text) == []
        assert t_cell_receptor(text) is None


def test_a_truncated_domain():
    assert not find_domains(HEAVY[8:-5])[0].is_truncated
    assert find_domains(HEAVY[30:])[0].is_truncated
    assert find_domains(HEAVY[: HEAVY.index("WGQG")])[0].is_truncated


def test_no_residue_is_a_chain_of_another_kind(corpus):
    for row in corpus[:100]:
        for chain in CHAINS:
            [domain] = find_domains(row[chain])
            assert CHAIN_OF[domain.chain] == chain and not domain.is_truncated
            if chain == "light":
                assert domain.chain == row["v_call_light"][2]
            place = row[f"region_mask_{chain}"]
            assert row[chain][domain.cdr3] == row[chain][place.index("6") : place.rindex("6") + 1]


@pytest.mark.parametrize(
    ("scheme", "cdr3s", "first"),
    [
        ("imgt", ("SRWGGDGFYAMDY", "QQHYTTPPT"), ("105", "105")),
        ("kabat", ("WGGDGFYAMDY", "QQHYTTPPT"), ("95", "89")),
        ("chothia", ("GGDGFYAMD", "HYTTPP"), ("96", "91")),
        ("martin", ("WGGDGFYAMDY", "QQHYTTPPT"), ("95", "89")),
        ("aho", ("WGGDGFYAMDY", "HYTTPPT"), ("109", "109")),
    ],
)
def test_schemes(scheme, cdr3s, first):
    for chain, cdr3, label in zip(EXAMPLE_PAIR, cdr3s, first, strict=True):
        text = "MKT" + chain + "RT"
        domain = in_scheme(find_domains(text)[0], text, scheme)
        assert len(domain.labels) == len(domain.region_mask) == len(chain)
        assert text[domain.cdr3] == cdr3
        assert domain.labels[domain.cdr3.start - domain.start] == label
        assert len(set(domain.labels)) == len(domain.labels)
