"""Make `demo`, the tiny model that comes with the package: prepare, pretrain, measure, export, prove.

The plan is plans/demo.yaml, the data are the built-in corpus. It takes about 20 minutes of one processor
core, and the same command goes on where it was interrupted. `--refresh` keeps the weights and their numbers,
and writes what is beside them anew: after a change of modeling/, tokenization/ or the card.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq

from curr_ab import CurrAbForMaskedLM, CurrAbTokenizer, __version__
from curr_ab.checkpoint_files import CONFIG, DEMO_FOLDER
from curr_ab.data import builtin_path, prepare
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.evaluation import run_suite
from curr_ab.family import DEMO_NAME
from curr_ab.files import replacing_folder
from curr_ab.finetuning.adapter_record import edit_json
from curr_ab.hub import write_card
from curr_ab.hub.exports import prove
from curr_ab.hub.fresh_process import FreshProcess
from curr_ab.hub.manifest import RESULTS, Manifest, file_table
from curr_ab.pretraining import pretrain
from curr_ab.pretraining.plan import resolve_plan
from curr_ab.training_record import TRAINING, read_training
from curr_ab.words import EXAMPLE_NAME, EXAMPLE_PAIR

PLAN = Path(__file__).parent / "plans" / "demo.yaml"
NUM_PAIRS = 5  # beside the example of all docs: a command of every residue takes seconds for them


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="folder of data and training")
    parser.add_argument("--out", type=Path, default=DEMO_FOLDER, help="folder of the model")
    parser.add_argument("--refresh", action="store_true", help="keep the weights that the package has")
    args = parser.parse_args(argv)
    if args.refresh:
        with tempfile.TemporaryDirectory() as scratch:
            made = export(DEMO_FOLDER, Path(scratch))
            write_card(made, results=[DEMO_FOLDER / RESULTS])
            put(made, args.out)
        return
    corpus = args.work / "corpus"
    prepare("builtin", corpus, PreparationPlan(cluster="source"))
    checkpoint = pretrain(resolve_plan({"data": str(corpus)}, [PLAN]), args.work / "run")
    made = export(checkpoint, args.work)
    measured = args.work / "evaluation"
    run_suite("loss", made, str(corpus), measured, say=print)
    run_suite("regions", made, str(corpus), measured, say=print, pairs=40)
    write_card(made, results=[measured / RESULTS])
    put(made, args.out)


def export(weights: Path, work: Path) -> Path:
    """The checkpoint as an export in `work`, proved; weights rounded to 16 bits halve the file."""
    tokenizer = CurrAbTokenizer()
    rounded = CurrAbForMaskedLM.from_pretrained(weights).half()
    with replacing_folder(work / "rounded") as source:
        rounded.float().save_pretrained(source)
    with replacing_folder(work / DEMO_NAME) as folder:
        rounded.half().save_pretrained(folder)
        edit_json(folder / CONFIG, {"dtype": "float32"})  # in which every library loads them then
        tokenizer.save_pretrained(folder)
        shutil.copyfile(weights / TRAINING, folder / TRAINING)
        unquoted = pyarrow.csv.WriteOptions(quoting_style="needed")
        pyarrow.csv.write_csv(example_pairs(), folder / "pairs.csv", unquoted)
        with FreshProcess() as process:
            ids: list[int] = tokenizer(*EXAMPLE_PAIR)["input_ids"]
            probe, difference = prove(folder, work / "rounded", ids, process)
        Manifest(
            member=DEMO_NAME,
            step=read_training(folder / TRAINING).step,
            rehearsal=False,
            code_version=__version__,
            source=PLAN.name,
            probe=probe,
            files=file_table(folder),
        ).write(folder)
    print(f"largest difference of a logit {difference:.1g}")
    return work / DEMO_NAME


def example_pairs() -> pyarrow.Table:
    """The example of all docs, and pairs of the corpus's test split, each of a clone of its own."""
    columns = ["id", "heavy", "light", "clone", "split"]
    rows = pq.read_table(builtin_path(), columns=columns).to_pylist()
    clones = list({row["clone"]: row for row in rows if row["split"] == "test"}.values())
    chosen = clones[:: len(clones) // NUM_PAIRS][:NUM_PAIRS]
    heavy, light = EXAMPLE_PAIR
    pairs = [{"id": EXAMPLE_NAME, "heavy": heavy, "light": light}, *chosen]
    return pyarrow.Table.from_pylist(pairs).select(["id", "heavy", "light"])


def put(made: Path, out: Path) -> None:
    """In the place of what is in `out`, whole."""
    with replacing_folder(out) as folder:
        shutil.copytree(made, folder, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
