"""Measurements, no tests: each prints figures of one run. `cd tests && python -m benchmarks.NAME`."""
