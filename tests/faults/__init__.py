"""Kills, full disks and closed folders for every long command: `make soak`, or `python -m faults` here."""
