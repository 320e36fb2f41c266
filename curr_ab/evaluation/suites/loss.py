"""The suite `loss`: held-out cross-entropy under seeded masks, in all and by region."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from curr_ab.data.shards import TokenDataset
from curr_ab.evaluation.comparison import write_pair_losses
from curr_ab.evaluation.measurement import Subject
from curr_ab.evaluation.pair_tables import prepared_split
from curr_ab.evaluation.plan import LossPlan
from curr_ab.results import Result
from curr_ab.tokenization.tokenization_curr_ab import SEPARATOR


def open_data(plan: LossPlan, sources: list[str]) -> TokenDataset:
    """The split of the prepared folder; the tokens are on disk, so a table of pairs will not do."""
    return prepared_split(sources, plan.split)


def measure(
    subject: Subject, plan: LossPlan, data: TokenDataset, folder: Path, say: Callable[[str], None]
) -> list[Result]:
    """Mean loss and standard error over pairs: of everything, then of each region and segment.

    Each pair's loss stays in `pairs.parquet`.
    """
    from curr_ab.attention import Asked, takes_packed_rows
    from curr_ab.measures.held_out import HeldOut, loss_results, loss_table

    model, tokenizer = subject.load()
    if tokenizer.separator != SEPARATOR:
        raise ValueError(
            f"{subject.name} was trained with the separator {tokenizer.separator}, but prepared tokens have "
            f"{SEPARATOR}: its loss on them says little; the suite `regions` joins chains as the model has it"
        )
    held_out = HeldOut(
        data,
        num_pairs=plan.pairs or len(data),
        draws=plan.draws,
        seed=plan.seed,
        objective="clm" if model.config.is_decoder else "mlm",
        pad=not takes_packed_rows(model.config._attn_implementation, Asked.of(model)),
    )
    table = loss_table(
        model,
        held_out,
        device=model.device,
        pairs_per_batch=8 if model.device.type == "cpu" else 128,
    )
    write_pair_losses(folder, table.sums[:, 0], table.counts[:, 0])
    # For scaling laws, which want to know more than the loss; only the size where nothing is recorded.
    recorded = subject.training.quantities() if subject.training else {}
    quantities = {"parameters": sum(one.numel() for one in model.parameters()), **recorded}
    return loss_results(
        table.estimates(), held_out, quantities=quantities, **subject.result_fields(plan.command("loss"))
    )
