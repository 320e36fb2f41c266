"""A tiny member trained on the built-in corpus in seconds: masked residues, 15 % selected, 80/10/10."""

from collections import defaultdict

import pyarrow.parquet as pq
import torch
from torch.nn import functional as F

from curr_ab import CurrAbForMaskedLM, CurrAbTokenizer
from curr_ab.data import builtin_path
from curr_ab.words import STANDARD_RESIDUES
from support.tiny_models import tiny_config

CLS, EOS, MASK = 0, 2, 32


def corpus(split, count):
    """Pairs of one split of the built-in corpus."""
    table = pq.read_table(builtin_path(), columns=["heavy", "light", "split"])
    rows = [row for row in table.to_pylist() if row["split"] == split][:count]
    return [(row["heavy"], row["light"]) for row in rows]


def train(steps, *, batch=16, lr=3e-3, seed=0, pairs=None, **overrides):
    """A model after so many steps, in evaluation mode, and its last loss."""
    torch.manual_seed(seed)
    tokenizer = CurrAbTokenizer()
    standard = torch.tensor(tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES)))
    pairs = pairs or corpus("train", 4_000)
    by_length = defaultdict(list)
    for ids in tokenizer(pairs)["input_ids"]:
        by_length[len(ids)].append(ids)
    groups = [torch.tensor(rows, dtype=torch.uint8) for rows in by_length.values()]
    shares = torch.tensor([len(rows) for rows in groups], dtype=torch.float)
    model = CurrAbForMaskedLM(tiny_config(initializer_range=0.02, **overrides)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    running = None
    for _ in range(steps):
        rows = groups[int(torch.multinomial(shares, 1))]  # of one length: padding is slow on CPUs
        truth = rows[torch.randint(len(rows), (batch,))].long()
        selected = (torch.rand(truth.shape) < 0.15) & ~torch.isin(truth, torch.tensor([CLS, EOS]))
        lot = torch.rand(truth.shape)
        shown = truth.masked_fill(selected & (lot < 0.8), MASK)
        random = standard[torch.randint(len(standard), truth.shape)]
        shown = torch.where(selected & (lot >= 0.9), random, shown)
        logits = model(input_ids=shown, output_positions=selected).logits
        loss = F.cross_entropy(logits, truth[selected])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
    return model.eval(), tokenizer, running
