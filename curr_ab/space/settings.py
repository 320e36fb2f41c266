"""Facts about the app that the command line and the Hub need, without torch and gradio."""

from __future__ import annotations

APP, REFERENCE = "app.py", "reference.json"  # files of a Space: its program, and what percentiles are among
NUM_REFERENCE_PAIRS = 100
MOST_REFERENCE_PAIRS = 944  # the whole test split of the package's corpus
