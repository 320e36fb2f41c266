"""The same in Python and on the command line: code that gives what the app shows."""

from __future__ import annotations

from shlex import quote
from typing import NamedTuple

from curr_ab.inference.records import Record
from curr_ab.words import Mode

_DTYPE = "--dtype float32"  # as the app computes; by itself a command takes what the processor is good at


class Snippets(NamedTuple):
    """Code that can be run as it stands, where the package is installed."""

    python: str
    shell: str


def score_snippets(model: str, record: Record, mode: Mode) -> Snippets:
    """The score of a pair, its picture, and a row for each residue."""
    python = f'''one = next(score(model, tokenizer, [pair], mode="{mode}"))
print(one.pll(), one.perplexity())
one.plot().save("score.svg")'''
    command = (
        f"curr-ab score {quote(model)} pairs.csv --out residues.csv --per-residue --mode {mode} {_DTYPE}"
    )
    return _of_a_pair(model, "score", record, python, command)


def mutate_snippets(model: str, record: Record, mode: Mode) -> Snippets:
    """The log-odds of all single mutants."""
    python = f'''one = next(saturate(model, tokenizer, [pair], mode="{mode}"))
one.heat_map().save("mutants.html")
for site, mutant, log_odds in one.rows():
    print(site.chain, site.wild_type, site.position, mutant, log_odds)'''
    command = f"curr-ab mutate {quote(model)} pairs.csv --out mutants.csv --mode {mode} {_DTYPE}"
    return _of_a_pair(model, "saturate", record, python, command)


def restore_snippets(model: str, record: Record) -> Snippets:
    """The completed pair."""
    python = """one = next(restore(model, tokenizer, [pair]))
print(one.record.heavy, one.record.light)
for filled in one.filled:
    print(filled.chain, filled.position, filled.residue, filled.top)"""
    return _of_a_pair(
        model,
        "restore",
        record,
        python,
        f"curr-ab restore {quote(model)} pairs.csv --out restored.csv {_DTYPE}",
    )


def pair_snippets(model: str, heavy: str, lights: list[str], mode: Mode) -> Snippets:
    """The ranking of light chains."""
    python = f'''lights = [
{_items(lights)}
]
for ranked in next(rank_lights(model, tokenizer, ["{heavy}"], lights, mode="{mode}")):
    print(ranked.rank, ranked.light, ranked.log_likelihood, ranked.gain)'''
    shell = f"""{_file("heavies.csv", ["id,heavy", f"1,{heavy}"])}
{_file("lights.csv", ["id,light", *(f"{number},{text}" for number, text in enumerate(lights, start=1))])}
curr-ab pair {quote(model)} heavies.csv lights.csv --out ranking.csv --mode {mode} {_DTYPE}"""
    return Snippets(_python(model, "rank_lights", python), shell)


def generate_snippets(model: str, heavy: str, num_samples: int, temperature: float, seed: int) -> Snippets:
    """The light chains that are drawn for a heavy one."""
    settings = f"n={num_samples}, temperature={temperature}, seed={seed}"
    python = f'''plan = GenerationPlan(given="heavy", {settings})
for one in generate(model, tokenizer, ["{heavy}"], plan):
    print(one.record.light, one.perplexity)'''
    shell = f"""{_file("heavies.csv", ["id,heavy", f"1,{heavy}"])}
curr-ab generate {quote(model)} heavies.csv --out lights.csv --given heavy --n {num_samples} \\
  --temperature {temperature} --seed {seed}"""
    return Snippets(_python(model, "GenerationPlan, generate", python), shell)


def file_snippets(model: str, name: str, mode: Mode) -> Snippets:
    """The scores of a file's pairs."""
    python = f"""for one in score(model, tokenizer, read_pairs({_literal(name)}), mode="{mode}"):
    print(one.id, one.pll(), one.perplexity())"""
    code = _python(model, "score", python).replace(
        "curr_ab.inf", "curr_ab.data import read_pairs\nfrom curr_ab.inf"
    )
    return Snippets(
        code, f"curr-ab score {quote(model)} {quote(name)} --out scores.csv --mode {mode} {_DTYPE}"
    )


def _of_a_pair(model: str, function: str, record: Record, python: str, command: str) -> Snippets:
    chains = [f'"{chain}"' if chain else "None" for chain in (record.heavy, record.light)]
    pair = f"pair = (\n    {chains[0]},\n    {chains[1]},\n)\n"
    row = f"1,{record.heavy or ''},{record.light or ''}"
    single = "" if record.heavy and record.light else " --unpaired"
    shell = f"{_file('pairs.csv', ['id,heavy,light', row])}\n{command}{single}"
    return Snippets(_python(model, function, pair + python), shell)


def _python(model: str, names: str, lines: str) -> str:
    return f"""import curr_ab
from curr_ab.inference import {names}

model, tokenizer = curr_ab.load({_literal(model)})
{lines}"""


def _literal(text: str) -> str:
    """Text as Python writes it, in double quotes wherever those do."""
    return repr(text) if set('"\\\\') & set(text) or not text.isprintable() else f'"{text}"'


def _items(texts: list[str]) -> str:
    return "\n".join(f'    "{text}",' for text in texts)


def _file(name: str, lines: list[str]) -> str:
    """The line of the shell that writes a small file; chains hold no quotes."""
    quoted = " ".join(f"'{line}'" for line in lines)
    return f"printf '%s\\n' {quoted} > {name}"
