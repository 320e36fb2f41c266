"""Makes the built-in corpus anew: `python -m curr_ab.data.make_builtin` (needs the extra `simulate`)."""

from __future__ import annotations

from pathlib import Path

from curr_ab.data.atomic import write_parquet
from curr_ab.data.reading import builtin_path
from curr_ab.data.simulation import simulate_pairs

NUM_PAIRS = 20_000
SEED = 20_250_902  # the day of the preprint, doi:10.1101/2025.09.02.673765


def main() -> None:
    """Write the corpus into this installation."""
    write_parquet(Path(builtin_path()), simulate_pairs(NUM_PAIRS, seed=SEED), level=19)


if __name__ == "__main__":
    main()
