"""`run_suite` and `curr-ab evaluate`: what is skipped, what is refused, what the tables say."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_models import shake, tiny_config

from curr_ab import CurrAbForMaskedLM
from curr_ab.cli.main import main
from curr_ab.evaluation import make_plan, run_suite, write_tables
from curr_ab.evaluation.measurement import Subject, find_subject, read_measurement
from curr_ab.evaluation.plan import PLANS
from curr_ab.evaluation.run import LOCK, DrawnSuite, published_for, suite_of
from curr_ab.files import ClaimedError, claimed
from curr_ab.results import checkpoint_digest, read_results


def overall(*arguments, **options):
    """The loss of everything."""
    [row] = [row for row in run_suite("loss", *arguments, **options) if row.details["place"] == "all"]
    return row


@pytest.fixture
def loads(monkeypatch):
    """Counts how often a model is loaded."""
    counted, load = [], Subject.load

    def count(subject):
        counted.append(subject.name)
        return load(subject)

    monkeypatch.setattr(Subject, "load", count)
    return counted


@pytest.mark.heavy
def test_what_was_measured_is_skipped(folder, corpus, tmp_path, loads):
    first = run_suite("loss", folder, corpus, tmp_path, pairs=4)
    assert len(loads) == 1
    said = []
    assert run_suite("loss", str(folder), [corpus], tmp_path, pairs=4, say=said.append) == first
    assert len(loads) == 1
    assert "measured already" in said[0]
    # Where it lies does not matter, what it is does.
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "ours")
    run_suite("loss", moved, shutil.copytree(corpus, tmp_path / "data"), tmp_path, pairs=4, device="cpu")
    assert len(loads) == 1
    weights = load_file(moved / "model.safetensors")
    name = next(iter(sorted(weights)))
    save_file({**weights, name: weights[name] + 1e-3}, moved / "model.safetensors", {"format": "pt"})
    changed = run_suite("loss", moved, corpus, tmp_path, pairs=4)
    assert len(loads) == 2
    assert changed != first
    for options in ({"pairs": 5}, {"pairs": 4, "seed": 1}, {"pairs": 4, "split": "validation"}):
        run_suite("loss", folder, corpus, tmp_path, **options)
    assert len(loads) == 5


def test_a_measurement_that_was_cut_off_is_repeated(folder, corpus, tmp_path, loads):
    first = run_suite("loss", folder, corpus, tmp_path, pairs=4)
    [place] = tmp_path.glob("loss/*")
    (place / "results.json").unlink()
    left = place / ".measurement.json.1.0.tmp"
    left.touch()
    with claimed(place, "measures in", lock_name=LOCK), pytest.raises(ClaimedError, match="measures in"):
        run_suite("loss", folder, corpus, tmp_path, pairs=4)
    assert run_suite("loss", folder, corpus, tmp_path, pairs=4) == first
    assert len(loads) == 2 and not left.exists()


def test_every_plan_has_its_suite():
    """Of the right shape they are by mypy, which takes a module for a `Suite`."""
    drawn = [name for name in PLANS if isinstance(suite_of(name), DrawnSuite)]
    assert drawn == ["regions"]
    with pytest.raises(AssertionError, match="no suite loses"):
        suite_of("loses")


def test_the_record_of_a_measurement(folder, corpus, tmp_path):
    """Folders of earlier versions are found again: the key is the digest of the same five fields."""
    run_suite("loss", folder, corpus, tmp_path, pairs=4)
    [path] = tmp_path.glob("loss/*/measurement.json")
    record = json.loads(path.read_text())
    decisive = {name: record[name] for name in ("suite", "model", "checkpoint", "data", "settings")}
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    assert record == {**decisive, "is_member": False, "key": key}
    assert path.parent.name == f"ours-{key[:8]}"
    measurement = read_measurement(path.parent)
    assert measurement.key == key and measurement.settings["pairs"] == 4
    for broken in ("{", "[]", json.dumps(decisive)):
        path.write_text(broken)
        assert read_measurement(path.parent) is None


@pytest.mark.heavy
def test_all_results_are_in_one_file(folder, uniform_folder, corpus, tmp_path):
    found = [
        *run_suite("loss", folder, corpus, tmp_path, pairs=4),
        *run_suite("loss", uniform_folder, corpus, tmp_path, pairs=4),
        *run_suite("regions", uniform_folder, corpus, tmp_path, pairs=2),
    ]
    key = lambda row: str(row.identity)  # noqa: E731
    assert sorted(read_results(tmp_path / "results.json"), key=key) == sorted(found, key=key)


@pytest.mark.heavy
def test_measurements_with_other_options_stand_side_by_side(shallow_folder, corpus, tmp_path):
    """In the one file and in the table; what is the default is not told."""
    variants = [{}, {"draws": 1}, {"pairs": 5}, {"pairs": 4, "seed": 1}, {"dtype": "bfloat16"}]
    found = [overall(shallow_folder, corpus, tmp_path, **options) for options in variants]
    assert len({row.identity for row in found}) == len(found)
    kept = [row for row in read_results(tmp_path / "results.json") if row.details["place"] == "all"]
    assert sorted(row.value for row in kept) == sorted(row.value for row in found)
    assert [
        {key: row.details[key] for key in options} for row, options in zip(found, variants, strict=True)
    ] == variants
    assert not {"draws", "pairs", "seed", "dtype"} & found[0].details.keys()
    table = write_tables(tmp_path, "loss")
    for told in ("(place all)", "draws 1)", "pairs 5)", "pairs 4, seed 1)", "dtype bfloat16)"):
        assert table.count(told) == 1, told


@pytest.mark.heavy
def test_a_folder_whose_record_is_broken_is_left_out_with_a_note(
    shallow_folder, uniform_folder, corpus, tmp_path, blank_charts
):
    for model in (shallow_folder, uniform_folder):
        run_suite("regions", model, corpus, tmp_path, pairs=2)
    [place] = tmp_path.glob("regions/uniform-*")
    for content in ("{", "[]", None):
        (place / "measurement.json").unlink()
        if content is not None:
            (place / "measurement.json").write_text(content)
        table = write_tables(tmp_path, "regions")
        assert "| ours |" in table and "| uniform |" not in table
        assert f"left out: {place.name} (its measurement.json is missing or broken" in table
        run_suite("regions", shallow_folder, corpus, tmp_path, pairs=2)  # draws what can be read
    run_suite("regions", uniform_folder, corpus, tmp_path, pairs=2)  # and this measures it again
    assert "left out" not in write_tables(tmp_path, "regions")


def test_unknown_suites_and_options_are_listed(folder, corpus, tmp_path):
    with pytest.raises(ValueError, match=r"unknown suite 'los'; did you mean loss\?"):
        run_suite("los", folder, corpus, tmp_path)
    with pytest.raises(ValueError, match=r"unknown suite loss option 'mask_seed'; did you mean seed\?"):
        run_suite("loss", folder, corpus, tmp_path, mask_seed=1)
    with pytest.raises(ValueError, match=r"unknown suite loss option 'xyz'; choose one of .*draws"):
        run_suite("loss", folder, corpus, tmp_path, xyz=1)
    with pytest.raises(ValueError, match="dtype must be one of auto, float32, bfloat16; got 'float16'"):
        make_plan("loss", {"dtype": "float16"})
    with pytest.raises(ValueError, match="pairs must be at least 1; got 0"):
        make_plan("regions", {"pairs": 0})


def test_models_that_cannot_be_measured(corpus, tmp_path, deep, save):
    with pytest.raises(ValueError, match=r"no checkpoint is called '350M-X'.* did you mean .*350M-F"):
        run_suite("loss", "350M-X", corpus, tmp_path)
    with pytest.raises(ValueError, match=r"has no model in it .* in the folder.* name a checkpoint"):
        run_suite("loss", tmp_path, corpus, tmp_path)
    broken = CurrAbForMaskedLM(deep.config)
    broken.load_state_dict(deep.state_dict())
    with torch.no_grad():
        broken.esm.encoder.layer[1].output.dense.weight[3, 5] = torch.nan
    for suite in ("loss", "regions"):
        with pytest.raises(ValueError, match=r"weights esm.encoder.layer.1.output.* are not all numbers"):
            run_suite(suite, save(broken, "broken"), corpus, tmp_path)


def test_a_repository_is_measured_as_its_folder(folder, corpus, tmp_path, monkeypatch):
    """Out of the cache of the Hub, as it is after a download."""
    import huggingface_hub.constants
    import transformers.utils.hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    if hasattr(transformers.utils.hub, "TRANSFORMERS_CACHE"):  # of transformers 4
        monkeypatch.setattr(transformers.utils.hub, "TRANSFORMERS_CACHE", str(tmp_path / "hub"))
    place = tmp_path / "hub" / "models--brineylab--CurrAb-8M-F"
    shutil.copytree(folder, place / "snapshots" / ("a" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    here = overall(folder, corpus, tmp_path, pairs=4)
    for name in ("8M-F", "brineylab/CurrAb-8M-F"):
        found = overall(name, corpus, tmp_path, pairs=4)
        assert found == replace(here, model="8M-F")
    with pytest.raises(ValueError, match="brineylab/CurrAb-8M-H is not in the cache"):
        run_suite("loss", "brineylab/CurrAb-8M-H", corpus, tmp_path)


def test_too_few_pairs(folder, corpus, tmp_path):
    with pytest.raises(ValueError, match="at least 2 held-out pairs must be measured; got 1 "):
        run_suite("loss", folder, corpus, tmp_path, pairs=1)


def test_a_causal_model_has_a_loss_but_no_marginals(corpus, tmp_path, save):
    torch.manual_seed(0)
    causal = save(shake(CurrAbForMaskedLM(tiny_config(is_decoder=True))), "causal")
    row = overall(causal, corpus, tmp_path, pairs=4)
    assert row.details["objective"] == "clm"
    with pytest.raises(ValueError, match="causal must be a masked model; got a causal one"):
        run_suite("regions", causal, corpus, tmp_path, pairs=2)


def test_an_adapter_is_measured_merged(folder, deep, corpus, tmp_path):
    from peft import LoraConfig, get_peft_model

    from curr_ab import load

    torch.manual_seed(1)
    model, _ = load(folder, device="cpu")
    config = LoraConfig(target_modules=["query"], init_lora_weights=False)
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = str(folder)
    adapted.save_pretrained(tmp_path / "adapter")
    subject = find_subject(tmp_path / "adapter", make_plan("loss", {}))
    assert subject.is_adapter
    assert subject.digest not in (
        checkpoint_digest(folder),
        find_subject(folder, make_plan("loss", {})).digest,
    )
    [with_adapter, without] = (
        overall(one, corpus, tmp_path, pairs=4).value for one in (tmp_path / "adapter", folder)
    )
    assert with_adapter != pytest.approx(without, abs=1e-4)


def test_names(folder, deep, save, tmp_path):
    plan = make_plan("loss", {})
    assert find_subject(save(deep, "CurrAb-8M-F"), plan).name == "8M-F"
    assert not find_subject(save(deep, "8M-F"), plan).is_member  # of another shape
    assert find_subject(folder, plan).name == "ours"
    assert find_subject(folder, make_plan("loss", {"name": "mine"})).name == "mine"
    step = tmp_path / "run" / "checkpoints" / "step5"
    shutil.copytree(folder, step)
    assert find_subject(step, plan).name == "run"
    (step / "training.json").write_text(json.dumps({"member": "35M-Q", "step": 5}))
    assert find_subject(step, plan).name == "35M-Q"


def test_the_command_prints_the_table(folder, uniform_folder, corpus, tmp_path, capsys):
    arguments = ["evaluate", "loss", "--model", str(folder), "--model", str(uniform_folder)]
    arguments += ["--data", str(corpus), "--out", str(tmp_path), "--pairs", "4"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    rows = [line for line in captured.out.splitlines() if line.startswith("| ours") or "uniform" in line]
    assert len(rows) == 2
    assert "| 3.4965 ± 0.0000 |" in rows[1]
    assert "loss of uniform" in captured.err
    assert (tmp_path / "loss" / "table.md").read_text() in captured.out
    assert main([*arguments, "--name", "x"]) == 2
    assert "name must be left out for several models; got 2 (--name)" in capsys.readouterr().err


def test_several_processes_are_refused(folder, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (
        main(["evaluate", "loss", "--model", str(folder), "--data", str(corpus), "--out", str(tmp_path)]) == 2
    )
    assert "evaluation runs in one process" in capsys.readouterr().err


def test_published_figures_stand_beside_the_members_alone(folder, corpus, tmp_path):
    run_suite("loss", folder, corpus, tmp_path, pairs=4, name="350M-F")
    table = write_tables(tmp_path, "loss")
    assert "| 350M-F |" in table
    assert "Published" not in table  # called like the member, of another shape
    [record] = tmp_path.glob("loss/*/measurement.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"is_member": True}))
    table = write_tables(tmp_path, "loss")
    assert "0.2398 (test-loss-2025-09)" in table
    assert "never measured here" in " ".join(table.split())
    [row] = [row for row in read_results(tmp_path / "results.json") if row.details["place"] == "all"]
    difference = f"{row.value - 0.23978:+.4f}"
    assert f"| {difference} |" in table


@pytest.mark.heavy
def test_which_published_figure_belongs_to_a_number(folder, corpus, tmp_path):
    row = overall(folder, corpus, tmp_path, pairs=4, name="650M-Q")
    assert published_for(row).task == "test-loss-2025-05"  # the later version does not show it
    protocol = {"recipe": "pairing", "protocol": "published"}
    accuracy = replace(row, model="350M-F", task="pairing", metric="accuracy", details=protocol)
    assert published_for(accuracy).value == 0.7047
    both = protocol | {"pairs": "both mutated"}
    assert published_for(replace(accuracy, details=both)).value == 0.667
    assert published_for(replace(accuracy, model="8M-F", details=both)) is None
    for changed in ({"protocol": "grouped"}, {"changes": "epochs=1"}):
        assert published_for(replace(accuracy, details=protocol | changed)) is None
    region = replace(accuracy, task="regions", metric="median-loss")
    place = {"place": "heavy CDR3", "group": "mutated chains"}
    assert published_for(replace(region, details=place)).value == 1.102
    assert published_for(replace(region, details=place | {"group": "all"})) is None
    assert published_for(replace(region, details=place | {"place": "heavy CDR2"})) is None
    assert published_for(replace(accuracy, task="validation-loss", metric="loss")) is None
