"""The share of single chains at each moment of a run."""

from __future__ import annotations

import math

from curr_ab.pretraining.plan import PretrainingPlan


def unpaired_fraction(plan: PretrainingPlan, step: int) -> float:
    """Probability that a place in the batch of this step goes to a single chain (CurrAb, pcbi.1013473)."""
    progress = step / plan.steps
    match plan.curriculum:
        case "paired-only":
            return 0.0
        case "constant":
            return plan.unpaired_fraction
        case "unpaired-then-paired":
            return 1.0 if progress < plan.curriculum_midpoint else 0.0
        case "sigmoid":
            exponent = plan.curriculum_steepness * (progress - plan.curriculum_midpoint)
            drop = plan.unpaired_fraction_start - plan.unpaired_fraction_end
            return plan.unpaired_fraction_start - drop / (1 + math.exp(-exponent))
