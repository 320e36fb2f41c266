"""Run by one version of transformers: does the checkpoint load whole, in every way, with the same numbers?

`python prove.py FOLDER REPOSITORY` prints one JSON object: what was proven, and with which versions.
"""

import json
import platform
import shutil
import sys
from pathlib import Path

sys.modules["curr_ab"] = None  # remote code must do without the package, until the last step

import huggingface_hub
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, pipeline

FOLDER, REPOSITORY = Path(sys.argv[1]), Path(sys.argv[2])
TENSORS = load_file(FOLDER / "tensors.safetensors")
LOGITS = TENSORS.pop("logits")
CAUSAL = load_file(FOLDER / "causal.safetensors")
PAIRS = [tuple(pair) for pair in json.loads((REPOSITORY / "tests/golden/pairs.json").read_text())]
GOLDEN = json.loads((REPOSITORY / "tests/golden/tokenizer_ids.json").read_text())


def check_model(loaded, class_name, tokenizer):
    """Nothing missing, every tensor equal to the last bit, and the logits."""
    model, report = loaded
    assert type(model).__name__ == class_name, type(model)
    for name in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not report[name], (name, report[name])
    found = model.state_dict()
    assert len(found) >= len(TENSORS)
    for name, tensor in found.items():
        # Up to transformers 5.0 stock ESM has the frequencies in every layer.
        shared = "esm.rotary_embeddings.inv_freq" if name.endswith("inv_freq") else name
        assert torch.equal(tensor, TENSORS[shared]), name
    encoded = tokenizer(PAIRS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**encoded).logits[encoded["attention_mask"].bool()]
    difference = (logits - LOGITS).abs().max().item()
    assert difference <= 2e-5, difference


def check_tokenizer(tokenizer):
    assert tokenizer(PAIRS)["input_ids"] == GOLDEN["pairs"]
    assert tokenizer(*PAIRS[0])["input_ids"] == GOLDEN["pairs"][0]
    assert tokenizer(PAIRS[0][0])["input_ids"] == GOLDEN["heavy"]
    assert tokenizer("EVQ<mask>VES", "DI<mask><mask>")["input_ids"] == GOLDEN["masked"]
    assert tokenizer("<cls><cls>".join(PAIRS[0]))["input_ids"] == GOLDEN["pairs"][0]
    assert tokenizer.decode(GOLDEN["pairs"][0]) == GOLDEN["decoded"]
    assert set(tokenizer(*PAIRS[0])) == {"input_ids", "attention_mask"}


def prove_auto_classes(folder, trusted):
    options = {"trust_remote_code": True} if trusted else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    assert (type(tokenizer).__name__ == "CurrAbTokenizer") is trusted
    check_tokenizer(tokenizer)
    loaded = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True, **options)
    check_model(loaded, "CurrAbForMaskedLM" if trusted else "EsmForMaskedLM", tokenizer)
    return loaded[0], tokenizer


def prove_causal(folder):
    """Stock transformers is right or refuses; remote code generates."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    # The side is named because a tokenizer saves the last one that was asked for.
    encoded = tokenizer(PAIRS, padding=True, padding_side="right", return_tensors="pt")
    real = encoded["attention_mask"].bool()
    for auto, class_name, output, wanted in (
        (AutoModelForMaskedLM, "EsmForMaskedLM", "logits", CAUSAL["logits"]),
        (AutoModel, "EsmModel", "last_hidden_state", CAUSAL["states"]),
    ):
        for attention in ("sdpa", "eager"):
            stock = auto.from_pretrained(folder, attn_implementation=attention).eval()
            assert type(stock).__name__ == class_name, type(stock)
            with torch.no_grad():
                found = getattr(stock(**encoded), output)
                assert (found - wanted)[real].abs().max() <= 1e-4
                for row, num in enumerate(real.sum(1)):
                    alone = getattr(stock(encoded["input_ids"][row : row + 1, :num]), output)
                    assert (alone[0] - wanted[row, :num]).abs().max() <= 1e-4
    refusal = ""
    try:
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    except ValueError as error:
        refusal = str(error)
    assert "custom code" in refusal or "Unrecognized configuration" in refusal, refusal
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True
    )
    assert type(model).__name__ == "CurrAbForCausalLM" and not any(report.values()), report
    with torch.no_grad():
        assert (model.eval()(**encoded).logits - CAUSAL["logits"])[real].abs().max() <= 1e-5
    prompts = [f"<cls>{heavy}<cls><cls>" for heavy, _ in PAIRS]
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    batch = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    for how in ({}, {"cache_implementation": "static"}, {"use_cache": False}):
        assert torch.equal(model.generate(**batch, **options, **how)[:, -12:], CAUSAL["written"]), how
    for prompt, written in zip(prompts, CAUSAL["written"], strict=True):
        alone = model.generate(**tokenizer(prompt, return_tensors="pt"), **options)
        assert torch.equal(alone[0, -12:], written)
    model.generate(**batch, num_beams=3, max_new_tokens=4)
    write = pipeline("text-generation", model=model, tokenizer=tokenizer)
    assert write(prompts[0], max_new_tokens=4)[0]["generated_text"].startswith(prompts[0])
    return model, tokenizer


def prove_usual_doors(folder, trusted):
    """Pipelines and AMULETY's call; tests/modeling/test_usual_doors.py has more."""
    options = {"trust_remote_code": True} if trusted else {}
    heavy, light = PAIRS[0]
    text = f"{heavy}<cls><cls>{light}"
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    model = AutoModelForMaskedLM.from_pretrained(folder, **options).eval()

    masked = f"{heavy[:50]}<mask>{heavy[51:]}"
    found = pipeline("fill-mask", model=str(folder), **options)(f"{masked}<cls><cls>{light}", top_k=3)
    with torch.no_grad():
        best = model(**tokenizer(masked, light, return_tensors="pt")).logits[0, 51].softmax(-1).topk(3)
    assert [one["token"] for one in found] == best.indices.tolist()
    scores = torch.tensor([one["score"] for one in found])
    assert (scores - best.values).abs().max() <= 1e-5

    # The call of AMULETY: padded to a fixed length, a float mask, the states of the last layer.
    filled = {"padding": "max_length", "truncation": True, "max_length": 320}
    ids = torch.tensor([tokenizer.encode(text, **filled)])
    with torch.no_grad():
        mask = (ids != tokenizer.pad_token_id).float()
        padded = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1][mask == 1]
    states = torch.tensor(pipeline("feature-extraction", model=str(folder), **options)(text))[0]
    assert (states - padded).abs().max() <= 5e-5

    classify = pipeline("text-classification", model=str(folder), **options)
    assert 0 < classify(text)[0]["score"] < 1  # of a head that is drawn


for one in prove_causal(FOLDER / "causal"):
    one.save_pretrained(FOLDER / f"causal-saved-by-{transformers.__version__}")
prove_causal(FOLDER / f"causal-saved-by-{transformers.__version__}")

prove_auto_classes(FOLDER / "checkpoint", trusted=False)
model, tokenizer = prove_auto_classes(FOLDER / "checkpoint", trusted=True)
for place in (FOLDER / "checkpoint", REPOSITORY / "curr_ab" / "demo"):
    for trusted in (False, True):
        prove_usual_doors(place, trusted)

# What this version saves must load whole as well.
again = FOLDER / f"saved-by-{transformers.__version__}"
model.save_pretrained(again)
tokenizer.save_pretrained(again)
prove_auto_classes(again, trusted=False)
prove_auto_classes(again, trusted=True)

half = AutoModelForMaskedLM.from_pretrained(again, trust_remote_code=True, dtype=torch.bfloat16)
assert half.lm_head.dense.weight.dtype is torch.bfloat16
assert torch.equal(half.esm.rotary_embeddings.inv_freq, TENSORS["esm.rotary_embeddings.inv_freq"])

# Some checkpoints have no frequencies at all: then they are computed, never left undefined.
without = FOLDER / f"without-frequencies-{transformers.__version__}"
shutil.copytree(FOLDER / "checkpoint", without)
tensors = load_file(without / "model.safetensors")
tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("inv_freq")}
save_file(tensors, without / "model.safetensors", metadata={"format": "pt"})
computed = AutoModelForMaskedLM.from_pretrained(without, trust_remote_code=True).esm.rotary_embeddings
assert torch.equal(computed.inv_freq, computed.frequencies())

del sys.modules["curr_ab"]
sys.path.insert(0, str(REPOSITORY))
import curr_ab

check_tokenizer(curr_ab.CurrAbTokenizer())
package_tokenizer = curr_ab.CurrAbTokenizer.from_pretrained(again)
check_tokenizer(package_tokenizer)
for folder in (FOLDER / "checkpoint", again):
    loaded = curr_ab.CurrAbForMaskedLM.from_pretrained(folder, output_loading_info=True)
    check_model(loaded, "CurrAbForMaskedLM", package_tokenizer)

causal, _ = curr_ab.load(FOLDER / "causal", device="cpu")
assert type(causal) is curr_ab.CurrAbForCausalLM

print(
    json.dumps(
        {
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "huggingface_hub": huggingface_hub.__version__,
            "torch": torch.__version__.split("+")[0],
            "python": platform.python_version(),
        }
    )
)
