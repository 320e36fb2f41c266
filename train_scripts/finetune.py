"""Fine-tuning under `accelerate launch`: the same arguments as `curr-ab finetune`."""

from curr_ab.finetuning.command_line import main

if __name__ == "__main__":
    raise SystemExit(main())
