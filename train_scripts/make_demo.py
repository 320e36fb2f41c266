"""Make `demo` and `CLM-demo`, the tiny models in the package: prepare, pretrain, measure, export, prove.

The plans are plans/demo.yaml and plans/demo-clm.yaml, the data are the built-in corpus. It takes about half
an hour of one processor core, and the same command goes on where it was interrupted. `--refresh` keeps the
weights and their numbers, and writes what is beside them anew: after a change of modeling/, tokenization/ or
the card.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq

from curr_ab import CurrAbTokenizer, __version__
from curr_ab.checkpoint_files import CONFIG, DEMO_FOLDERS
from curr_ab.data import builtin_path, prepare
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.evaluation import run_suite
from curr_ab.family import CAUSAL_DEMO, DEMO, DEMOS, REPO_PREFIX
from curr_ab.files import replacing_folder
from curr_ab.finetuning.adapter_record import edit_json
from curr_ab.hub import write_card
from curr_ab.hub.exports import prove
from curr_ab.hub.fresh_process import FreshProcess
from curr_ab.hub.manifest import RESULTS, Manifest, file_table
from curr_ab.hub.serving import write_serving_files
from curr_ab.hub.training_checkpoints import find_checkpoints, read_model
from curr_ab.pretraining import pretrain
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from curr_ab.training_record import TRAINING
from curr_ab.words import EXAMPLE_NAME, EXAMPLE_PAIR

ROOT = Path(__file__).parents[1]
PLANS = {DEMO: "demo.yaml", CAUSAL_DEMO: "demo-clm.yaml"}
NUM_GENERATED = 100  # pairs in each sample that is judged
NUM_PAIRS = 5  # beside the example of all docs: a command of every residue takes seconds for them


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=DEMOS, action="append", help="the one to make; default both")
    parser.add_argument("--work", type=Path, default=Path("runs/demos"), help="folder of data and trainings")
    parser.add_argument(
        "--out", type=Path, default=DEMO_FOLDERS[DEMO].parent, help="folder of the models' folders"
    )
    parser.add_argument("--refresh", action="store_true", help="keep the weights that the package has")
    args = parser.parse_args(argv)
    for name in args.model or DEMOS:
        if args.refresh:
            with tempfile.TemporaryDirectory() as scratch:
                refresh(name, Path(scratch), args.out)
        else:
            train(name, args.work, args.out)


def refresh(name: str, work: Path, out: Path) -> None:
    """Everything but the weights and their numbers anew."""
    made = export(name, DEMO_FOLDERS[name], work)
    write_card(made, results=[DEMO_FOLDERS[name] / RESULTS])
    put(made, out / DEMOS[name])


def train(name: str, work: Path, out: Path) -> None:
    """The model from nothing, and what was measured on it."""
    corpus, own = work / "corpus", work / name
    prepare("builtin", corpus, PreparationPlan(cluster="source"))
    made = export(name, pretrain(plan_of(name, corpus), own / "run"), own)
    measured = own / "evaluation"
    run_suite("loss", made, str(corpus), measured, say=print)
    if name == CAUSAL_DEMO:
        how = {"train": "builtin", "temperatures": (1.0,), "pairs": NUM_GENERATED}
        run_suite("generation", made, "builtin", measured, say=print, **how)
    else:
        run_suite("regions", made, str(corpus), measured, say=print, pairs=40)
    write_card(made, results=[measured / RESULTS])
    put(made, out / DEMOS[name])


def plan_of(name: str, corpus: str | Path) -> PretrainingPlan:
    """The plan of its training, on the prepared corpus."""
    return resolve_plan({"data": str(corpus)}, [ROOT / "train_scripts" / "plans" / PLANS[name]])


def export(name: str, weights: Path, work: Path) -> Path:
    """The checkpoint as an export in `work`, proved; weights rounded to 16 bits halve the file."""
    tokenizer = CurrAbTokenizer()
    [checkpoint] = find_checkpoints(weights)
    rounded = read_model(checkpoint).half()
    with replacing_folder(work / "rounded") as source:
        rounded.float().save_pretrained(source)
    made = work / f"{REPO_PREFIX}{name}"
    with replacing_folder(made) as folder:
        rounded.half().save_pretrained(folder)
        edit_json(folder / CONFIG, {"dtype": "float32"})  # in which every library loads them then
        tokenizer.save_pretrained(folder)
        write_serving_files(folder)
        shutil.copyfile(weights / TRAINING, folder / TRAINING)
        if name == DEMO:
            unquoted = pyarrow.csv.WriteOptions(quoting_style="needed")
            pyarrow.csv.write_csv(example_pairs(), folder / "pairs.csv", unquoted)
        with FreshProcess() as process:
            ids: list[int] = tokenizer(*EXAMPLE_PAIR)["input_ids"]
            probe, difference = prove(folder, work / "rounded", ids, process)
        Manifest(
            member=made.name,
            step=checkpoint.step,
            rehearsal=False,
            code_version=__version__,
            source=PLANS[name],
            probe=probe,
            files=file_table(folder),
        ).write(folder)
    print(f"largest difference of a logit {difference:.1g}")
    return made


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
    """In the place of what is in `out`, whole; in the repository the code is linked to, not copied."""
    with replacing_folder(out) as folder:
        shutil.copytree(made, folder, dirs_exist_ok=True)
        for code in folder.glob("*.py") if out in DEMO_FOLDERS.values() else ():
            homes = ("modeling", "tokenization", "curr_ab/hub")
            [source] = (place for home in homes for place in ROOT.glob(f"{home}/{code.name}"))
            code.unlink()
            code.symlink_to(os.path.relpath(source, out))


if __name__ == "__main__":
    main()
