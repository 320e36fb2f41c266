"""Measures embedding and scoring by a member, stock ESM-2 and AntiBERTy side by side, with their memory.

    python -m benchmarks.peers [--pairs 4] [--repeats 3] [--sizes 8M 35M] [--no-scores]

Random weights in the shapes of the members, of ESM-2 of the same sizes, and of AntiBERTy (26 million
parameters). "Plain" is how its own package calls AntiBERTy, and how stock ESM-2 is commonly called: chains in
the order of the input, padded to the longest, and for the score 64 masked copies of a chain at once with all
positions through the head. Everything is on one thread. Ways to embed take turns in one process, and medians
are shown; an exact score of one pair takes so long that each way does it once, in a process of its own.
Memory, on Linux, is that of a process that does nothing else. The output is tables for the documents.
"""

import argparse
import functools
import json
import multiprocessing
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from support.pretrained_model import corpus
from support.tiny_models import FACEBOOK, save_checkpoint

from benchmarks.inference import side_by_side
from curr_ab.benchmark.peers import find_peer
from curr_ab.benchmark.peers.antiberty import VOCAB_SIZE
from curr_ab.family import member
from curr_ab.inference import embed
from curr_ab.words import VOCABULARY

ANTIBERTY = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 2048}
COPIES = 64  # masked copies in one call of AntiBERTy's package
CHAINS = 32  # chains in one call to embed


def make_folders(root, sizes):
    """The folders of all models by name, with the form in which each reads pairs."""
    from transformers import BertConfig, BertForMaskedLM

    from curr_ab import CurrAbConfig, CurrAbForMaskedLM

    folders = {"AntiBERTy": root / "antiberty"}
    BertForMaskedLM(BertConfig(vocab_size=VOCAB_SIZE, **ANTIBERTY)).save_pretrained(folders["AntiBERTy"])
    for size in sizes:
        config = member(f"{size}-F").config()
        model = CurrAbForMaskedLM(CurrAbConfig(**config))
        folders[f"member {size}"] = save_checkpoint(model, root / f"member-{size}")
        stock = root / f"esm2-{size}"
        CurrAbForMaskedLM(CurrAbConfig(**config | FACEBOOK)).save_pretrained(stock)
        (stock / "vocab.txt").write_text("\n".join(VOCABULARY))
        (stock / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "EsmTokenizer"}))
        folders[f"ESM-2 {size}"] = stock
    return folders


def load_plain(name, folder):
    """The stock model, and a function that makes its tokens of a chain."""
    from transformers import BertForMaskedLM, EsmForMaskedLM

    kind, first, last = (BertForMaskedLM, 2, 3) if name == "AntiBERTy" else (EsmForMaskedLM, 0, 2)
    letters = "_____ACDEFGHIKLMNPQRSTVWY" if name == "AntiBERTy" else "____" + "".join(VOCABULARY[4:29])
    model = kind.from_pretrained(folder).eval()
    return model, lambda chain: [first, *map(letters.index, chain), last]


@torch.no_grad()
def plain_embeddings(model, encode, pairs):
    base = getattr(model, "bert", None) or model.esm
    chains, means = [chain for pair in pairs for chain in pair], []
    for begin in range(0, len(chains), CHAINS):
        rows = [encode(chain) for chain in chains[begin : begin + CHAINS]]
        longest = max(map(len, rows))
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        pad = model.config.pad_token_id
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        states = base(ids, attention_mask=mask).last_hidden_state
        means += [one[1 : len(row) - 1].mean(0) for one, row in zip(states, rows, strict=True)]
    return means


@torch.no_grad()
def plain_scores(model, encode, pairs):
    mask_id = 4 if model.config.model_type == "bert" else 32
    for chain in (chain for pair in pairs for chain in pair):
        ids = torch.tensor(encode(chain))
        copies = ids.repeat(len(chain), 1)
        places = torch.arange(len(chain))
        copies[places, places + 1] = mask_id
        logits = torch.cat([model(part).logits for part in copies.split(COPIES)])
        logits[places, places + 1].log_softmax(-1).gather(1, ids[1:-1, None]).mean()


def ways_of(name, folder, pairs, uses, only=None):
    """What is timed, by its words; `only` one of them, without the weights of others."""
    found = {}
    is_member = name.startswith("member")
    chains = [chain for pair in pairs for chain in pair]
    if not is_member and only in (None, f"{name}, plain"):
        model, encode = load_plain(name, folder)
        plain = {"embed": plain_embeddings, "score": plain_scores}
        for use in uses:
            own = pairs if use == "embed" else pairs[:1]
            found[use, f"{name}, plain"] = functools.partial(plain[use], model, encode, own)
    words = f"{name}, {'pairs' if is_member else 'here'}"
    if only in (None, words):
        peer = find_peer(folder, device="cpu")
        model = peer.model.loaded
        if is_member:
            found["embed", words] = lambda: list(embed(*model, pairs))
        else:
            found["embed", words] = lambda: peer.model.layers(chains)
        found["score", words] = lambda: peer.score(pairs[:1])
    return {key: way for key, way in found.items() if key[0] in uses}


def memory(field):
    """MiB of this process: what is held now (VmRSS), or the most since the mark was set back (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(value) / 1024


def peak(key, name, folder, pairs, pipe):
    """In a process of its own: clock, processor time, and the most memory beyond the loaded process's."""
    torch.set_num_threads(1)
    way = ways_of(name, folder, pairs, (key[0],), key[1])[key]
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the mark back to what is held
    begin = time.perf_counter(), time.process_time()
    way()
    times = time.perf_counter() - begin[0], time.process_time() - begin[1]
    pipe.send((*times, memory("VmHWM") - before))


def measured_alone(*arguments):
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    process = spawn.Process(target=peak, args=(*arguments, theirs))
    process.start()
    theirs.close()  # so that a process that fails ends the wait
    found = mine.recv()
    process.join()
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=4, help="pairs that are embedded (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="the median is shown (%(default)s)")
    parser.add_argument("--sizes", nargs="*", default=["8M", "35M"], help="of members and of ESM-2")
    parser.add_argument("--no-scores", action="store_true", help="embed only")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    pairs = corpus("test", args.pairs)
    with TemporaryDirectory() as root:
        folders = make_folders(Path(root), args.sizes)
        show_table(f"embedding {len(pairs)} pairs", embedding_times(folders, pairs, args.repeats))
        if not args.no_scores:
            show_table("exact score of a pair", score_times(folders, pairs))


def embedding_times(folders, pairs, repeats):
    """Clock, processor time and memory of each way, which take turns."""
    owners, ways = {}, {}
    for name, folder in folders.items():
        for key, way in ways_of(name, folder, pairs, ("embed",)).items():
            ways[key], owners[key] = way, (name, folder)
    for key, times in side_by_side(ways, repeats).items():
        yield key[1], (*times, measured_alone(key, *owners[key], pairs)[2])


def score_times(folders, pairs):
    """The same of ways in processes of their own, one after the other."""
    for name, folder in folders.items():
        here = f"{name}, {'pairs' if name.startswith('member') else 'here'}"
        for words in ([] if name.startswith("member") else [f"{name}, plain"]) + [here]:
            yield words, measured_alone(("score", words), name, folder, pairs)


def show_table(title, rows):
    """Rows as they are measured, with the first one's times over each."""
    print(f"\n| {title} | processor | times AntiBERTy's speed | memory |\n| --- | ---: | ---: | ---: |")
    first = None
    for words, (clock, processor, held) in rows:
        first = first or (clock, processor)
        speed = f"{first[1] / processor:.2f}x ({first[0] / clock:.2f})"
        print(f"| {words} | {processor:.2f} s | {speed} | {held:.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
