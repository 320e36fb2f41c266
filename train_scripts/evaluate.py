"""Evaluation with the same arguments as `curr-ab evaluate`, for launchers; in one process."""

from curr_ab.evaluation.command_line import main

if __name__ == "__main__":
    raise SystemExit(main())
