"""Measures how well the cheap modes agree with exact masking, on a member trained from scratch for it.

    python -m benchmarks.mode_accuracy [STEPS] [--hidden 80] [--layers 2] [--pairs 24]

The member is trained on the built-in corpus; agreement is measured on held-out pairs of its test split.
"""

import argparse

import torch
from scipy.stats import spearmanr
from support.pretrained_model import corpus, train

from curr_ab.inference import Marginals, records_of
from curr_ab.words import MODES, STANDARD_RESIDUES


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="?", type=int, default=800)
    parser.add_argument("--hidden", type=int, default=80)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=24)
    args = parser.parse_args()
    model, tokenizer, loss = train(
        args.steps,
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        intermediate_size=4 * args.hidden,
        num_attention_heads=4,
        pairs=corpus("train", 20_000),
    )
    print(f"{args.layers} layers of {args.hidden}, {args.steps} steps of 16 pairs, training loss {loss:.3f}")
    pairs = corpus("test", args.pairs)
    found = {mode: measure(model, tokenizer, pairs, mode) for mode in MODES}
    print(f"{'mode':<9} {'mutants':>8} {'residues':>9} {'pairs':>6}   mean log p   mean |difference|")
    for mode, (mutants, residues, sums) in found.items():
        ranks = [
            spearmanr(ours, exact).statistic
            for ours, exact in zip((mutants, residues, sums), found["exact"], strict=True)
        ]
        difference = (residues - found["exact"][1]).abs().mean()
        print(
            f"{mode:<9} {ranks[0]:8.3f} {ranks[1]:9.3f} {ranks[2]:6.3f}   "
            f"{residues.mean():10.3f}   {difference:17.3f}"
        )


def measure(model, tokenizer, pairs, mode):
    """Log-odds of all single mutants, log-probabilities of all residues, means over the pairs."""
    marginals = Marginals(model, tokenizer, mode)
    standard = tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES))
    mutants, residues = [], []
    for tokens, found in marginals.stream(records_of(pairs)):
        observed = tokens.input_ids[tokens.positions]
        residues.append(found.gather(1, observed[:, None])[:, 0])
        mutants.append((found[:, standard] - residues[-1][:, None]).flatten())
    return torch.cat(mutants), torch.cat(residues), torch.stack([one.mean() for one in residues])


if __name__ == "__main__":
    main()
