"""Measures generation of light chains with keys and values kept beside the whole text anew for each residue.

    python -m benchmarks.generation [--rows 32] [--tokens 240]

8M shape, random weights, the threads that torch takes, float32. Both ways write the same number of tokens
behind one `<cls>`; ratios are of the clock and of processor time. Without kept keys the time of all passes is
the sum of a few, evenly spread, times their distance. Then one round of `generate` through the package:
samples a second, and the memory of keys and values.
"""

import argparse
import time

import torch

from curr_ab import CurrAbConfig, CurrAbForCausalLM, CurrAbTokenizer
from curr_ab.inference import GenerationPlan, generate
from curr_ab.inference.decoding import KeyValueCache
from curr_ab.words import EXAMPLE_PAIR

EVERY = 20  # passes without kept keys


def timed(function):
    """Seconds of the clock and of the processor."""
    begin = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=240)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = CurrAbForCausalLM(CurrAbConfig(is_decoder=True)).eval()
    tokenizer = CurrAbTokenizer()
    ids = torch.randint(4, 24, (args.rows, args.tokens))
    ids[:, 0] = tokenizer.cls_token_id

    @torch.inference_mode()
    def kept() -> None:
        cache = KeyValueCache(model.config.num_hidden_layers, args.tokens)
        for place in range(args.tokens):
            model(ids[:, place : place + 1], past_key_values=cache, logits_to_keep=1)

    @torch.inference_mode()
    def anew() -> None:
        for length in range(EVERY, args.tokens + 1, EVERY):
            model(ids[:, :length], output_positions=torch.arange(1, args.rows + 1) * length - 1)

    kept(), anew()
    for way in range(3):
        with_cache, without = timed(kept), timed(anew)
        clock, processor = (EVERY * slow / fast for slow, fast in zip(without, with_cache, strict=True))
        rate = args.rows * args.tokens / with_cache[0]
        print(
            f"round {way + 1}: {rate:,.0f} tokens/s with keys kept; {clock:.0f}x as fast as without "
            f"(processor {processor:.0f}x)",
            flush=True,
        )
    heavy = EXAMPLE_PAIR[0]
    plan = GenerationPlan(n=64, any_sequence=True, start=("DIQMTQ",), length_from="builtin")
    seconds, processor = timed(lambda: list(generate(model, tokenizer, [heavy], plan)))
    config = model.config
    size = 2 * 4 * config.num_hidden_layers * config.hidden_size * (len(heavy) + 113)
    print(
        f"generate: {plan.n / seconds:.1f} light chains/s for one heavy chain (processor {processor:.1f} s "
        f"in {seconds:.1f} s); keys and values {size / 2**20:.1f} MiB a chain"
    )


if __name__ == "__main__":
    main()
