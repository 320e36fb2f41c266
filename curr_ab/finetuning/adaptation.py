"""Masked training of the adapters on a training part's sequences, before a head learns from its labels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

from curr_ab.files import replacing
from curr_ab.finetuning.batches import RightAnswers, TokenRows
from curr_ab.finetuning.examples import Indices
from curr_ab.finetuning.fit import Fit
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.labelled_pairs import Example
from curr_ab.finetuning.model import build_masked_model, trained_weights
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.run_folder import FitFolder
from curr_ab.randomness import random_stream
from curr_ab.training.reporter import Reporter
from curr_ab.training.stop import StopRequest
from curr_ab.training.tasks import mask_residues
from curr_ab.words import VOCABULARY

# As in the pretraining: 15 % of the residues, of which 80 % become <mask> and 10 % another residue.
_MASKED, _MASK_TOKEN, _OTHER_RESIDUE = 0.15, 0.8, 0.1
FILE = "adapted.safetensors"


class MaskedRows(TokenRows):
    """Examples whose masked residues are to be answered; each epoch masks others."""

    def mask(self, randomness: np.random.Generator) -> RightAnswers:
        """Mask anew; the residues that are right."""
        tokens, self._asks_residues = self._task.targets, True
        self._ask(mask_residues(tokens, randomness, _MASKED, _MASK_TOKEN, _OTHER_RESIDUE))
        labels = torch.from_numpy(tokens[self._answers_at].astype(np.int64))
        return RightAnswers(labels, torch.ones(len(labels)), len(VOCABULARY))


class Adaptation(Fit):
    """A fit to the sequences alone: it has no labels, no validation part, and ends with its last epoch."""

    rows: MaskedRows

    def epoch(self, stop: StopRequest, reporter: Reporter) -> float:
        """Train to the end of an epoch, whose masks follow from seed, fold and epoch."""
        number = self.progress.step // self.steps_per_epoch
        self.right = self.rows.mask(random_stream(self.recipe.seed, "masks", self.fold.number, number))
        return super().epoch(stop, reporter)


def adapted_weights(
    recipe: Recipe,
    source: str,
    accelerator: Accelerator,
    *,
    examples: Sequence[Example],  # all that is trained on
    fold: Fold,
    folder: FitFolder,
    stop: StopRequest,
    title: str,
    attention: str,
    pad: bool,
    most_at_once: int,
    steps_before: int,
) -> dict[str, Tensor]:
    """The adapters' weights after their masked training before a fold's fit, from where it stands."""
    place = FitFolder(folder.path / "adaptation", folder.path)
    file = place.path / FILE
    if not file.exists():
        everything: Indices = np.arange(len(examples))
        nothing = everything[:0]
        fit = Adaptation(
            adaptation_recipe(recipe),
            accelerator,
            model=build_masked_model(recipe, source, attention, fold.number),
            rows=MaskedRows(examples, recipe, pad=pad),
            right=RightAnswers(torch.zeros(0), torch.zeros(0), len(VOCABULARY)),  # until an epoch masks
            fold=Fold(fold.number, everything, nothing, nothing),
            folder=place,
            most_at_once=most_at_once,
            steps_before=steps_before,
        )
        fit.run(stop, f"{title}, masked training")
        trained = trained_weights(fit.whole).items()  # and the tied decoder, which is a weight of the base
        weights = {name: value.contiguous() for name, value in trained if ".lora_" in name}
        if accelerator.is_main_process:
            with replacing(file) as temporary:
                save_file(weights, temporary)
            shutil.rmtree(place.states, ignore_errors=True)
        accelerator.free_memory()
        accelerator.wait_for_everyone()
    return load_file(file)


def adaptation_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the masked training: its epochs, all of them."""
    return replace(recipe, epochs=recipe.adapt_epochs, fewest_steps=0, early_stopping=0, start="random")


def adaptation_steps(recipe: Recipe, num_sequences: int) -> int:
    """Steps of the masked training on so many sequences before a fit."""
    return recipe.adapt_epochs * -(-num_sequences // recipe.pairs_per_step)


def take_adapters(model: Any, weights: dict[str, Tensor]) -> None:
    """Put the adapted weights into a model with a head."""
    _, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
