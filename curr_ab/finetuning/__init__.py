"""Fine-tuning for new tasks: recipes as data, adapters, folds that do not leak."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from curr_ab.data.extra import needs_extra

if TYPE_CHECKING:
    from curr_ab.finetuning.adapter_folder import save_adapter
    from curr_ab.finetuning.prediction import load_finetuned, predict

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {
    "load_finetuned": "prediction",
    "predict": "prediction",
    "save_adapter": "adapter_folder",
}
__all__ = ["load_finetuned", "predict", "save_adapter"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'curr_ab.finetuning' has no attribute {name!r}")
    with needs_extra("finetune"):
        module = importlib.import_module(f"curr_ab.finetuning.{_LAZY[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
