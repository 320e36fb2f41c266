"""`python -m curr_ab`: the command line, also for `accelerate launch -m curr_ab pretrain …`."""

from curr_ab.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
