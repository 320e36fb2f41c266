"""The engine under both trainers: one step, one schedule, an agreed stop, trackers, costs."""

import builtins
import subprocess
import sys
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from support.tiny_models import tiny_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from curr_ab import CurrAbForMaskedLM, CurrAbTokenizer
from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.finetuning import cross_validate, plant, resolve_recipe
from curr_ab.finetuning.run_folder import FinetuningFolder
from curr_ab.pretraining import pretrain, resolve_plan
from curr_ab.quantities import format_duration
from curr_ab.results import read_results
from curr_ab.scaling.compute import gpu_flops
from curr_ab.training import costs
from curr_ab.training.state import read_log
from curr_ab.training.step import parameter_groups, scheduled_rate
from curr_ab.training.stop import StopRequest


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Arguments of a pretraining run of one step, without its folder."""
    folder = tmp_path_factory.mktemp("corpus")
    pq.write_table(pq.read_table(builtin_path()).slice(5_000, 120), folder / "pairs.parquet")
    prepare([str(folder / "pairs.parquet")], folder / "corpus", PreparationPlan(cluster="exact"))
    shape = {"hidden_size": 80, "intermediate_size": 160, "num_hidden_layers": 2}
    values = {"config": shape, "steps": 1, "warmup_steps": 0, "pairs_per_step": 2, "evaluation_pairs": 2}
    return resolve_plan({**values, "data": str(folder / "corpus"), "precision": "fp32"})


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Arguments of a fine-tuning of a few steps, without its folder."""
    folder = tmp_path_factory.mktemp("tuned")
    torch.manual_seed(0)
    CurrAbForMaskedLM(tiny_config(num_attention_heads=2)).save_pretrained(folder / "member")
    CurrAbTokenizer().save_pretrained(folder / "member")
    pq.write_table(plant("specificity-binary", 24, 0), folder / "pairs.parquet")
    recipe = resolve_recipe(
        "specificity-binary",
        {"method": "lora", "folds": 2, "epochs": 2, "precision": "fp32", "pairs_per_step": 8},
    )
    return recipe, folder / "member", [folder / "pairs.parquet"]


def test_both_trainers_take_the_same_step(pretrained, tuned, monkeypatch, tmp_path):
    def broken(*_):
        raise ArithmeticError("the step of the engine")

    monkeypatch.setattr("curr_ab.training.step.set_learning_rate", broken)
    with pytest.raises(ArithmeticError, match="the step of the engine"):
        pretrain(pretrained, tmp_path / "pretraining")
    with pytest.raises(ArithmeticError, match="the step of the engine"):
        cross_validate(*tuned, tmp_path / "finetuning")


def test_trackers_get_the_losses_and_metrics_of_every_fit(tuned, tmp_path):
    recipe, model, data = tuned
    out = tmp_path / "run"
    tracked = resolve_recipe("specificity-binary", recipe.to_dict() | {"trackers": ["tensorboard"]})
    assert recipe.differences(tracked) == []  # so a run may begin without trackers and go on with them
    cross_validate(tracked, model, data, out)
    run = FinetuningFolder(out)
    events = EventAccumulator(str(next((out / "curr-ab").rglob("events*")).parent)).Reload()
    steps = []
    for fit in (run.fold(1), run.fold(2), run.final):
        logged = [entry["loss"] for entry in fit.read_log() if entry["step"]]  # the start has none
        written = events.Scalars(f"{fit.path.name}/loss")
        assert [event.value for event in written] == pytest.approx(logged, abs=1e-5)
        steps += [event.step for event in written]
    assert steps == sorted(set(steps))  # some trackers drop what is not in ascending order
    for fit in (run.fold(1), run.fold(2)):
        for row in read_results(fit.results_file):
            (event,) = events.Scalars(f"{fit.path.name}/{row.metric}")
            assert event.value == pytest.approx(row.value, abs=1e-6)


def test_trackers_that_are_not_installed_are_named(tuned, tmp_path):
    recipe, model, data = tuned
    tracked = resolve_recipe("specificity-binary", recipe.to_dict() | {"trackers": ["aim"]})
    with pytest.raises(ValueError, match="trackers must be installed; aim are not: pip install aim"):
        cross_validate(tracked, model, data, tmp_path / "run")


def test_a_warm_up_rises_and_the_schedule_goes_on_from_its_peak():
    for schedule, last in (("linear", 0.1), ("cosine", 0.0245), ("constant", 1.0)):
        rates = [
            scheduled_rate(step, peak=1.0, num_steps=14, warmup_steps=4, schedule=schedule)
            for step in range(14)
        ]
        assert rates[:5] == [0, 0.25, 0.5, 0.75, 1.0]
        assert rates[-1] == pytest.approx(last, abs=1e-3)
    decaying = {"peak": 1.0, "num_steps": 14, "warmup_steps": 4, "schedule": "constant", "decay_steps": 5}
    assert [scheduled_rate(step, **decaying) for step in range(4, 14)] == [1.0] * 6 + [0.8, 0.6, 0.4, 0.2]
    assert scheduled_rate(0, peak=2.0, num_steps=3, warmup_steps=0) == 2.0
    with pytest.raises(ValueError, match="schedule must be linear, cosine or constant; got 'square'"):
        scheduled_rate(5, peak=1.0, num_steps=9, warmup_steps=0, schedule="square")


def test_what_is_frozen_is_in_no_group_and_biases_do_not_decay():
    layer = torch.nn.Linear(3, 3)
    frozen = torch.nn.Linear(3, 3).requires_grad_(False)
    decayed, others = parameter_groups([*layer.parameters(), *frozen.parameters()], 0.1)
    assert decayed["params"] == [layer.weight] and decayed["weight_decay"] == 0.1
    assert others["params"] == [layer.bias] and others["weight_decay"] == 0.0


def test_processes_stop_at_the_signal_of_any_of_them():
    def gather(signal):
        return torch.cat([signal, torch.tensor([15])])

    several = SimpleNamespace(num_processes=2, device="cpu", gather=gather)
    stop = StopRequest()
    assert stop.agreed(several, due=True) == 15
    assert stop.agreed(several, due=False) == 0
    stop.signal_number = 2
    assert stop.agreed(SimpleNamespace(num_processes=1), due=False) == 2  # one process need not ask


# --- costs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA A100-SXM4-80GB", "A100"), ("l40s", "L40S")],
)
def test_one_table_has_the_peak_of_a_device_whatever_its_name(name, key):
    assert costs.named_peak(name) == costs.PEAK_FLOPS[key]
    assert gpu_flops(1, name, 1.0) == 3600 * costs.PEAK_FLOPS[key]


def test_an_unknown_device_has_no_peak():
    assert costs.named_peak("NVIDIA A10G") is None and costs.named_peak("CPU") is None
    assert costs.peak_flops(torch.device("cpu"), "bf16") is None


def test_peaks_are_read_without_torch():
    program = "import sys, curr_ab.scaling.compute; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_memory_of_a_process_is_known_without_the_module_resource(monkeypatch):
    """Which Windows does not have."""
    with_it = costs.peak_memory(torch.device("cpu"))
    original = builtins.__import__

    def blocked(name, *args, **kwargs):
        if name == "resource":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", blocked)
    without = costs.peak_memory(torch.device("cpu"))
    assert 0 < without <= 1.5 * with_it and with_it < 100 * without


def test_durations_read_as_people_say_them():
    seconds = (42.4, 185, 7_800, 47 * 3_600, 12.25 * 86_400, 4_000 * 86_400)
    assert [format_duration(each) for each in seconds] == [
        *("42 s", "3 min 5 s", "2 h 10 min", "47 h 0 min"),
        *("12 days 6 h", "4,000 days 0 h"),
    ]


def test_a_broken_line_of_the_log_costs_no_other(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'\xff\x00{"st\n{"step": 2}\n{"step": 3}\n{"ste')
    assert read_log(tmp_path) == [{"step": 2}, {"step": 3}]
