"""One folder, four ways to load it, the same logits: each way in a process of its own."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from support.tiny_models import PAIRS, shake, tiny_config

import curr_ab
from curr_ab import (
    CurrAbForMaskedLM,
    CurrAbForSequenceClassification,
    CurrAbForTokenClassification,
    CurrAbTokenizer,
)
from curr_ab.checkpoint_files import find_checkpoint, find_weights, resolve
from curr_ab.checkpoints import Checkpoint, model_digest
from curr_ab.evaluation.measurement import find_subject
from curr_ab.evaluation.plan import make_plan
from curr_ab.finetuning import load_finetuned
from curr_ab.finetuning.model import find_base
from curr_ab.hub import verify
from curr_ab.results import checkpoint_digest

HEADS = {
    "MaskedLM": CurrAbForMaskedLM,
    "SequenceClassification": CurrAbForSequenceClassification,
    "ResidueClassification": CurrAbForSequenceClassification,
    "TokenClassification": CurrAbForTokenClassification,
}
WITHOUT_PACKAGE = "import sys; sys.modules['curr_ab'] = None\n"
PREAMBLE = """
import json, os, sys, warnings
warnings.simplefilter("error", UserWarning)
import torch, transformers
from transformers import *
folder, pairs = sys.argv[1], json.loads(sys.argv[2])
HEADS = ["MaskedLM", "SequenceClassification", "TokenClassification"]
def logits(model, tokenizer):
    encoded = tokenizer([list(pair) for pair in pairs], padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model.eval()(**encoded).logits
    return (out[encoded["attention_mask"].bool()] if out.dim() == 3 else out).tolist()
"""
LOAD_ALL_HEADS = """
kwargs = {"trust_remote_code": True} if trust else {}
tokenizer = AutoTokenizer.from_pretrained(f"{folder}/MaskedLM", **kwargs)
found = {"ids": tokenizer(*pairs[0])["input_ids"], "tokenizer": type(tokenizer).__name__}
# The head that pools residues is no head of stock ESM.
for head in HEADS + ["ResidueClassification"] * trust:
    auto = getattr(transformers, "AutoModelFor" + head.replace("Residue", "Sequence"))
    model, report = auto.from_pretrained(f"{folder}/{head}", output_loading_info=True, **kwargs)
    found[head] = {
        "class": type(model).__name__,
        "report": sorted(str(item) for value in report.values() for item in value),
        "logits": logits(model, tokenizer),
    }
"""
STOCK = "trust = False\n" + LOAD_ALL_HEADS
# A stock checkpoint loaded afterwards, in the same process, must still be stock.
REMOTE = (
    "trust = True\n"
    + LOAD_ALL_HEADS
    + """
for trusted in (False, True):
    stock = {
        "config": AutoConfig.from_pretrained(f"{folder}/stock", trust_remote_code=trusted),
        "masked": AutoModelForMaskedLM.from_pretrained(f"{folder}/stock", trust_remote_code=trusted),
        "base": AutoModel.from_pretrained(f"{folder}/stock", trust_remote_code=trusted),
        "sequence": AutoModelForSequenceClassification.from_pretrained(f"{folder}/stock"),
    }
    found[f"stock classes, trust_remote_code={trusted}"] = [type(part).__module__ for part in stock.values()]
base = AutoModel.from_pretrained(f"{folder}/MaskedLM", trust_remote_code=True)
found["base class"] = type(base).__name__
# What was loaded as remote code saves a folder that needs no repository but itself.
again = f"{folder}/saved-from-remote-code"
AutoModelForMaskedLM.from_pretrained(f"{folder}/MaskedLM", trust_remote_code=True).save_pretrained(again)
tokenizer.save_pretrained(again)
found["saved"] = sorted(os.listdir(again))
found["auto_map"] = json.load(open(f"{again}/config.json"))["auto_map"]
"""
)
PACKAGE = """
import curr_ab
found = {}
for head, option in (("MaskedLM", "masked-lm"), ("SequenceClassification", "sequence-classification"),
                     ("ResidueClassification", "sequence-classification"),
                     ("TokenClassification", "token-classification")):
    model, tokenizer = curr_ab.load(f"{folder}/{head}", head=option, device="cpu")
    found[head] = {"class": type(model).__name__, "report": [], "logits": logits(model, tokenizer)}
found["ids"], found["tokenizer"] = tokenizer(*pairs[0])["input_ids"], type(tokenizer).__name__
"""
ADAPTERS = """
from peft import PeftModel
import curr_ab
found = {}
tokenizer = AutoTokenizer.from_pretrained(f"{folder}/MaskedLM")
for head in HEADS:
    auto, ours = getattr(transformers, "AutoModelFor" + head), getattr(curr_ab, "CurrAbFor" + head)
    for way, load in {
        "stock": auto.from_pretrained,
        "remote": lambda path: auto.from_pretrained(path, trust_remote_code=True),
        "package": ours.from_pretrained,
    }.items():
        model = PeftModel.from_pretrained(load(f"{folder}/{head}"), f"{folder}/adapter-{head}")
        found[f"{head} {way}"] = logits(model, tokenizer)
        found[f"{head} {way} merged"] = logits(model.merge_and_unload(), tokenizer)
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A checkpoint for each head, one of stock ESM, and an adapter."""
    from peft import LoraConfig, get_peft_model
    from support.tiny_models import stock_twin

    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    for head, model_class in HEADS.items():
        pooling = "mean_per_chain" if head == "ResidueClassification" else "cls"
        model = shake(model_class(tiny_config(classifier_pooling=pooling, num_labels=3))).eval()
        model.save_pretrained(folder / head)
        CurrAbTokenizer().save_pretrained(folder / head)
        if head == "MaskedLM":
            stock_twin(model).save_pretrained(folder / "stock")
        if head != "ResidueClassification":
            lora = LoraConfig(
                r=4,
                target_modules=["query", "value"],
                modules_to_save=None if head == "MaskedLM" else ["classifier"],
                init_lora_weights=False,
            )
            adapted = get_peft_model(shake(model_class.from_pretrained(folder / head), seed=1), lora)
            adapted.save_pretrained(folder / f"adapter-{head}")
    return folder


def run(script, folder, tmp_path, without_package=True):
    """Run a script in a fresh process with its own cache of remote code; what it found comes back as JSON."""
    text = (WITHOUT_PACKAGE if without_package else "") + PREAMBLE + script
    text += "\nopen(sys.argv[3], 'w').write(json.dumps(found))"
    answer = tmp_path / "found.json"
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": ""}
    environment["HF_MODULES_CACHE"] = str(tmp_path / "modules")
    result = subprocess.run(
        [sys.executable, "-c", text, str(folder), json.dumps(PAIRS), str(answer)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(answer.read_text())


@pytest.fixture(scope="session")
def expected(folder):
    """Logits of the models as they were made."""
    tokenizer = CurrAbTokenizer()
    encoded = tokenizer(PAIRS, padding=True, return_tensors="pt")
    logits = {}
    for head, model_class in HEADS.items():
        with torch.no_grad():
            out = model_class.from_pretrained(folder / head).eval()(**encoded).logits
        logits[head] = out[encoded["attention_mask"].bool()] if out.dim() == 3 else out
    return logits


WAYS = {
    "stock": (STOCK, "Esm", {"TokenizersBackend", "PreTrainedTokenizerFast"}, True),
    "remote": (REMOTE, "CurrAb", {"CurrAbTokenizer"}, True),
    "package": (PACKAGE, "CurrAb", {"CurrAbTokenizer"}, False),
}


@pytest.mark.parametrize("way", WAYS)
def test_same_logits_in_a_fresh_process(way, folder, expected, tokenizer, tmp_path):
    script, prefix, tokenizers, without_package = WAYS[way]
    found = run(script, folder, tmp_path, without_package)
    assert found["ids"] == tokenizer(*PAIRS[0])["input_ids"]
    assert found["tokenizer"] in tokenizers
    for head, logits in expected.items():
        if way == "stock" and head == "ResidueClassification":
            continue
        assert found[head]["class"] == f"{prefix}For{head.replace('Residue', 'Sequence')}"
        assert found[head]["report"] == []
        assert (torch.tensor(found[head]["logits"]) - logits).abs().max() <= 2e-5, head
    if way == "remote":
        for trusted in (False, True):
            modules = found[f"stock classes, trust_remote_code={trusted}"]
            assert all(module.startswith("transformers.models.esm") for module in modules), modules
        assert found["base class"] == "CurrAbModel"
        code = {
            f"{name}.py" for name in ("configuration_curr_ab", "modeling_curr_ab", "tokenization_curr_ab")
        }
        code |= {"packed_attention.py", "pairwise_attention.py", "skip_dropout.py"}
        assert code <= set(found["saved"])
        assert not any("--" in reference for reference in found["auto_map"].values())


def test_adapters_on_all_three(folder, expected, tmp_path):
    """The adapter's own weights and, where it has one, its head."""
    found = run(ADAPTERS, folder, tmp_path, without_package=False)
    assert len(found) == 18
    for name, logits in found.items():
        head = name.split()[0]
        reference = torch.tensor(found[f"{head} package"])
        assert (reference - expected[head]).abs().max() > 1e-2  # the adapter does something
        assert (torch.tensor(logits) - reference).abs().max() <= 2e-5, name


@pytest.fixture
def cached_repository(folder, tmp_path, monkeypatch):
    """`brineylab/CurrAb-8M-Q` as a download leaves it, with two revisions, found without a network."""
    import huggingface_hub.constants

    repository = tmp_path / "models--brineylab--CurrAb-8M-Q"
    (repository / "refs").mkdir(parents=True)
    for revision, commit, factor in (("main", "a" * 40, 1.0), ("step5000", "b" * 40, 2.0)):
        (repository / "refs" / revision).write_text(commit)
        model = CurrAbForMaskedLM.from_pretrained(folder / "MaskedLM")
        model.lm_head.bias.data.fill_(factor)
        model.save_pretrained(repository / "snapshots" / commit)
        CurrAbTokenizer(model_max_length=int(100 * factor)).save_pretrained(repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return {"cache_dir": str(tmp_path), "device": "cpu"}


@pytest.mark.parametrize(("revision", "factor"), [(None, 1.0), ("main", 1.0), ("step5000", 2.0)])
def test_load_finds_members_and_revisions(cached_repository, revision, factor):
    model, tokenizer = curr_ab.load("8M-Q", revision=revision, **cached_repository)
    assert (model.lm_head.bias == factor).all()
    assert tokenizer.model_max_length == 100 * factor


def test_a_base_is_read_at_the_revision_that_was_tuned(cached_repository, folder, tmp_path):
    """By `load`, and where results name a checkpoint by the digest of its weights."""
    adapter = shutil.copytree(folder / "adapter-MaskedLM", tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base = "brineylab/CurrAb-8M-Q"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    tuned = find_weights(base, revision="step5000")
    facts = {"base_revision": "b" * 40, "base_weights": checkpoint_digest(*tuned)}
    (adapter / "finetuning_manifest.json").write_text(json.dumps(facts))
    model, _ = curr_ab.load(adapter, **cached_repository)
    assert (model.lm_head.bias == 2.0).all()
    assert find_checkpoint(adapter).weights[1:] == tuple(tuned)


def test_load_moves_the_model(folder):
    assert curr_ab.load(folder / "MaskedLM", device="meta")[0].device.type == "meta"
    placed, _ = curr_ab.load(folder / "MaskedLM", device_map={"": "cpu"}, device="meta")
    assert placed.device.type == "cpu"  # a device map has the last word


def test_load_refuses_what_it_would_ignore(folder):
    with pytest.raises(TypeError, match="use dtype"):
        curr_ab.load(folder / "MaskedLM", torch_dtype=torch.bfloat16)
    with pytest.raises(TypeError, match="from_pretrained"):
        curr_ab.load(folder / "MaskedLM", output_loading_info=True)
    with pytest.raises(ValueError, match="no tokenizer files"):
        curr_ab.load(folder / "stock", device="cpu")


def test_load_is_ready_for_use(folder):
    model, tokenizer = curr_ab.load(folder / "MaskedLM", device="cpu", dtype="bfloat16")
    assert not model.training
    assert model.dtype is torch.bfloat16
    assert model.device.type == "cpu"
    assert tokenizer.separator == "<cls><cls>"
    assert curr_ab.load(folder / "MaskedLM", device="cpu")[0].dtype is torch.float32
    _, single = curr_ab.load(folder / "MaskedLM", device="cpu", separator="<cls>")
    assert single.separator == "<cls>"
    encoder, _ = curr_ab.load(folder / "MaskedLM", head="none", device="cpu")
    assert type(encoder) is curr_ab.CurrAbModel


def test_load_takes_a_stock_folder_with_vocab_txt(folder, tmp_path, tokenizer):
    """A stock ESM-2 repository has no tokenizer.json, but the same vocabulary."""
    from curr_ab.tokenization.tokenization_curr_ab import VOCABULARY

    shutil.copytree(folder / "stock", tmp_path / "stock")
    (tmp_path / "stock" / "vocab.txt").write_text("\n".join(VOCABULARY))
    config = {"tokenizer_class": "EsmTokenizer", "model_max_length": 1000000000000000019884624838656}
    (tmp_path / "stock" / "tokenizer_config.json").write_text(json.dumps(config))
    model, loaded = curr_ab.load(tmp_path / "stock", device="cpu")
    assert type(model) is CurrAbForMaskedLM
    assert loaded(*PAIRS[0])["input_ids"] == tokenizer(*PAIRS[0])["input_ids"]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("350M-F", "brineylab/CurrAb-350M-F"),
        ("350m-f", "brineylab/CurrAb-350M-F"),
        ("CurrAb-8M-Q", "brineylab/CurrAb-8M-Q"),
        ("currab-8m-q", "brineylab/CurrAb-8M-Q"),
        ("facebook/esm2_t6_8M_UR50D", "facebook/esm2_t6_8M_UR50D"),
    ],
)
def test_names_and_their_sources(name, source):
    assert resolve(name) == source


@pytest.fixture(scope="module")
def places(folder, tmp_path_factory):
    """A run with two checkpoints, and a cache of the Hub with a member and an adapter."""
    root = tmp_path_factory.mktemp("places")
    for step, name in ((9, "step9"), (10, "step10")):
        shutil.copytree(folder / "MaskedLM", root / "run" / "checkpoints" / name)
        (root / "run" / "checkpoints" / name / "training.json").write_text(json.dumps({"step": step}))
    (root / "run" / "states").mkdir()
    for name, source in (("8M-Q", "MaskedLM"), ("mine", "adapter-MaskedLM")):
        repository = root / "hub" / f"models--brineylab--CurrAb-{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("a" * 40)
        shutil.copytree(folder / source, repository / "snapshots" / ("a" * 40))
    return root


# How people name a checkpoint, the folder or repository that they mean, and what results call it.
NAMES = {
    "a member": ("8M-Q", "brineylab/CurrAb-8M-Q", "8M-Q"),
    "in lower case": ("8m-q", "brineylab/CurrAb-8M-Q", "8M-Q"),
    "with the prefix": ("CurrAb-8M-Q", "brineylab/CurrAb-8M-Q", "8M-Q"),
    "with the prefix in capitals": ("CURRAB-8M-Q", "brineylab/CurrAb-8M-Q", "8M-Q"),
    "a repository": ("brineylab/CurrAb-8M-Q", "brineylab/CurrAb-8M-Q", "8M-Q"),
    "a folder": ("{folder}/MaskedLM", "{folder}/MaskedLM", "MaskedLM"),
    "a checkpoint of a run": ("{places}/run/checkpoints/step9", "{places}/run/checkpoints/step9", "run"),
    "a run": ("{places}/run", "{places}/run/checkpoints/step10", "run"),
    "the checkpoints of a run": ("{places}/run/checkpoints", "{places}/run/checkpoints/step10", "run"),
    "an adapter": ("{folder}/adapter-MaskedLM", "{folder}/adapter-MaskedLM", "adapter-MaskedLM"),
    "an adapter's repository": ("brineylab/CurrAb-mine", "brineylab/CurrAb-mine", "brineylab/CurrAb-mine"),
}


@pytest.mark.parametrize("way", NAMES)
@pytest.mark.heavy
def test_all_commands_find_the_same_checkpoint(way, folder, places, monkeypatch):
    """By `load`, by the settings of inference, as subject of an evaluation, as base of a fine-tuning."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(places / "hub"))
    name, source, title = (text.format(folder=folder, places=places) for text in NAMES[way])
    assert resolve(name) == source
    located = find_checkpoint(name)
    assert (located.source, located.name) == (source, title)
    assert (located.training.step if located.training else None) == {"run": 9 if "step9" in name else 10}.get(
        title
    )
    base, adapter = (
        folder / "MaskedLM" / "model.safetensors",
        folder / "adapter-MaskedLM" / "adapter_model.safetensors",
    )
    digest = checkpoint_digest(adapter, base) if "adapter" in way else checkpoint_digest(base)
    subject = find_subject(name, make_plan("loss", {"device": "cpu", "dtype": "float32"}))
    assert (subject.name, subject.digest, subject.checkpoint.name) == (title, digest, source)
    assert subject.is_adapter is ("adapter" in way)
    if "adapter" in way:
        with pytest.raises(ValueError, match="is an adapter; merge it first"):
            find_base(name)
    else:
        tuned = find_base(name)
        assert (tuned.source, tuned.name, tuned.digest) == (source, title, digest)
    models = [
        load(*arguments)
        for load, arguments in (
            (lambda text: curr_ab.load(text, device="cpu")[0], (name,)),
            (lambda text: Checkpoint(text, device="cpu", dtype="float32").load()[0], (name,)),
            (lambda found: found.load()[0], (subject,)),
        )
    ]
    first, *others = (model_digest(model, CurrAbTokenizer()) for model in models)
    assert others == [first, first]


def test_a_subfolder_is_one_of_the_folder_that_was_named(places):
    model, _ = curr_ab.load(places / "run" / "checkpoints", subfolder="step9", device="cpu")
    assert model.name_or_path == str(places / "run" / "checkpoints")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("350M-X", "did you mean .*350M-F"),
        ("350MF", "did you mean 350M-F"),
        ("CurrAb-65M-F", "did you mean 650M-F"),
        ("./no/such/folder", "the members are 8M-F, .*350M-F"),
        ("/no/such/folder", "the members are 8M-F, .*350M-F"),
        ("currab", "the members are 8M-F, .*350M-F"),
    ],
)
@pytest.mark.parametrize("find", [resolve, curr_ab.load, find_checkpoint, find_base, load_finetuned, verify])
def test_unknown_names_get_one_line_with_the_nearest_member(name, nearest, find):
    with pytest.raises(ValueError, match=f"no checkpoint is called '{name}': .*{nearest}") as raised:
        find(name)
    assert "\n" not in str(raised.value)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    (tmp_path / "run" / "states").mkdir(parents=True)
    for find in (find_checkpoint, find_base):
        with pytest.raises(ValueError, match=r"run has no model in it .*RUN/checkpoints/step500000"):
            find(tmp_path / "run")


def test_shards_are_digested_and_not_their_index(folder, tmp_path):
    """Two checkpoints of one training have the same index."""
    model = CurrAbForMaskedLM.from_pretrained(folder / "MaskedLM")
    digests = set()
    for name in ("first", "second"):
        model.save_pretrained(tmp_path / name, max_shard_size="50KB")
        assert not (tmp_path / name / "model.safetensors").exists()
        found = find_checkpoint(tmp_path / name)
        assert len(found.weights) > 1
        digests.add(found.digest)
        model.lm_head.bias.data += 1
    indices = [
        (tmp_path / name / "model.safetensors.index.json").read_bytes() for name in ("first", "second")
    ]
    assert indices[0] == indices[1] and len(digests) == 2
    found.weights[0].unlink()
    with pytest.raises(
        ValueError, match=r"second lacks model-00001.*, which its model.safetensors.index.json"
    ):
        find_checkpoint(tmp_path / "second")


def test_unknown_head_is_refused(folder):
    with pytest.raises(ValueError, match="masked-lm"):
        curr_ab.load(folder / "MaskedLM", head="regression")
