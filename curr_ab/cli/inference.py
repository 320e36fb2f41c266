"""`curr-ab embed | score | mutate | restore | pair | predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.words import MODES, STANDARD_RESIDUES

if TYPE_CHECKING:
    from curr_ab.inference.records import Read
    from curr_ab.inference.tasks import BulkTask


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of layers such as -1 or 0,3,6") from None


def _allowed(text: str) -> tuple[str, int, str]:
    place, _, residues = text.partition("=")
    chain, _, position = place.partition(":")
    if chain not in ("H", "L") or not position.isdigit() or not residues:
        raise argparse.ArgumentTypeError(f"{text!r} is not like H:101=AVL")
    return ("heavy" if chain == "H" else "light"), int(position), residues


def _run(args: argparse.Namespace, task: BulkTask, read: Read, head: str = "masked-lm") -> None:
    from curr_ab.inference import Checkpoint, run_bulk

    if args.quiet:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    checkpoint = Checkpoint(
        args.model,
        head=head,
        revision=args.revision,
        device=args.device,
        dtype=args.dtype,
        namespace=args.namespace,
        separator=args.separator,
    )
    if not args.quiet:
        precision = checkpoint.precision()
        name = str(precision.dtype).removeprefix("torch.")
        print(f"{name} on {checkpoint.device_of()}: {precision.reason}", file=sys.stderr)
    run_bulk(
        task,
        checkpoint,
        read,
        args.out,
        resume=args.resume,
        processes=args.processes,
        records_per_part=args.records_per_part,
        progress=not args.quiet,
    )


def _read(args: argparse.Namespace) -> Read:
    from curr_ab.extras import needs_extra

    with needs_extra("data"):
        from curr_ab.inference.records import reader
    return reader(
        args.input,
        heavy_column=args.heavy_column,
        light_column=args.light_column,
        id_column=args.id_column,
        unpaired=args.unpaired,
    )


def _embed(args: argparse.Namespace) -> None:
    read = _read(args)
    from curr_ab.inference import EmbeddingPlan
    from curr_ab.inference.tasks import EmbedTask

    plan = EmbeddingPlan(poolings=args.pooling, parts=args.part, layers=args.layers, attention=args.attention)
    _run(args, EmbedTask(plan=plan, number=args.number, tokens_per_batch=args.tokens_per_batch), read)


def _score(args: argparse.Namespace) -> None:
    read = _read(args)
    from curr_ab.inference.records import check_part
    from curr_ab.inference.tasks import ScoreTask

    regions = tuple(map(check_part, args.regions))
    task = ScoreTask(
        mode=args.mode,
        alone=args.alone,
        per_residue=args.per_residue,
        regions=regions,
        number=args.number,
        tokens_per_batch=args.tokens_per_batch,
    )
    _run(args, task, read)


def _mutate(args: argparse.Namespace) -> None:
    read = _read(args)
    from curr_ab.inference.mutation import parse_mutant
    from curr_ab.inference.records import check_part
    from curr_ab.inference.tasks import MutateTask

    mutants = list(args.mutant)
    if args.mutants:
        mutants += [line.strip() for line in Path(args.mutants).read_text().splitlines() if line.strip()]
    for mutant in mutants:
        parse_mutant(mutant)
    if mutants and args.heat_maps:
        raise ValueError("heat maps show all single mutants; leave the list of mutants out")
    task = MutateTask(
        mode=args.mode,
        part=check_part(args.part),
        mutants=tuple(mutants),
        by=args.by,
        number=args.number,
        heat_maps=args.heat_maps,
        tokens_per_batch=args.tokens_per_batch,
    )
    _run(args, task, read)


def _restore(args: argparse.Namespace) -> None:
    read = _read(args)
    from curr_ab.inference import RestorationPlan
    from curr_ab.inference.tasks import RestoreTask

    plan = RestorationPlan(
        method=args.method,
        variants=args.variants,
        seed=args.seed,
        temperature=args.temperature,
        top_k=args.top,
        allowed=args.allow,
        allowed_at=tuple(args.allow_at),
    )
    _run(args, RestoreTask(plan=plan, ends=args.ends, tokens_per_batch=args.tokens_per_batch), read)


def _pair(args: argparse.Namespace) -> None:
    from curr_ab.extras import needs_extra

    with needs_extra("data"):
        from curr_ab.inference.records import chain_reader
        from curr_ab.inference.tasks import PairTask

    lights = tuple(chain_reader(args.lights, "light")())
    task = PairTask(
        lights=lights, by=args.by, mode=args.mode, top=args.top, tokens_per_batch=args.tokens_per_batch
    )
    head = "sequence-classification" if args.by == "head" else "masked-lm"
    _run(args, task, chain_reader(args.heavies, "heavy"), head)


def _predict(args: argparse.Namespace) -> None:
    from curr_ab.extras import needs_extra

    with needs_extra("finetune"):
        from curr_ab.finetuning.prediction import PredictTask, head_of
    head = head_of(args.model, revision=args.revision, namespace=args.namespace)
    _run(args, PredictTask(tokens_per_batch=args.tokens_per_batch), _read(args), head)


def _add(commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], None]) -> Any:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="member (350M-F), Hub id, folder, any ESM-2 checkpoint, or PEFT adapter",
    )
    if name == "pair":
        parser.add_argument("heavies", metavar="HEAVIES", help="file with heavy chains, or with pairs")
        parser.add_argument("lights", metavar="LIGHTS", help="file with light chains, or with pairs")
    else:
        parser.add_argument("input", metavar="INPUT", help="CSV, TSV, Parquet, AIRR or FASTA; or `builtin`")
    parser.set_defaults(run=run)
    return parser


def _add_common(parser: Any, *, pairs: bool = True) -> None:
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="the suffix is the format; DIR/ for Parquet parts"
    )
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run ended")
    parser.add_argument("--processes", type=int, default=1, help="on a GPU each (%(default)s)")
    parser.add_argument("--records-per-part", type=int, metavar="N", help="written together (by the command)")
    parser.add_argument("--tokens-per-batch", type=int, metavar="N", help="(2,000 on a CPU, 32,768 on a GPU)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (the GPUs where there are any)")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="bfloat16 where the hardware multiplies it, else float32 (%(default)s)",
    )
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--namespace", default="brineylab", help="owner of the members (%(default)s)")
    parser.add_argument("--separator", help="of checkpoints that do not say theirs, such as '<cls>'")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no word on the number type")
    if pairs:
        parser.add_argument("--unpaired", action="store_true", help="the input holds single chains")
        parser.add_argument("--heavy-column", metavar="NAME", help="where the aliases do not fit")
        parser.add_argument("--light-column", metavar="NAME")
        parser.add_argument("--id-column", metavar="NAME")


def _add_mode(parser: Any, default: str = "exact") -> None:
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=default,
        help="each residue masked alone, every 7th at once, or none, in one pass (%(default)s)",
    )


def _add_number(parser: Any) -> None:
    parser.add_argument(
        "--number", action="store_true", help="IMGT positions and regions by ANARCII (extra `number`)"
    )


def add_commands(commands: Any) -> None:
    """Add the commands to `curr-ab`."""
    embed = _add(commands, "embed", "embeddings of pairs, pooled or per residue", _embed)
    embed.add_argument(
        "--pooling",
        type=_words,
        default=("mean",),
        help="mean, max, std, cls, or none for each residue; several joined by commas (mean)",
    )
    embed.add_argument("--part", type=_words, default=("pair",), help="pair, heavy, light, CDRH3, ... (pair)")
    embed.add_argument(
        "--layers",
        type=_numbers,
        default=(-1,),
        metavar="N,N",
        help="0 the embeddings, -1 the last (default); as --layers=-1,-2",
    )
    embed.add_argument("--attention", action="store_true", help="attention maps as well (.safetensors)")
    _add_number(embed)
    _add_common(embed)

    score = _add(commands, "score", "pseudo-log-likelihood and pseudo-perplexity of pairs", _score)
    _add_mode(score)
    score.add_argument("--alone", action="store_true", help="each chain without its partner, too")
    score.add_argument("--per-residue", action="store_true", help="a row for each residue")
    score.add_argument("--regions", type=_words, default=(), help="such as CDRH3,CDRL3")
    _add_number(score)
    _add_common(score)

    mutate = _add(commands, "mutate", "log-odds of all single mutants, or scores of given mutants", _mutate)
    _add_mode(mutate)
    mutate.add_argument("--part", default="pair", help="heavy, light, CDRH3, ... (%(default)s)")
    mutate.add_argument(
        "--mutant", action="append", default=[], metavar="TEXT", help="H:Y32A;L:S50T, H:Y32del, H:G54insAG"
    )
    mutate.add_argument("--mutants", metavar="FILE", help="one mutant in a line")
    mutate.add_argument(
        "--by",
        choices=("marginals", "sequence"),
        default="marginals",
        help="how given mutants are scored: log-odds added, or whole sequences (%(default)s)",
    )
    mutate.add_argument("--heat-maps", metavar="DIR", help="a PNG and an HTML page for each pair")
    _add_number(mutate)
    _add_common(mutate)

    restore = _add(commands, "restore", "fill in unknown residues: X, *, _ or <mask>", _restore)
    restore.add_argument(
        "--method",
        choices=("greedy", "confident", "sample"),
        default="confident",
        help="all at once, the surest first, or drawn (%(default)s)",
    )
    restore.add_argument("--variants", type=int, default=1, metavar="N", help="of each pair, drawn (1)")
    restore.add_argument("--seed", type=int, default=0)
    restore.add_argument("--temperature", type=float, default=1.0, help="of drawing (%(default)s)")
    restore.add_argument("--top", type=int, default=3, metavar="K", help="residues reported (%(default)s)")
    restore.add_argument("--allow", default=STANDARD_RESIDUES, metavar="RESIDUES", help="(all 20)")
    restore.add_argument(
        "--allow-at", type=_allowed, action="append", default=[], metavar="H:101=AVL", help="only these there"
    )
    restore.add_argument(
        "--ends", action="store_true", help="complete missing ends, found by ANARCII (extra `number`)"
    )
    _add_common(restore)

    pair = _add(commands, "pair", "light chains ranked for each heavy chain", _pair)
    pair.add_argument(
        "--by",
        choices=("likelihood", "gain", "head"),
        default="likelihood",
        help="of the light chain given the heavy one; the same minus its own; a pairing head (%(default)s)",
    )
    _add_mode(pair, "group")
    pair.add_argument("--top", type=int, metavar="N", help="rows for each heavy chain (all)")
    _add_common(pair, pairs=False)

    predict = _add(commands, "predict", "labels or numbers by a fine-tuned member", _predict)
    _add_common(predict)
