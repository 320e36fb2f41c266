"""The whole of the paper as one resumable command: cells, law, exports, report."""
