"""Generation: what is given stands, seeds decide, samples that are left out are counted."""

import itertools
import zipfile
from collections import Counter

import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import csv
from support.tiny_models import PAIRS, save_checkpoint, shake, stock_twin, tiny_config

import curr_ab
from curr_ab import CurrAbForSequenceClassification
from curr_ab.checkpoints import Checkpoint
from curr_ab.cli.main import main
from curr_ab.data import builtin_path
from curr_ab.inference import BatchGenerator, GenerationPlan, generate, run_bulk, score
from curr_ab.inference.decoding import Alphabet, Draft, choose, decode
from curr_ab.inference.generation import REASONS, domain_fault, generate_window
from curr_ab.inference.generation_tables import GenerateTask
from curr_ab.inference.records import BlankReader, Record
from curr_ab.inference.settings import Sampling
from curr_ab.inference.templates import Template, frames_of, germline_starts
from curr_ab.words import STANDARD_RESIDUES

HEAVIES = [heavy for heavy, _ in PAIRS]
HEAVY, LIGHT = PAIRS[0]
FREELY = {"any_sequence": True, "max_length": 40}


def drawn(model, tokenizer, pairs, **plan):
    """Samples, quickly: a causal model's are short, of a masked one's many positions are filled at once."""
    options = {name: plan.pop(name) for name in ["tokens_per_batch"] if name in plan}
    causal = {} if {"fix", "cdr"} & plan.keys() else {"max_length": 40}
    quickly = causal if model.config.is_decoder else {"at_once": 50}
    plan = GenerationPlan(**{"any_sequence": True, **quickly, **plan})
    return list(generate(model, tokenizer, pairs, plan, **options))


def texts(samples):
    return [(one.record.heavy, one.record.light) for one in samples]


def test_sampling_draws_as_often_as_it_should():
    log_probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()

    def shares(allowed=(True,) * 4, **sampling):
        uniforms = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
        rows = log_probabilities.expand(10_000, 4)
        chosen = choose(rows, torch.tensor(allowed).expand(10_000, 4), uniforms, Sampling(**sampling))
        return [round(share, 2) for share in (chosen.bincount(minlength=4) / 10_000).tolist()]

    assert shares() == [0.5, 0.3, 0.15, 0.05]
    assert shares(top_k=2) == [0.62, 0.38, 0, 0]
    assert shares(top_p=0.5) == [1, 0, 0, 0]
    assert shares(top_p=0.51) == [0.62, 0.38, 0, 0]
    assert shares(min_p=0.2) == [0.53, 0.32, 0.16, 0]
    assert shares(temperature=0.5) == [0.68, 0.25, 0.06, 0.01]
    assert shares(allowed=(False, True, True, False)) == [0, 0.67, 0.33, 0]


def test_decoding_equals_the_model_run_anew_for_each_token(causal, tokenizer):
    """By hand: the whole text through the model for each residue, without a cache."""
    cls, eos = tokenizer.cls_token_id, tokenizer.eos_token_id
    prompt = torch.tensor([*tokenizer(HEAVY)["input_ids"][:-1], cls, cls])
    [one] = decode(
        causal,
        tokenizer,
        [Draft((prompt,), (Template(("D", "IV"), is_open=True),), torch.Generator().manual_seed(5))],
        Sampling(),
        max_length=30,
    )
    uniforms = torch.rand(31, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    ids, letters, total = prompt.tolist(), "", 0.0
    for number in range(31):
        with torch.no_grad():
            logits = causal(torch.tensor([ids])).logits[0, -1].log_softmax(-1).double()
        candidates = [*tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES)), cls, eos]
        may = {0: "D", 1: "IV"}.get(number, STANDARD_RESIDUES if number < 30 else "")
        allowed = torch.tensor([letter in may for letter in STANDARD_RESIDUES] + [False, number > 1])
        chosen = int(
            choose(logits[candidates][None], allowed[None], uniforms[number : number + 1], Sampling())[0]
        )
        total += float(logits[candidates[chosen]])
        if candidates[chosen] == eos:
            break
        letters += STANDARD_RESIDUES[chosen]
        ids.append(candidates[chosen])
    assert one.chains == (letters,) and letters.startswith(("DI", "DV"))
    assert one.log_likelihood == pytest.approx(total, abs=1e-4)


def test_the_likelihood_is_that_of_the_score(causal, tokenizer):
    """Of pairs: all residues and both ends of chains."""
    for one in drawn(causal, tokenizer, None, given="nothing", n=5):
        [scored] = score(causal, tokenizer, [(one.record.heavy, one.record.light)])
        ids = scored.tokens.input_ids
        with torch.no_grad():
            logits = causal(ids[None]).logits[0].log_softmax(-1)
        cls, eos = tokenizer.cls_token_id, tokenizer.eos_token_id
        ends = logits[len(one.record.heavy), cls] + logits[-2, eos]
        assert one.log_likelihood == pytest.approx(float(scored.log_probabilities.sum() + ends), abs=1e-3)
        assert one.num_drawn == len(one.record.heavy) + len(one.record.light) + 2


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_the_seed_decides_in_any_batch(kind, causal, deep, tokenizer):
    model = causal if kind == "causal" else deep
    how = {"n": 3, "seed": 7}
    pairs = HEAVIES[:4]
    together = drawn(model, tokenizer, pairs, **how)
    assert len(together) == 12
    assert texts(together) == texts(drawn(model, tokenizer, pairs, tokens_per_batch=64, **how))
    # By itself, a record has the same samples: its id and the seed alone decide.
    alone = drawn(model, tokenizer, [Record("3", pairs[2], None)], **how)
    assert texts(alone) == texts(together[6:9])
    assert texts(drawn(model, tokenizer, pairs, **{**how, "seed": 8})) != texts(together)
    assert len(set(texts(together))) == 12


@pytest.mark.parametrize("given", ["heavy", "light", "nothing"])
@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_what_is_given_stands(kind, given, causal, deep, tokenizer):
    model = causal if kind == "causal" else deep
    pairs = None if given == "nothing" else PAIRS[:3]
    samples = drawn(model, tokenizer, pairs, given=given, n=2)
    assert len(samples) == (2 if given == "nothing" else 6)
    for place, one in enumerate(samples):
        if given != "nothing":
            assert one.record.chain(given) == PAIRS[place // 2][0 if given == "heavy" else 1]
        for chain in ("heavy", "light"):
            assert set(one.record.chain(chain)) <= set(STANDARD_RESIDUES)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_spans_stand_always(kind, causal, deep, tokenizer):
    """In thousands of samples, by a model that would put anything there."""
    model = causal if kind == "causal" else deep
    number, n = (0, 500) if kind == "causal" else (0, 25)
    for fix, spans in [
        (("L:1-5", "L:50"), [(0, 5), (49, 50)]),
        (("CDRL3", "CDRL1"), [(LIGHT.index("QQHYTTPPT"), 9), (LIGHT.index("QDVNTA"), 6)]),
    ]:
        spans = spans if fix[0].startswith("L") else [(start, start + length) for start, length in spans]
        for one in drawn(model, tokenizer, [(HEAVY, LIGHT)], fix=fix, n=n):
            light, number = one.record.light, number + 1
            assert len(light) == len(LIGHT)
            assert all(light[start:end] == LIGHT[start:end] for start, end in spans)
    for one in drawn(model, tokenizer, [HEAVY], cdr=("L3=QQYNSYPLT",), start=("DIQMTQ",), n=n):
        assert "QQYNSYPLT" in one.record.light and one.record.light.startswith("DIQMTQ")
    for one in drawn(model, tokenizer, [HEAVY], allowed="ACDE", n=n):
        assert set(one.record.light) <= set("ACDE")
    assert number == 2 * n


def test_a_germline_start_is_the_gene_s(causal, tokenizer):
    for gene in ("IGKV1", "IGLV3", "K"):
        for one in drawn(causal, tokenizer, [HEAVY], v_gene=(gene,), n=4, start_residues=15):
            assert any(one.record.light.startswith(start[:15]) for start in germline_starts(gene))
    assert "DIQMTQSPSSLSASVGDRVTITCRASQSISSYLNWYQQKPGKAPKLLIYAASSLQSGVPSRFSGSGSGTDFTLTISSLQPEDFATYYC" in set(
        germline_starts("IGKV1")
    )
    assert set(germline_starts("IGHV3-23")) < set(germline_starts("IGHV3")) < set(germline_starts("IGH"))


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_common_light_chain_suits_all_heavy_chains(kind, causal, deep, tokenizer):
    model = causal if kind == "causal" else deep
    samples = drawn(model, tokenizer, HEAVIES[:3], common=True, n=4)
    lights = [[one.record.light for one in samples if one.record.heavy == heavy] for heavy in HEAVIES[:3]]
    assert lights[0] == lights[1] == lights[2] and len(set(lights[0])) == 4
    # It hangs on all of them: with another second heavy chain it is another.
    other = drawn(model, tokenizer, [HEAVIES[0], HEAVIES[3], HEAVIES[2]], common=True, n=4)
    assert [one.record.light for one in other[:4]] != lights[0]


def test_samples_are_left_out_and_counted(causal, tokenizer):
    """A model without training makes no V domain: all draws are tried, and counted."""
    record = Record("a", HEAVY, None)
    [samples] = generate_window(causal, tokenizer, [record], GenerationPlan(n=3, tries=4, max_length=30))
    assert samples.kept == [] and samples.num_draws == 12 and samples.left_out == {"incomplete": 12}
    # Chains of one or two letters come again and again.
    few = GenerationPlan(any_sequence=True, max_length=2, allowed="AC", n=10, unique=True, tries=30)
    [samples] = generate_window(causal, tokenizer, [record], few)
    lights = [one.record.light for one in samples.kept]
    assert len(set(lights)) == len(lights) <= 6 and samples.left_out["duplicate"] == samples.num_draws - len(
        lights
    )
    known = GenerationPlan(any_sequence=True, max_length=2, allowed="AC", n=10, not_in=("input",))
    [samples] = generate_window(causal, tokenizer, [record._replace(light="AA")], known)
    assert samples.left_out["known"] and "AA" not in {one.record.light for one in samples.kept}


def test_the_least_likely_are_left_out(causal, tokenizer):
    record = Record("a", HEAVY, None)
    freely = GenerationPlan(**FREELY, n=8)
    [everything] = generate_window(causal, tokenizer, [record], GenerationPlan(**FREELY, n=10))
    [samples] = generate_window(causal, tokenizer, [record], GenerationPlan(**FREELY, n=8, drop_lowest=0.2))
    assert len(samples.kept) == freely.n and samples.left_out == {"unlikely": 2}
    worst = sorted(everything.kept, key=lambda one: -one.perplexity)[:2]
    assert {one.sample for one in everything.kept} - {one.sample for one in samples.kept} == {
        one.sample for one in worst
    }


def test_pairs_that_a_head_doubts_are_left_out(causal, tokenizer, tmp_path):
    torch.manual_seed(0)
    labels = {0: "shuffled", 1: "native"}
    config = tiny_config(num_labels=2, id2label=labels, label2id={label: i for i, label in labels.items()})
    model = shake(CurrAbForSequenceClassification(config)).eval()
    head = Checkpoint(str(save_checkpoint(model, tmp_path / "head")), head="sequence-classification")
    record, plan = Record("a", HEAVY, None), GenerationPlan(**FREELY, n=20)
    [everything] = generate_window(causal, tokenizer, [record], GenerationPlan(**FREELY, n=200))
    scores = {}
    for one in everything.kept:
        with torch.no_grad():
            logits = model(**tokenizer(HEAVY, one.record.light, return_tensors="pt")).logits[0]
        scores[one.sample] = float(logits.softmax(-1)[1])
    ordered = sorted(scores.values())
    # In the widest gap of the middle: the last digits of a score depend on what stands beside it.
    _, least = max(
        (above - below, (above + below) / 2) for below, above in itertools.pairwise(ordered[80:120])
    )
    [samples] = generate_window(causal, tokenizer, [record], plan, head=head, least_pairing=least)
    assert [one.sample for one in samples.kept] == [number for number in scores if scores[number] > least][
        :20
    ]
    assert samples.left_out == {"unpaired": samples.num_draws - 20}


def test_domains_are_told_by_content():
    assert domain_fault(HEAVY, "heavy") is None and domain_fault(LIGHT, "light") is None
    assert domain_fault(LIGHT, "heavy") == domain_fault(HEAVY, "light") == "wrong_chain"
    for text in ("", "A" * 100, HEAVY[30:], HEAVY[:90], HEAVY + "GGGGSGGGGSGGGGS" + LIGHT, HEAVY + "ASTKGPS"):
        assert domain_fault(text, "heavy") == "incomplete"


@pytest.mark.heavy
def test_real_chains_are_domains():
    pairs = pq.read_table(builtin_path(), columns=["heavy", "light"]).slice(0, 500).to_pylist()
    faults = Counter(domain_fault(pair[chain], chain) for pair in pairs for chain in ("heavy", "light"))
    assert faults[None] >= 998


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"allowed": "AB"}, "allowed must be some of"),
        ({"fix": ("H:1-3",)}, "fix must be of a chain that is generated; the heavy chain is given"),
        ({"fix": ("L:3-1",)}, "fix must be like L:1-23"),
        ({"cdr": ("L3=QQ*",)}, "cdr must be like L3=QQYNSYPLT"),
        ({"start": ("H:EV",)}, "start must be of a chain that is generated"),
        ({"given": "nothing", "start": ("EV",)}, "start must name its chain"),
        ({"v_gene": ("TRBV",)}, "v_gene must be like IGKV1-39"),
        ({"fix": ("CDRL1",), "start": ("DI",)}, "start must be left out where fix keeps"),
        ({"common": True, "given": "light"}, "common must be used with given heavy"),
        ({"drop_lowest": 0.1, "given": "nothing"}, "drop_lowest must be 0 where nothing is given"),
        ({"top_p": 0.0}, "top_p must be"),
        ({"given": "nothing", "unique": True}, "unique, and input in not_in, must be left out"),
        ({"start": ("DI", "L:DV")}, "start or v_gene must be one for the light chain; got DI and L:DV"),
        ({"v_gene": ("IGKV1", "L")}, "start or v_gene must be one for the light chain; got IGKV1 and L"),
        (
            {"cdr": ("L3=QQ", "CDRL3=QH")},
            "cdr must be one for CDR3 of the light chain; got L3=QQ and CDRL3=QH",
        ),
        (
            {"start": ("DI",), "v_gene": ("IGKV1",)},
            "start or v_gene must be one for the light chain; got DI and IGKV1",
        ),
        ({"v_gene": ("IGKV1",), "start": ("L:DI",)}, "start or v_gene must be one for the light chain"),
        ({"start_residues": 9}, "start_residues must be left out without v_gene"),
        (
            {"start": ("DIQ",), "max_length": 2},
            "max_length must be as long as start at least, 3 residues; got 2",
        ),
        ({"v_gene": ("K",), "max_length": 19}, "max_length must be as long as start_residues at least, 20"),
        ({"fix": ("CDRL1",), "max_length": 100}, "max_length must be left out where fix keeps"),
        ({"fix": ("CDRL1",), "length_from": "builtin"}, "length_from must be left out where fix keeps"),
        ({"fix": ("CDRL1",), "common": True}, "common must be left out where fix keeps"),
    ],
)
def test_plans_that_cannot_be(plan, message):
    with pytest.raises(ValueError, match=message):
        GenerationPlan(**plan)


def test_a_limit_needs_its_head():
    with pytest.raises(ValueError, match="least_pairing must be left out without pairing_head"):
        GenerateTask(least_pairing=0.6)


def test_starts_of_both_chains_are_no_repetition():
    GenerationPlan(given="nothing", start=("H:EV",), v_gene=("IGK",), cdr=("H3=AR", "L3=QQ", "H1=GF"))


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_no_chain_is_longer_than_it_may_be(kind, causal, deep, tokenizer):
    """Those whose length is that of a natural chain, too."""
    model = causal if kind == "causal" else deep
    lengths = [sum(frame) for frame in frames_of("builtin", "light")]
    most = sorted(lengths)[len(lengths) // 10]
    assert most < max(lengths)
    how = {"length_from": "builtin", "max_length": most, "n": 8}
    assert max(len(one.record.light) for one in drawn(model, tokenizer, [HEAVY], **how)) <= most
    how |= {"cdr": ("L3=" + "Q" * 60,), "max_length": most + 60}
    assert max(len(one.record.light) for one in drawn(model, tokenizer, [HEAVY], **how)) <= most + 60
    with pytest.raises(
        ValueError, match=f"max_length must be {min(lengths)} at least, the length of the shortest light"
    ):
        drawn(model, tokenizer, [HEAVY], length_from="builtin", max_length=30)


def test_a_pair_is_no_list_of_chains(causal, tokenizer):
    """As in all other functions."""
    for pair in ((HEAVY, LIGHT), HEAVY):
        with pytest.raises(ValueError, match="give a list of pairs"):
            drawn(causal, tokenizer, pair)
        with pytest.raises(ValueError, match="give a list of pairs"):
            next(score(causal, tokenizer, pair))


def test_records_and_models_that_cannot_be(causal, deep, tokenizer):
    with pytest.raises(
        ValueError, match=r"fix must lie in the light chain, which has 107 residues; got position 200"
    ):
        drawn(causal, tokenizer, [(HEAVY, LIGHT)], fix=("L:200",))
    with pytest.raises(ValueError, match="has no light chain, so no span of it can stand"):
        drawn(causal, tokenizer, [HEAVY], fix=("L:2",))
    with pytest.raises(ValueError, match="has no heavy chain, which is to be given"):
        drawn(causal, tokenizer, [(None, LIGHT)])
    for option in ({"sweeps": 1}, {"order": "confident"}, {"at_once": 2}):
        [name] = option
        with pytest.raises(ValueError, match=f"{name} must be left out for a causal member"):
            drawn(causal, tokenizer, [HEAVY], **option)
    with pytest.raises(ValueError, match="v_gene must be a gene, a family or a locus of IGKV1-2YQT"):
        drawn(causal, tokenizer, [HEAVY], v_gene=("IGKV99",))
    causal.config.light_first = 0.0
    try:
        with pytest.raises(ValueError, match="it was trained with the heavy chain first"):
            drawn(causal, tokenizer, [(None, LIGHT)], given="light")
    finally:
        causal.config.light_first = 0.5


def test_sweeps_draw_anew_from_what_stands(deep, tokenizer):
    before = drawn(deep, tokenizer, [HEAVY], n=2)
    after = drawn(deep, tokenizer, [HEAVY], n=2, sweeps=1)
    for one, other in zip(before, after, strict=True):
        assert len(one.record.light) == len(other.record.light)
        differing = sum(a != b for a, b in zip(one.record.light, other.record.light, strict=True))
        assert differing > len(one.record.light) // 2


def test_confident_takes_the_surest_first(deep, tokenizer):
    """Drawn with next to no temperature: the surest residue of all, then the next given that."""
    [one] = drawn(
        deep, tokenizer, [(HEAVY, LIGHT[:6])], fix=("L:1",), order="confident", at_once=1, temperature=1e-6
    )
    ids = tokenizer(HEAVY, LIGHT[:1] + "<mask>" * 5, return_tensors="pt")["input_ids"]
    standard = torch.tensor(tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES)))
    while (left := (ids[0] == 32).nonzero().flatten()).numel():
        with torch.no_grad():
            logits = deep(input_ids=ids).logits[0][left].log_softmax(-1)[:, standard]
        sure = (logits.double() / 1e-6).softmax(-1).amax(1)
        place = int(sure.argsort(descending=True, stable=True)[0])
        break
    first = left[place]
    assert one.record.light[int(first) - len(HEAVY) - 3] == STANDARD_RESIDUES[int(logits[place].argmax())]


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_processes_and_parts_give_the_same_bytes(kind, causal, deep, tokenizer, tmp_path):
    folder = save_checkpoint(causal if kind == "causal" else deep, tmp_path / "model")
    checkpoint = Checkpoint(str(folder), device="cpu", dtype="float32")
    quickly = {"max_length": 40} if kind == "causal" else {"at_once": 40}
    task = GenerateTask(plan=GenerationPlan(any_sequence=True, n=2, **quickly))
    pairs = [(heavy, None) for heavy in itertools.islice(itertools.cycle(HEAVIES), 12)]
    table = [Record(str(number), heavy, None) for number, (heavy, _) in enumerate(pairs)]
    frame = {"id": [one.id for one in table], "heavy": [one.heavy for one in table]}
    from curr_ab.inference.records import chain_reader

    for name, how in {
        "one": {},
        "again": {},
        "two": {"processes": 2, "records_per_part": 5},
        "parts": {"records_per_part": 1},
    }.items():
        run_bulk(
            task, checkpoint, chain_reader(frame, "heavy"), tmp_path / f"{name}.csv", progress=False, **how
        )
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
    # In other batches, or on other threads, likelihoods differ in their last digits; the chains do not.
    tables = [csv.read_csv(tmp_path / f"{name}.csv") for name in ("one", "two", "parts")]
    names = [name for name in tables[0].column_names if name not in ("log_likelihood", "perplexity")]
    assert tables[0].select(names) == tables[1].select(names) == tables[2].select(names)


def test_a_record_without_a_sample_has_a_row(causal, tokenizer):
    task = GenerateTask(plan=GenerationPlan(max_length=20, tries=2))
    table = task.table(causal, tokenizer, [Record("a", HEAVY, None)])
    [row] = table.to_pylist()
    assert row["heavy"] == HEAVY and row["light"] is None and row["draws"] == 2 and row["incomplete"] == 2
    assert set(REASONS) < set(row)


@pytest.mark.parametrize("name", ["known.csv", "kn*.csv", "known.zip#known.csv", "file://{}/known.csv"])
def test_parts_are_of_the_same_files(name, tmp_path):
    """A run is not resumed with parts that were made with another content of a file that it names."""
    source = name.format(tmp_path) if "{}" in name else str(tmp_path / name)
    stamps = []
    for heavy in (HEAVIES[0], HEAVIES[0], HEAVIES[1]):
        (tmp_path / "known.csv").write_text(f"id,heavy\na,{heavy}\n")
        with zipfile.ZipFile(tmp_path / "known.zip", "w") as archive:
            archive.write(tmp_path / "known.csv", "known.csv")
        task = GenerateTask(plan=GenerationPlan(not_in=(source, "input", "builtin")))
        stamps.append(task.stamped().stamp)
    assert stamps[0] == stamps[1] != stamps[2]


def test_pairs_of_nothing_in_a_bulk_task(causal, tokenizer):
    records = list(BlankReader((), wanted=(), count=4)())
    task = GenerateTask(plan=GenerationPlan(**FREELY, given="nothing", n=4))
    rows = task.table(causal, tokenizer, records).to_pylist()
    assert [row["id"] for row in rows] == ["1", "2", "3", "4"] and all(row["heavy"] for row in rows)


def test_a_batch_function(causal, tmp_path):
    folder = save_checkpoint(causal, tmp_path / "model")
    batch = BatchGenerator(folder, plan=GenerationPlan(**FREELY, n=2), unpaired=True)
    out = batch({"id": ["a", "b"], "heavy": HEAVIES[:2]})
    assert out["id"].to_pylist() == ["a", "a", "b", "b"]


@pytest.mark.heavy
def test_the_command(causal, deep, tmp_path, capsys):
    folder = str(save_checkpoint(causal, tmp_path / "model"))
    quiet = ["--any-sequence", "--max-length", "30", "--quiet"]
    assert (
        main(
            [
                "generate",
                folder,
                "--given",
                "nothing",
                "--n",
                "3",
                "--out",
                str(tmp_path / "p.parquet"),
                *quiet,
            ]
        )
        == 0
    )
    pairs = pq.read_table(tmp_path / "p.parquet")
    assert pairs.num_rows == 3
    out = str(tmp_path / "l.csv")
    loud = quiet[:-1]
    few = ["--n", "2", "--not-in", "builtin", "--drop-lowest", "0.3"]
    assert main(["generate", folder, str(tmp_path / "p.parquet"), "--out", out, *few, *loud]) == 0
    assert (tmp_path / "l.csv").read_text().count("\n") == 7
    assert "6 samples kept of 9 draws; left out: unlikely 3\n" in capsys.readouterr().err
    none = ["generate", folder, str(tmp_path / "p.parquet"), "--max-length", "20", "--tries", "2"]
    for to in ("none.tsv", "none.parquet", "none/"):
        assert main([*none, "--n", "2", "--out", f"{tmp_path}/{to}"]) == 0
        said = capsys.readouterr().err
        assert "0 samples kept of 12 draws; left out: incomplete 12\n" in said
        assert "fewer than 2 samples were kept for 3 of 3 records" in said
    assert main(["generate", folder, out, "--common", "--records-per-part", "2", "--out", out, *quiet]) != 0
    assert "records_per_part must be left out with common" in capsys.readouterr().err.replace("-", "_")
    assert main(["generate", folder, "--out", out, *quiet]) != 0
    assert "an INPUT with heavy chains" in capsys.readouterr().err
    for command in ("mutate", "restore"):
        assert main([command, folder, str(tmp_path / "p.parquet"), "--out", out, "--quiet"]) != 0
        assert "must be a masked model here; got a causal one" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["heavy", "light", "nothing"])
def test_stock_checkpoints_generate_too(given, deep, tokenizer, tmp_path):
    """Published members are ESM of transformers, with the same weights."""
    stock_twin(deep).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, theirs = curr_ab.load(str(tmp_path), device="cpu", dtype="float32")
    pairs, how = None if given == "nothing" else PAIRS[:2], {"given": given, "n": 2}
    assert texts(drawn(model, theirs, pairs, **how)) == texts(drawn(deep, tokenizer, pairs, **how))


def test_the_alphabet_ends_chains_where_it_may(tokenizer):
    alphabet = Alphabet(tokenizer)
    table = alphabet.table([Template(("D",), True), Template(("A", "CD"), False)], 4, 4, STANDARD_RESIDUES)
    assert table.shape == (3, 5, 22)
    assert table[0, 0].nonzero().flatten().tolist() == [alphabet.letters.index("D")]
    assert table[0, 1:4].sum(1).tolist() == [21] * 3 and table[0, 4].nonzero().flatten().tolist() == [
        alphabet.separator
    ]
    assert table[1, 0].nonzero().flatten().tolist() == [alphabet.separator]
    assert table[2].sum(1).tolist() == [1, 2, 1, 1, 1] and table[2, 2, alphabet.end]


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_start_leaves_a_cdr_alone(kind, causal, deep, tokenizer):
    model = causal if kind == "causal" else deep
    for one in drawn(
        model, tokenizer, [HEAVY], v_gene=("IGKV1",), start_residues=60, cdr=("L1=QSWWWWY",), n=3
    ):
        assert "QSWWWWY" in one.record.light
    with pytest.raises(ValueError, match="start must end before the CDR that must stand"):
        drawn(model, tokenizer, [HEAVY], start=("D" * 60,), cdr=("L1=QSWWWWY",))


def test_an_unknown_residue_cannot_stand(causal, tokenizer):
    for unknown in ("X", "<mask>"):
        pair = [(HEAVY, LIGHT[:5] + unknown + LIGHT[6:])]
        with pytest.raises(ValueError, match=r"light chain, position 6: 'X' is no residue that can stand"):
            drawn(causal, tokenizer, pair, fix=("L:1-23",))
        [one] = drawn(causal, tokenizer, pair, fix=("L:1-5", "L:7-23"))
        assert one.record.light[:5] + one.record.light[6:23] == LIGHT[:5] + LIGHT[6:23]
        assert len(one.record.light) == len(LIGHT)


def test_a_common_chain_is_left_out_for_all_records(causal, tokenizer):
    plan = GenerationPlan(**FREELY, common=True, n=4)
    records = [Record("a", HEAVY, None), Record("b", HEAVIES[1], None)]
    first = generate_window(causal, tokenizer, records, plan)[0].kept[0].record.light
    again = GenerationPlan(**FREELY, common=True, n=4, not_in=("input",))
    both = generate_window(causal, tokenizer, [records[0], records[1]._replace(light=first)], again)
    lights = [[one.record.light for one in samples.kept] for samples in both]
    assert lights[0] == lights[1] and len(lights[0]) == 4 and first not in lights[0]
    assert [samples.left_out["known"] for samples in both] == [1, 1]


def test_filters_of_sampling_come_one_after_the_other():
    rows = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64).log().expand(100, 4)
    uniforms = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    chosen = choose(rows, torch.ones(100, 4, dtype=torch.bool), uniforms, Sampling(top_k=2, top_p=0.5))
    assert set(chosen.tolist()) == {0}  # of the two that top_k leaves, the first has more than half
