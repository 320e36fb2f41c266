"""The gene-only baseline of pairing: how often the V genes of two chains go together in the training part.

A regression on the genes of either chain is at chance by construction, for every chain stands in a native and
in an exchanged pair: only the two genes together can tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from curr_ab.benchmark.tasks.task import Indices, Task
from curr_ab.measures.metrics import Floats
from curr_ab.probes.sequence_features import sequence_features

_PRIOR = 5.0  # pairs, by which the count of two genes is drawn to what their own frequencies expect


def gene_pair_scores(task: Task) -> Floats:
    """The log ratio of observed to expected native pairs of the two genes, of each pair of the test parts.

    Pairs of genes that the training part has not seen have 0.
    """
    assert task.folds is not None
    heavy = _genes([(pair[0], None) for pair in task.pairs])
    light = _genes([(None, pair[1]) for pair in task.pairs])
    labels = np.asarray(task.labels)
    scores = np.zeros(len(task))
    for train, test in task.folds:
        native = train[labels[train] == 1]
        seen = Counter(zip(heavy[native].tolist(), light[native].tolist(), strict=True))
        of_heavy, of_light = Counter(heavy[native].tolist()), Counter(light[native].tolist())
        for row in test.tolist():
            genes = int(heavy[row]), int(light[row])
            expected = of_heavy[genes[0]] * of_light[genes[1]] / max(len(native), 1)
            scores[row] = np.log((seen[genes] + _PRIOR) / (expected + _PRIOR)) if expected else 0.0
    return scores


def _genes(pairs: Sequence[tuple[str | None, str | None]]) -> Indices:
    """The number of each chain's nearest V gene, -1 where there is none."""
    flags = sequence_features("v-gene", pairs)
    return np.where(flags.any(axis=1), flags.argmax(axis=1), -1)
