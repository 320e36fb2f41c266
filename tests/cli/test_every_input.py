"""Every command that takes pairs takes them in every form, as files and as objects."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.finetuned_models import save_base, save_tuned, tune
from support.objects import OBJECTS
from support.shapes.drawing import draw_shape
from support.tiny_models import save_checkpoint, shake, tiny_config

from curr_ab import CurrAbForMaskedLM
from curr_ab.checkpoints import Checkpoint
from curr_ab.cli.main import main
from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.evaluation.run import run_suite
from curr_ab.finetuning import cross_validate, resolve_recipe
from curr_ab.finetuning.prediction import PredictTask, head_of
from curr_ab.inference import run_bulk
from curr_ab.inference.design_tables import DesignTask
from curr_ab.inference.generation_tables import GenerateTask
from curr_ab.inference.number_tables import NumberTask
from curr_ab.inference.records import chain_reader
from curr_ab.inference.settings import DesignPlan, GenerationPlan
from curr_ab.inference.tasks import EmbedTask, MutateTask, PairTask, RestoreTask, ScoreTask

pytestmark = pytest.mark.heavy
NUM_PAIRS = 12
QUIET = ["--dtype", "float32", "--quiet", "--device", "cpu"]
QUICK = {"folds": 2, "epochs": 1, "precision": "fp32", "final": False, "method": "probe", "trackers": ()}


@pytest.fixture(scope="module")
def rows():
    """Pairs with what the suites need: regions, a fitness, a label, a donor."""
    columns = ["id", "heavy", "light", "region_mask_heavy", "region_mask_light", "donor"]
    table = pq.read_table(builtin_path(), columns=columns).slice(0, NUM_PAIRS)
    frame = table.to_pandas()
    return frame.assign(
        fitness=[place / 2 for place in range(NUM_PAIRS)],
        direction="higher",
        mutations_heavy=[place * 7 % 5 for place in range(NUM_PAIRS)],
        mutations_light=[place * 5 % 3 for place in range(NUM_PAIRS)],
        label=["HD" if place % 2 else "CoV" for place in range(NUM_PAIRS)],
        group=[f"g{place}" for place in range(NUM_PAIRS)],
    )


def as_cells(frame):
    """AIRR: a chain in a row."""
    chains = []
    for chain, locus in (("heavy", "IGH"), ("light", "IGK")):
        names = {chain: "sequence_aa", "id": "cell_id", f"mutations_{chain}": "mutations"}
        own = frame.rename(columns=names).assign(locus=locus, productive="T")
        chains.append(own.assign(sequence_id=own["cell_id"] + "_" + locus))
    kept = ["cell_id", "sequence_id", "locus", "productive", "sequence_aa"]
    kept += ["mutations", "fitness", "direction", "label", "group"]
    return pd.concat(chains)[kept]


def write_fasta(frame, path):
    records = zip(frame["id"], frame["heavy"], frame["light"], strict=True)
    path.write_text(
        "".join(f">{one}_heavy\n{heavy}\n>{one}_light\n{light}\n" for one, heavy, light in records)
    )


FILES = {
    "pairs.csv": lambda frame, path: frame.to_csv(path, index=False),
    "pairs.tsv.gz": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "pairs.parquet": lambda frame, path: frame.to_parquet(path),
    "airr.tsv": lambda frame, path: as_cells(frame).to_csv(path, index=False, sep="\t"),
    "pairs.fasta": write_fasta,
}
KINDS = ("pandas", "Polars", "lazy Polars", "Arrow table", "Arrow reader", "capsule", "data set")
KINDS += ("streamed data set", "data set with splits", "columns", "mappings", "generator of mappings")
WITH_COLUMNS = [name for name in FILES if name != "pairs.fasta"]  # of labels and fitness
WITH_REGIONS = [name for name in WITH_COLUMNS if name != "airr.tsv"]


@pytest.fixture(scope="module")
def files(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, write in FILES.items():
        write(rows, folder / name)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = tiny_config(num_hidden_layers=1, num_attention_heads=2)
    return save_checkpoint(shake(CurrAbForMaskedLM(config)).eval(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    place = tmp_path_factory.mktemp("tuned")
    base = save_base(place / "base")
    return save_tuned(tune(base, "classes"), place / "tuned", base, "classes")


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch, blank_charts):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def ids_of(path):
    found = pd.read_csv(path)
    return list(dict.fromkeys(found["heavy" if "rank" in found.columns else "id"]))


BULK = {
    "embed": [],
    "score": ["--mode", "unmasked"],
    "mutate": ["--mode", "unmasked", "--part", "heavy"],
    "design": ["--mode", "unmasked", "--mutations", "1", "--candidates", "2", "--n", "1"],
    "restore": [],
    "predict": [],
    "pair": ["--mode", "unmasked"],
    "number": [],
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", BULK)
def test_a_file_in_a_bulk_command(command, name, files, folder, tuned, rows, tmp_path):
    model = tuned if command == "predict" else folder
    inputs = [str(files / name)] * (2 if command == "pair" else 1)
    out = tmp_path / "out.csv"
    words = [command, *inputs, "--quiet"] if command == "number" else [command, str(model), *inputs, *QUIET]
    assert main([*words, "--out", str(out), *BULK[command]]) == 0
    assert sorted(ids_of(out)) == (sorted(rows["id"]) if name != "airr.tsv" else sorted(rows["id"] + "_IGH"))


SINGLE = ["embed", "score", "mutate", "design", "restore", "predict", "number"]


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.fasta", "airr.tsv"])
@pytest.mark.parametrize("command", SINGLE)
def test_pairs_as_single_chains(command, name, files, folder, tuned, rows, tmp_path):
    """Two chains of one row have an id each; the ids of rows with one chain are left as they are.

    A head answers for what it was trained on: it takes a row with both chains for the pair that it is.
    """
    out, model = tmp_path / "out.csv", tuned if command == "predict" else folder
    words = [command] if command == "number" else [command, str(model), *QUIET]
    how = ["--mode", "unmasked"] if command in ("score", "mutate", "design") else []
    file = ["--unpaired", "--quiet", "--out", str(out), str(files / name)]
    assert main([*words, *how, *file]) == 0
    ends = ("_IGH", "_IGK") if name == "airr.tsv" else ("_heavy", "_light")
    if command == "predict" and name != "airr.tsv":
        ends = ("",)
    assert sorted(ids_of(out)) == sorted(one + end for one in rows["id"] for end in ends)


@pytest.mark.parametrize("name", FILES)
def test_a_file_in_prepare(name, files, tmp_path):
    words = ["data", "prepare", str(files / name), "--cluster", "exact", "--processes", "1", "--quiet"]
    assert main([*words, "--subsets", "F=1.0", "--out", str(tmp_path / "o")]) == 0
    index = json.loads((tmp_path / "o" / "dataset.json").read_text())
    assert index["report"]["kept"] == NUM_PAIRS


@pytest.mark.parametrize("name", WITH_COLUMNS)
def test_a_file_in_finetune(name, files, folder, tmp_path, capsys):
    words = ["finetune", "specificity-binary", "--model", str(folder), "--data", str(files / name)]
    changes = ["--folds", "2", "--epochs", "1", "--precision", "fp32", "--no-final", "--group-by", "group"]
    assert main([*words, *changes, "--dry-run"]) == 0
    assert f"examples         {NUM_PAIRS}, 0 dropped" in capsys.readouterr().out


FITNESS = ["--mode", "unmasked", "--min-pairs", "3", "--shots", "2"]
SUITES = [("fitness", name, FITNESS) for name in WITH_COLUMNS]
SUITES += [("regions", name, ["--pairs", "2"]) for name in WITH_REGIONS]


@pytest.mark.heavy
@pytest.mark.parametrize(("suite", "name", "more"), SUITES)
def test_a_file_in_evaluate(suite, name, more, files, folder, tmp_path):
    words = ["evaluate", suite, "--model", str(folder), "--data", str(files / name), "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "o"), *more]) == 0


def make(kind, rows):
    """The rows in an object of this kind, with all their columns."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    return OBJECTS_OF_TABLES[kind](table)


def _splits(table):
    import datasets

    whole = datasets.Dataset(table)
    return datasets.DatasetDict(train=whole.select(range(2)), test=whole.select(range(2, len(table))))


def _objects_of_tables():
    import datasets
    import polars as pl
    from support.objects import Capsule

    return {
        "pandas": lambda table: table.to_pandas(),
        "Polars": lambda table: pl.from_arrow(table),
        "lazy Polars": lambda table: pl.from_arrow(table).lazy(),
        "Arrow table": lambda table: table,
        "Arrow reader": lambda table: table.to_reader(5),
        "capsule": Capsule,
        "data set": lambda table: datasets.Dataset(table),
        "streamed data set": lambda table: datasets.Dataset(table).to_iterable_dataset(),
        "data set with splits": _splits,
        "columns": lambda table: table.to_pydict(),
        "mappings": lambda table: table.to_pylist(),
        "generator of mappings": lambda table: iter(table.to_pylist()),
    }


OBJECTS_OF_TABLES = _objects_of_tables()
assert set(KINDS) == set(OBJECTS_OF_TABLES) <= set(OBJECTS)

TASKS = {
    "embed": EmbedTask(),
    "score": ScoreTask(mode="unmasked"),
    "mutate": MutateTask(mode="unmasked", part="heavy"),
    "design": DesignTask(plan=DesignPlan(mode="unmasked", mutations="1", candidates=2, n=1)),
    "restore": RestoreTask(),
    "predict": PredictTask(),
    "pair": None,
    "generate": GenerateTask(plan=GenerationPlan(any_sequence=True, at_once=40)),
    "number": NumberTask(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", TASKS)
def test_an_object_in_a_bulk_task(command, kind, folder, tuned, rows, tmp_path):
    few, out = rows[:4], tmp_path / "out.csv"
    model, head, pairs = str(folder), "masked-lm", make(kind, few)
    if command == "predict":
        model, head = str(tuned), head_of(tuned)
    task = TASKS[command]
    if command == "pair":
        task = PairTask(lights=tuple(chain_reader(make(kind, few), "light")()), mode="unmasked")
    if command in ("pair", "generate"):
        pairs = chain_reader(pairs, "heavy")
    checkpoint = Checkpoint(model, head=head, device="cpu", dtype="float32")
    run_bulk(task, None if command == "number" else checkpoint, pairs, out, progress=False)
    assert ids_of(out) == few["id"].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_in_prepare(kind, rows, tmp_path):
    index = prepare(make(kind, rows), tmp_path / "o", PreparationPlan(cluster="exact", subsets={"F": 1.0}))
    assert index["report"]["kept"] == NUM_PAIRS


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_in_finetune(kind, rows, folder, tmp_path):
    recipe = resolve_recipe("specificity-binary", {**QUICK, "group_by": "group"})
    results = cross_validate(recipe, folder, make(kind, rows), tmp_path / "o")
    assert {result.metric for result in results} >= {"auroc"}


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_in_evaluate(kind, rows, folder, tmp_path):
    how = {"mode": "unmasked", "min_pairs": 3, "shots": (2,), "device": "cpu"}
    assert run_suite("fitness", folder, make(kind, rows), tmp_path / "o", **how)
    assert run_suite("regions", folder, make(kind, rows), tmp_path / "o", pairs=2, device="cpu")


@pytest.mark.parametrize("command", ["number", "embed"])
def test_contigs_and_their_annotations_in_a_bulk_command(command, folder, tmp_path):
    """Files that belong together are named together, as in `prepare`."""
    shape = draw_shape("tenx_3_annotations_and_contigs", 0, tmp_path)
    out, model = tmp_path / "out.csv", [] if command == "number" else [str(folder), *QUIET]
    words = [
        command,
        *model,
        *map(str, shape.sources),
        "--quiet",
        "--out",
        str(out),
        "--keep-columns",
        "umis",
    ]
    assert main(words) == 0
    assert len(ids_of(out)) == len(shape.pairs)
    assert pd.read_csv(out)["umis"].notna().all()
