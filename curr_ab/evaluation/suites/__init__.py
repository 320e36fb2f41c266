"""The suites of the evaluation: one file each."""
