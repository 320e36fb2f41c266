"""Modules of the library `evaluate`: folders that are loaded and published as they are."""
