"""Features of pairs by residues alone, without a model: what a member must beat."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np
import pyarrow.parquet as pq

from curr_ab.data.reading.formats import builtin_path
from curr_ab.measures.metrics import Floats
from curr_ab.measures.repertoires import POSITIONS, V_REGION, Chains, Genes, learn_genes, read_chains
from curr_ab.words import CHAINS, STANDARD_RESIDUES

Pair = tuple[str | None, str | None]  # heavy, light; either may be None

_WORD, _NUM_WORDS = 3, 1_024
_CHAINS_PER_GENE = 3  # the least mutated: of them the commonest residue is the germline's
_CHAINS_TO_COUNT = 300
_CHARGES = {"D": -1.0, "E": -1.0, "K": 1.0, "R": 1.0, "H": 0.1}
# Kyte and Doolittle, J. Mol. Biol. 157 (1982) 105, in the order of STANDARD_RESIDUES.
_HYDROPATHY = np.array(
    [
        *(1.8, 2.5, -3.5, -3.5, 2.8, -0.4, -3.2, 4.5, -3.9, 3.8),
        *(1.9, -3.5, -1.6, -3.5, -4.5, -0.8, -0.7, 4.2, -0.9, -1.3),
    ]
)


def sequence_features(name: str, pairs: Sequence[Pair]) -> Floats:
    """The features of this name in BASELINES [pairs, width]; a chain that is not there has zeros.

    `v-gene`: the nearest V gene of each chain. `cdr3`: its length, composition, charge and hydropathy.
    `k-mers`: counts of three residues in a row, hashed. `one-hot`: the residue at each IMGT position.
    `positions`: how usual the residues are at their positions in the built-in corpus. `germline-distance`:
    the share of positions that differ from the nearest V gene.
    """
    if name not in _FEATURES:
        raise ValueError(f"features must be one of {', '.join(BASELINES)}; got {name!r}")
    of_chain = _FEATURES[name]
    chains = (([pair[place] for pair in pairs], kind) for place, kind in enumerate(CHAINS))
    return np.concatenate([of_chain(texts, kind) for texts, kind in chains], axis=1)


@cache
def _genes(kind: str) -> Genes:
    """V genes of the built-in corpus, learnt from those of its chains that are mutated least."""
    gene, mutations = f"v_call_{kind}", f"mutations_{kind}"
    table = pq.read_table(builtin_path(), columns=[kind, gene, mutations]).sort_by(mutations)
    of_gene: dict[str, list[str]] = {}
    for text, call in zip(table[kind].to_pylist(), table[gene].to_pylist(), strict=True):
        of_gene.setdefault(call.partition("*")[0], []).append(text)
    named = [(text, call) for call, texts in of_gene.items() for text in texts[:_CHAINS_PER_GENE]]
    texts, calls = zip(*named, strict=True)
    genes = learn_genes(read_chains(texts, kind), calls, V_REGION)
    assert genes is not None
    return genes


@cache
def _log_frequencies(kind: str) -> Floats:
    """Of the residues at each position [positions, residues], the first column for none."""
    texts = pq.read_table(builtin_path(), columns=[kind])[kind][:_CHAINS_TO_COUNT].to_pylist()
    residues = read_chains(texts, kind).residues
    counts = (residues[:, :, None] == np.arange(len(STANDARD_RESIDUES) + 1)).sum(axis=0) + 1.0
    return np.asarray(np.log(counts / counts.sum(axis=1, keepdims=True)))


@lru_cache(maxsize=1 << 16)
def _read(text: str, kind: str) -> Chains:
    return read_chains([text], kind)


def _chains(texts: Sequence[str | None], kind: str) -> Chains:
    """The chains, each of them numbered once for all features."""
    each = [_read(text or "", kind) for text in texts]
    return Chains(
        tuple(one.texts[0] for one in each),
        np.concatenate([np.zeros((0, len(POSITIONS)), np.uint8), *(one.residues for one in each)]),
        np.array([one.loci[0] for one in each], "<U1"),
        np.array([one.complete[0] for one in each], bool),
        tuple(one.cdr3s[0] for one in each),
    )


def _v_gene(texts: Sequence[str | None], kind: str) -> Floats:
    genes = _genes(kind)
    called, _ = genes.call(_chains(texts, kind))
    return np.asarray(called[:, None] == np.arange(len(genes.names)), np.float64)


def _germline_distance(texts: Sequence[str | None], kind: str) -> Floats:
    _, shares = _genes(kind).call(_chains(texts, kind))
    return np.nan_to_num(1 - shares)[:, None]


def _cdr3(texts: Sequence[str | None], kind: str) -> Floats:
    cdr3s = _chains(texts, kind).cdr3s
    counts = np.array([[text.count(letter) for letter in STANDARD_RESIDUES] for text in cdr3s], np.float64)
    counts = counts.reshape(len(cdr3s), len(STANDARD_RESIDUES))
    lengths = np.array([len(text) for text in cdr3s], np.float64)[:, None]
    shares = counts / np.maximum(lengths, 1)
    charge = np.array([_CHARGES.get(letter, 0.0) for letter in STANDARD_RESIDUES])
    # Sums, not products of matrices, whose last digits depend on how many rows there are.
    sums = [(counts * charge).sum(axis=1), (shares * _HYDROPATHY).sum(axis=1)]
    return np.concatenate([lengths, shares, np.stack(sums, axis=1)], axis=1)


def _k_mers(texts: Sequence[str | None], kind: str) -> Floats:
    counts = np.zeros((len(texts), _NUM_WORDS))
    for row, text in enumerate(texts):
        for start in range(len(text or "") - _WORD + 1):
            counts[row, zlib.crc32((text or "")[start : start + _WORD].encode()) % _NUM_WORDS] += 1
    return counts


def _one_hot(texts: Sequence[str | None], kind: str) -> Floats:
    residues = _chains(texts, kind).residues
    codes = np.arange(1, len(STANDARD_RESIDUES) + 1)
    return np.asarray((residues[:, :, None] == codes).reshape(len(texts), -1), np.float64)


def _positions(texts: Sequence[str | None], kind: str) -> Floats:
    residues = _chains(texts, kind).residues
    usual = _log_frequencies(kind)[np.arange(len(POSITIONS)), residues]
    held = residues > 0
    return np.asarray((usual * held).sum(axis=1) / np.maximum(held.sum(axis=1), 1))[:, None]


_FEATURES: dict[str, Callable[[Sequence[str | None], str], Floats]] = {
    "v-gene": _v_gene,
    "cdr3": _cdr3,
    "k-mers": _k_mers,
    "one-hot": _one_hot,
    "positions": _positions,
    "germline-distance": _germline_distance,
}
BASELINES = tuple(_FEATURES)
