"""The recipe of a fine-tuning: what is learnt from which columns, how, and over which folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from curr_ab.options import check_names, check_types, differences, explained, option, read_yaml
from curr_ab.words import Target

Negatives = Literal["given", "shuffled", "matched"]
Method = Literal["lora", "dora", "frozen", "full", "probe"]
Pooling = Literal["cls", "mean", "mean_per_chain"]

# Published: 5e-5 for the head on a frozen base. Adapters begin at zero and take larger steps.
LEARNING_RATES: dict[str, float] = {
    "frozen": 5e-5,
    "full": 5e-5,
    "lora": 3e-4,
    "dora": 3e-4,
    "probe": 1e-3,
}
# Within one layer of the encoder; the heads have matrices of the same names.
ADAPTABLE = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
# A label of a residue is one character.
_MOST_RESIDUE_LABELS = 10


@dataclass(frozen=True)
class Recipe:
    """All that decides a fine-tuning's result but the model and the data, and how it is carried out."""

    name: str = option("own", "name of the task in results and cards")
    target: Target = option("classes", "what is learnt: a class or a number of a pair, a class of a residue")
    labels: tuple[str, ...] = option(
        (), "classes in the order of the logits; an integer label is a place in it, from 0"
    )
    label_column: str = option(
        "label", "column of the labels; residues: with _heavy and _light after it, a character for a residue"
    )
    heavy_column: str | None = option(None, "column of the heavy chain; found by its name")
    light_column: str | None = option(None, "column of the light chain; found by its name")
    id_column: str | None = option(None, "column of the pair's name; found by its name")
    group_by: str | None = option(
        None, "column whose values folds hold apart, such as donor or clone; needed by the grouped folds"
    )
    negatives: Negatives = option(
        "given", "shuffled: light chains are exchanged within donors; matched: among equals in germline too"
    )

    method: Method = option("lora", "what is trained: adapters and head, the head alone, or everything")
    pooling: Pooling = option("cls", "what the head sees of a pair; cls as published")
    rank: int = option(8, "of the adapters' matrices")
    alpha: int = option(16, "an adapter's output is multiplied by alpha / rank")
    adapter_dropout: float = option(0.05, "share of an adapter's input that is dropped in training")
    target_modules: tuple[str, ...] = option(ADAPTABLE, "matrices of a layer that get an adapter")

    epochs: int = option(3, "passes over the training part")
    pairs_per_step: int = option(32, "pairs of one step on all processes together")
    learning_rate: float | None = option(
        None, "the method's own by default; frozen and full 5e-5, as published"
    )
    warmup_fraction: float = option(0.1, "share of the steps in which the learning rate rises; then it falls")
    weight_decay: float = option(0.01, "of matrices; biases and norms have none")
    max_gradient_norm: float = option(1.0, "longer gradients are shortened to this")
    precision: Literal["bf16", "fp32"] = option("bf16", "of the matrix products; weights are kept in fp32")
    class_weights: Literal["none", "balanced"] = option("none", "balanced: rare classes count for more")
    early_stopping: int = option(0, "epochs without improvement on the validation part; 0: never")
    validation_fraction: float = option(
        0.1, "share of the training part that early stopping watches, rounded to 1/2, 1/3, 1/4 ..."
    )

    folds: int = option(5, "parts of which each is the test part once; 1: a fifth is the only test part")
    fold_scheme: Literal["grouped", "rows"] = option(
        "grouped", "grouped holds the values of group_by apart; rows, as published, leaks between relatives"
    )
    max_residues: int = option(315, "pairs with more residues are dropped and counted")
    seed: int = option(42, "of folds, negatives, heads, batches and dropout")
    final: bool = option(True, "after the folds, fit once on everything", execution=True)

    pairs_per_micro_batch: int = option(0, "pairs at once on a device; 0: chosen", execution=True)
    attention: str = option("auto", "attention implementation", execution=True)
    trackers: tuple[str, ...] = option((), "wandb, tensorboard, … beside log.jsonl", execution=True)

    def __post_init__(self) -> None:
        if isinstance(self.labels, (list, tuple)):  # YAML reads 0 and 1 as numbers; they are names here
            labels: tuple[Any, ...] = self.labels
            if any(isinstance(one, bool) for one in labels):
                raise ValueError("labels: YAML reads no, yes, false and true as truth values; quote them")
            names = [str(one) if type(one) is int else one for one in labels]
            object.__setattr__(self, "labels", names)
        check_types(self)
        self._check_ranges()
        self._check_labels()
        self._check_combinations()

    def _check_ranges(self) -> None:
        for name in (
            "rank",
            "alpha",
            "epochs",
            "pairs_per_step",
            "folds",
            "max_residues",
            "max_gradient_norm",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0")
        for name in ("weight_decay", "early_stopping", "seed", "pairs_per_micro_batch"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("warmup_fraction", "adapter_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share, from 0 to below 1")
        if not 0 < self.validation_fraction <= 0.5:
            raise ValueError(f"validation_fraction is {self.validation_fraction}; it is above 0, at most 0.5")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be more than 0")
        if unknown := [name for name in self.target_modules if name not in ADAPTABLE]:
            raise ValueError(f"target_modules: {unknown[0]!r} must be one of {', '.join(ADAPTABLE)}")

    def _check_labels(self) -> None:
        if self.target == "number":
            if self.labels:
                raise ValueError(f"a number has no labels, but labels are {', '.join(self.labels)}")
            return
        if len(self.labels) < 2:
            raise ValueError(f"name at least two labels for the target {self.target!r}, such as [HD, CoV]")
        if len({label.strip().casefold() for label in self.labels}) < len(self.labels):
            raise ValueError(f"a label is named twice among {', '.join(self.labels)}")
        if self.target == "residues" and len(self.labels) > _MOST_RESIDUE_LABELS:
            raise ValueError(f"a residue's label is one digit: name at most {_MOST_RESIDUE_LABELS} labels")

    def _check_combinations(self) -> None:
        if self.fold_scheme == "grouped" and self.group_by is None:
            raise ValueError(
                "grouped folds need group_by, such as donor or clone; the folds that may leak are called rows"
            )
        if self.fold_scheme == "rows" and self.group_by is not None:
            raise ValueError(
                f"fold_scheme rows ignores group_by {self.group_by!r}; choose grouped, or group_by null"
            )
        if self.negatives != "given" and (self.target != "classes" or len(self.labels) != 2):
            raise ValueError(
                f"negatives {self.negatives!r} need target classes with two labels, [shuffled, native]"
            )
        if self.class_weights != "none" and self.target == "number":
            raise ValueError("class_weights are for classes; a number has none")
        if self.method in ("lora", "dora") and not self.target_modules:
            raise ValueError(f"{self.method} needs target_modules; {', '.join(ADAPTABLE)}")
        if self.method == "probe" and self.target == "residues":
            raise ValueError("probe is for pairs; choose frozen to train only the head of residues")

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after the warm-up: the one given, else the method's."""
        return LEARNING_RATES[self.method] if self.learning_rate is None else self.learning_rate

    @property
    def num_parts(self) -> int:
        """Parts that the examples fall into; a single fold tests on one of five."""
        return self.folds if self.folds > 1 else 5

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are written to YAML and JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    def differences(self, other: Recipe) -> list[str]:
        """Changes that change the result, in words; how a run is carried out may differ."""
        return differences(self, other)


def options() -> Iterator[tuple[str, Any, str]]:
    """Name, type and explanation of every field."""
    return explained(Recipe)


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(files("curr_ab.finetuning"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def resolve_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by name or a recipe of one's own by path, changed by `overrides`.

    A file may begin with `like: NAME`, another recipe whose values it changes.
    """
    given = dict(overrides or {})
    check_names(given, Recipe, "recipe")
    return Recipe(**_changed(_read(name_or_path), given))


def _read(name_or_path: str | Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    shipped = shipped_recipes()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise ValueError(f"the recipe must be a YAML file or one of {', '.join(shipped)}; got {name_or_path}")
    if path in seen:
        raise ValueError(f"{path}: `like` must name another recipe; it leads back to this file")
    given = read_yaml(path)
    like = given.pop("like", None)
    check_names(given, Recipe, "recipe", str(path))
    base = {} if like is None else _read(like, (*seen, path))
    return _changed(base, {"name": path.stem, **given})


def _changed(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The base with what is given; scheme and groups go together, so that one of them says both."""
    implied: dict[str, Any] = {}
    if given.get("fold_scheme") == "rows":
        implied["group_by"] = None
    elif given.get("group_by") is not None:
        implied["fold_scheme"] = "grouped"
    return {**base, **implied, **given}
