"""Peers: the models and baselines that a benchmark measures in one way, each in its own input form."""

from __future__ import annotations

from curr_ab.benchmark.peers.find import find_peer
from curr_ab.benchmark.peers.peer import Peer, PeerOptions

__all__ = ["Peer", "PeerOptions", "find_peer"]
