"""Measures scoring and embedding of pairs side by side with plain loops over stock ESM, in one run.

    python tests/bench_inference.py [--pairs 64] [--repeats 3]

8M shape, random weights, the threads that torch takes. "Stock" is the published way: for the exact score one
pair per call, all its masked copies as rows and all positions through the head; for embeddings batches of 32
padded to 320. Medians; ratios are stock over ours.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from trained import corpus
from twins import stock_twin

from curr_ab import CurrAbConfig, CurrAbForMaskedLM, CurrAbTokenizer
from curr_ab.inference import embed, saturate, score
from curr_ab.inference.precision import choose_precision


def seconds(function, repeats):
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def stock_exact(stock, tokenizer, pair):
    """Log-probabilities of a pair's own residues, one mask per position."""
    encoded = tokenizer(*pair, return_tensors="pt")
    ids = encoded["input_ids"][0]
    positions = (ids > 2).nonzero().flatten()
    rows, at = ids.repeat(len(positions), 1), torch.arange(len(positions))
    rows[at, positions] = tokenizer.mask_token_id
    with torch.no_grad():
        logits = stock(input_ids=rows, attention_mask=torch.ones_like(rows)).logits
    return logits.log_softmax(-1)[at, positions, ids[positions]]


def stock_embed(stock, tokenizer, pairs):
    """Mean over the residues, batches of 32 padded to 320."""
    out = []
    for start in range(0, len(pairs), 32):
        encoded = tokenizer(pairs[start : start + 32], padding="max_length", return_tensors="pt")
        with torch.no_grad():
            states = stock.esm(**encoded).last_hidden_state
        residue = ((encoded["input_ids"] > 2).float())[..., None]
        out.append((states * residue).sum(1) / residue.sum(1))
    return torch.cat(out).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=64, help="to embed (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="the median is shown (%(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer, pairs = CurrAbTokenizer(), corpus("test", args.pairs)
    model = CurrAbForMaskedLM(
        CurrAbConfig(hidden_size=320, num_hidden_layers=6, intermediate_size=1280)
    ).eval()
    stock = stock_twin(model)
    auto = choose_precision(torch.device("cpu"))
    other = CurrAbForMaskedLM(model.config).eval()
    other.load_state_dict(model.state_dict())
    other.to(auto.dtype)
    models = {"float32": model, f"auto ({auto.dtype}, {auto.reason})": other}
    print(
        f"{torch.get_num_threads()} threads, 8M shape, {len(tokenizer(*pairs[0])['input_ids'])} tokens a pair"
    )

    reference = stock_exact(stock, tokenizer, pairs[0])
    plain = seconds(lambda: stock_exact(stock, tokenizer, pairs[0]), args.repeats)
    print(f"exact score of a pair: stock {plain:.2f} s")
    for name, one in models.items():
        ours = seconds(lambda one=one: list(score(one, tokenizer, pairs[:1])), args.repeats)
        found = next(score(one, tokenizer, pairs[:1])).residues()
        print(
            f"  {name}: {ours:.2f} s, {plain / ours:.1f}x, difference {(found - reference).abs().max():.1e}"
        )
    for mode in ("group", "unmasked"):
        ours = seconds(lambda mode=mode: list(saturate(model, tokenizer, pairs[:1], mode=mode)), args.repeats)
        print(f"  saturation table, float32, {mode}: {ours:.3f} s, {plain / ours:.0f}x")

    pooled = stock_embed(stock, tokenizer, pairs)
    plain = seconds(lambda: stock_embed(stock, tokenizer, pairs), args.repeats)
    print(f"embedding {len(pairs)} pairs, mean of the last layer: stock {len(pairs) / plain:.1f} pairs/s")
    for name, one in models.items():
        ours = seconds(lambda one=one: list(embed(one, tokenizer, pairs)), args.repeats)
        found = np.stack(list(embed(one, tokenizer, pairs)))
        difference = np.abs(found - pooled).max()
        print(f"  {name}: {len(pairs) / ours:.1f} pairs/s, {plain / ours:.1f}x, difference {difference:.1e}")


if __name__ == "__main__":
    main()
