"""The number type follows the machine, an emulated one too, unless somebody chose or a run has begun."""

import json
import os
import subprocess
import sys

import pytest
import torch

from curr_ab.number_types import choose_precision, fast_type, training_precision

CPU = torch.device("cpu")
MULTIPLIES = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
MULTIPLIES &= not {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"} & set(os.environ)  # held to less


def test_the_number_type_has_a_reason():
    for wanted in ("float32", "bfloat16"):
        assert choose_precision(CPU, wanted)[0] is getattr(torch, wanted)
    chosen = choose_precision(CPU)
    assert chosen.dtype is (torch.bfloat16 if MULTIPLIES else torch.float32)
    assert "CPU" in chosen.reason
    with pytest.raises(ValueError, match="dtype must be auto, float32 or bfloat16; got 'float16'"):
        choose_precision(CPU, "float16")


def test_a_training_keeps_the_type_it_began_in():
    fast = fast_type(CPU).name
    slow = "fp32" if fast == "bf16" else "bf16"
    assert training_precision("auto") == fast_type(CPU)
    assert training_precision("auto", fast) == fast_type(CPU)
    kept = training_precision("auto", slow)
    assert kept.name == slow and f"the run began in it; this machine is faster in {fast}" in kept.reason
    for wanted in ("bf16", "fp32", "fp16"):
        assert training_precision(wanted, "fp32").name == wanted  # the run refuses it, if it began otherwise


@pytest.mark.heavy
@pytest.mark.parametrize("variable", ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"])
def test_a_processor_held_to_avx2_computes_in_fp32(variable):
    code = (
        "import json, torch; from curr_ab.number_types import fast_type; "
        "fast = fast_type(torch.device('cpu')); print(json.dumps([fast.name, fast.reason]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, variable: "avx2" if variable.startswith("ATEN") else "AVX2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["fp32", "the CPU does not multiply bfloat16"]
