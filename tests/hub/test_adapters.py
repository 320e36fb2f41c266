"""An adapter on its way to the Hub and back: the same predictions by its name alone, and what is refused."""

import json
import shutil

import numpy as np
import pytest
from huggingface_hub import ModelCard
from support.finetuned_models import save_tuned, tune
from support.tiny_models import PAIRS
from support.warm import run_warm

from curr_ab import CurrAbTokenizer
from curr_ab.finetuning import load_finetuned, predict
from curr_ab.finetuning.adapter_record import read_record
from curr_ab.hub.card import write_card
from curr_ab.hub.repositories import describe_folder

BASE = "brineylab/CurrAb-8M-F"
CASES = [("classes", "lora"), ("residues", "frozen"), ("number", "full")]
# As a user of the Hub: without this package for the first, and by the package's own function for the second.
STOCK = """
import json, sys
sys.modules["curr_ab"] = None
from peft import AutoPeftModelForSequenceClassification, PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
heavy, light = json.loads(sys.argv[1])
exec(sys.argv[2])
print(json.dumps(logits.softmax(-1).tolist()))
"""
PACKAGE = """
import json, sys
from curr_ab.finetuning import load_finetuned, predict
for name in sys.argv[2:]:
    model, tokenizer = load_finetuned(name, device="cpu")
    print(json.dumps([one.tolist() for one in predict(model, tokenizer, json.loads(sys.argv[1]))]))
"""


@pytest.fixture
def tuned(family, tmp_path):
    """Adapters of an export on disk, and what they predict there."""
    found = {}
    for target, method in CASES:
        model = tune(family / "CurrAb-8M-F", target, method)
        folder = save_tuned(model, tmp_path / target, family / "CurrAb-8M-F", target, method)
        found[folder] = [one.tolist() for one in predict(model, CurrAbTokenizer(), PAIRS)]
    return found


def client(hub, script, *args):
    """Output of a fresh process that knows nothing but the Hub."""
    done = run_warm(script, args, environment=hub.environment(None))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_published_and_read_back(hub, family, tuned):
    folders = list(tuned)
    refused = hub.run("publish", folders[0], "--namespace", "brineylab", code=2)
    assert (
        "its base must be a repository on the Hub" in refused
        and "curr-ab card" in refused
        and "--base" in refused
    )
    said = hub.run("card", folders[0], "--base", BASE, code=2)
    assert f"no repository of the Hub is called {BASE}" in said
    hub.run("publish", family / "CurrAb-8M-F", "--namespace", "brineylab")
    hub.run("card", folders[0], "--base", BASE)
    for folder in folders[1:]:
        write_card(folder, base_model=BASE)
    everything = ("publish", family / "CurrAb-8M-F", *folders, "--namespace", "brineylab")
    hub.run(*everything)
    assert hub.run(*everything).endswith("sent 0 files in 0 commits\n")

    names = [f"brineylab/CurrAb-8M-F-{folder.name}-of-pairs" for folder in folders]
    for seen, expected in zip(client(hub, PACKAGE, json.dumps(PAIRS), *names), tuned.values(), strict=True):
        for one, other in zip(seen, expected, strict=True):
            assert np.abs(np.array(one) - np.array(other)).max() < 2e-5
    # The card's own lines for stock transformers.
    text = (folders[0] / "README.md").read_text()
    lines = text[text.index("config = AutoConfig") :].split("```")[0]
    [[stock]] = client(hub, STOCK, json.dumps(PAIRS[0]), lines)
    assert stock == pytest.approx(tuned[folders[0]][0], abs=2e-5)


def test_the_card_is_what_the_hub_reads(tuned):
    for folder, (target, method) in zip(tuned, CASES, strict=True):
        write_card(folder, base_model=BASE, namespace="curator", name="my-adapter")
        card = ModelCard.load(folder / "README.md")
        data = card.data.to_dict()
        assert data["base_model"] == BASE and data["license"] == "mit"
        relation, library = ("finetune", "transformers") if method == "full" else ("adapter", "peft")
        assert data["base_model_relation"] == relation and data["library_name"] == library
        assert {(row.metric_type, row.metric_value) for row in card.data.eval_results} == {
            ("accuracy", 0.71),
            ("macro-f1", 0.7),
        }
        task = "token-classification" if target == "residues" else "text-classification"
        assert {(row.dataset_type, row.task_type) for row in card.data.eval_results} == {
            ("lab/binders", task)
        }
        repository = describe_folder(folder, "curator")
        assert repository.repo_id == "curator/my-adapter" and BASE in repository.note
        assert 'load_finetuned("curator/my-adapter")' in card.text
        assert "| specificity | accuracy | 0.7100 ± 0.0100 | 60 |" in card.text
        assert str(folder.parent) not in "".join(
            path.read_text() for path in folder.iterdir() if path.suffix in (".json", ".md", ".yaml")
        )
        if target == "classes":
            assert "HD, Flu, CoV" in card.text and "keep each `donor` together" in card.text


def test_what_is_not_published(tuned, tmp_path):
    folder = next(iter(tuned))
    for base in ("../CurrAb-8M-F", "CurrAb-8M-F", str(tmp_path)):
        with pytest.raises(ValueError, match="must be a repository such as"):
            write_card(folder, base_model=base)
    with pytest.raises(ValueError, match="must be the name of a repository"):
        write_card(folder, name="my adapter")
    with pytest.raises(ValueError, match="results must be none for an adapter"):
        write_card(folder, results=["more.json"])
    write_card(folder, base_model=BASE)
    describe_folder(folder, "brineylab")
    with pytest.raises(ValueError, match="card does not match these files under curator"):
        describe_folder(folder, "curator")
    edited = (folder / "README.md").read_text().replace("0.7100", "0.9100")
    (folder / "README.md").write_text(edited)
    with pytest.raises(ValueError, match="card does not match these files"):
        describe_folder(folder, "brineylab")
    write_card(folder)
    describe_folder(folder, "brineylab")
    # An adapter that PEFT alone has made: no card is asked of it, but a base that others have.
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(folder / name, plain / name)
    assert describe_folder(plain, "brineylab").repo_id == "brineylab/plain"
    config = json.loads((plain / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path)
    (plain / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="its base must be a repository on the Hub"):
        describe_folder(plain, "brineylab")


def test_another_base_is_loaded_after_the_change(tuned, family):
    """`--base` changes what PEFT reads, not the card alone."""
    folder = next(iter(tuned))
    write_card(folder, base_model=BASE)
    assert read_record(folder).base_model == BASE
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == BASE
    with pytest.raises(ValueError, match="CurrAb-8M-F is not in the cache"):  # there is no network here
        load_finetuned(folder, device="cpu")
