"""`predict`: lists and files, in the order of the input, for classes, residues and numbers."""

import pickle
from functools import partial

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from support.finetuned_models import TARGETS, save_base, save_tuned, tune
from support.tiny_models import PAIRS

from curr_ab.checkpoints import Checkpoint
from curr_ab.cli.main import main
from curr_ab.finetuning import BatchPredictor, load_finetuned, predict, prediction
from curr_ab.finetuning.prediction import label_names, target_of


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder for each target."""
    place = tmp_path_factory.mktemp("tuned")
    base = save_base(place / "base")
    return {target: save_tuned(tune(base, target), place / target, base, target) for target in TARGETS}


@pytest.fixture(scope="module")
def pairs():
    """Of many lengths, none sorted."""
    return [(heavy[: len(heavy) - 7 * number % 31], light) for number, (heavy, light) in enumerate(PAIRS * 3)]


@pytest.fixture
def table(pairs, tmp_path):
    path = tmp_path / "pairs.csv"
    rows = [f"pair-{number},{heavy},{light}\n" for number, (heavy, light) in enumerate(pairs)]
    path.write_text("name,h_sequence,l_sequence\n" + "".join(rows))
    return path


def one_by_one(folder, pairs):
    """What the model says of each pair alone, by the model's own forward."""
    model, tokenizer = load_finetuned(folder, device="cpu")
    found = []
    for heavy, light in pairs:
        ids = torch.tensor([tokenizer(heavy, light)["input_ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0]
        if target_of(model) == "residues":
            logits = logits[~torch.isin(ids[0], torch.tensor([0, 1, 2]))]
        found.append(logits if target_of(model) == "number" else logits.softmax(-1))
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_several_pairs_in_one_row_change_nothing(tuned, pairs, target, monkeypatch):
    model, tokenizer = load_finetuned(tuned[target], device="cpu")
    expected = list(predict(model, tokenizer, pairs[:3]))
    packed = partial(prediction.map_batches, layout="packed")
    monkeypatch.setattr(prediction, "map_batches", packed)
    for one, other in zip(predict(model, tokenizer, pairs[:3]), expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.heavy
def test_a_list_in_its_order(tuned, pairs, target):
    model, tokenizer = load_finetuned(tuned[target], device="cpu")
    assert target_of(model) == target
    if TARGETS[target]:
        assert tuple(label_names(model)) == TARGETS[target]
    found = list(predict(model, tokenizer, pairs, tokens_per_batch=700))
    for one, expected in zip(found, one_by_one(tuned[target], pairs), strict=True):
        assert one.shape == tuple(expected.shape)
        assert abs(one - expected.numpy()).max() < 2e-5


def run(folder, table, out, *more):
    options = ["--device", "cpu", "--dtype", "float32", "--quiet", "--records-per-part", "5"]
    return main(["predict", str(folder), str(table), "--out", str(out), *options, *more])


@pytest.mark.heavy
def test_classes_of_a_file(tuned, pairs, table, tmp_path):
    assert run(tuned["classes"], table, tmp_path / "out.csv") == 0
    found = pyarrow.csv.read_csv(tmp_path / "out.csv").to_pydict()
    assert list(found) == ["id", "prediction", "probability_HD", "probability_Flu", "probability_CoV"]
    assert found["id"] == [f"pair-{number}" for number in range(len(pairs))]
    expected = torch.stack(one_by_one(tuned["classes"], pairs))
    for number, name in enumerate(TARGETS["classes"]):
        assert found[f"probability_{name}"] == pytest.approx(expected[:, number].tolist(), abs=2e-5)
    assert found["prediction"] == [TARGETS["classes"][place] for place in expected.argmax(1).tolist()]


@pytest.mark.heavy
def test_numbers_and_residues_of_a_file(tuned, pairs, table, tmp_path):
    assert run(tuned["number"], table, tmp_path / "out.parquet") == 0
    found = pq.read_table(tmp_path / "out.parquet").to_pydict()
    expected = torch.cat(one_by_one(tuned["number"], pairs)).tolist()
    assert list(found) == ["id", "prediction"]
    assert found["prediction"] == pytest.approx(expected, abs=2e-5)

    assert run(tuned["residues"], table, tmp_path / "residues.csv") == 0
    found = pyarrow.csv.read_csv(tmp_path / "residues.csv").to_pydict()
    expected = torch.cat(one_by_one(tuned["residues"], pairs))
    assert found["probability_paratope"] == pytest.approx(expected[:, 1].tolist(), abs=2e-5)
    assert "".join(found["residue"]) == "".join(heavy + light for heavy, light in pairs)
    first = len(pairs[0][0])
    assert found["chain"][first - 1 : first + 1] == ["heavy", "light"]
    assert found["position"][first - 1 : first + 1] == [first, 1]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.heavy
def test_a_list_as_the_table_of_the_command(tuned, pairs, table, tmp_path, target):
    assert run(tuned[target], table, tmp_path / "out.parquet") == 0
    expected = pq.read_table(tmp_path / "out.parquet")
    named = [
        {"id": f"pair-{number}", "heavy": heavy, "light": light}
        for number, (heavy, light) in enumerate(pairs)
    ]
    model, tokenizer = load_finetuned(tuned[target], device="cpu")
    found = predict(model, tokenizer, named).to_arrow()
    assert found.schema == expected.schema
    for name in found.column_names:
        one, other = found[name].to_pylist(), expected[name].to_pylist()
        assert one == (pytest.approx(other, abs=2e-5) if isinstance(other[0], float) else other), name


@pytest.mark.heavy
def test_an_interrupted_file_is_gone_on_with(tuned, table, tmp_path, monkeypatch):
    """Like the other commands: parts that are there are not computed again."""
    from curr_ab.inference import bulk

    write, written = bulk._write_part, []

    def failing(task, model, tokenizer, window, output, number):
        if number == 2 and len(written) == 2:
            raise OSError("no space left")
        written.append(number)
        write(task, model, tokenizer, window, output, number)

    monkeypatch.setattr(bulk, "_write_part", failing)
    assert run(tuned["classes"], table, tmp_path / "out.csv") == 2
    assert not (tmp_path / "out.csv").exists()
    written.append("again")
    assert run(tuned["classes"], table, tmp_path / "out.csv", "--resume") == 0
    assert written[:4] == [0, 1, "again", 2]
    monkeypatch.undo()
    assert run(tuned["classes"], table, tmp_path / "whole.csv") == 0
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_errors_name_the_record(tuned, table, tmp_path, capsys):
    lines = table.read_text().splitlines()
    lines[3] = "pair-2,EVQLV*,DIQM"
    table.write_text("\n".join(lines))
    assert run(tuned["classes"], table, tmp_path / "out.csv") == 2
    said = capsys.readouterr().err
    assert "record 3 ('pair-2')" in said and said.count("\n") == 1
    assert run(tuned["classes"].parent / "base", table, tmp_path / "out.csv") == 2
    assert "name the adapter of a `curr-ab finetune`" in capsys.readouterr().err
    model, tokenizer = load_finetuned(tuned["classes"], device="cpu")
    with pytest.raises(ValueError, match="record 2"):
        list(predict(model, tokenizer, [PAIRS[0], ("EVQ", 7)]))


@pytest.mark.heavy
def test_a_pairing_adapter_ranks_light_chains(tmp_path, table, pairs):
    """`curr-ab pair --by head` takes the labels that the adapter brings, and ranks by `native`."""
    labels = ("shuffled", "native")
    base = save_base(tmp_path / "base")
    folder = save_tuned(tune(base, labels=labels), tmp_path / "adapter", base, labels=labels)
    out = tmp_path / "ranks.csv"
    options = ["--device", "cpu", "--dtype", "float32", "--quiet", "--by", "head"]
    assert main(["pair", str(folder), str(table), str(table), "--out", str(out), *options]) == 0
    found = pyarrow.csv.read_csv(out).to_pydict()
    model, tokenizer = load_finetuned(folder, device="cpu")
    expected = [
        float(one[1]) for one in predict(model, tokenizer, [(pairs[0][0], light) for _, light in pairs])
    ]
    assert found["score"][: len(pairs)] == pytest.approx(sorted(expected, reverse=True), abs=2e-5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.heavy
def test_a_batch_gives_the_commands_table(tuned, table, tmp_path, target):
    """To the bit where batches are cut as the parts are; the head is found as the command finds it."""
    out = tmp_path / "p.parquet"
    run(tuned[target], table, out)
    function = BatchPredictor(Checkpoint(str(tuned[target]), device="cpu", dtype="float32"))
    rows = pyarrow.csv.read_csv(table).combine_chunks()
    travelled = pickle.loads(pickle.dumps(function))
    found = pa.concat_tables([travelled(batch) for batch in rows.to_batches(5)])
    assert found.cast(pq.read_schema(out)).equals(pq.read_table(out))
    assert function(rows.slice(0, 0)).schema == found.schema
