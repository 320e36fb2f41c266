"""The one-pass correction: what a model would say of a masked residue, from what it says of a shown one.

Not offered to users: on members trained for the purpose it ranks no better than no correction.
`benchmarks.one_pass_accuracy` says how well it does, so that it can be measured again on other checkpoints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Corruption(NamedTuple):
    """How training showed a selected residue: masked, else kept, else replaced by a random one."""

    keep_share: float = 0.1
    random_share: float = 0.1
    num_random_tokens: int = 20  # equally likely replacements; the published recipe drew from all 33 tokens


def masked_from_shown(log_shown: Tensor, observed: Tensor, corruption: Corruption) -> Tensor:
    """Log-probabilities [R, V] of the residues as if masked, from those with each shown.

    `log_shown` [R, V] is the output at shown residues, `observed` [R] are their tokens.

    Training selects a position, and then shows the true token j itself with probability k (kept), or one
    of V' tokens at random with probability r. Write p_j for the probability of j given all other tokens,
    which is what the model says under a mask, and q = r / V'. Where the position is selected and shows i,
    the true token is j with a probability proportional to

        p_j * (k * [j = i] + q),          summing over j to          k * p_i + q,

    so a model at the optimum of its training loss says, with i shown,

        s_i = p_i * (k + q) / (k * p_i + q),        s_j = p_j * q / (k * p_i + q)   for j != i.

    Solved for p:

        p_i = q * s_i / (q + k * (1 - s_i)),        p_j = s_j * (k * p_i + q) / q.

    It holds for a model at that optimum. A real one is as wrong here as its small training signal at shown
    residues (k + r of the selected positions) leaves it: measure before use.
    """
    keep, chance = corruption.keep_share, corruption.random_share / corruption.num_random_tokens
    if chance <= 0 or keep < 0:
        raise ValueError(
            "without random replacement in training a shown residue says nothing of a masked one"
        )
    shown = log_shown.double()
    others = shown.scatter(1, observed[:, None], -torch.inf).logsumexp(1)  # log(1 - s_i), without cancelling
    log_observed = shown.gather(1, observed[:, None])[:, 0]
    log_p = torch.log(torch.tensor(chance)) + log_observed - torch.log(chance + keep * others.exp())
    out = shown + torch.log(keep * log_p.exp() + chance)[:, None] - torch.log(torch.tensor(chance))
    return out.scatter(1, observed[:, None], log_p[:, None]).to(log_shown.dtype)
