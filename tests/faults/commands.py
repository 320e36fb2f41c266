"""The long commands on tiny inputs; OUT stands for the file or folder of the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TINY = "num_hidden_layers=2 hidden_size=32 intermediate_size=64 num_attention_heads=2"
TRAIN = f"--config {TINY} --pairs-per-step 4 --warmup-steps 2 --seed 1 --precision fp32"
LABELLED = "specificity-binary --data labelled.csv --out OUT --seed 1"


KINDS = ("kill parent", "kill group", "kill worker", "stop", "full disk", "closed folder")


@dataclass(frozen=True)
class Command:
    """Its arguments, the name of its result in the folder of a try, and whether it has workers and writes."""

    words: str
    name: str = "out"
    has_workers: bool = False
    writes: bool = True
    makes_new: bool = False  # refuses a result that is there

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        """Inputs and result by their full paths, as the command is started elsewhere."""
        found = []
        for word in self.words.split():
            if word == "OUT":
                word = str(folder / self.name)
            elif word in INPUTS:
                word = str(inputs / word)
            found.append(word)
        return found


INPUTS = (
    *(
        "pairs.csv",
        "few.csv",
        "more.csv",
        "labelled.csv",
        "variants.csv",
        "runs.csv",
        "study.yaml",
        "prepared",
    ),
    *("run", "other-run", "published", "CurrAb-8M-F", "CurrAb-8M-H"),
)
WHERE = "--device cpu --records-per-part 1 --quiet --resume --out OUT"
ROWS = f"pairs.csv --tokens-per-batch 600 {WHERE}".replace("-part 1", "-part 4")
COMMANDS = {
    "data prepare": Command(
        "data prepare pairs.csv labelled.csv --cluster exact --subsets F=1.0 --processes 2 --out OUT",
        "out",
        True,
    ),
    "pretrain": Command(
        f"pretrain 8M-F --data prepared --subset F {TRAIN} --steps 12 --save-every 3 --log-every 3 "
        "--evaluate-every 6 --evaluation-pairs 2 --checkpoint-every 6 --out OUT"
    ),
    "finetune lora": Command(
        f"finetune {LABELLED} --model run --method lora --epochs 1 --fewest-steps 1 --folds 2"
    ),
    "finetune auto": Command(f"finetune {LABELLED} --model run --method auto --fewest-steps 1 --folds 2"),
    "finetune probe": Command(f"finetune {LABELLED} --model run --method probe --folds 2"),
    "benchmark": Command(
        "benchmark affinity-flab --data variants.csv --direction higher --models run --no-baselines "
        "--shots 8 --repeats 1 --out OUT"
    ),
    "evaluate": Command("evaluate loss --model demo --data prepared --pairs 2 --out OUT --device cpu"),
    "embed": Command(f"embed demo {ROWS}", "out.parquet"),
    "embed, 2 processes": Command(f"embed demo {ROWS} --processes 2", "out.parquet", True),
    "score": Command(f"score demo {ROWS} --mode unmasked", "out.csv"),
    "mutate": Command(f"mutate demo {ROWS} --mode unmasked --part CDRH3 --number", "out.csv"),
    "generate": Command(
        f"generate demo few.csv {WHERE} --given heavy --at-once 40 --any-sequence", "out.csv"
    ),
    "design": Command(
        f"design run few.csv {WHERE} --mutations 2 --n 2 --mode unmasked --positions H:30-35", "out.csv"
    ),
    "scaling fit": Command(
        "scaling fit runs.csv --law iso-data --noise 3e-4 --draws 30 --workers 2 --seed 0 --plot OUT",
        "out",
        True,
    ),
    "export": Command("export 8M-F --weights run --rehearsal --out OUT", "out", True, makes_new=True),
    "adopt": Command("adopt published --data F --out OUT", "out", True, makes_new=True),
    "publish": Command(
        "publish CurrAb-8M-F --namespace brineylab --collection CurrAb --release v1", writes=False
    ),
    "verify": Command("verify 8M-H --scratch OUT", ".", True),
    "study": Command("study --preset study.yaml --out OUT", "out", True),
}
# Two cells of one training set, and everything that a study makes of them.
STUDY = """
takes: a few seconds
title: Two tiny models
data:
  sources: [builtin]
  cluster: source
  subsets: {F: 8}
sizes:
  8M: {num_hidden_layers: 1, hidden_size: 16, intermediate_size: 32, num_attention_heads: 2}
  35M: {num_hidden_layers: 2, hidden_size: 16, intermediate_size: 32, num_attention_heads: 2}
plan:
  steps: 6
  warmup_steps: 2
  pairs_per_step: 4
  precision: fp32
  evaluation_pairs: 2
  evaluate_every: 3
  save_every: 2
  keep_last: 1
  checkpoint_every: 0
  log_every: 2
evaluation:
  loss: {pairs: 4}
"""


def kinds_of(command: Command) -> list[str]:
    """The faults that can meet it."""
    left_out = () if command.has_workers else ("kill worker",)
    left_out += () if command.writes else ("full disk", "closed folder")
    return [kind for kind in KINDS if kind not in left_out]


def make_inputs(folder: Path, scratch: Path) -> None:
    """All that the commands read, made by other commands."""
    from support.tiny_models import save_published

    from curr_ab.scaling import published_runs
    from curr_ab.words import EXAMPLE_PAIR

    from .tries import run

    folder.mkdir(exist_ok=True)
    runs = published_runs("test-loss-2025-05")
    table = zip(runs.parameters, runs.sequences, runs.loss, strict=True)
    lines = ["parameters,sequences,loss", *(f"{n:.0f},{d:.0f},{loss}" for n, d, loss in table)]
    (folder / "runs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    heavy, light = EXAMPLE_PAIR
    variants = [f"{heavy[:place]}A{heavy[place + 1 :]},{light},{place * 7 % 11}" for place in range(50, 74)]
    text = "\n".join(["heavy,light,fitness", *variants]) + "\n"
    (folder / "variants.csv").write_text(text, encoding="utf-8")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    save_published(folder / "published" / "checkpoint-500000", 500_000, 38.82)
    for words, result in (
        ("example-data specificity-binary --pairs 16 --out OUT", "pairs.csv"),
        ("example-data specificity-binary --pairs 2 --out OUT", "few.csv"),
        ("example-data specificity-binary --pairs 24 --out OUT", "labelled.csv"),
        ("example-data specificity-binary --pairs 200 --out OUT", "more.csv"),
        ("data prepare more.csv --cluster exact --subsets F=1.0 --processes 1 --out OUT", "prepared"),
        (COMMANDS["pretrain"].words, "run"),
        (COMMANDS["pretrain"].words.replace("--seed 1", "--seed 2"), "other-run"),
        (COMMANDS["export"].words, "CurrAb-8M-F"),
        (COMMANDS["export"].words.replace("8M-F", "8M-H").replace("run", "other-run"), "CurrAb-8M-H"),
    ):
        ended = run(Command(words, result).arguments(folder, folder), scratch)
        if ended.status:
            raise SystemExit(f"{words}: {ended.said}")
