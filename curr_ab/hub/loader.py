"""Script that `FreshProcess` runs: loads the checkpoints named on standard input, without this package."""

import ctypes
import json
import sys
from pathlib import Path


def answer(request: dict) -> dict:  # type: ignore[type-arg]
    """Class, ids and logits of one pair, from one checkpoint, in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, EsmForMaskedLM

    way, folder = request["way"], request["folder"]
    if way == "source":
        # The original checkpoint, read by stock transformers: every export is compared with it.
        loaded = EsmForMaskedLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        input_ids = request["input_ids"]
    else:
        options = {"trust_remote_code": way == "remote"}
        # transformers names remote code by its folder, and takes a second folder of that name for the first.
        for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
            del sys.modules[name]
        causal = json.loads((Path(folder) / "config.json").read_text()).get("is_decoder", False)
        # Stock ESM has one class for both; it reads `is_decoder`, too.
        auto = AutoModelForCausalLM if causal and way == "remote" else AutoModelForMaskedLM
        loaded = auto.from_pretrained(folder, dtype=torch.float32, output_loading_info=True, **options)
        input_ids = AutoTokenizer.from_pretrained(folder, **options)(*request["pair"])["input_ids"]
    model, report = loaded
    if way != "source" and (wrong := {kind: list(keys) for kind, keys in report.items() if keys}):
        raise ValueError(f"weights and model do not fit: {wrong}")
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([input_ids])).logits[0]
    return {"model_class": type(model).__name__, "input_ids": input_ids, "logits": logits.tolist()}


def leave_network() -> None:
    """Cut this process off every network, where the system lets it (Linux, mostly)."""
    if sys.platform == "linux":
        new_network, new_user = 0x40000000, 0x10000000
        unshare = ctypes.CDLL(None).unshare
        if unshare(new_network):  # it takes a right of the administrator's,
            unshare(new_network | new_user)  # or a namespace of one's own


def main() -> None:
    leave_network()  # before libraries start threads
    sys.modules["curr_ab"] = None  # type: ignore[assignment]  # an import of it fails, as where it is not installed
    replies, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not mix with the answers
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # any error is an answer
            text = " ".join(str(error).split())
            reply = {"error": f"{type(error).__name__}: {text[:500]}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
