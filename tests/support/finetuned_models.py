"""Fine-tuned tiny members without any training: heads and adapters moved off zero and saved."""

from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model

from curr_ab import (
    CurrAbForMaskedLM,
    CurrAbForSequenceClassification,
    CurrAbForTokenClassification,
    CurrAbTokenizer,
)
from curr_ab.finetuning import save_adapter
from curr_ab.results import Result
from support.tiny_models import save_checkpoint, shake, tiny_config

TARGETS = {
    "classes": ("HD", "Flu", "CoV"),
    "residues": ("other", "paratope"),
    "number": (),
}
# Of PEFT, for an adapter that is nothing but a head: no matrix of the model is touched.
NO_MATRIX = "dummy-target-modules"
MATRICES = r"esm\.encoder\.layer\.\d+\.(attention\.self\.(query|value)|intermediate\.dense)"


@dataclass(frozen=True)
class ShortRecipe:
    """As much of a recipe as a folder shows."""

    name: str
    target: str
    labels: tuple[str, ...]
    method: str
    pooling: str = "cls"
    fold_scheme: str = "grouped"
    group_by: str | None = "donor"


def save_base(folder):
    """A member without a head, as pretraining leaves it."""
    torch.manual_seed(0)
    return save_checkpoint(shake(CurrAbForMaskedLM(tiny_config())).eval(), folder)


def tune(base, target="classes", method="lora", pooling="cls", labels=None):
    """A model with a head and, unless all of it is tuned, an adapter; all that is tuned has moved."""
    head = CurrAbForTokenClassification if target == "residues" else CurrAbForSequenceClassification
    torch.manual_seed(1)
    labels = TARGETS[target] if labels is None else labels
    options = {"num_labels": max(1, len(labels)), "classifier_pooling": pooling}
    model = head.from_pretrained(base, **options)
    if method == "full":
        tuned = model
    else:
        lora = LoraConfig(
            r=4,
            target_modules=NO_MATRIX if method == "frozen" else MATRICES,
            modules_to_save=["classifier"],
            use_dora=method == "dora",
        )
        tuned = get_peft_model(model, lora)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return tuned.eval()


def mean_rows(model="tiny", **metrics):
    """Results as a cross-validation has them."""
    return [
        Result(
            model=model,
            task="specificity",
            metric=metric.replace("_", "-"),
            value=value,
            standard_error=0.01,
            num_items=60,
            dataset="hf://datasets/lab/binders/pairs.csv",
            split="test",
            checkpoint="0" * 64,
            source="curr-ab finetune specificity",
            code_version="0.1.0",
            details={"recipe": "specificity", "method": "lora", "folds": 5},
        )
        for metric, value in metrics.items()
    ]


def save_tuned(model, folder, base, target="classes", method="lora", pooling="cls", labels=None):
    """The folder, by the package's own function."""
    labels = TARGETS[target] if labels is None else labels
    save_adapter(
        model,
        folder,
        tokenizer=CurrAbTokenizer(),
        recipe=ShortRecipe(f"{target}-of-pairs", target, labels, method, pooling),
        base_model=str(base),
        label_names=labels,
        results=mean_rows(accuracy=0.71, macro_f1=0.7),
        data={"sources": ["/home/somebody/pairs.csv"], "fingerprint": "f" * 64, "examples": 60},
        folds={"scheme": "grouped", "group_by": "donor", "number": 5},
    )
    return folder
