"""The recipe of a fine-tuning: what is learnt from which columns, how, and over which folds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from curr_ab.finetuning.label_checks import check_classes, check_columns, check_loss
from curr_ab.finetuning.methods import ADAPTERS, METHODS, Pooling, Start
from curr_ab.options import OptionError, check_types, differences, option
from curr_ab.probes.feature_names import MEMBER_FEATURES, RESIDUE_FEATURES
from curr_ab.words import Target

Negatives = Literal["given", "shuffled", "matched"]
Method = Literal["auto", "lora", "dora", "frozen", "full", "probe"]
Loss = Literal["cross_entropy", "ordinal", "mse", "huber", "ranking"]

# Within one layer of the encoder; the heads have matrices of the same names.
ADAPTABLE = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


@dataclass(frozen=True)
class Recipe:
    """All that decides a fine-tuning's result but the model and the data, and how it is carried out."""

    name: str = option("own", "Name of the task in results and cards")
    target: Target = option(
        "classes", "Target that is learnt: a class of a pair, a class of each residue, or a number of a pair"
    )
    labels: tuple[str, ...] = option(
        (),
        "Names of the classes in the order of the logits; an integer label counts them from 0",
        metavar="LABEL",
    )
    label_column: str = option(
        "label",
        "Column of the labels; for residues with _heavy and _light after it, a character for each residue",
        metavar="NAME",
    )
    label_columns: tuple[str, ...] = option(
        (),
        "Columns of several numbers, or of several labels of the same two classes, that are learnt at once "
        "in the place of label_column; an empty cell is unknown",
        metavar="NAME",
    )
    weight_column: str | None = option(
        None, "Column of the weight of a record in the loss, a number above 0", metavar="NAME"
    )
    replicates: Literal["kept", "averaged"] = option(
        "kept", "Rows of the same chains and group: each kept, or averaged, with the sum of their weights"
    )
    unpaired: bool = option(
        False, "Read single chains too: a record has a heavy chain, a light one, or both, as its row does"
    )
    heavy_column: str | None = option(
        None, "Column of the heavy chain", shown="recognised by its name", metavar="NAME"
    )
    light_column: str | None = option(
        None, "Column of the light chain", shown="recognised by its name", metavar="NAME"
    )
    id_column: str | None = option(
        None, "Column of the pair's name", shown="recognised by its name", metavar="NAME"
    )
    group_by: str | None = option(
        None,
        "Column whose values the folds hold apart, such as donor or clone; grouped folds need one",
        metavar="NAME",
    )
    negatives: Negatives = option(
        "given",
        "Source of the negative pairs: given by the data, shuffled within donors, or matched in germline too",
    )

    method: Method = option(
        "auto",
        "Method: what is best inside each training part, or train adapters and the head, the head alone, "
        "everything, or fit a probe",
    )
    budget: float = option(
        60.0, "Minutes that auto may expect a method to take; what takes longer is not tried", above=0
    )
    learning_curve: bool = option(
        False, "Measure how the score rises with the number of labels", execution=True
    )
    pooling: Pooling = option(
        None,
        "Pooling of a pair for the head; stock transformers knows cls alone",
        shown="the method's own; cls, as published, for frozen and residues, else mean_per_chain",
    )
    features: str = option(
        "auto",
        "Features of a probe: auto, which chooses inside each training part, or one of "
        f"{', '.join(MEMBER_FEATURES)}; for residues {' or '.join(RESIDUE_FEATURES)}",
        metavar="NAME",
    )
    rank: int = option(8, "Rank of the adapters' matrices", above=0)
    alpha: int = option(16, "Scale of the adapters, whose output is multiplied by alpha / rank", above=0)
    adapter_dropout: float = option(
        0.05, "Share of an adapter's input that is dropped in training", least=0, below=1
    )
    target_modules: tuple[str, ...] = option(
        ADAPTABLE, "Matrices of a layer that get an adapter", metavar="NAME"
    )

    layers: int = option(
        0, "Number of last layers that get adapters", shown="0, which means all of them", least=0
    )
    start: Start = option(
        None,
        "Start of the head: the solution of a linear probe on the training part, or random weights",
        shown="the method's own; random, as published, for frozen and residues, else probe",
    )

    adapt_epochs: int = option(
        0,
        "Number of passes of masked training of the adapters over the training part, before the head learns",
        least=0,
    )
    epochs: int = option(3, "Number of passes over the training part", above=0)
    fewest_steps: int = option(
        None,
        "Number of steps that a fit has at least: on small data epochs are added until it has them",
        shown="the method's own",
        least=0,
    )
    pairs_per_step: int = option(32, "Number of pairs in a step, on all processes together", above=0)
    learning_rate: float | None = option(
        None,
        "Learning rate at the end of the warm-up",
        shown="the method's own; frozen and full 5e-5, as published",
        above=0,
    )
    warmup_fraction: float = option(
        0.1, "Share of the steps in which the learning rate rises; then it falls", least=0, below=1
    )
    weight_decay: float = option(0.01, "Weight decay of matrices; biases and norms have none", least=0)
    max_gradient_norm: float = option(1.0, "Norm to which longer gradients are shortened", above=0)
    precision: Literal["auto", "bf16", "fp32"] = option(
        "auto",
        "Number type of the matrix products; weights are kept in fp32",
        shown="auto, bf16 where the hardware multiplies it, else fp32; a run keeps the type it began in",
    )
    loss: Loss | None = option(
        None,
        "Loss: ordinal for classes that are in order, huber for numbers with outliers, ranking for numbers "
        "of which the order matters",
        shown="cross_entropy of classes and residues, mse of numbers",
    )
    class_weights: Literal["none", "balanced"] = option(
        "none", "Weights of the classes; with balanced, rare classes count for more"
    )
    early_stopping: int = option(
        None,
        "Number of epochs without improvement on the validation part that end a fit; 0 is never",
        shown="the method's own; 0, as published, for frozen",
        least=0,
    )
    validation_fraction: float = option(
        0.1,
        "Share of the training part that early stopping watches, rounded to 1/2, 1/3, 1/4 ...",
        above=0,
        most=0.5,
    )

    folds: int = option(
        5, "Number of parts, each of which is the test part once; 1 tests on a fifth alone", above=0
    )
    fold_scheme: Literal["grouped", "rows"] = option(
        "grouped",
        "Folds: grouped holds the values of group_by apart; rows, as published, leaks between relatives",
    )
    max_residues: int = option(315, "Number of residues above which a pair is dropped and counted", above=0)
    seed: int = option(42, "Seed of folds, negatives, heads, batches and dropout", least=0)
    final: bool = option(True, "Fit once on all pairs after the folds", execution=True)
    ensemble: Literal["none", "folds"] = option(
        "none",
        "Model of the run: one more fit on everything, or with folds the mean of the models of the folds, "
        "with their deviation",
        execution=True,
    )
    training_sequences: bool = option(
        True,
        "Keep the residues of the training pairs in the adapter, by which predict tells how near a pair is",
        execution=True,
    )

    pairs_per_micro_batch: int = option(
        0,
        "Number of pairs that a device computes at once",
        shown="0, which means chosen for the device",
        least=0,
        execution=True,
    )
    attention: str = option(
        "auto", "Attention implementation, a name that transformers knows", metavar="NAME", execution=True
    )
    trackers: tuple[str, ...] = option(
        (),
        "Trackers beside log.jsonl: wandb, tensorboard or another that Accelerate knows",
        metavar="NAME",
        execution=True,
    )

    def __post_init__(self) -> None:
        if isinstance(self.labels, (list, tuple)):  # YAML reads 0 and 1 as numbers; they are names here
            labels: tuple[Any, ...] = self.labels
            if any(isinstance(label, bool) for label in labels):
                raise OptionError(
                    "labels must be text; YAML reads no, yes, false and true as truth values: quote them",
                    "labels",
                )
            names = [str(label) if type(label) is int else label for label in labels]
            object.__setattr__(self, "labels", names)
        self._take_from_method()
        check_types(self)
        for name in self.target_modules:
            if name not in ADAPTABLE:
                raise OptionError(
                    f"target_modules must be some of {', '.join(ADAPTABLE)}; got {name!r}", "target_modules"
                )
        check_classes(self.target, self.labels)
        check_columns(self.target, self.labels, self.label_columns)
        check_loss(self.target, self.labels, self.loss)
        self._check_combinations()

    def _take_from_method(self) -> None:
        """Give what is left to the method its values, so that a recorded recipe says all of them."""
        defaults = METHODS.get(self.method, METHODS["lora"])  # an unknown one is refused with the types
        is_left: bool = getattr(self, "start") is None  # noqa: B009 - its type says that it is not
        for name in ("pooling", "start", "fewest_steps", "early_stopping"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, defaults.value(name, self.target))
        if is_left and not self._can_start_at_probe:
            object.__setattr__(self, "start", "random")

    @property
    def _can_start_at_probe(self) -> bool:
        """False for heads that no regression on pooled features gives."""
        return not self.label_columns and self.loss != "ordinal" and self.target != "residues"

    def _check_combinations(self) -> None:
        if self.fold_scheme == "grouped" and self.group_by is None:
            raise OptionError(
                "group_by must name a column such as donor or clone for grouped folds; got none: name one, "
                "or set fold_scheme to rows, whose folds may leak",
                *("group_by", "fold_scheme"),
            )
        if self.fold_scheme == "rows" and self.group_by is not None:
            raise OptionError(
                f"group_by must be none for fold_scheme rows, which ignores it; got {self.group_by!r}",
                "group_by",
            )
        if self.ensemble == "folds" and self.folds < 2:
            raise OptionError(
                "folds must be 2 or more for an ensemble of them; got 1", *("folds", "ensemble")
            )
        if self.negatives != "given" and (
            self.target != "classes" or len(self.labels) != 2 or self.label_columns
        ):
            raise OptionError(
                f"negatives must be given, or the target classes with two labels, [shuffled, native]; "
                f"got {self.negatives}",
                "negatives",
            )
        if self.negatives != "given" and self.unpaired:
            raise OptionError(
                f"unpaired must be no for {self.negatives} negatives: a single chain has no partner to "
                "exchange; leave such records out",
                "unpaired",
            )
        if self.negatives != "given" and self.weight_column is not None:
            raise OptionError(
                f"weight_column must be none for {self.negatives} negatives, which no row weighs; "
                f"got {self.weight_column!r}",
                "weight_column",
            )
        if self.class_weights != "none" and self.target == "number":
            raise OptionError(
                f"class_weights must be none for the target number; got {self.class_weights}", "class_weights"
            )
        if self.learning_curve and self.label_columns:
            raise OptionError(
                "learning_curve must be no for several columns, which have no common score; learn one alone",
                *("learning_curve", "label_columns"),
            )
        if self.loss is not None and self.method in ("auto", "probe"):
            raise OptionError(
                f"loss must be none for {self.method}, as a regression has its own; got {self.loss}: take "
                "lora, for example",
                *("loss", "method"),
            )
        if self.replicates == "averaged" and self.target != "number":
            raise OptionError(
                f"replicates must be kept for the target {self.target}, whose classes have no mean; "
                "got averaged",
                "replicates",
            )
        if self.loss == "ranking" and 0 < self.pairs_per_micro_batch < self.pairs_per_step:
            raise OptionError(
                "pairs_per_micro_batch must be at least pairs_per_step for the loss ranking, which compares "
                f"the pairs of a step; got {self.pairs_per_micro_batch}, and {self.pairs_per_step} a step",
                *("pairs_per_micro_batch", "pairs_per_step"),
            )
        if self.method in ("auto", "lora", "dora") and not self.target_modules:
            raise OptionError(
                f"target_modules must be some of {', '.join(ADAPTABLE)} for {self.method}; got none",
                "target_modules",
            )
        for name in ("adapt_epochs", "layers"):
            if (value := getattr(self, name)) and self.method not in ("auto", *ADAPTERS):
                raise OptionError(
                    f"{name} must be 0 for {self.method}, which has no adapters; got {value}: "
                    "take lora or dora",
                    *(name, "method"),
                )
        if self.start == "probe" and not self._can_start_at_probe:
            raise OptionError(
                "start must be random for residues, several columns and the loss ordinal, as a probe is of "
                "pairs, one column and no order; got probe",
                "start",
            )
        known = ("auto", *(RESIDUE_FEATURES if self.target == "residues" else MEMBER_FEATURES))
        if self.features not in known:
            raise OptionError(
                f"features must be one of {', '.join(known)} for the target {self.target}; "
                f"got {self.features!r}",
                "features",
            )

    def as_method(self, method: Method) -> Recipe:
        """The same by another method, without what only adapters have where it has none."""
        has_adapters = method in ("auto", *ADAPTERS)
        layers, adapt_epochs = (self.layers, self.adapt_epochs) if has_adapters else (0, 0)
        return replace(self, method=method, layers=layers, adapt_epochs=adapt_epochs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs of the head: the columns that are learnt at once, or the classes."""
        return self.label_columns or self.labels

    @property
    def tasks(self) -> tuple[str, ...]:
        """The columns whose labels are learnt."""
        return self.label_columns or (self.label_column,)

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after the warm-up: the one given, else the method's."""
        return METHODS[self.method].learning_rate if self.learning_rate is None else self.learning_rate

    def num_epochs(self, steps_per_epoch: int) -> int:
        """Epochs of a fit: those of the recipe, or as many as its fewest steps take."""
        return max(self.epochs, -(-self.fewest_steps // steps_per_epoch))

    @property
    def fits_everything(self) -> bool:
        """True where a last fit is on all examples, rather than on none or in the place of it an ensemble."""
        return self.final and self.ensemble == "none"

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
