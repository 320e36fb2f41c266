"""What is measured on a checkpoint: suites, metrics, comparisons with the published figures."""
