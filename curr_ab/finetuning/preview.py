"""Text of `finetune --dry-run`: the recipe, its examples and folds, and the time that its run takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from curr_ab.attention import Asked, choose_attention
from curr_ab.checkpoints import HEADS
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.finetuning.batches import TokenRows
from curr_ab.finetuning.examples import Examples, read_examples
from curr_ab.finetuning.fit import steps_of, steps_per_epoch
from curr_ab.finetuning.folds import Fold, split_folds
from curr_ab.finetuning.folds_beside import whole_part
from curr_ab.finetuning.further_sequences import FurtherSequences, read_further
from curr_ab.finetuning.label_counts import labels_by_task
from curr_ab.finetuning.lower_layers import fits_in_memory
from curr_ab.finetuning.methods import ADAPTERS
from curr_ab.finetuning.model import adapted, checked_source, describe_trainable, head_name, model_config
from curr_ab.finetuning.plan import (
    HELD_SHARE,
    TRAINED,
    TRIAL_EPOCHS,
    Plan,
    TrialCosts,
    describe,
    make_plan,
    trial_recipe,
)
from curr_ab.finetuning.recipe import Method, Recipe
from curr_ab.modeling import CurrAbConfig
from curr_ab.number_types import training_precision
from curr_ab.training.costs import expected_rate, expected_time, training_flops_per_token
from curr_ab.words import UNKNOWN_LABEL

# Forward and backward take one and two parts of the operations of training; a frozen matrix needs no
# gradient of its own, and a frozen base is computed once, without a backward pass.
_SHARE = {"full": 1.0, "lora": 2 / 3, "dora": 2 / 3}
_FORWARD = 1 / 3


def preview(
    recipe: Recipe,
    model: str | Path,
    data: Any,
    *,
    names: ColumnNames | None = None,
    adapt_data: Any = (),
) -> str:
    """The text; nothing is trained, and the weights of the model are not read."""
    examples = read_examples(recipe, data, names=names)
    further = read_further(adapt_data, recipe)
    folds = split_folds(examples, recipe)
    config = model_config(recipe, checked_source(model))
    with torch.device("meta"):
        shape = adapted(HEADS[head_name(recipe)](config), recipe, "")
    precision = training_precision(recipe.precision)
    if recipe.method == "auto":
        plan = plan_of(recipe, checked_source(model), examples, folds, further)
        costs = [f"{'' if place else 'methods':<17}{line}" for place, line in enumerate(describe(plan))]
    else:
        steps = [steps_of(recipe, fold) for fold in folds]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        attention = choose_attention(recipe.attention, Asked.by(config, device, precision.name))
        costs = [
            f"model            {describe_trainable(shape)}",
            f"learning rate    {recipe.peak_learning_rate:g}",
            f"steps            {min(steps):,} to {max(steps):,} a fold, of {recipe.pairs_per_step} pairs",
            f"products         {precision.name}: {precision.reason}",
            *(f"{'' if place else 'attention':<17}{line}" for place, line in enumerate(attention.lines)),
        ]
        if recipe.method == "probe":
            costs = [f"model            a regression on frozen features ({recipe.features})"]
        flops = operations(recipe, config, examples, folds, further)
        costs.append(f"time             {expected_time(flops, precision.name, shape.num_parameters())}")
    lines = [
        yaml.safe_dump(recipe.to_dict(), sort_keys=False).rstrip(),
        "",
        f"examples         {len(examples):,}, {examples.num_dropped:,} dropped",
        *(f"                 {line}" for line in _counts(recipe, examples)),
        *(f"note             {note}" for note in (*examples.notes, *further.notes)),
        *(
            f"fold {fold.number:<12}training {len(fold.train):,}, validation {len(fold.validation):,}, "
            f"test {len(fold.test):,}"
            for fold in folds
        ),
        *costs,
    ]
    return "\n".join(lines)


def plan_of(
    recipe: Recipe, source: str, examples: Examples, folds: Sequence[Fold], further: FurtherSequences
) -> Plan:
    """What `--method auto` tries on these folds, by the time that operations take on this machine."""
    config = model_config(recipe, source)
    with torch.device("meta"):
        num_parameters = HEADS[head_name(recipe)](config).num_parameters()
    rate, _ = expected_rate(training_precision(recipe.precision).name, num_parameters)
    seconds: dict[Method, tuple[float, float]] = {}
    methods: tuple[Method, ...] = ("probe", *TRAINED)
    smallest = min(len(whole_part(fold)) for fold in folds)
    num_labels = smallest if recipe.target != "residues" else _num_known(examples) * smallest // len(examples)
    passes = operations(recipe.as_method("probe"), config, examples, folds, further)
    one_pass = passes / rate / len(examples)
    costs = TrialCosts(
        len(examples),
        config.num_hidden_layers,
        len(folds) + recipe.fits_everything,
        recipe.pairs_per_step,
        fits_in_memory(TokenRows(examples.items, recipe), config.hidden_size),
    )
    steps = costs.steps
    most = TRIAL_EPOCHS * steps_per_epoch(recipe, folds[0])
    for method in methods:
        fits = operations(recipe.as_method(method), config, examples, folds, further) / rate
        trials = 0.0
        if method in ADAPTERS:
            trials = costs.passes(min(steps, most)) * one_pass
        elif method != "probe":
            short = trial_recipe(recipe, method)
            trials = operations(short, config, examples, folds, further) * (1 - HELD_SHARE) / rate
        seconds[method] = trials, fits
    return make_plan(recipe, num_labels, len(folds), seconds, steps)


def _num_known(examples: Examples) -> int:
    """Residues whose label is known."""
    return sum(int((np.asarray(item.label) != UNKNOWN_LABEL).sum()) for item in examples)


def _counts(recipe: Recipe, examples: Examples) -> list[str]:
    unit = "residues" if recipe.target == "residues" else "records" if recipe.unpaired else "pairs"
    lines = []
    for column, labels in labels_by_task(examples, recipe).items():
        if recipe.target == "number":
            numbers = np.array(labels, np.float64)
            lines.append(f"{column} {numbers.mean():.3g}, standard deviation {numbers.std():.3g}")
            continue
        counts, place = Counter(labels), f"{column}, " if recipe.label_columns else ""
        lines += [f"{place}{name}: {counts[number]:,} {unit}" for number, name in enumerate(recipe.labels)]
    return lines


def operations(
    recipe: Recipe,
    config: CurrAbConfig,
    examples: Examples,
    folds: Sequence[Fold],
    further: FurtherSequences,
) -> float:
    """Floating-point operations of all fits, the last on everything among them."""
    lengths = TokenRows(examples.items, recipe).lengths.astype(np.float64)
    per_token = training_flops_per_token(config, float(np.square(lengths).sum() / lengths.sum()))
    if recipe.method == "probe" or (recipe.method == "frozen" and recipe.target != "residues"):
        return float(lengths.sum()) * per_token * _FORWARD  # once for all folds
    share = _SHARE.get(recipe.method, _FORWARD)
    if recipe.layers:  # nothing flows back below the first adapter
        share = _FORWARD * (1 + recipe.layers / config.num_hidden_layers)
    epochs = recipe.adapt_epochs
    epochs += max(recipe.num_epochs(steps_per_epoch(recipe, fold)) for fold in folds)
    trained, validated, tested = (
        sum(float(lengths[getattr(fold, part)].sum()) for fold in folds)
        for part in ("train", "validation", "test")
    )
    if recipe.fits_everything:
        trained += float(lengths.sum())
    adapted_on = recipe.adapt_epochs * (len(folds) + recipe.fits_everything) * further.num_residues
    return per_token * (
        adapted_on * share + epochs * (trained * share + validated * _FORWARD) + tested * _FORWARD
    )
