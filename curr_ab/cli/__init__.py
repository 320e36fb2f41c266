"""The command line: one file for each group of commands; the only place that knows argparse."""
