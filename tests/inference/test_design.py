"""Designs: known optima are found, no constraint is ever broken, and errors say what stands there."""

import itertools
import random

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support.finetuned_models import save_base, save_tuned, tune
from support.tiny_models import PAIRS, save_checkpoint, shake, tiny_config

from curr_ab import CurrAbForCausalLM
from curr_ab.cli.main import main
from curr_ab.finetuning import load_finetuned, predict
from curr_ab.inference import design, records_of, score
from curr_ab.inference.design_tables import DesignTask
from curr_ab.inference.designs import search
from curr_ab.inference.mutation import apply_mutant, parse_mutant
from curr_ab.inference.numbering import number_chain
from curr_ab.inference.objectives import Objective
from curr_ab.inference.references import read_references
from curr_ab.inference.settings import DesignPlan, ReferenceOptions
from curr_ab.inference.sites import check_positions, choices_of
from curr_ab.options import OptionError
from curr_ab.words import STANDARD_RESIDUES

HEAVY, LIGHT = PAIRS[0]
PAIR = (HEAVY, LIGHT)


class Landscape:
    """Residues that add up, and pairs of them that add more or less together."""

    def __init__(self, choices, seed, coupling=2.0):
        random = np.random.default_rng(seed)
        self.single = random.normal(size=(len(choices), 20))
        self.double = coupling * random.normal(size=(len(choices), 20, len(choices), 20))
        self.double = np.triu(np.ones((len(choices), len(choices))), 1)[:, None, :, None] * self.double
        self.choices = choices

    def of(self, letters):
        rows = np.arange(len(letters))
        return float(
            self.single[rows, letters].sum()
            + self.double[rows[:, None], letters[:, None], rows, letters[None]].sum()
        )

    def letters(self, record):
        return np.array(
            [STANDARD_RESIDUES.index(record.chain(one.chain)[one.position - 1]) for one in self.choices]
        )

    def values(self, records):
        return np.array([self.of(self.letters(record)) for record in records])

    def gains(self, record, choices):
        """What each substitution adds, without what it does to others: half of the truth."""
        own = self.letters(record)
        rows = np.arange(len(own))
        return self.single - self.single[rows, own][:, None]

    def best(self, record, most):
        """By trying all."""
        own, best = self.letters(record), -np.inf
        for number in range(1, most + 1):
            for places in itertools.combinations(range(len(own)), number):
                options = [
                    [STANDARD_RESIDUES.index(letter) for letter in self.choices[place].residues]
                    for place in places
                ]
                for residues in itertools.product(*options):
                    letters = own.copy()
                    letters[list(places)] = residues
                    best = max(best, self.of(letters))
        return best - self.of(own)


def planted(seed, search="beam", **options):
    drawn = {"seed": seed} if search == "stochastic" else {}
    plan = DesignPlan(
        **{"positions": ("H:50-53", "L:50-52"), "allowed": "AFKDS", "mutations": "1-3", "search": search}
        | drawn
        | options
    )
    [record] = records_of([PAIR])
    choices = choices_of(record, plan)
    landscape = Landscape(choices, seed)
    return record, choices, landscape, plan


@pytest.mark.parametrize("kind", ["beam", "stochastic"])
@pytest.mark.parametrize("seed", range(4))
def test_a_known_optimum_is_found(kind, seed):
    options = {"temperature": 0.5} if kind == "stochastic" else {}
    record, choices, landscape, plan = planted(seed, kind, beam=16, candidates=128, **options)
    found = search(record, choices, Objective({"planted": landscape}, {"planted": 1.0}), plan)
    assert found[0].score == pytest.approx(landscape.best(record, 3))
    assert found[0].values["planted"] == pytest.approx(landscape.values([found[0].record])[0])
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_greedy_is_the_best_at_each_step_and_beams_are_better():
    gained = {"greedy": [], "beam": [], "best": []}
    for seed in range(10):
        record, choices, landscape, plan = planted(seed)
        for kind in ("greedy", "beam"):
            _, _, _, plan = planted(seed, kind, candidates=None)
            found = search(record, choices, Objective({"planted": landscape}, {"planted": 1.0}), plan)
            gained[kind].append(found[0].score)
        gained["best"].append(landscape.best(record, 3))
        if seed < 3:  # by hand
            own = landscape.letters(record)
            start, changed, scores = landscape.of(own), set(), []
            for _ in range(3):
                steps = []
                for place, one in enumerate(choices):
                    for letter in one.residues if place not in changed else "":
                        letters = own.copy()
                        letters[place] = STANDARD_RESIDUES.index(letter)
                        steps.append((landscape.of(letters), place, letters))
                _, place, own = max(steps, key=lambda step: step[0])
                changed.add(place)
                scores.append(max(step[0] for step in steps) - start)
            assert gained["greedy"][-1] == pytest.approx(max(scores))
    assert sum(gained["greedy"]) < sum(gained["beam"]) <= sum(gained["best"]) + 1e-9
    assert sum(gained["beam"]) > 0.95 * sum(gained["best"])


def test_stochastic_searches_follow_their_seed():
    record, choices, landscape, _ = planted(1)
    objective = Objective({"planted": landscape}, {"planted": 1.0})
    options = {"search": "stochastic", "temperature": 5.0, "beam": 2, "candidates": 8}
    texts = [
        [one.mutant for one in search(record, choices, objective, planted(1, **options)[3])] for _ in range(2)
    ]
    assert texts[0] == texts[1]
    others = [one.mutant for one in search(record, choices, objective, planted(2, **options)[3])]
    assert others != texts[0]
    elsewhere = record._replace(number=7)  # its place has no part in it
    assert [one.mutant for one in search(elsewhere, choices, objective, planted(1, **options)[3])] == texts[0]


def random_plan(draw):
    spans = ["H:20-45", "L:imgt:50-70", "CDRs", "pair", "CDRH3", "FWRs", "H:imgt:105-117", "light", "heavy"]
    excluded = ["CDRs", "CDRL3", "H:98-101", "L:90", "FWRH2"]
    least = draw.randint(1, 3)
    positions = tuple(draw.sample(spans, draw.randint(1, 3)))
    keep_cysteines = draw.random() < 0.6
    residues = "".join(draw.sample(STANDARD_RESIDUES, draw.randint(3, 20)))
    search = draw.choice(["greedy", "beam", "stochastic"])
    options = {} if search == "greedy" else {"beam": draw.randint(1, 8)}
    if search == "stochastic":
        options |= {"temperature": draw.choice([0.5, 5.0, 50.0]), "seed": draw.randrange(1000)}
    return DesignPlan(
        positions=positions,
        excluded=tuple(draw.sample(excluded, draw.randint(0, 2))),
        allowed=residues,
        keep_cysteines=keep_cysteines,
        keep_essential=draw.random() < 0.6,
        mutations=f"{least}-{least + draw.randint(0, 3)}",
        from_germline=draw.choice([None, None, 12, 20]),
        search=search,
        candidates=draw.choice([8, 32, 64]),
        n=draw.choice([20, 60]),
        min_distance=draw.randint(1, 2),
        **options,
    )


class Noise:
    """An objective that likes anything: the search goes wherever it may."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def values(self, records):
        return self.random.normal(size=len(records))

    def gains(self, record, choices):
        return self.random.normal(size=(len(choices), 20))


def places_of(text, record):
    """Chain and place of what a text names, by another way than the search's."""
    out = set()
    for chain, residues in (("heavy", record.heavy), ("light", record.light)):
        letter, numbering = chain[0].upper(), number_chain(residues, chain)
        for place in range(len(residues)):
            region = ("FWR1", "CDR1", "FWR2", "CDR2", "FWR3", "CDR3", "FWR4")[
                int(numbering.region_mask[place]) - 1
            ]
            number = int("".join(filter(str.isdigit, numbering.labels[place])) or 0)
            named = text in ("pair", chain, f"{region[:3]}s", f"{region[:3]}{letter}{region[3]}")
            if text.startswith(letter + ":"):
                first, _, last = text.split(":")[-1].partition("-")
                where = number if "imgt" in text else place + 1
                named = int(first) <= where <= int(last or first)
            if named:
                out.add((chain, place))
    return out


@pytest.mark.slow
def test_constraints_are_never_broken(v_genes):
    """In 10,000 designs of random plans."""
    draw, germline = random.Random(0), read_references(ReferenceOptions(v_genes=(v_genes,))).germline
    records = list(records_of(PAIRS[:6]))
    number = 0
    while number < 10_000:
        plan, record = random_plan(draw), draw.choice(records)
        try:
            choices = choices_of(record, plan)
        except OptionError:  # too few positions may change
            continue
        found = search(record, choices, Objective({"x": Noise(number)}, {"x": 1.0}), plan, germline)
        number += len(found)
        check_designs(found, record, plan, germline)


def check_designs(found, record, plan, germline):
    least, most = plan.num_mutations()
    may = set().union(*(places_of(text, record) for text in plan.positions))
    may -= set().union(*(places_of(text, record) for text in plan.excluded))
    labels = {chain: number_chain(record.chain(chain), chain).labels for chain in ("heavy", "light")}
    assert len(found) <= plan.n and [one.rank for one in found] == list(range(1, len(found) + 1))
    for one in found:
        changed = {}
        for chain in ("heavy", "light"):
            before, after = record.chain(chain), one.record.chain(chain)
            assert len(before) == len(after)
            for place, (old, new) in enumerate(zip(before, after, strict=True)):
                if old != new:
                    changed[chain, place] = (old, new)
            if plan.from_germline is not None:
                distance = germline.distances([after], chain)[0]
                assert distance is not None and distance <= plan.from_germline
        assert least <= len(changed) == one.num_mutations <= most
        for (chain, place), (old, new) in changed.items():
            assert (chain, place) in may and new in plan.allowed
            if plan.keep_cysteines:
                assert "C" not in (old, new)
            if plan.keep_essential:
                assert labels[chain][place] not in ("23", "41", "104", "118")
        assert apply_mutant(record, parse_mutant(one.mutant))[1:3] == one.record[1:3]
    for one, other in itertools.combinations(found, 2):
        pairs = zip(one.record.heavy + one.record.light, other.record.heavy + other.record.light, strict=True)
        assert sum(old != new for old, new in pairs) >= plan.min_distance


WRONG = {
    "H:500": "H:500: the position must be from 1 to .* where S stands",
    "H:W1": "H:W1: position 1 of the heavy chain of record 1 .* is E, not W",
    "H:imgt:111C": "has no residue there; the nearest is .* at 11",
    "H:30-": "must be like H:30-35",
    "H:foo:30": "must be like H:30-35",
    "CDRH9": "did you mean CDRH",
    "H:Y30-35": "one position only",
    "H:30-20": "must name the smaller position of a range first; got 'H:30-20'",
    "H:imgt:117-105": "must name the smaller position of a range first",
    "L:kabat:27A-26": "must name the smaller position of a range first",
}


def test_ranges_of_a_scheme_begin_at_an_insertion():
    """100A-102 leaves out 100, 100-102 has all of its insertions."""
    [record] = records_of([PAIR])
    labels = number_chain(HEAVY, "heavy", "kabat").labels
    found = {}
    for text in ("100-102", "100A-102", "100A"):
        plan = DesignPlan(positions=(f"H:kabat:{text}",), mutations="1")
        found[text] = [labels[one.position - 1] for one in choices_of(record, plan)]
    assert found["100-102"][:2] == ["100", "100A"] and found["100A"] == ["100A"]
    assert found["100A-102"] == found["100-102"][1:]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_position_says_what_stands_there(text):
    [record] = records_of([PAIR])
    for field in ("positions", "excluded"):
        with pytest.raises(ValueError, match=WRONG[text]):
            choices_of(record, DesignPlan(**{field: (text,)}))


def test_a_wrong_residue_says_what_stands_there():
    [record] = records_of([PAIR])
    with pytest.raises(ValueError, match=r"position 2 of the heavy chain of record 1 .* is V, not K"):
        choices_of(record, DesignPlan(allowed_at=("H:K2=A",)))
    with pytest.raises(
        ValueError, match="C at position 22 of the heavy chain is a cysteine, which keep_cyst"
    ):
        choices_of(record, DesignPlan(allowed_at=("H:22=A",)))
    with pytest.raises(
        ValueError, match="W at position 36 of the heavy chain is IMGT's 41, which keep_essen"
    ):
        choices_of(record, DesignPlan(allowed_at=("H:36=A",)))
    with pytest.raises(ValueError, match="V at position 2 of the heavy chain is not among the positions"):
        choices_of(record, DesignPlan(positions=("CDRH3",), allowed_at=("H:2=A",)))
    with pytest.raises(ValueError, match="has 1 positions that may change"):
        choices_of(record, DesignPlan(positions=("H:2",), mutations="2"))
    with pytest.raises(ValueError, match="allowed_at must be without C"):
        check_positions(DesignPlan(allowed_at=("H:2=AC",)))
    with pytest.raises(
        ValueError, match="H:V2=L: V at position 2 of the heavy chain has been given residues be"
    ):
        choices_of(record, DesignPlan(allowed_at=("H:2=A", "H:V2=L")))
    with pytest.raises(
        ValueError, match="has 2 positions that may change; min_distance must be no more; got 3"
    ):
        choices_of(record, DesignPlan(positions=("H:1-2",), mutations="1-2", min_distance=3))
    [choice] = choices_of(record, DesignPlan(positions=("H:V2",), allowed_at=("H:V2=AVL",), mutations="1"))
    assert choice == ("heavy", 2, "V", "AL")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mutations": "0"}, "mutations must be"),
        ({"mutations": "3-1"}, "mutations must be"),
        ({"mutations": "many"}, "mutations must be"),
        ({"objective": ("likelihood=x",)}, "objective must be NAME"),
        ({"objective": ("likelihood=0",)}, "objective must be NAME"),
        ({"allowed": "AB"}, "allowed must be some of"),
        ({"search": "random"}, "search must be one of"),
        ({"objective": ("likelihood", "likelihood=-1")}, "likelihood a weight other than 0; .* add up to 0"),
        ({"objective": ("human=-1",), "towards": ("human",)}, "human a weight other than 0"),
        ({"search": "greedy", "beam": 4}, "beam must be left out for the search greedy; only beam or stoch"),
        ({"temperature": 2.0}, "temperature must be left out for the search beam; only stochastic has a use"),
        ({"search": "greedy", "seed": 1}, "seed must be left out for the search greedy"),
        ({"min_distance": 7}, "min_distance must be at most 6, as two designs of 3 mutations differ no more"),
        ({"n": 1, "min_distance": 2}, "min_distance must be 1 for one design"),
    ],
    ids=str,
)
def test_wrong_plans(options, message):
    with pytest.raises(ValueError, match=message):
        DesignPlan(**options)


def test_weights():
    assert DesignPlan().weights() == {"likelihood": 1}
    assert DesignPlan(towards=("germline",)).weights() == {"germline": 1}
    mixed = DesignPlan(objective=("likelihood", "run/adapter:a=b=2.5"), towards=("human",))
    assert mixed.weights() == {"likelihood": 1, "run/adapter:a=b": 2.5, "human": 1}


SHORT = {
    "positions": ("H:30-34",),
    "allowed": "AFKSY",
    "mutations": "1-2",
    "n": 4,
    "candidates": 12,
    "beam": 3,
}


@pytest.mark.heavy
def test_likelihood_is_that_of_score(deep, tokenizer):
    found = list(design(deep, tokenizer, [PAIR], DesignPlan(**SHORT)))
    plls = [
        one.pll() for one in score(deep, tokenizer, [PAIR, *(one.record[1:3] for one in found)], mode="group")
    ]
    for one, pll in zip(found, plls[1:], strict=True):
        assert one.values == {"likelihood": pytest.approx(pll, abs=1e-3)}
        assert one.score == one.gains["likelihood"] == pytest.approx(pll - plls[0], abs=1e-3)


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    base = save_base(tmp_path_factory.mktemp("base"))
    return {
        target: save_tuned(tune(base, target), tmp_path_factory.mktemp(target), base, target)
        for target in ("classes", "number", "residues")
    }


@pytest.mark.heavy
def test_a_fine_tuned_head_is_an_objective(deep, tokenizer, heads):
    plan = DesignPlan(
        objective=(f"{heads['classes']}:Flu=2", "likelihood=0.5", str(heads["number"])), **SHORT
    )
    found = list(design(deep, tokenizer, [PAIR], plan))
    pairs = [PAIR, *(one.record[1:3] for one in found)]
    flu = [float(np.log(one[1])) for one in predict(*load_finetuned(heads["classes"], device="cpu"), pairs)]
    number = [float(one[0]) for one in predict(*load_finetuned(heads["number"], device="cpu"), pairs)]
    names = (f"{heads['classes']}:Flu", "likelihood", str(heads["number"]))
    for place, one in enumerate(found, start=1):
        assert one.values[names[0]] == pytest.approx(flu[place], abs=1e-4)
        assert one.values[names[2]] == pytest.approx(number[place], abs=1e-4)
        gains = [one.gains[name] for name in names]
        assert one.score == pytest.approx(2 * gains[0] + 0.5 * gains[1] + gains[2])
        assert gains[0] == pytest.approx(flu[place] - flu[0], abs=1e-4)


@pytest.mark.heavy
def test_heads_alone_lift_what_they_predict(deep, tokenizer, heads):
    found = list(design(deep, tokenizer, [PAIR], DesignPlan(objective=(str(heads["number"]),), **SHORT)))
    pairs = [(HEAVY[:29] + "".join(five) + HEAVY[34:], LIGHT) for five in near(HEAVY[29:34])]
    values = [float(one[0]) for one in predict(*load_finetuned(heads["number"], device="cpu"), pairs)]
    everything = DesignPlan(objective=(str(heads["number"]),), **SHORT | {"candidates": None, "beam": 40})
    [best, *_] = design(deep, tokenizer, [PAIR], everything)
    assert best.values[str(heads["number"])] == pytest.approx(max(values), abs=1e-4)
    assert found[0].score > 0


def near(text):
    """All with one or two substitutions."""
    for places in itertools.chain(*(itertools.combinations(range(5), number) for number in (1, 2))):
        for letters in itertools.product("AFKSY", repeat=len(places)):
            out = list(text)
            for place, letter in zip(places, letters, strict=True):
                out[place] = letter
            if "".join(out) != text:
                yield out


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("classes", r"must name a class of .* \(HD, Flu, CoV\)"),
        ("residues", "a head that predicts a label of pairs; .* has CurrAbForTokenClassification"),
        ("missing", "objective must be likelihood, germline, human or the folder of a fine-tuned head"),
    ],
)
def test_heads_that_are_none(deep, tokenizer, heads, name, message):
    with pytest.raises(ValueError, match=message):
        next(design(deep, tokenizer, [PAIR], DesignPlan(objective=(str(heads.get(name, "./missing")),))))


@pytest.mark.parametrize("name", ["germline", "human"])
def test_towards_needs_references(deep, tokenizer, name):
    with pytest.raises(ValueError, match=f"must be .* to design towards {name}"):
        next(design(deep, tokenizer, [PAIR], DesignPlan(towards=(name,))))
    with pytest.raises(ValueError, match="v_genes must be given to limit from_germline"):
        next(design(deep, tokenizer, [PAIR], DesignPlan(from_germline=3)))


@pytest.mark.heavy
def test_towards_references(deep, tokenizer, v_genes, tmp_path):
    path = tmp_path / "natural.csv"
    path.write_text(f"id,heavy,light\nn,{HEAVY[:30]}WWW{HEAVY[33:]},{LIGHT}\n")
    references = read_references(ReferenceOptions(v_genes=(v_genes,), natural=(str(path),)))
    before = references.germline.distances([HEAVY], "heavy")[0]
    plan = DesignPlan(towards=("germline",), mutations="3", n=3)
    for one in design(deep, tokenizer, [PAIR], plan, references=references):
        assert one.gains == {"germline": 3.0}
        after = references.germline.distances([one.record.heavy], "heavy")[0]
        assert after <= before
    [best, *_] = design(
        deep, tokenizer, [PAIR], DesignPlan(towards=("human",), mutations="1-3"), references=references
    )
    assert best.record.heavy == HEAVY[:30] + "WWW" + HEAVY[33:] and best.gains == {"human": 3.0}
    assert references.columns([best.record])["nearest_identity_heavy"] == [1.0]


@pytest.mark.heavy
def test_a_causal_member(tokenizer):
    """Its likelihood of a pair is that of each residue after those before it."""
    torch.manual_seed(0)
    model = shake(CurrAbForCausalLM(tiny_config(is_decoder=True))).eval()
    found = list(design(model, tokenizer, [PAIR], DesignPlan(**SHORT)))
    for one in found[:2]:
        values = []
        for pair in (PAIR, one.record[1:3]):
            ids = tokenizer(*pair, return_tensors="pt")["input_ids"][0]
            with torch.no_grad():
                rows = model(input_ids=ids[None]).logits[0].log_softmax(-1)
            places = [place for place, token in enumerate(ids.tolist()) if token > 2]
            values.append(sum(float(rows[place - 1, ids[place]]) for place in places))
        assert one.values["likelihood"] == pytest.approx(values[1], abs=1e-3)
        assert one.score == pytest.approx(values[1] - values[0], abs=1e-3)


def test_the_stamp_is_of_what_files_hold(tmp_path, v_genes):
    """The settings that parts on disk are compared by name the content of references."""
    path = tmp_path / "genes.fasta"
    stamps = []
    for text in (v_genes.read_text(), v_genes.read_text(), v_genes.read_text().replace("EVQL", "QVQL")):
        path.write_text(text)
        named = ({"v_genes": (path,)}, {"natural": (str(tmp_path / "gen*.fasta"),)})
        stamps += [repr(DesignTask(references=ReferenceOptions(**one)).stamped("cpu")) for one in named]
    assert stamps[:2] == stamps[2:4] and not {*stamps[:2]} & {*stamps[4:]}


@pytest.mark.slow
def test_the_command(folder, table, v_genes, tmp_path, monkeypatch):
    """Any number of processes and an interruption leave the same bytes."""
    options = ["--positions", "CDRs", "--n", "2", "--mutations", "1-2", "--candidates", "6", "--beam", "2"]
    options += [
        "--search",
        "stochastic",
        "--seed",
        "3",
        "--v-genes",
        str(v_genes),
        "--dtype",
        "float32",
        "--quiet",
    ]
    options += ["--records-per-part", "2", "--objective", "likelihood", "germline=0.5"]
    few = tmp_path / "few.csv"
    few.write_text("".join(table.read_text().splitlines(keepends=True)[:7]))
    start = ["design", str(folder), str(few)]
    assert main([*start, "--out", str(tmp_path / "one.parquet"), *options]) == 0
    assert main([*start, "--out", str(tmp_path / "two.parquet"), *options, "--processes", "2"]) == 0
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    rows = pq.read_table(tmp_path / "one.parquet").to_pylist()
    assert len(rows) == 12 and list(rows[0]) == [
        *("id", "design", "heavy", "light", "mutant", "mutations", "score"),
        *("likelihood", "likelihood_gain", "germline", "germline_gain"),
        *("v_gene_heavy", "germline_identity_heavy", "v_gene_light", "germline_identity_light"),
    ]
    for row in rows:
        assert row["score"] == pytest.approx(row["likelihood_gain"] + 0.5 * row["germline_gain"])
    # Parts that were made with other references must not be mixed in.
    genes = v_genes.parent / "others.fasta"
    genes.write_text(v_genes.read_text())
    options[options.index(str(v_genes))] = str(genes)
    assert main([*start, "--out", f"{tmp_path}/parts/", *options]) == 0
    assert main([*start, "--out", f"{tmp_path}/parts/", *options, "--resume"]) == 0
    genes.write_text(genes.read_text().replace("EVQL", "QVQL"))
    assert main([*start, "--out", f"{tmp_path}/parts/", *options, "--resume"]) != 0


@pytest.mark.parametrize("command", ["design", "generate"])
@pytest.mark.parametrize(("given", "dtype"), [([], "float32"), (["--dtype", "bfloat16"], "bfloat16")])
def test_what_is_chosen_is_computed_in_float32(command, given, dtype, folder, table, monkeypatch):
    """Unless the user says otherwise, whatever the hardware is fast at."""
    seen = []
    monkeypatch.setattr("curr_ab.cli.inference._run_task", lambda *args: seen.append(args[2].dtype))
    assert main([command, str(folder), str(table), "--out", "/dev/null/x.csv", "--join", *given]) == 0
    assert seen == [dtype]


def test_the_command_names_bad_records(folder, table, tmp_path, capsys):
    options = ["--quiet", "--dtype", "float32", "--positions", "H:126"]
    assert main(["design", str(folder), str(table), "--out", str(tmp_path / "x.csv"), *options]) != 0
    message = capsys.readouterr().err
    assert "records cannot be used" in message and "the position must be from 1 to" in message


def test_a_saved_checkpoint_alone_has_no_head(deep, tokenizer, tmp_path):
    save_checkpoint(deep, tmp_path)
    with pytest.raises(ValueError, match="has CurrAbForMaskedLM"):
        next(design(deep, tokenizer, [PAIR], DesignPlan(objective=(str(tmp_path),))))
