"""Pretraining under `accelerate launch`: the same arguments as `curr-ab pretrain`."""

from curr_ab.cli.pretrain import main

if __name__ == "__main__":
    raise SystemExit(main())
