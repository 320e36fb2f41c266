"""`demo` and `CLM-demo`: trained models in the package that load by their names, everywhere, offline."""

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
from curr_ab.checkpoint_files import DEMO_FOLDERS, find_checkpoint, is_causal, resolve
from curr_ab.cli.main import main
from curr_ab.data import builtin_path, prepare
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.data.shards import TokenDataset
from curr_ab.evaluation import run_suite
from curr_ab.family import CAUSAL_DEMO, DEMO, DEMOS, NAMESPACE, find_member
from curr_ab.hub import verify
from curr_ab.hub.card import rendered
from curr_ab.hub.manifest import differences, payload_files, read_manifest, revision_files
from curr_ab.measures.held_out import HeldOut, baseline_losses
from curr_ab.measures.repertoires import read_chains
from curr_ab.pretraining.checkpoint import public_plan
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.results import read_results
from curr_ab.training_record import read_training
from curr_ab.words import EXAMPLE_NAME, EXAMPLE_PAIR

DEMO_FOLDER = DEMO_FOLDERS[DEMO]
WITHOUT_NETWORK = """
import socket, sys
def refuse(*arguments, **options):
    raise AssertionError(f"the network was asked: {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from curr_ab.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(params=DEMOS)
def demo(request):
    """The name of each of the two."""
    return request.param


@pytest.fixture
def card(demo):
    return (DEMO_FOLDERS[demo] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def make_demo():
    """The script that makes the folders."""
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


def run_without_network(place, *arguments):
    """A command without the switch that the tests set for everything else, and with an empty cache."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", WITHOUT_NETWORK, *map(str, arguments)]
    subprocess.run(command, env=environment, check=True, capture_output=True)


@pytest.mark.parametrize("spelling", ["{}", "CurrAb-{}", "currab-{}"])
@pytest.mark.parametrize("case", [str, str.upper, str.lower, str.title])
def test_it_is_found_in_any_case(demo, spelling, case):
    name = spelling.format(case(demo))
    found = find_checkpoint(name)
    assert (found.source, found.name) == (str(DEMO_FOLDERS[demo]), f"CurrAb-{demo}")
    assert curr_ab.resolve(name) == resolve(name) == found.source
    assert is_causal(found.source) == (demo == CAUSAL_DEMO)


def test_it_is_none_of_the_members(demo, capsys):
    assert find_member(demo) is None and len(list(curr_ab.members())) == 15
    with pytest.raises(ValueError, match=rf"must be a member, one of 8M-F, .*; got '{demo}', which is none"):
        curr_ab.member(demo)
    assert main(["export", demo, "--weights", str(DEMO_FOLDERS[demo]), "--out", "nowhere"]) == 2
    assert "must be a member" in capsys.readouterr().err


def test_names_and_folders_are_told(capsys):
    assert main(["models"]) == 0
    *_, first, second = capsys.readouterr().out.splitlines()
    assert [first.split(maxsplit=1), second.split(maxsplit=1)] == [
        [demo, str(folder)] for demo, folder in DEMO_FOLDERS.items()
    ]
    with pytest.raises(ValueError, match="neither a folder nor demo nor CLM-demo nor a member"):
        resolve("dmo")


def test_a_folder_of_its_name_takes_its_place_only_with_a_checkpoint(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(demo).mkdir()
    assert resolve(demo) == str(DEMO_FOLDERS[demo])
    shutil.copyfile(DEMO_FOLDERS[demo] / "config.json", Path(demo, "config.json"))
    assert resolve(demo) == demo


@pytest.mark.heavy
def test_stock_transformers_gives_the_same_logits_in_float32(demo):
    """Of a causal model, too: ESM's one class follows its configuration."""
    model, tokenizer = curr_ab.load(demo, device="cpu")
    stock = AutoModelForMaskedLM.from_pretrained(DEMO_FOLDERS[demo])
    stored = json.loads((DEMO_FOLDERS[demo] / "config.json").read_text())["dtype"]
    assert model.dtype == stock.dtype == torch.float32 and stored == "float32"
    assert type(stock).__name__ == "EsmForMaskedLM"
    expected = logits_of(stock, AutoTokenizer.from_pretrained(DEMO_FOLDERS[demo]))
    torch.testing.assert_close(logits_of(model, tokenizer), expected, atol=1e-4, rtol=0)


def test_it_is_small_and_as_it_was_exported(demo):
    folder = DEMO_FOLDERS[demo]
    megabytes = {DEMO: 3, CAUSAL_DEMO: 2}[demo]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 1_000_000 * megabytes
    manifest = read_manifest(folder)
    assert manifest.member == f"CurrAb-{demo}"
    assert differences(folder, manifest) == []
    assert {row.checkpoint for row in read_results(folder / "results.json")} == {manifest.weights}
    assert {row.model for row in read_results(folder / "results.json")} == {manifest.member}


@pytest.mark.heavy
def test_verify_proves_it(demo, card, tmp_path):
    assert verify(demo, say=lambda line: None) == []
    changed = shutil.copytree(DEMO_FOLDERS[demo], tmp_path / "changed")
    text = re.sub(r"(?m)^(\| test-loss \| loss \| )[\d.]+", r"\g<1>0.1", card, count=1)
    assert text != card
    (changed / "README.md").write_text(text)
    assert verify(changed, say=lambda line: None) == [
        "main: README.md is stale: its section 'Evaluation' is not what the files beside it give"
    ]


@pytest.mark.heavy
def test_its_script_gives_the_same_files_but_for_versions(demo, make_demo, tmp_path):
    """Of the code in modeling/ and tokenization/, the card's template and the corpus, as they are now."""
    make_demo.main(["--refresh", "--model", demo, "--out", str(tmp_path)])
    folder, made = DEMO_FOLDERS[demo], tmp_path / DEMOS[demo]
    names = revision_files(folder)
    assert revision_files(made) == names
    of_versions = {"config.json", "generation_config.json", "manifest.json"}
    of_versions |= {"tokenizer.json", "tokenizer_config.json"}
    behind = [
        name
        for name in sorted({*names} - of_versions)
        if (made / name).read_bytes() != (folder / name).read_bytes()
    ]
    assert behind == [], "run `python train_scripts/make_demo.py --refresh`"
    assert ("pairs.csv" in payload_files(folder)) == (demo == DEMO)
    assert "modeling_curr_ab.py" in payload_files(folder)


def test_its_record_has_the_committed_plan(demo, make_demo):
    record = read_training(DEMO_FOLDERS[demo] / "training.json")
    plan = make_demo.plan_of(demo, "corpus")
    # What a plan has learnt to say since then has its default.
    assert public_plan(PretrainingPlan()) | record.plan == json.loads(json.dumps(public_plan(plan)))
    assert record.member is None and record.step == plan.steps


def test_its_card_is_of_these_files_and_says_what_it_is(demo, card):
    assert rendered(DEMO_FOLDERS[demo], NAMESPACE) == card
    for words in ("simulated pairs", "none of the 15 members", "nothing about real antibodies"):
        assert words in card
    assert "brineylab/" not in card and "8M-F" not in card
    pipeline = re.search("pipeline_tag: (.*)", card)[1]
    assert pipeline == {DEMO: "fill-mask", CAUSAL_DEMO: "text-generation"}[demo]
    assert ("light: numbered as this chain" in card) == (demo == CAUSAL_DEMO)


@pytest.mark.heavy
def test_the_code_of_its_card_runs_as_written(demo, card):
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 3 + (demo == CAUSAL_DEMO)  # the package, generation, transformers, PEFT
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
    pairs, scores = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    run_without_network(tmp_path, "example-data", "pairs", "--out", pairs, "--pairs", 2)
    run_without_network(tmp_path, "score", "demo", pairs, "--mode", "unmasked", "--out", scores)
    first, second = rows_of(scores)
    assert first["id"] == EXAMPLE_NAME
    assert 1 < float(second["perplexity_pair"]) < 4  # as unsure as among so many residues of 20
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").glob("hub/models*"))


@pytest.mark.heavy
def test_it_writes_light_chains_that_are_numbered(tmp_path):
    """Whole V domains, without network; most draws are, and the same seed gives the same text."""
    made = [tmp_path / "lights.csv", tmp_path / "again.csv"]
    for out in made:
        run_without_network(
            tmp_path, "generate", "CLM-demo", DEMO_FOLDER / "pairs.csv", "--out", out, "--n", 2, "--seed", 1
        )
    assert made[0].read_bytes() == made[1].read_bytes()
    rows, pairs = rows_of(made[0]), rows_of(DEMO_FOLDER / "pairs.csv")
    assert [(row["id"], row["heavy"]) for row in rows] == [
        (pair["id"], pair["heavy"]) for pair in pairs for _ in range(2)
    ]
    assert read_chains([row["light"] for row in rows], "light").numbered.all()
    draws = {row["id"]: int(row["draws"]) for row in rows}
    assert len(rows) >= 0.8 * sum(draws.values())


@pytest.mark.heavy
@pytest.mark.parametrize(
    "elsewhere", ["/opt/python/site-packages/curr_ab/{}", r"C:\Python312\Lib\site-packages\curr_ab\{}"]
)
def test_an_adapter_on_it_loads_on_another_machine(demo, tmp_path, elsewhere):
    """PEFT wants the folder of the machine where it was tuned; the package finds its own."""
    from peft import LoraConfig, get_peft_model

    model, tokenizer = curr_ab.load(demo, device="cpu")
    expected = logits_of(model, tokenizer)
    adapted = get_peft_model(model, LoraConfig(target_modules=["query", "value"], init_lora_weights=False))
    tuned = logits_of(adapted, tokenizer)
    assert not torch.allclose(tuned, expected, atol=1e-3)
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": elsewhere.format(DEMOS[demo]), "auto_mapping": None})
    )
    found = find_checkpoint(tmp_path)
    assert found.base == str(DEMO_FOLDERS[demo])
    torch.testing.assert_close(logits_of(*curr_ab.load(tmp_path, device="cpu")), tuned, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_its_losses_are_those_of_its_weights_and_below_what_positions_tell(demo, tmp_path):
    prepare("builtin", tmp_path / "corpus", PreparationPlan(cluster="source"))
    measured = run_suite("loss", demo, str(tmp_path / "corpus"), tmp_path / "evaluation")
    results = read_results(DEMO_FOLDERS[demo] / "results.json")
    stored = {row.identity: row for row in results if row.task == "test-loss"}
    assert {row.identity for row in measured} == set(stored)
    for row in measured:
        assert row.value == pytest.approx(stored[row.identity].value, abs=1e-3)
        assert row.num_items == stored[row.identity].num_items
    train, test = (TokenDataset(tmp_path / "corpus", split) for split in ("train", "test"))
    objective = "clm" if demo == CAUSAL_DEMO else "mlm"
    held_out = HeldOut(test, num_pairs=len(test), draws=2, seed=0, objective=objective, pad=True)
    by_position = baseline_losses(train, held_out)["position-wise"]
    [overall] = [row.value for row in measured if row.details.get("place", "all") == "all"]
    assert overall < by_position / 2


def test_compiled_code_beside_it_is_no_part_of_it(demo, tmp_path, monkeypatch):
    """pip leaves some in an installed package; in any other folder it could be anybody's."""
    folder = shutil.copytree(
        DEMO_FOLDERS[demo], tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "__pycache__").mkdir()
    with pytest.raises(ValueError, match="__pycache__ does not belong in an export"):
        payload_files(folder)
    monkeypatch.setitem(DEMO_FOLDERS, demo, folder)
    assert differences(folder, read_manifest(folder)) == []
    (folder / "other").mkdir()
    with pytest.raises(ValueError, match="other does not belong in an export"):
        payload_files(folder)


def test_a_manifest_of_endless_depth_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"manifest\.json must be valid JSON"):
        read_manifest(tmp_path)
