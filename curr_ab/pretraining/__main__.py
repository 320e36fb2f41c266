"""`accelerate launch … -m curr_ab.pretraining`: the same as train_scripts/pretrain.py, without a checkout."""

from curr_ab.pretraining.command_line import main

if __name__ == "__main__":
    raise SystemExit(main())
