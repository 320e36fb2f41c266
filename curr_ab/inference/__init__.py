"""The everyday uses of the models: embed, score, mutate, design, restore, pair, generate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.checkpoints import Checkpoint
    from curr_ab.inference.batch_functions import (
        BatchDesigner,
        BatchEmbedder,
        BatchGenerator,
        BatchMutator,
        BatchRestorer,
        BatchScorer,
    )
    from curr_ab.inference.bulk import run_bulk
    from curr_ab.inference.designs import Designed, design
    from curr_ab.inference.embedding import attention_maps, embed
    from curr_ab.inference.generation import Generated, generate
    from curr_ab.inference.marginals import Marginals
    from curr_ab.inference.mutation import saturate, score_mutants
    from curr_ab.inference.pairing import rank_lights
    from curr_ab.inference.records import Record, records_of
    from curr_ab.inference.references import References, read_references
    from curr_ab.inference.restoration import restore
    from curr_ab.inference.scoring import Score, score
    from curr_ab.inference.settings import (
        DesignPlan,
        EmbeddingPlan,
        GenerationPlan,
        ReferenceOptions,
        RestorationPlan,
    )

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {
    "BatchDesigner": "batch_functions",
    "BatchEmbedder": "batch_functions",
    "BatchGenerator": "batch_functions",
    "BatchMutator": "batch_functions",
    "BatchRestorer": "batch_functions",
    "BatchScorer": "batch_functions",
    "Checkpoint": "curr_ab.checkpoints",
    "DesignPlan": "settings",
    "Designed": "designs",
    "EmbeddingPlan": "settings",
    "Generated": "generation",
    "GenerationPlan": "settings",
    "Marginals": "marginals",
    "Record": "records",
    "ReferenceOptions": "settings",
    "References": "references",
    "RestorationPlan": "settings",
    "Score": "scoring",
    "attention_maps": "embedding",
    "design": "designs",
    "embed": "embedding",
    "generate": "generation",
    "rank_lights": "pairing",
    "read_references": "references",
    "records_of": "records",
    "restore": "restoration",
    "run_bulk": "bulk",
    "saturate": "mutation",
    "score": "scoring",
    "score_mutants": "mutation",
}
__all__ = [
    "BatchDesigner",
    "BatchEmbedder",
    "BatchGenerator",
    "BatchMutator",
    "BatchRestorer",
    "BatchScorer",
    "Checkpoint",
    "DesignPlan",
    "Designed",
    "EmbeddingPlan",
    "Generated",
    "GenerationPlan",
    "Marginals",
    "Record",
    "ReferenceOptions",
    "References",
    "RestorationPlan",
    "Score",
    "attention_maps",
    "design",
    "embed",
    "generate",
    "rank_lights",
    "read_references",
    "records_of",
    "restore",
    "run_bulk",
    "saturate",
    "score",
    "score_mutants",
]

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
