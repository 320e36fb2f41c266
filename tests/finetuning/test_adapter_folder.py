"""What fine-tuning leaves loads in every way with the same predictions, and says what it is."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from peft import AutoPeftModelForSequenceClassification, PeftModel
from safetensors.torch import load_file, save_file
from support.finetuned_models import TARGETS, save_base, save_tuned, tune
from support.tiny_models import PAIRS, tiny_config

import curr_ab
from curr_ab.checkpoint_files import DEMO_FOLDERS
from curr_ab.cli.main import build_parser
from curr_ab.family import DEMO
from curr_ab.finetuning import load_finetuned, predict
from curr_ab.finetuning.adapter_record import read_record
from curr_ab.results import read_results

# Every target, every method, every pooling.
CASES = [
    ("classes", "lora", "cls"),
    ("classes", "dora", "cls"),
    ("classes", "frozen", "cls"),
    ("classes", "full", "cls"),
    ("classes", "lora", "mean"),
    ("classes", "frozen", "mean_per_chain"),
    ("classes", "full", "mean_per_chain"),
    ("residues", "lora", "cls"),
    ("residues", "full", "cls"),
    ("number", "lora", "cls"),
]
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Folders of all cases with what their models predict: class probabilities, or a number."""
    place = tmp_path_factory.mktemp("tuned")
    base = save_base(place / "base")
    found = {}
    for case in CASES:
        model = tune(base, *case)
        folder = save_tuned(model, place / "-".join(case), base, *case)
        found[case] = folder, list(predict(model, curr_ab.CurrAbTokenizer(), PAIRS))
    return found


def difference(first, second):
    assert len(first) == len(second)
    return max(float(abs(one - other).max()) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.heavy
def test_the_package_loads_it(tuned, case, merge, caplog):
    folder, expected = tuned[case]
    model, tokenizer = load_finetuned(folder, device="cpu", merge=merge)
    assert isinstance(model, PeftModel) == (not merge and case[1] != "full")
    assert difference(list(predict(model, tokenizer, PAIRS)), expected) <= TOLERANCE
    assert not caplog.records  # nothing is said to be missing that the adapter brings


@pytest.mark.heavy
def test_tuning_made_a_difference(tuned):
    """Else all of the above would be the same for a base whose adapter was lost."""
    predictions = [expected for case, (_, expected) in tuned.items() if case[0] == "classes"]
    for place, one in enumerate(predictions):
        for other in predictions[place + 1 :]:
            assert difference(one, other) > 1e-3


STOCK = """
import json, sys
sys.modules["curr_ab"] = None
import warnings
warnings.simplefilter("error", UserWarning)
import torch
from peft import PeftModel
from transformers import (
    AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer
)
pairs, found = json.loads(sys.argv[1]), {}
for folder in sys.argv[3:]:
    auto = AutoModelForTokenClassification if "/residues" in folder else AutoModelForSequenceClassification
    try:
        if "-full-" in folder:
            model, info = auto.from_pretrained(folder, output_loading_info=True)
            if info["missing_keys"]:
                raise RuntimeError(f"missing {sorted(info['missing_keys'])[0]}")
        else:
            config = json.load(open(f"{folder}/adapter_config.json"))
            labels = AutoConfig.from_pretrained(folder)
            base = auto.from_pretrained(config["base_model_name_or_path"], config=labels)
            model = PeftModel.from_pretrained(base, folder)
            assert "Esm" in type(model.get_base_model()).__name__
        tokenizer = AutoTokenizer.from_pretrained(folder)
        found[folder] = {"labels": model.config.id2label}
        for way in ("loaded", "merged"):
            if way == "merged" and "-full-" not in folder:
                model.merge_and_unload().save_pretrained(f"{folder}-merged")
                model = auto.from_pretrained(f"{folder}-merged")
            with torch.no_grad():
                found[folder][way] = [
                    model.eval()(**tokenizer(*pair, return_tensors="pt")).logits[0].tolist() for pair in pairs
                ]
    except Exception as error:
        found[folder] = repr(error)
open(sys.argv[2], "w").write(json.dumps(found))
"""


def test_stock_transformers_loads_it_or_refuses(tuned, tmp_path):
    """In a process without this package; merged it needs no PEFT either, and ours reads that too."""
    folders = {case: str(folder) for case, (folder, _) in tuned.items()}
    answer = tmp_path / "answer.json"
    command = [sys.executable, "-c", STOCK, json.dumps(PAIRS), str(answer), *folders.values()]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "PYTHONPATH": ""}
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    found = json.loads(answer.read_text())
    tokenizer = curr_ab.CurrAbTokenizer()
    for case, folder in folders.items():
        if case[2] != "cls":
            assert "classifier.dense" in found[folder], found[folder]  # which it misses
            continue
        assert not isinstance(found[folder], str), found[folder]
        if names := TARGETS[case[0]]:
            assert tuple(found[folder]["labels"].values()) == names
        for way in ("loaded", "merged"):
            seen = []
            for pair, logits in zip(PAIRS, found[folder][way], strict=True):
                values = torch.tensor(logits)
                if case[0] == "residues":
                    values = values[[not_special(token) for token in tokenizer(*pair)["input_ids"]]]
                seen.append((values if case[0] == "number" else values.softmax(-1)).numpy())
            assert difference(seen, tuned[case][1]) <= TOLERANCE, (case, way)
        if case[1] != "full":
            merged, _ = load_finetuned_without_tokenizer(f"{folder}-merged", tokenizer)
            assert difference(list(predict(merged, tokenizer, PAIRS)), tuned[case][1]) <= TOLERANCE


def not_special(token):
    return token not in (0, 1, 2)


def load_finetuned_without_tokenizer(folder, tokenizer):
    tokenizer.save_pretrained(folder)
    return load_finetuned(folder, device="cpu")


@pytest.mark.heavy
def test_peft_finds_the_base_by_itself(tuned):
    """`AutoPeftModel` reads the base's name and the task from the adapter alone."""
    folder, expected = tuned["classes", "lora", "cls"]
    model = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    assert type(model.get_base_model()).__name__ == "EsmForSequenceClassification"
    tokenizer = curr_ab.CurrAbTokenizer()
    with torch.no_grad():
        seen = [
            model.eval()(**tokenizer(*pair, return_tensors="pt")).logits[0].softmax(-1).numpy()
            for pair in PAIRS
        ]
    assert difference(seen, expected) <= TOLERANCE


def test_the_folder_holds_the_head_and_nothing_of_the_base(tuned):
    for case, (folder, _) in tuned.items():
        names = {path.name for path in folder.iterdir()}
        shared = {
            "README.md",
            "config.json",
            "finetuning.json",
            "finetuning_manifest.json",
            "recipe.yaml",
            "results.json",
            "tokenizer.json",
        }
        assert shared < names
        if case[1] == "full":
            assert "model.safetensors" in names and "adapter_config.json" not in names
            continue
        keys = set(load_file(folder / "adapter_model.safetensors"))
        head = {key for key in keys if ".classifier." in key}
        assert len(head) == (2 if case[0] == "residues" else 4)
        assert all(".lora_" in key for key in keys - head)
        assert bool(keys - head) == (case[1] != "frozen")


def test_what_the_folder_says(tuned):
    folder, _ = tuned["classes", "lora", "cls"]
    record = read_record(folder)
    assert record.name == "base-classes-of-pairs"
    assert record.base_model == str(folder.parent / "base")
    assert record.data["sources"] == ["pairs.csv"] and record.data["examples"] == 60
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["labels"] == ["HD", "Flu", "CoV"]
    assert {row.metric for row in read_results(folder / "results.json")} == {"accuracy", "macro-f1"}
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS" and config["auto_mapping"] is None
    for text in (path.read_text() for path in folder.glob("*.[jmy]*")):
        assert "/home/somebody" not in text


def test_saving_again_replaces_and_a_failure_leaves_what_there_was(tuned, tmp_path):
    folder = shutil.copytree(tuned["classes", "lora", "cls"][0], tmp_path / "adapter")
    base = read_record(folder).base_model
    (folder / "left.txt").write_text("of before")
    before = (folder / "adapter_model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="an output for each of 3 labels; it has 2"):
        save_tuned(tune(base, "residues"), folder, base, "classes")
    assert (folder / "adapter_model.safetensors").read_bytes() == before
    save_tuned(tune(base, "number"), folder, base, "number")
    assert not (folder / "left.txt").exists() and len(list(tmp_path.iterdir())) == 1
    assert json.loads((folder / "config.json").read_text())["problem_type"] == "regression"


def test_a_base_of_another_shape_is_refused(tuned, tmp_path):
    """Not loaded in silence with weights drawn anew: a head alone fits on any model of its width."""
    folder = shutil.copytree(tuned["classes", "frozen", "cls"][0], tmp_path / "adapter")
    (folder / "finetuning_manifest.json").unlink()  # as PEFT alone leaves it
    config = json.loads((folder / "adapter_config.json").read_text())
    for layers, wrong in ((1, "layer.1"), (3, "contact_head")):
        other = tmp_path / str(layers)
        curr_ab.CurrAbForMaskedLM(tiny_config(num_hidden_layers=layers)).save_pretrained(other)
        config["base_model_name_or_path"] = str(other)
        (folder / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(
            ValueError,
            match=rf"must be those that the adapter was trained on, all .* such as esm\..*{wrong}",
        ):
            load_finetuned(folder, device="cpu")


def test_a_base_with_other_weights_is_refused(tuned, tmp_path):
    folder = shutil.copytree(tuned["classes", "lora", "cls"][0], tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    base = shutil.copytree(config["base_model_name_or_path"], tmp_path / "base")
    config["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    load_finetuned(folder, device="cpu")
    weights = load_file(base / "model.safetensors")
    save_file({name: 1.01 * value for name, value in weights.items()}, base / "model.safetensors")
    for load in (curr_ab.load, load_finetuned):
        with pytest.raises(
            ValueError, match=r"must have the weights that it was tuned on; got others in .*base"
        ):
            load(folder, device="cpu")


def test_what_is_not_fine_tuned_is_refused(tuned, tmp_path):
    with pytest.raises(
        ValueError, match="names a head for pairs or residues; name the adapter of a `curr-ab finetune`"
    ):
        load_finetuned(tuned["classes", "lora", "cls"][0].parent / "base")
    with pytest.raises(ValueError, match=r"has no finetuning\.json"):
        read_record(tmp_path)


def test_the_section_of_the_docs(tuned, tmp_path, monkeypatch, capsys):
    """Its code runs, its commands parse, and the files that it lists are those that there are."""
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "finetune.md").read_text()
    text = re.search(r"^## Adapters\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)[1]
    folder = shutil.copytree(tuned["classes", "lora", "cls"][0], tmp_path / "run" / "adapter")
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO_FOLDERS[DEMO] / "pairs.csv", tmp_path)
    variables = dict(zip(("heavy", "light"), PAIRS[0], strict=True))
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(block, variables)
    assert capsys.readouterr().out.startswith("{'HD': ") and isinstance(variables["adapter"], PeftModel)
    assert load_finetuned("merged", device="cpu")[0].config.id2label[0] == "HD"
    commands = [line for line in text.splitlines() if line.startswith("curr-ab ")]
    assert len(commands) == 3
    for line in commands:
        assert callable(build_parser().parse_args(shlex.split(line)[1:]).run)
    named = set(re.findall(r"`([\w.]+\.(?:json|yaml|md|py|safetensors))`", text))
    there = {path.name for path in folder.iterdir()} - {"special_tokens_map.json"}  # of transformers 4
    # The others are what other methods leave, and what the fit on everything knows of how sure it is.
    others = {"model.safetensors", "probe.safetensors", "uncertainty.json", "training_pairs.safetensors"}
    assert there | others == named
