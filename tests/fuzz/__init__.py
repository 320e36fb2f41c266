"""Damaged and hostile files, and all that reads files: what is drawn depends on the seed and nothing else."""
