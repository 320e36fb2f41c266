"""Results: one by one, and the very table that the command writes; short words, safe pictures."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curr_ab.cli.main import main
from curr_ab.inference import (
    DesignPlan,
    GenerationPlan,
    Marginals,
    RestorationPlan,
    design,
    embed,
    generate,
    rank_lights,
    restore,
    saturate,
    score,
    score_mutants,
)

NUM = 3
DESIGN = {"mutations": "1", "n": 2, "candidates": 4, "mode": "unmasked"}
GENERATION = {"n": 2, "any_sequence": True, "max_length": 130}


@pytest.fixture(scope="module")
def pairs(simulated):
    """A few pairs, as a list of a user's has them."""
    return [{"id": one.id, "heavy": one.heavy, "light": one.light} for one in simulated[:NUM]]


@pytest.fixture
def written(folder, pairs, tmp_path):
    """The table that a command writes for the same pairs."""

    def write(command, *options, inputs=1):
        table, out = tmp_path / "pairs.csv", tmp_path / "out.parquet"
        table.write_text(
            "id,heavy,light\n" + "".join(f"{one['id']},{one['heavy']},{one['light']}\n" for one in pairs)
        )
        arguments = [command, folder, *[table] * inputs, "--out", out, *options]
        assert main([*map(str, arguments), "--dtype", "float32", "--device", "cpu", "--quiet"]) == 0
        return pq.read_table(out)

    return write


def same(found, expected):
    """Names, types and values; numbers but for what the order of a sum changes."""
    assert found.schema.remove_metadata() == pa.schema([one.remove_metadata() for one in expected.schema])
    for name in expected.column_names:
        one, other = found[name].to_pylist(), expected[name].to_pylist()
        if pa.types.is_string(expected[name].type):
            assert one == other
        else:
            one, other = (np.array(values, dtype=float) for values in (one, other))
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-4, equal_nan=True)


MASKED = "X" * 3
CASES = {
    "embed": (
        lambda *a: embed(*a, pooling="max").to_arrow(precision="float16"),
        ("embed", "--pooling", "max", "--precision", "float16"),
    ),
    "score": (
        lambda *a: score(*a, mode="unmasked", alone=True).to_arrow(regions=["CDRH3"]),
        ("score", "--mode", "unmasked", "--alone", "--regions", "CDRH3"),
    ),
    "score by residue": (
        lambda *a: score(*a, mode="unmasked").to_arrow(per_residue=True, number=True),
        ("score", "--mode", "unmasked", "--per-residue", "--number"),
    ),
    "saturate": (
        lambda *a: saturate(*a, mode="unmasked", part="CDRH3").to_arrow(scheme="kabat"),
        ("mutate", "--mode", "unmasked", "--part", "CDRH3", "--scheme", "kabat"),
    ),
    "restore": (
        lambda *a: restore(*a, RestorationPlan(method="sample", variants=2), ends=True).to_arrow(),
        ("restore", "--method", "sample", "--variants", "2", "--ends"),
    ),
    "pair": (
        lambda m, t, pairs: rank_lights(m, t, pairs, pairs, mode="unmasked", by="gain").to_arrow(top=2),
        ("pair", "--mode", "unmasked", "--by", "gain", "--top", "2"),
    ),
    "generate": (
        lambda *a: generate(*a, GenerationPlan(**GENERATION)).to_arrow(),
        ("generate", "--n", "2", "--any-sequence", "--max-length", "130"),
    ),
    "design": (
        lambda *a: design(*a, DesignPlan(**DESIGN)).to_arrow(),
        ("design", "--mutations", "1", "--n", "2", "--candidates", "4", "--mode", "unmasked"),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.heavy
def test_a_table_is_the_one_that_the_command_writes(name, deep, tokenizer, pairs, written):
    table, command = CASES[name]
    expected = written(*command, inputs=2 if name == "pair" else 1)
    assert len(expected) >= NUM
    same(table(deep, tokenizer, pairs), expected)


@pytest.mark.heavy
def test_scores_of_mutants_are_the_list_and_the_table(deep, tokenizer, pairs, written):
    mutants = [f"H:{pairs[0]['heavy'][place]}{place + 1}W" for place in (4, 30)]
    found = score_mutants(deep, tokenizer, pairs[0], mutants, mode="unmasked")
    assert len(found) == 2 and found[1] == list(found)[1]
    del pairs[1:]
    same(found.to_arrow(), written("mutate", "--mode", "unmasked", "--mutant", *mutants))


def test_no_pairs_make_an_empty_table_of_the_same_columns(deep, tokenizer, simulated):
    options = {"mode": "unmasked"}
    some = score(deep, tokenizer, simulated[:2], **options).to_arrow()
    none = score(deep, tokenizer, [], **options).to_arrow()
    assert len(none) == 0 and none.schema == some.schema


def test_a_table_is_of_all_pairs_however_far_one_has_gone(deep, tokenizer, simulated):
    results = score(deep, tokenizer, simulated[:4], mode="unmasked")
    first = next(results)
    table = results.to_arrow()
    assert table["id"].to_pylist() == [one.id for one in simulated[:4]]
    assert [first.id, *(one.id for one in results)] == table["id"].to_pylist()
    assert results.to_arrow().equals(table)


def test_an_iterator_is_gone_through_once(deep, tokenizer, simulated):
    whole = score(deep, tokenizer, iter(simulated[:3]), mode="unmasked")
    assert len(whole.to_arrow()) == 3
    for again in (whole.to_arrow, lambda: next(whole)):
        with pytest.raises(ValueError, match=r"pairs must be a list or a table .*give list\(pairs\)"):
            again()


def test_one_by_one_takes_no_more_than_a_window(deep, tokenizer, simulated):
    taken = 0

    def endless():
        nonlocal taken
        for one in itertools.cycle(simulated):
            taken += 1
            yield one

    results = saturate(deep, tokenizer, endless(), mode="unmasked", part="CDRH3")
    assert [one.id for one in itertools.islice(results, 3)] == [one.id for one in simulated[:3]]
    assert taken == 1024


def test_wrong_settings_are_refused_at_the_call(deep, causal, tokenizer, simulated):
    with pytest.raises(ValueError, match=r"mode must be .*got 'exactly'"):
        score(deep, tokenizer, simulated, mode="exactly")
    with pytest.raises(ValueError, match="layers must be from -4 to 3"):
        embed(deep, tokenizer, simulated, layers=9)
    with pytest.raises(ValueError, match="mutate must have a masked model"):
        saturate(causal, tokenizer, simulated)
    with pytest.raises(ValueError, match=r"unknown score option 'region'.*regions"):
        score(deep, tokenizer, simulated).to_arrow(region="CDRH3")


def test_pandas(deep, tokenizer, simulated, monkeypatch):
    results = score(deep, tokenizer, simulated[:2], mode="unmasked")
    frame = results.to_pandas()
    assert list(frame["id"]) == [one.id for one in simulated[:2]] and frame["pll_pair"].dtype == float
    monkeypatch.setattr("curr_ab.inference.results.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^pandas is missing: pip install pandas, or .*\.to_arrow\(\)$"):
        results.to_pandas()


def test_a_line_for_each_result(deep, tokenizer, simulated):
    pairs = simulated[:1]
    scored = next(score(deep, tokenizer, pairs, mode="unmasked", alone=True))
    assert scored.id in repr(scored) and f"perplexity {scored.perplexity():.3f}" in repr(scored)
    saturation = next(saturate(deep, tokenizer, pairs, mode="unmasked"))
    site, mutant, value = max(saturation.rows(), key=lambda row: row[2])
    assert f"{value:.2f} ({site.chain[0].upper()}:{site.wild_type}{site.position}{mutant})" in repr(
        saturation
    )
    unknown = [("X" * 60 + pairs[0].heavy[60:], pairs[0].light)]
    greedy = RestorationPlan(method="greedy")
    results = [
        scored,
        scored.tokens,
        saturation,
        next(saturate(deep, tokenizer, [("XX", "X")], mode="unmasked")),
        next(restore(deep, tokenizer, unknown, greedy)),
        next(rank_lights(deep, tokenizer, pairs, pairs, mode="unmasked"))[0],
        next(generate(deep, tokenizer, pairs, GenerationPlan(**GENERATION))),
        next(design(deep, tokenizer, pairs, DesignPlan(**DESIGN))),
        Marginals(deep, tokenizer),
        score(deep, tokenizer, pairs),
    ]
    for one in results:
        text = repr(one)
        assert text.startswith(type(one).__name__), text
        assert len(text) < 240 and "\n" not in text and "nan" not in text and "tensor" not in text, text


@pytest.fixture(scope="module")
def odd(simulated):
    """A pair whose id is HTML."""
    return simulated[0]._replace(id='</script><b title="x">')


@pytest.fixture(params=["score", "saturate"])
def picture(request, deep, tokenizer, odd):
    if request.param == "score":
        return next(score(deep, tokenizer, [odd], mode="unmasked")).plot()
    return next(saturate(deep, tokenizer, [odd], mode="unmasked")).heat_map("imgt")


def test_pictures_show_in_a_notebook_and_escape_what_users_write(picture, tmp_path):
    assert "&lt;b title=" in picture.page and "<b title" not in picture.page
    assert picture.page.count("</script>") == picture.page.count("<script")
    frame = picture._repr_html_()
    assert frame.startswith("<iframe srcdoc=") and frame.count("<") == 2  # the frame's own tags
    assert len(repr(picture)) < 100
    for suffix in (".html", *picture.writers):
        picture.save(tmp_path / f"picture{suffix}")
        assert (tmp_path / f"picture{suffix}").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"must end in \.html or .*\.png; got picture\.gif"):
        picture.save("picture.gif")


def test_a_chart_has_a_bar_for_each_known_residue_and_names_its_regions(deep, tokenizer, simulated):
    one = simulated[0]
    unknown = one._replace(heavy=f"X{one.heavy[1:]}")
    page = next(score(deep, tokenizer, [unknown], mode="unmasked")).plot().page
    assert page.count('class="bar') == len(one.heavy + one.light) - 1
    assert all(f">CDR{chain}{number}<" in page for chain in "HL" for number in "123")
    fragment = next(score(deep, tokenizer, [("EVQL", None)], mode="unmasked")).plot().page
    assert fragment.count('class="bar') == 4 and ">CDRH" not in fragment
