"""What the app answers is what the package gives; what a visitor may paste; what is refused, in one line."""

from __future__ import annotations

import ast
import csv
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import curr_ab
from curr_ab.cli.main import main
from curr_ab.inference import Record, score
from curr_ab.space import views
from curr_ab.space.answers import MOST_LIGHTS, MOST_RECORDS, MOST_SAMPLES, Answers, candidates_of, one_line
from curr_ab.space.examples import EXAMPLES, LIGHTS
from curr_ab.space.model import Model
from curr_ab.space.reference import Reference, measure, read_reference, write_reference
from curr_ab.space.settings import MOST_REFERENCE_PAIRS
from curr_ab.space.snippets import Snippets, generate_snippets, score_snippets
from curr_ab.words import EXAMPLE_PAIR

HEAVY, LIGHT = EXAMPLE_PAIR


@pytest.fixture(scope="module")
def answers():
    model = Model("demo")
    return Answers(model, measure(model, 4))


@pytest.fixture(scope="module")
def causal():
    return Answers(Model("CLM-demo"), None)


def test_a_score_is_that_of_the_package(answers) -> None:
    model, tokenizer = curr_ab.load("demo")
    expected = next(score(model, tokenizer, [EXAMPLE_PAIR], mode="group"))
    answer = answers.score(HEAVY, LIGHT)
    for part in ("pair", "heavy", "light"):
        assert answer["log_likelihood"][part] == pytest.approx(expected.pll(part), rel=1e-5)
        assert answer["perplexity"][part] == pytest.approx(expected.perplexity(part), rel=1e-5)
    residues = answer["residues"]
    assert "".join(one["residue"] for one in residues) == HEAVY + LIGHT
    assert sum(one["log_probability"] for one in residues) == pytest.approx(expected.pll(), rel=1e-4)
    cdr3 = [one["residue"] for one in residues if (one["chain"], one["region"]) == ("heavy", "CDR3")]
    assert "".join(cdr3) == "SRWGGDGFYAMDY"


def test_a_percentile_is_the_share_of_less_natural_pairs() -> None:
    reference = Reference("demo", "digest", "pairs", "group", {"pair": (1.0, 2.0, 2.0, 3.0)})
    values = [reference.percentile("pair", value) for value in (0.5, 1.0, 2.0, 2.5, 3.0, 9.0)]
    assert values == [100, 75, 25, 25, 0, 0]


def test_a_reference_is_kept_and_none_of_other_weights_is_used(answers, tmp_path) -> None:
    write_reference(answers.reference, tmp_path / "reference.json")
    assert read_reference(tmp_path / "reference.json") == answers.reference
    assert answers.reference.checkpoint == answers.model.digest
    (tmp_path / "reference.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="must be in the format"):
        read_reference(tmp_path / "reference.json")


@pytest.mark.parametrize(
    "pasted",
    [
        HEAVY.lower(),
        f">trastuzumab heavy\n{HEAVY[:60]}\n{HEAVY[60:]}\n",
        f"  {HEAVY[:20]} {HEAVY[20:]}--..",
    ],
)
def test_chains_are_taken_as_people_paste_them(answers, pasted) -> None:
    assert answers.score(pasted, LIGHT)["log_likelihood"] == answers.score(HEAVY, LIGHT)["log_likelihood"]


def test_one_chain_alone_is_scored(answers) -> None:
    """Without a percentile: the chains of the reference were scored beside their partners."""
    assert set(answers.score(HEAVY, LIGHT)["percentile"]) == {"pair", "heavy", "light"}
    for chain, pair in {"heavy": (HEAVY, ""), "light": ("", LIGHT)}.items():
        answer = answers.score(*pair)
        assert set(answer["log_likelihood"]) == set(answer["perplexity"]) == {chain}
        assert answer["percentile"] == {}
        assert "percentile" not in views.show_score(answers, *pair).lower()


@pytest.mark.parametrize("text", [">a\n{0}\n{1}\n>b\n{2}\n", "{0}{1}\n>b\n{2}", "{0}{1}\n{2}\n"])
def test_light_chains_are_lines_or_sequences_of_fasta(text) -> None:
    pasted = text.format(LIGHTS[0][:60], LIGHTS[0][60:], LIGHTS[1])
    assert candidates_of(pasted) == [LIGHTS[0], LIGHTS[1]]
    assert candidates_of("DIQ<mask>\nDI") == ["DIQ<mask>", "DI"]


def refusals(answers, tmp_path):
    def written(text: str) -> str:
        path = tmp_path / "secret" / "mine.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    rows = "".join(f"{number},{HEAVY},{LIGHT}\n" for number in range(MOST_RECORDS + 1))
    return [
        (lambda: answers.score("", "  "), "A heavy chain, a light chain or both must be given; got neither"),
        (lambda: answers.score("EVQ1", ""), "Heavy chain, position 4: '1' is not a residue"),
        (lambda: answers.score("A" * 401, ""), "The heavy chain must have 400 residues at most; got 401"),
        (
            lambda: answers.score(f">a\n{HEAVY}\n>b\n{HEAVY}", ""),
            "The heavy chain must be one sequence; got 2 of FASTA",
        ),
        (lambda: answers.score(f"{HEAVY}\n>b\n{HEAVY}", ""), "The heavy chain must be one sequence; got 2"),
        (lambda: answers.score("XX*_<mask>", LIGHT), "Heavy chain: a chain must have a known residue"),
        (lambda: answers.mutate("", "XXX"), "Light chain: a chain must have a known residue"),
        (lambda: answers.pair(HEAVY, "DIQ\nXXX"), "light chain 2: light chain: a chain must have a known"),
        (lambda: answers.pair("XXX", LIGHT), "Heavy chain: a chain must have a known residue"),
        (
            lambda: answers.score_file(written(f"id,heavy,light\n1,XX,{LIGHT}\n")),
            "record 1 ('1'): heavy chain: a chain must have a known residue",
        ),
        (lambda: answers.restore(HEAVY, LIGHT), "A chain must have unknown residues"),
        (lambda: answers.pair("", LIGHT), "A heavy chain must be given; got none"),
        (lambda: answers.pair(HEAVY, "\n \n"), "Light chains must be given, one in each line; got none"),
        (lambda: answers.pair(HEAVY, "DIQ\nD1Q"), "light chain 2: light chain, position 2: '1' is not"),
        (lambda: answers.pair(HEAVY, "DIQ\n" * (MOST_LIGHTS + 1)), "Light chains must be 20 at most; got 21"),
        (lambda: answers.score_file(""), "A file of pairs must be chosen; got none"),
        (lambda: answers.score_file(written("a,b\n1,2\n")), "mine.csv, line 1: no sequence column"),
        (lambda: answers.score_file(written("id,heavy,light\n")), "must"),
        (
            lambda: answers.score_file(written(f"id,heavy,light\n{rows}")),
            "A file must have 100 pairs at most",
        ),
        (lambda: answers.score_file(written(f"id,heavy,light\n1,{HEAVY},\n")), "no light chain"),
    ]


def test_bad_input_is_one_clear_line(answers, tmp_path) -> None:
    for call, wanted in refusals(answers, tmp_path):
        with pytest.raises(ValueError, match=r".") as raised:
            call()
        line = one_line(raised.value)
        assert wanted.lower() in line.lower(), line
        assert (
            "\n" not in line
            and "record 1 ('pair')" not in line
            and "chain')" not in line
            and "secret" not in line
        )


def test_the_name_of_a_file_stays_as_it_is(answers, tmp_path) -> None:
    for name in ("bad.gz", "some pairs.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n")
        with pytest.raises(ValueError, match=r".") as raised:
            answers.score_file(str(tmp_path / name))
        assert one_line(raised.value).startswith(name)


def test_an_emptied_field_is_one_clear_line(causal) -> None:
    for values in ((None, 1.0, 0), (3, None, 0), (3, 1.0, None)):
        with pytest.raises(ValueError, match="a seed must be given; got none"):
            views.show_generated(causal, HEAVY, *values)


def test_a_number_of_samples_is_bounded(causal) -> None:
    with pytest.raises(ValueError, match=f"samples must be from 1 to {MOST_SAMPLES}; got 11"):
        causal.generate(HEAVY, 11)


def test_text_of_a_visitor_is_no_markup(answers) -> None:
    shown = views.complaint("<script>alert(1)</script>")
    assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_mutants_and_ranks_and_samples(answers, causal) -> None:
    mutants = answers.mutate(HEAVY, LIGHT)
    assert len(mutants) == 19 * len(HEAVY + LIGHT)
    ranking = answers.pair(HEAVY, "\n".join(LIGHTS))
    assert sorted(one["light"] for one in ranking) == sorted(LIGHTS)
    likelihoods = [one["log_likelihood"] for one in ranking]
    assert likelihoods == sorted(likelihoods, reverse=True)
    restored = answers.restore(*EXAMPLES["Trastuzumab, CDR3 unknown"])
    assert len(restored["filled"]) == 13 and len(restored["heavy"]) == len(HEAVY)
    shown = [views.show_ranking(one, HEAVY, "\n".join(LIGHTS)) for one in (answers, causal)]
    assert ["gain is what" in page for page in shown] == [True, False]  # a causal model has none
    samples = causal.generate(HEAVY, 2, seed=3)
    assert samples == causal.generate(HEAVY, 2, seed=3)
    with pytest.raises(ValueError, match="masked"):
        causal.mutate(HEAVY, LIGHT)


def snippets(answers, causal, tmp_path) -> dict[str, Snippets]:
    """Those that the page shows under each result, taken from its very text."""
    file = tmp_path / "my pairs.csv"
    file.write_text(f"id,heavy,light\n1,{HEAVY},{LIGHT}\n")
    unknown = EXAMPLES["Trastuzumab, CDR3 unknown"]
    pages = {
        "score": views.show_score(answers, HEAVY, LIGHT),
        "score alone": views.show_score(answers, HEAVY, ""),
        "mutate": views.show_mutants(answers, HEAVY, LIGHT),
        "restore": views.show_restoration(answers, *unknown),
        "pair": views.show_ranking(answers, HEAVY, "\n".join(LIGHTS[:2])),
        "generate": views.show_generated(causal, HEAVY, 1, 1.0, 0),
        "file": views.show_file(answers, str(file)),
    }
    from html import unescape

    found = {}
    for name, page in pages.items():
        codes = dict(re.findall(r'data-code="([^"]+)"><code>(.*?)</code>', page, re.DOTALL))
        found[name] = Snippets(unescape(codes["Python"]), unescape(codes["Command line"]))
    return found


def test_a_model_of_any_name_is_quoted() -> None:
    name = """a folder; echo "it's" """
    one = score_snippets(name, Record("1", HEAVY, LIGHT), "group")
    last = one.shell.splitlines()[-1]
    assert shlex.split(last)[:3] == ["curr-ab", "score", name]
    for shown in (one, generate_snippets(name, HEAVY, 1, 1.0, 0)):
        (call,) = [node for node in ast.walk(ast.parse(shown.python)) if _loads(node)]
        assert ast.literal_eval(call.args[0]) == name


def _loads(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load"


@pytest.mark.heavy
def test_the_same_in_python_and_on_the_command_line_runs(
    answers, causal, tmp_path, monkeypatch, capsys
) -> None:
    shown = snippets(answers, causal, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, one in shown.items():
        exec(one.python, {})
        assert capsys.readouterr().out, name
    for number, one in enumerate(shown.values()):
        for line in one.shell.replace("\\\n", "").splitlines():
            if line.startswith("curr-ab "):
                words = shlex.split(line.replace("--out ", f"--quiet --out {number}-"))
                assert main(words[1:]) == 0, line
            else:
                subprocess.run(["sh", "-ec", line], check=True)
    with Path("0-residues.csv").open() as file:
        rows = list(csv.DictReader(file))
    answer = answers.score(HEAVY, LIGHT)["residues"]
    for row, one in zip(rows, answer, strict=True):
        assert float(row["log_probability"]) == pytest.approx(one["log_probability"], abs=1e-4)
    assert len(list(tmp_path.glob("[0-9]-*.csv"))) == len(shown)


def test_the_reference_is_of_held_out_pairs(answers) -> None:
    """`demo` was not trained on the test split; its first pairs are those of the percentiles."""
    import pyarrow.parquet as pq

    from curr_ab.data import builtin_path

    table = pq.read_table(builtin_path(), columns=["heavy", "light", "split"])
    rows = [row for row in table.to_pylist() if row["split"] == "test"]
    assert len(rows) == MOST_REFERENCE_PAIRS
    pairs = [(row["heavy"], row["light"]) for row in rows[:3]]
    model, tokenizer = curr_ab.load("demo", dtype="float32")
    scores = list(score(model, tokenizer, pairs, mode="group"))
    found = measure(answers.model, 3).perplexities
    for part in ("pair", "heavy", "light"):
        assert found[part] == pytest.approx(sorted(one.perplexity(part) for one in scores), abs=1e-3)
