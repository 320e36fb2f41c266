"""Configuration of the CurrAb models: ESM-2's, with the family's defaults and a choice of pooling."""

import shutil
from os import PathLike
from pathlib import Path
from typing import Any

from transformers import EsmConfig

# Every Auto class that we support must stand here: once one custom class is named, transformers refuses
# those that are not. A load without `trust_remote_code` ignores the map and gives stock ESM.
AUTO_MAP = {
    "AutoConfig": "configuration_curr_ab.CurrAbConfig",
    "AutoModel": "modeling_curr_ab.CurrAbModel",
    "AutoModelForCausalLM": "modeling_curr_ab.CurrAbForCausalLM",
    "AutoModelForMaskedLM": "modeling_curr_ab.CurrAbForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_curr_ab.CurrAbForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_curr_ab.CurrAbForTokenClassification",
}
CLASSIFIER_POOLINGS = ("mean", "mean_per_chain", "cls")


class CurrAbConfig(EsmConfig):
    """What the family's checkpoints differ in from a bare `EsmConfig`; everything else is ESM's.

    `classifier_pooling` is what a sequence head reads: "mean" of all residues, "mean_per_chain" (heavy and
    light side by side) or "cls" (the first token, as stock ESM's head does). `light_first` is the share of
    pairs that a causal model saw light chain first: above 0 it can make heavy chains for light ones.
    """

    model_type = "esm"

    def __init__(
        self,
        vocab_size: int = 33,
        hidden_size: int = 320,
        num_hidden_layers: int = 6,
        num_attention_heads: int = 20,
        intermediate_size: int | None = None,
        max_position_embeddings: int = 320,
        position_embedding_type: str = "rotary",
        bos_token_id: int | None = 0,
        pad_token_id: int | None = 1,
        eos_token_id: int | None = 2,
        mask_token_id: int | None = 32,
        classifier_pooling: str = "mean",
        light_first: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            intermediate_size=4 * hidden_size if intermediate_size is None else intermediate_size,
            max_position_embeddings=max_position_embeddings,
            position_embedding_type=position_embedding_type,
            # A bare EsmConfig writes null; the model needs to know what is not a residue.
            bos_token_id=0 if bos_token_id is None else bos_token_id,
            pad_token_id=1 if pad_token_id is None else pad_token_id,
            eos_token_id=2 if eos_token_id is None else eos_token_id,
            mask_token_id=32 if mask_token_id is None else mask_token_id,
            **kwargs,
        )
        # A head that stock ESM trained reads <cls>, whatever the configuration said that it was trained from.
        from_stock = "EsmForSequenceClassification" in (self.architectures or ())
        self.classifier_pooling = "cls" if from_stock else classifier_pooling
        self.light_first = light_first
        self.auto_map = dict(AUTO_MAP)
        self._refuse_what_is_not_esm2()

    def _refuse_what_is_not_esm2(self) -> None:
        if self.classifier_pooling not in CLASSIFIER_POOLINGS:
            choices = ", ".join(CLASSIFIER_POOLINGS)
            raise ValueError(f"classifier_pooling is {self.classifier_pooling!r}; choose one of {choices}")
        if self.position_embedding_type != "rotary":
            raise ValueError(
                f"position_embedding_type is {self.position_embedding_type!r}: an ESM-1 checkpoint? "
                "CurrAb models have rotary positions, as ESM-2; load this one with transformers' Esm classes"
            )
        for name in ("emb_layer_norm_before", "is_folding_model", "add_cross_attention"):
            if getattr(self, name, False):
                raise ValueError(
                    f"{name}=True is not part of ESM-2 and not supported by the CurrAb models; "
                    "load this checkpoint with transformers' Esm classes"
                )
        if self.hidden_size % self.num_attention_heads or (self.hidden_size // self.num_attention_heads) % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads "
                f"{self.num_attention_heads}, with an even number of dimensions for each head"
            )

    def save_pretrained(
        self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Write config.json and, beside it, this file: the folder must load as remote code."""
        # A load from the Hub points the map at that repository; a saved folder brings its own code instead.
        self.auto_map = dict(AUTO_MAP)
        repo_id = kwargs.pop("repo_id", Path(save_directory).name)
        super().save_pretrained(save_directory, **kwargs)
        copy_code(__file__, save_directory)
        if push_to_hub:
            self.push_to_hub(repo_id, **kwargs)  # saves once more, and uploads everything


def copy_code(source: str | PathLike[str], folder: str | PathLike[str]) -> None:
    """Copy one file of the code into a checkpoint folder, unless it is running from there."""
    source, target = Path(source), Path(folder) / Path(source).name
    if not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)
