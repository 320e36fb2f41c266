"""Tasks with a planted signal, and peers that can or cannot see it, in the place of files and models."""

from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from curr_ab.benchmark.tasks.task import Task
from curr_ab.words import STANDARD_RESIDUES

LETTERS = list(STANDARD_RESIDUES)
NUM_PAIRS, LENGTH = 120, 24


def random_pairs(count=NUM_PAIRS, seed=0):
    random = np.random.default_rng(seed)
    return tuple(tuple("".join(random.choice(LETTERS, LENGTH)) for _ in range(2)) for _ in range(count))


def signal(pair):
    """What a model that sees the signal knows of a pair: a number that its residues decide."""
    return sum(ord(letter) * (place % 7 - 3) for place, letter in enumerate(pair[0])) / 100


def residue_signal(pair):
    """The same of each residue."""
    return np.array([ord(letter) % 5 - 2.0 for letter in "".join(pair)])


def planted(kind, *, count=NUM_PAIRS, seed=0, shuffled=False, groups=True, folds=5, name=None):
    """A task of this kind whose labels follow the signal, or no signal at all where they are shuffled."""
    random = np.random.default_rng(seed)
    pairs = random_pairs(count, seed)
    numbers = np.array([signal(pair) for pair in pairs])
    noisy = (numbers - numbers.mean()) / numbers.std() + 0.5 * random.normal(size=count)
    order = random.permutation(count) if shuffled else np.arange(count)
    names, metric, labels = (), "spearman", noisy[order]
    if kind in ("classes", "pairing"):
        names, metric = ("no", "yes"), "auroc"
        labels = (labels > 0).astype(np.int64)
    elif kind == "residues":
        names, metric = ("out", "in"), "aupr"
        chances = [
            random.random(2 * LENGTH) < 1 / (1 + np.exp(-2 * residue_signal(pairs[row]))) for row in order
        ]
        labels = tuple(tuple(map(int, one)) for one in chances)
    elif kind == "loss":
        metric = "loss"
        labels = tuple((1,) * LENGTH + (6,) * LENGTH for _ in pairs)
    of_group = np.arange(count) // 2
    parts = (of_group % folds) if kind not in ("ranking", "loss") else None
    return Task(
        name=name or f"planted-{kind}",
        title=f"Planted {kind}",
        kind=kind,
        pairs=pairs,
        ids=tuple(f"pair{row}" for row in range(count)),
        labels=labels,
        label_names=names,
        groups=tuple(f"donor{one}" for one in of_group) if groups else None,
        folds=None
        if parts is None
        else tuple((np.flatnonzero(parts != one), np.flatnonzero(parts == one)) for one in range(folds)),
        metric=metric,
        notes=(f"{count} pairs were planted",),
    )


@dataclass
class PlantedPeer:
    """A peer whose features hold the signal, or noise alone."""

    name: str = "seeing"
    sees: bool = True
    fails: bool = False
    form: str = "planted"
    num_parameters: int = 1
    asked: list = field(default_factory=list)

    @property
    def digest(self):
        return sha256(self.name.encode()).hexdigest()

    def _noise(self, pair, width):
        return np.random.default_rng(list("".join(pair).encode())).normal(size=width)

    def _answer(self, what):
        self.asked.append(what)
        if self.fails:
            raise RuntimeError("out of memory\non the device")

    def features(self, pairs):
        self._answer("features")
        rows = np.stack([self._noise(pair, 6) for pair in pairs])
        if self.sees:
            rows[:, 0] = [signal(pair) for pair in pairs]
        return {"mean": rows, "noise": np.stack([self._noise(pair[::-1], 6) for pair in pairs])}

    def residue_features(self, pairs):
        self._answer("residue_features")
        found = [self._noise(pair, (len("".join(pair)), 4)) for pair in pairs]
        if self.sees:
            for rows, pair in zip(found, pairs, strict=True):
                rows[:, 0] = residue_signal(pair)
        return found

    def log_likelihoods(self, pairs):
        self._answer("log_likelihoods")
        return [-1.0 + 0.1 * self._noise(pair, len("".join(pair))) - (not self.sees) for pair in pairs]

    def score(self, pairs):
        self._answer("score")
        return np.array([signal(pair) if self.sees else self._noise(pair, 1)[0] for pair in pairs])
