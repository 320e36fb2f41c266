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
    from curr_ab.inference.designs import Designed
    from curr_ab.inference.embedding import attention_maps
    from curr_ab.inference.functions import (
        design,
        embed,
        generate,
        rank_lights,
        restore,
        saturate,
        score,
        score_mutants,
    )
    from curr_ab.inference.generation import Generated
    from curr_ab.inference.marginals import Marginals
    from curr_ab.inference.records import Record, records_of
    from curr_ab.inference.references import References, read_references
    from curr_ab.inference.results import Results
    from curr_ab.inference.scoring import Score
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
    "Results": "results",
    "Score": "scoring",
    "attention_maps": "embedding",
    "design": "functions",
    "embed": "functions",
    "generate": "functions",
    "rank_lights": "functions",
    "read_references": "references",
    "records_of": "records",
    "restore": "functions",
    "run_bulk": "bulk",
    "saturate": "functions",
    "score": "functions",
    "score_mutants": "functions",
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
    "Results",
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

__getattr__, __dir__ = lazy_names(__name__, _LAZY, extra="data")
