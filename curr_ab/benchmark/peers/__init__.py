"""Peers: the models and baselines that a benchmark measures in one way, each in its own input form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.benchmark.peers.find import find_peer
    from curr_ab.benchmark.peers.options import PeerOptions
    from curr_ab.benchmark.peers.peer import Peer

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {"Peer": "peer", "PeerOptions": "options", "find_peer": "find"}
__all__ = ["Peer", "PeerOptions", "find_peer"]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, extra="evaluate")
