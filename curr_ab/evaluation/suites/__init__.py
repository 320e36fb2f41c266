"""Suites of measurements: a module has `open_data`, `measure`, and `draw` where models share a picture."""
