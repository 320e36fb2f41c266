"""`make compat`: prove a checkpoint in throw-away environments, one for each version of transformers.

Needs a package index; the result is written to docs/concepts/compatibility.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# The last 4.x, the ends of the range in which a careless `_init_weights` gave random weights, the version
# of a common GPU image, and the newest.
VERSIONS = ("==4.57.6", "==5.0.0", "==5.12.1", "==5.17.0", "<6")
HEADING = """# Compatibility

Written by `make compat`: for each version of transformers a fresh environment was built, and in it one
checkpoint was loaded by stock transformers, as remote code, and by this package; saved by that version, and
loaded by all three again. Each time nothing was missing or unexpected, every tensor was equal to the last
bit, the logits agreed within 2e-5, and the tokenizer's ids were those of `tests/golden/tokenizer_ids.json`.

The same was done with a causal checkpoint. Stock ESM reads its `is_decoder`: `AutoModelForMaskedLM` and
`AutoModel` gave the causal logits and states within 1e-4, padded or not, and `AutoModelForCausalLM` refused
it without remote code. As remote code it wrote the same tokens with a cache that grows, a fixed one and
none, and for prompts of unequal length together and one by one.

The usual doors were opened on that checkpoint and on `demo`, by stock classes and as remote code: the
pipelines for masks, features and texts, and the call of AMULETY.

| transformers | tokenizers | huggingface_hub | torch | Python | result |
|---|---|---|---|---|---|
"""


def make_checkpoint(folder: Path) -> None:
    """A small published-style model, with what loading could lose: rounded frequencies, no zero anywhere."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    import torch
    from safetensors.torch import save_file
    from support.tiny_models import PAIRS, shake, tiny_config

    from curr_ab import CurrAbForCausalLM, CurrAbForMaskedLM, CurrAbTokenizer

    torch.manual_seed(0)
    model = shake(CurrAbForMaskedLM(tiny_config())).eval()
    tokenizer = CurrAbTokenizer()
    with torch.no_grad():
        model.esm.rotary_embeddings.inv_freq.copy_(model.esm.rotary_embeddings.inv_freq.half())
        encoded = tokenizer(PAIRS, padding=True, return_tensors="pt")
        logits = model(**encoded).logits[encoded["attention_mask"].bool()]
    model.save_pretrained(folder / "checkpoint")
    tokenizer.save_pretrained(folder / "checkpoint")
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file({**tensors, "logits": logits}, folder / "tensors.safetensors")

    causal = shake(CurrAbForCausalLM(tiny_config(is_decoder=True))).eval()
    prompts = [f"<cls>{heavy}<cls><cls>" for heavy, _ in PAIRS]
    batch = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    with torch.no_grad():
        seen = {"logits": causal(**encoded).logits, "states": causal.esm(**encoded).last_hidden_state}
    written = causal.generate(**batch, max_new_tokens=12, do_sample=False, eos_token_id=None)
    seen["written"] = written[:, -12:].contiguous()
    causal.save_pretrained(folder / "causal")
    tokenizer.save_pretrained(folder / "causal")
    save_file(seen, folder / "causal.safetensors")


def prove(version: str, folder: Path, environments: Path) -> dict[str, str]:
    """Build the environment, run the proof in it; its last line of output is the result."""
    place = environments / version.strip("<=")
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    install = [python, "-m", "pip", "install", "--quiet", "-c", REPOSITORY / "constraints-cpu.txt"]
    subprocess.run([*install, "torch", f"transformers{version}"], check=True)
    proof = [python, "-I", REPOSITORY / "tests" / "compat" / "prove.py", folder, REPOSITORY]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / f"hub{version}")}
    result = subprocess.run(proof, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        print(result.stderr, file=sys.stderr)
        return {"transformers": version.strip("<="), "result": result.stderr.strip().splitlines()[-1]}
    return {**json.loads(result.stdout.strip().splitlines()[-1]), "result": "passed"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", type=Path, default=REPOSITORY / ".compat")
    environments = parser.parse_args().environments
    columns = ("transformers", "tokenizers", "huggingface_hub", "torch", "python", "result")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_checkpoint(Path(folder))
        for version in VERSIONS:
            rows.append(prove(version, Path(folder), environments))
            print(rows[-1], flush=True)
    lines = ["| " + " | ".join(row.get(column, "") for column in columns) + " |" for row in rows]
    (REPOSITORY / "docs" / "concepts" / "compatibility.md").write_text(HEADING + "\n".join(lines) + "\n")
    return 0 if all(row["result"] == "passed" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
