"""Measures scoring and embedding of pairs side by side with plain loops over stock ESM, in one run.

    python -m benchmarks.inference [--pairs 64] [--repeats 3]

8M shape, random weights, the threads that torch takes. "Stock" is the published way: for the exact score one
pair per call, all its masked copies as rows and all positions through the head; for embeddings batches of 32
padded to 320. All ways take turns; medians; ratios are stock over ours, of the clock and of processor time,
which suffers less from other programs; shares are of the machine's own peak of matrix products, measured
first. The memory allocator is left as it is. The host's part is measured
with an encoder that answers at once.
"""

import argparse
import statistics
import time
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import torch
from support.pretrained_model import corpus
from support.tiny_models import save_checkpoint, stock_twin

from benchmarks.roofline import exact_score_flops, forward_flops, length_of, measure_peaks, share
from curr_ab import CurrAbConfig, CurrAbForMaskedLM, CurrAbTokenizer
from curr_ab.checkpoints import Checkpoint
from curr_ab.data import builtin_path
from curr_ab.inference import BatchEmbedder, embed, run_bulk, saturate, score
from curr_ab.number_types import choose_precision


def side_by_side(ways, repeats):
    """Median seconds (of the clock, of the processor) for each way by name, taken in turns."""
    times = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(repeats):
        for name, way in ways.items():
            begin = time.perf_counter(), time.process_time()
            way()
            times[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }


def show(title, ways, repeats, peaks, flops, types):
    """One line for each way, with the first one's time over its own, and a share where a type is named."""
    print(title)
    times = side_by_side(ways, repeats)
    plain = times["stock"]
    for name, own in times.items():
        clock, processor = (reference / one for reference, one in zip(plain, own, strict=True))
        line = f"  {name}: {own[0]:.3f} s, {clock:.1f}x; processor {own[1]:.3f} s, {processor:.1f}x"
        if name in types:
            line += f"; {share(peaks, types[name], 1, flops / own[1])}"
        print(line, flush=True)


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


def host_path(model, repeats, num_pairs=8_192):
    """Pairs per second of the processor in the command and in batches of an engine, without the encoder."""
    rows = pq.read_table(builtin_path(), columns=["id", "heavy", "light"]).slice(0, num_pairs)
    answer = {"pair_mean_layer-1": np.zeros(model.config.hidden_size, np.float32)}
    stub = mock.patch(
        "curr_ab.inference.tasks.embed_window", lambda encoder, tokenizer, window, *_: [answer] * len(window)
    )
    with TemporaryDirectory() as folder, stub:
        save_checkpoint(model, folder)
        checkpoint = Checkpoint(folder, device="cpu", dtype="float32")
        embedder = BatchEmbedder(checkpoint)

        def command():
            run_bulk(embedder.task, checkpoint, rows, f"{folder}/out.parquet", progress=False)

        def batches():
            for batch in rows.to_batches(1024):
                embedder(batch)

        times = side_by_side({"the command": command, "BatchEmbedder": batches}, repeats)
    print(f"host's part of embedding {num_pairs:,} pairs")
    for name, (_, processor) in times.items():
        print(f"  {name}: {num_pairs / processor:,.0f} pairs a second of the processor", flush=True)


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
    auto_name = f"auto ({auto.dtype}, {auto.reason})"
    models = {"float32": model, auto_name: other}
    types = {"stock": "fp32", "float32": "fp32", auto_name: auto.name}
    peaks = measure_peaks(torch.get_num_threads(), args.repeats)
    print(
        f"{torch.get_num_threads()} threads, 8M shape, {len(tokenizer(*pairs[0])['input_ids'])} tokens a pair"
    )

    def listed(function, one, what, **options):
        return lambda: list(function(one, tokenizer, what, **options))

    reference = stock_exact(stock, tokenizer, pairs[0])
    pooled = stock_embed(stock, tokenizer, pairs)
    for name, one in models.items():
        score_off = (next(score(one, tokenizer, pairs[:1])).residues() - reference).abs().max()
        embedding_off = np.abs(np.stack(list(embed(one, tokenizer, pairs))) - pooled).max()
        print(f"differences from stock, {name}: score {score_off:.1e}, embedding {embedding_off:.1e}")
    ways = {"stock": lambda: stock_exact(stock, tokenizer, pairs[0])}
    ways |= {name: listed(score, one, pairs[:1]) for name, one in models.items()}
    for mode in ("group", "unmasked"):
        ways[f"saturation table, float32, {mode}"] = listed(saturate, model, pairs[:1], mode=mode)
    residues = [len(heavy) + len(light) for heavy, light in pairs]
    flops = exact_score_flops(model.config, residues[0] + 4, residues[0])
    show("exact score of a pair", ways, args.repeats, peaks, flops, types)
    ways = {"stock": lambda: stock_embed(stock, tokenizer, pairs)}
    ways |= {name: listed(embed, one, pairs) for name, one in models.items()}
    lengths = [number + 4 for number in residues]
    flops = sum(lengths) * forward_flops(model.config, length_of(lengths))
    title = f"embedding {len(pairs)} pairs, mean of the last layer"
    show(title, ways, args.repeats, peaks, flops, types)
    host_path(model, args.repeats)


if __name__ == "__main__":
    main()
