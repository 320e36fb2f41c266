"""The way to the Hub: exports with their proof, cards, publication, and the check of what is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.hub.card import render_card, write_card
    from curr_ab.hub.exports import adopt, export
    from curr_ab.hub.publication import publish
    from curr_ab.hub.space_publication import publish_spaces
    from curr_ab.hub.spaces import write_space
    from curr_ab.hub.verification import verify

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {
    "adopt": "exports",
    "export": "exports",
    "publish": "publication",
    "publish_spaces": "space_publication",
    "render_card": "card",
    "verify": "verification",
    "write_card": "card",
    "write_space": "spaces",
}
__all__ = [
    "adopt",
    "export",
    "publish",
    "publish_spaces",
    "render_card",
    "verify",
    "write_card",
    "write_space",
]

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
