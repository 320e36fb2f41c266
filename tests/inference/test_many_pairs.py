"""100,000 pairs: memory stays flat, and kill -9 at random costs nothing but time."""

import itertools
import random
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curr_ab import CurrAbConfig, CurrAbForMaskedLM, CurrAbTokenizer
from curr_ab.data import builtin_path
from curr_ab.inference import embed

MEASURED = """
import resource, sys
from curr_ab.cli.main import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB
sys.exit(code)
"""


@pytest.mark.heavy
def test_the_input_is_drawn_as_it_is_needed(deep, tokenizer, simulated):
    drawn = itertools.count()

    def pairs():
        for record in itertools.cycle([simulated[0]._replace(heavy="EVQLE", light="DIQMT")]):
            next(drawn)
            yield record

    results = embed(deep, tokenizer, pairs())  # endless
    for _ in range(3):
        next(results)
    assert next(drawn) == 1024


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The corpus five times under new ids, the same once, and a model that costs nearly nothing."""
    folder = tmp_path_factory.mktemp("many")
    pairs = pq.read_table(builtin_path(), columns=["heavy", "light"])
    for copies in (1, 5):
        whole = pa.concat_tables([pairs] * copies)
        ids = pa.array([f"pair{number}" for number in range(len(whole))])
        pq.write_table(whole.append_column("id", ids), folder / f"{copies}.parquet")
    torch.manual_seed(0)
    config = CurrAbConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=64,
        initializer_range=0.1,
    )
    CurrAbForMaskedLM(config).save_pretrained(folder / "model")
    CurrAbTokenizer().save_pretrained(folder / "model")
    return folder


def command(many, copies, out):
    arguments = ["embed", many / "model", many / f"{copies}.parquet", "--out", out, "--dtype", "float32"]
    return [sys.executable, "-c", MEASURED, *map(str, arguments), "--quiet"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_is_flat_and_kills_cost_nothing(many, tmp_path):
    peaks = []
    for copies in (1, 5):
        finished = subprocess.run(
            command(many, copies, tmp_path / f"{copies}.npy"), capture_output=True, check=True
        )
        peaks.append(int(finished.stdout))
    assert peaks[1] - peaks[0] < 40 * 1024, peaks  # KiB, for 80,000 pairs more: their embeddings are 10 MB

    moments, kills = random.Random(0), 0
    out, parts = tmp_path / "killed.npy", tmp_path / "killed.npy.parts"
    while not out.exists():
        with subprocess.Popen([*command(many, 5, out), "--resume"], stdout=subprocess.DEVNULL) as process:
            before = len(list(parts.glob("part-*.parquet")))
            while process.poll() is None:
                if kills < 4 and len(list(parts.glob("part-*.parquet"))) > before + 10:
                    time.sleep(moments.uniform(0, 1))
                    process.kill()
                    kills += 1
                    break
                time.sleep(0.01)
    assert kills == 4
    assert out.read_bytes() == (tmp_path / "5.npy").read_bytes()
    assert out.with_suffix(".ids.txt").read_text() == "".join(f"pair{number}\n" for number in range(100_000))
