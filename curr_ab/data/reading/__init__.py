"""Readers of pairs from files as people have them: any layout, compression and naming of columns."""
