"""`demo`: a trained model in the package that loads by its name, everywhere, without network."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from support.tiny_models import TESTS
from transformers import AutoModelForMaskedLM, AutoTokenizer

import curr_ab
from curr_ab.checkpoint_files import DEMO_FOLDER, find_checkpoint, resolve
from curr_ab.cli.main import main
from curr_ab.data import builtin_path, prepare
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.data.shards import TokenDataset
from curr_ab.evaluation import run_suite
from curr_ab.family import DEMO_NAME, NAMESPACE, find_member
from curr_ab.hub import verify
from curr_ab.hub.card import rendered
from curr_ab.hub.manifest import differences, payload_files, read_manifest
from curr_ab.measures.held_out import HeldOut, baseline_losses
from curr_ab.pretraining.checkpoint import public_plan
from curr_ab.pretraining.plan import resolve_plan
from curr_ab.results import read_results
from curr_ab.training_record import read_training
from curr_ab.words import EXAMPLE_NAME, EXAMPLE_PAIR

CARD = (DEMO_FOLDER / "README.md").read_text(encoding="utf-8")
WITHOUT_NETWORK = """
import socket, sys
def refuse(*arguments, **options):
    raise AssertionError(f"the network was asked: {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from curr_ab.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def make_demo():
    """The script that makes the folder."""
    path = TESTS.parent / "train_scripts" / "make_demo.py"
    spec = importlib.util.spec_from_file_location("make_demo", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def logits_of(model, tokenizer):
    with torch.no_grad():
        return model.eval()(**tokenizer(*EXAMPLE_PAIR, return_tensors="pt").to(model.device)).logits.cpu()


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.parametrize("name", ["demo", "Demo", "DEMO", "CurrAb-demo", "currab-DEMO"])
def test_it_is_found_in_any_case(name):
    found = find_checkpoint(name)
    assert (found.source, found.name) == (str(DEMO_FOLDER), DEMO_NAME)
    assert curr_ab.resolve(name) == resolve(name) == found.source


def test_it_is_none_of_the_members(capsys):
    assert find_member("demo") is None and len(list(curr_ab.members())) == 15
    with pytest.raises(ValueError, match=r"must be a member, one of 8M-F, .*; got 'Demo', which is none"):
        curr_ab.member("Demo")
    assert main(["export", "demo", "--weights", str(DEMO_FOLDER), "--out", "nowhere"]) == 2
    assert "must be a member" in capsys.readouterr().err
    assert main(["models"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("demo: ") and last.endswith(f" {DEMO_FOLDER}")
    with pytest.raises(ValueError, match="neither a folder nor demo nor a member"):
        resolve("dmo")


def test_a_folder_of_its_name_takes_its_place_only_with_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    assert resolve("demo") == str(DEMO_FOLDER)
    shutil.copyfile(DEMO_FOLDER / "config.json", "demo/config.json")
    assert resolve("demo") == "demo"


@pytest.mark.heavy
def test_stock_transformers_gives_the_same_logits_in_float32():
    model, tokenizer = curr_ab.load("demo", device="cpu")
    stock = AutoModelForMaskedLM.from_pretrained(DEMO_FOLDER)
    stored = json.loads((DEMO_FOLDER / "config.json").read_text())["dtype"]
    assert model.dtype == stock.dtype == torch.float32 and stored == "float32"
    assert type(stock).__name__ == "EsmForMaskedLM"
    expected = logits_of(stock, AutoTokenizer.from_pretrained(DEMO_FOLDER))
    torch.testing.assert_close(logits_of(model, tokenizer), expected, atol=1e-4, rtol=0)


def test_it_is_small_and_as_it_was_exported():
    assert sum(path.stat().st_size for path in DEMO_FOLDER.iterdir()) <= 3_000_000
    manifest = read_manifest(DEMO_FOLDER)
    assert manifest.member == DEMO_NAME
    assert differences(DEMO_FOLDER, manifest) == []
    assert {row.checkpoint for row in read_results(DEMO_FOLDER / "results.json")} == {manifest.weights}
    assert {row.model for row in read_results(DEMO_FOLDER / "results.json")} == {DEMO_NAME}


@pytest.mark.heavy
def test_verify_proves_it(tmp_path, capsys):
    assert verify("demo", say=lambda line: None) == []
    changed = shutil.copytree(DEMO_FOLDER, tmp_path / "changed")
    text = re.sub(r"(?m)^(\| test-loss \| loss \| )[\d.]+", r"\g<1>0.1", CARD, count=1)
    assert text != CARD
    (changed / "README.md").write_text(text)
    assert verify(changed, say=lambda line: None) == [
        "main: README.md is stale: its section 'Evaluation' is not what the files beside it give"
    ]


@pytest.mark.heavy
def test_its_script_gives_the_same_files_but_for_versions(make_demo, tmp_path):
    """Of the code in modeling/ and tokenization/, the card's template and the corpus, as they are now."""
    make_demo.main(["--refresh", "--out", str(tmp_path / "made")])
    names = sorted(path.name for path in DEMO_FOLDER.iterdir())
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == names
    of_versions = {"config.json", "manifest.json", "tokenizer.json", "tokenizer_config.json"}
    behind = [
        name
        for name in sorted({*names} - of_versions)
        if (tmp_path / "made" / name).read_bytes() != (DEMO_FOLDER / name).read_bytes()
    ]
    assert behind == [], "run `python train_scripts/make_demo.py --refresh`"
    assert {"modeling_curr_ab.py", "pairs.csv"} <= set(payload_files(DEMO_FOLDER))


def test_its_record_has_the_committed_plan(make_demo):
    record = read_training(DEMO_FOLDER / "training.json")
    plan = resolve_plan({"data": "corpus"}, [make_demo.PLAN])
    assert record.plan == json.loads(json.dumps(public_plan(plan)))
    assert record.member is None and record.step == plan.steps


def test_its_card_is_of_these_files_and_says_what_it_is():
    assert rendered(DEMO_FOLDER, NAMESPACE) == CARD
    for words in ("simulated pairs", "none of the 15 members", "nothing about real antibodies"):
        assert words in CARD
    assert "brineylab/" not in CARD and "8M-F" not in CARD


@pytest.mark.heavy
def test_the_code_of_its_card_runs_as_written():
    blocks = re.findall(r"```python\n(.*?)```", CARD, re.DOTALL)
    assert len(blocks) == 3  # the package, stock transformers, PEFT
    names = {}
    for block in blocks:
        exec(block, names)
    expected = names["logits"].detach().cpu()
    assert expected.shape == (1, 231, 33)
    for model in (names["model"], names["adapted"]):
        torch.testing.assert_close(logits_of(model, names["tokenizer"]), expected, atol=1e-4, rtol=0)


def test_its_pairs_are_the_example_and_some_that_training_never_saw(tmp_path, capsys):
    rows = rows_of(DEMO_FOLDER / "pairs.csv")
    assert list(rows[0]) == ["id", "heavy", "light"]
    assert (rows[0]["id"], rows[0]["heavy"], rows[0]["light"]) == (EXAMPLE_NAME, *EXAMPLE_PAIR)
    corpus = pq.read_table(builtin_path(), columns=["id", "heavy", "light", "clone", "split"]).to_pylist()
    of_id = {row["id"]: row for row in corpus}
    held_out = [of_id[row["id"]] for row in rows[1:]]
    assert len({row["clone"] for row in held_out}) == len(held_out) >= 5
    for row, known in zip(rows[1:], held_out, strict=True):
        assert row == {name: known[name] for name in row} and known["split"] == "test"

    assert main(["example-data", "pairs", "--out", str(tmp_path / "pairs.csv")]) == 0
    assert rows_of(tmp_path / "pairs.csv") == rows
    assert main(["example-data", "pairs", "--out", str(tmp_path / "few.parquet"), "--pairs", "3"]) == 0
    assert pq.read_table(tmp_path / "few.parquet").to_pylist() == rows[:3]
    assert main(["example-data", "pairs", "--out", str(tmp_path / "many.csv"), "--pairs", "99"]) == 2
    assert f"pairs must be at most {len(rows)}" in capsys.readouterr().err
    assert not (tmp_path / "many.csv").exists()


@pytest.mark.heavy
def test_commands_need_no_network(tmp_path):
    """Without the switch that the tests set for everything else."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        subprocess.run(
            [sys.executable, "-P", "-c", WITHOUT_NETWORK, *map(str, arguments)],
            env=environment,
            check=True,
            capture_output=True,
        )

    pairs, scores = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    run("example-data", "pairs", "--out", pairs, "--pairs", 2)
    run("score", "demo", pairs, "--mode", "unmasked", "--out", scores)
    first, second = rows_of(scores)
    assert first["id"] == EXAMPLE_NAME
    assert 1 < float(second["perplexity_pair"]) < 4  # as unsure as among so many residues of 20
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").glob("hub/models*"))


@pytest.mark.heavy
@pytest.mark.parametrize(
    "elsewhere", ["/opt/python/site-packages/curr_ab/demo", r"C:\Python312\Lib\site-packages\curr_ab\demo"]
)
def test_an_adapter_on_it_loads_on_another_machine(tmp_path, elsewhere):
    """PEFT wants the folder of the machine where it was tuned; the package finds its own."""
    from peft import LoraConfig, get_peft_model

    model, tokenizer = curr_ab.load("demo", device="cpu")
    expected = logits_of(model, tokenizer)
    adapted = get_peft_model(model, LoraConfig(target_modules=["query", "value"], init_lora_weights=False))
    tuned = logits_of(adapted, tokenizer)
    assert not torch.allclose(tuned, expected, atol=1e-3)
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": elsewhere, "auto_mapping": None})
    )
    found = find_checkpoint(tmp_path)
    assert found.base == str(DEMO_FOLDER)
    torch.testing.assert_close(logits_of(*curr_ab.load(tmp_path, device="cpu")), tuned, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_its_losses_are_those_of_its_weights_and_below_what_positions_tell(tmp_path):
    prepare("builtin", tmp_path / "corpus", PreparationPlan(cluster="source"))
    measured = run_suite("loss", "demo", str(tmp_path / "corpus"), tmp_path / "evaluation")
    stored = {
        row.identity: row for row in read_results(DEMO_FOLDER / "results.json") if row.task == "test-loss"
    }
    assert {row.identity for row in measured} == set(stored)
    for row in measured:
        assert row.value == pytest.approx(stored[row.identity].value, abs=1e-3)
        assert row.num_items == stored[row.identity].num_items
    train, test = (TokenDataset(tmp_path / "corpus", split) for split in ("train", "test"))
    held_out = HeldOut(test, num_pairs=len(test), draws=2, seed=0, objective="mlm", pad=True)
    by_position = baseline_losses(train, held_out)["position-wise"]
    [overall] = [row.value for row in measured if row.details.get("place", "all") == "all"]
    assert overall < by_position / 2
