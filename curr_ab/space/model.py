"""The model behind the app: loaded once, asked for a few records; ZeroGPU lends a GPU for each call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

from curr_ab.checkpoint_files import find_weights, resolve
from curr_ab.checkpoints import Checkpoint
from curr_ab.inference.records import Record
from curr_ab.inference.tasks import BulkTask
from curr_ab.results import checkpoint_digest

Function = TypeVar("Function", bound=Callable[..., Any])


class Model:
    """A language model and the tasks that it does for the app; float32, so that answers can be compared."""

    def __init__(self, name: str) -> None:
        lend = _lender()  # before the model is loaded: it must watch what goes to the GPU
        model, tokenizer = Checkpoint(name, dtype="float32").load()
        self.name = name
        self.is_causal = bool(model.config.is_decoder)
        self.device = str(model.device)
        self.digest = checkpoint_digest(*find_weights(resolve(name)))
        self.tokenizer = tokenizer

        def compute(task: BulkTask, records: Sequence[Record]) -> list[Any] | str:
            """The results, or why there are none: an error would not come through from another process."""
            try:
                task.check_model(model)
                checked = [task.check(tokenizer, record) for record in records]
                return list(task.results(model, tokenizer, checked))
            except ValueError as error:
                return str(error)

        self._compute = lend(compute)

    def results(self, task: BulkTask, records: Sequence[Record]) -> list[Any]:
        """The results of these records, in their order; a record that cannot be used is an error."""
        outcome = self._compute(task, records)
        if isinstance(outcome, str):
            raise ValueError(outcome)
        return outcome


def _lender() -> Callable[[Function], Function]:
    """The decorator that lends a function a GPU on ZeroGPU; elsewhere functions stay as they are."""
    if find_spec("spaces") is None:
        return lambda function: function
    import spaces

    lend: Callable[[Function], Function] = spaces.GPU
    return lend
