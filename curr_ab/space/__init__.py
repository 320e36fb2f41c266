"""The app that shows a model in a browser: on this machine, or as a Space of the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.space.app import serve

# Imported when first asked for: the command line lists its commands without torch and gradio.
_LAZY = {"serve": "app"}
__all__ = ["serve"]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, extra="space")
