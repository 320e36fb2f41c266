"""Fine-tuning under `accelerate launch`: the same arguments as `curr-ab finetune`."""

from curr_ab.cli.finetune import main

if __name__ == "__main__":
    raise SystemExit(main())
