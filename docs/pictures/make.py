"""Make the picture of the README and the home page: `python docs/pictures/make.py`."""

from pathlib import Path

from pyarrow.csv import read_csv

import curr_ab
from curr_ab.inference import saturate

HERE = Path(__file__).parent


def main() -> None:
    model, tokenizer = curr_ab.load("demo", device="cpu")
    pairs = read_csv(Path(curr_ab.resolve("demo"), "pairs.csv"))
    mutants = next(saturate(model, tokenizer, pairs.slice(0, 1), mode="group"))  # trastuzumab
    mutants.heat_map().save(HERE / "mutants.png")


if __name__ == "__main__":
    main()
