"""Presets are data: those of the package are sound, and a bad one is refused in words."""

import json
import shutil

import pytest
import yaml

from curr_ab.cli.main import main
from curr_ab.family import MEMBERS, SIZES
from curr_ab.measures.held_out import MASK_FRACTION
from curr_ab.study.cells import cells_of, chosen
from curr_ab.study.costs import cost_of
from curr_ab.study.preset import change, make_preset, preset_names, read_preset
from curr_ab.study.study import plan_study, run_study
from tests.study.conftest import MICRO


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted({*preset_names()} - {"transfer", "small"}))
def test_presets_of_the_package_have_all_members(name):
    preset = read_preset(name)
    cells = cells_of(preset, "data")
    assert sorted(cell.member for cell in cells if cell.exported) == sorted(MEMBERS)
    sizes = [cost_of(cell).parameters for cell in cells]
    assert sizes == sorted(sizes)
    assert make_preset(preset.to_dict(), name) == preset


@pytest.mark.heavy
def test_the_paper_s_cells_are_the_family_s_published_plan():
    for cell in cells_of(read_preset("paper"), "data"):
        member = MEMBERS[cell.member]
        plan = cell.plan
        assert cost_of(cell).parameters == member.size.num_parameters
        assert (plan.steps, plan.pairs_per_step, plan.seed) == (500_000, 128, 42)
        assert plan.training_subset == member.data.letter
        assert plan.model_config == {**member.config(), "is_decoder": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, r"micro: unknown preset option 'epochs'; choose one of name, title, data"),
        ({"launch": {"nodes": 2}}, r"micro, launch: unknown launch option 'nodes'; choose one of gpus_per"),
        ({"data": {"sources": ["builtin"]}}, r"micro, data: subsets must be given; got none"),
        (
            {"sizes": {"12M": {"hidden_size": 96}}},
            r"unknown size '12M'; choose one of 8M, 35M.*must say num_h",
        ),
        ({"sizes": {"8M": 48}}, r"micro, sizes: 8M must be `name: value` lines; got 48"),
        ({"sizes": {}}, r"sizes, data subsets and seeds must be one at least"),
        ({"seeds": [1, 1]}, r"seeds must be different; got \[1, 1\]"),
        ({"evaluation": {}}, r"evaluation must hold the suite loss"),
        ({"evaluation": {"loss": {}, "beauty": {}}}, r"unknown suite 'beauty'; choose one of loss"),
        (
            {"evaluation": {"loss": {"drows": 2}}},
            r"loss: unknown suite loss option 'drows'; did you mean draws",
        ),
        ({"plan": {"stepps": 3}}, r"cell 8M-F: unknown plan option 'stepps'; did you mean steps"),
        ({"plan": {"data": "x"}}, r"cell 8M-F: data is the study's to say"),
        ({"plan": {"steps": -1}}, r"cell 8M-F: steps must be above 0; got -1"),
        ({"plan": {"config": 3}}, r"plan: config must be `name: value` lines; got 3"),
        ({"cells": {"8M-F": {"config": []}}}, r"8M-F: config must be `name: value` lines; got \[\]"),
        ({"plan": {"steps": [3]}}, r"cell 8M-F: steps must be a whole number; got \[3\]"),
        ({"plan": {"config": {"hidden_size": "x"}}}, r"cell 8M-F: .*hidden_size"),
        ({"plan": {"config": {"num_hidden_layers": -2}}}, r"cell 8M-F: its shape must make a model"),
        ({"plan": {"config": {"num_attention_heads": 0}}}, r"cell 8M-F: its shape must make a model"),
        (
            {"data": {"subsets": {"F": float("inf")}}},
            r"subsets: F must be a share such as 0\.5 or a number of pairs; got inf",
        ),
        ({"seeds": 3}, r"micro: seeds must be a list; got 3"),
        ({"seeds": ["x"]}, r"micro: seeds must be a whole number; got 'x'"),
        ({"title": None}, r"micro: title must be text; got None"),
        ({"title": ""}, r"micro: title must say what the study is; got none"),
        ({"launch": {"gpus_per_cell": "x"}}, r"micro: gpus_per_cell must be a whole number; got 'x'"),
        ({"launch": {"max_parallel": "abc"}}, r"micro: max_parallel must be a whole number; got 'abc'"),
        ({"launch": {"max_parallel": -3}}, r"micro: max_parallel must be at least 0; got -3"),
        ({"launch": {"threads_per_cell": 0}}, r"threads_per_cell must be at least 1; got 0"),
        ({"data": {"subsets": {"F": "abc"}}}, r"micro: subsets: F must be a share such as 0\.5 .* got 'abc'"),
        ({"data": {"subsets": {"F": True}}}, r"F must be a share .* got True"),
        ({"data": {"subsets": {"F": 0}}}, r"F must be a share .* got 0$"),
        ({"data": {"subsets": {"x/../../../../victim": 1}}}, r"subset must be letters and digits; got 'x/"),
        ({"data": {"subsets": {"..": 1}}}, r"subset must be letters and digits; got '\.\.'"),
        (
            {"sizes": {"../8M": {}}},
            r"micro: sizes and subsets must be called by letters and digits; got '\.\./8M'",
        ),
        (
            {"launch": {"slurm": {"comment": "x\nrm -r /"}}},
            r"slurm must be options of sbatch, each in one line; got 'comment: x\\nrm -r /'",
        ),
        ({"launch": {"slurm": {"a\nb": 1}}}, r"slurm must be options of sbatch, each in one line"),
        ({"data": {"subsets": {"F": 1}, "draws": 0}}, r"micro: draws must be at least 1; got 0"),
        ({"plan": {"draw": 2}}, r"cell 8M-F: draw is the study's to say"),
        ({"plan": {"decay_steps": 3}}, r"decay_steps must be 0 for the schedule linear"),
        (
            {"plan": {"schedule": "constant", "steps": 12, "warmup_steps": 2, "decay_steps": 11}},
            r"cell 8M-F: decay_steps must be at most steps less warmup_steps, 10; got 11",
        ),
        ({"data": {"subsets": 3}}, r"micro: subsets must be `name: value` lines; got 3"),
        (
            {"data": {"subsets": {"F": 1}, "cluster": "x"}},
            r"micro: cluster must be one of clonotype, mmseqs, exact, source; got 'x'",
        ),
        (
            {"evaluation": {"loss": {"draws": "x"}}},
            r"evaluation, loss: draws must be a whole number; got 'x'",
        ),
        (
            {"evaluation": {"loss": {"split": "tset"}}},
            r"loss: split must be one of .* got 'tset'; did you mean test",
        ),
        (
            {"evaluation": {"loss": {}, "pairing": {"method": "foo"}}},
            r"pairing: method must be one of .* got 'foo'",
        ),
        (
            {"evaluation": {"loss": {}, "pairing": {"set": ["x"]}}},
            r"evaluation, pairing: set must be KEY=VALUE; got 'x'",
        ),
        ({"cells": {"9M-F": {"steps": 3}}}, r"cells must be of 8M-F, 8M-Q, 35M-F, 35M-Q; got '9M-F'"),
    ],
)
def test_bad_presets_are_refused_in_words(changes, message):
    with pytest.raises(ValueError, match=message):
        [cost_of(cell) for cell in cells_of(make_preset({**MICRO, **changes}, "micro"), "data")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8M-F.steps=[", r"set 8M-F\.steps=\[: steps must be a whole number; got '\['"),
        ("evaluation.loss.draws.x=3", r"set evaluation\.loss\.draws\.x=3: draws is 1, which has no x"),
        ("evaluation.loss=3", r"evaluation: loss must be `name: value` lines; got 3"),
        ("launch.max_parallel=abc", r"max_parallel must be a whole number; got 'abc'"),
    ],
)
def test_bad_changes_are_refused_in_words(text, message):
    with pytest.raises(ValueError, match=message):
        change(make_preset(MICRO, "micro"), [text])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"subsets": {"F": 40, "H": 8, "Q": 8}}}, r"cells 8M-H and 8M-Q are one point of the law"),
        ({"seeds": [1, 2], "plan": {"seed": 7}}, r"cells 8M-F-seed1 and 8M-F-seed2 are one point.*seed 7"),
        (
            {"sizes": dict.fromkeys(("8M", "35M"), MICRO["sizes"]["8M"])},
            r"cells 8M-F and 35M-F are one point",
        ),
    ],
)
def test_cells_that_the_law_cannot_tell_apart_are_refused_before_anything_is_made(changes, message, tmp_path):
    preset = make_preset({**MICRO, **changes}, "micro")
    with pytest.raises(ValueError, match=message):
        plan_study(preset, tmp_path / "study", None)
    if preset.data.sources:
        with pytest.raises(ValueError, match=message):
            run_study(preset, tmp_path / "study")
        assert not (tmp_path / "study" / "data").exists()


def test_subsets_that_the_data_make_equal_are_refused(prepared, tmp_path):
    index = json.loads((prepared / "dataset.json").read_text())
    shutil.copytree(prepared, tmp_path / "data")
    index["subsets"] |= {"H": index["subsets"]["Q"]}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(index))
    preset = make_preset({**MICRO, "data": {"subsets": {"H": 0.5, "Q": 0.25}}}, "micro")
    with pytest.raises(ValueError, match="cells 8M-H and 8M-Q are one point of the law"):
        run_study(preset, tmp_path / "study", data=tmp_path / "data")


def test_data_of_a_suite_that_are_not_there_are_refused_before_anything_is_made(tmp_path):
    preset = make_preset({**MICRO, "evaluation": {"loss": {}, "fitness": {"data": ["nope.csv"]}}}, "micro")
    with pytest.raises(ValueError, match=r"micro, evaluation, fitness: the data nope\.csv are not there"):
        run_study(preset, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_one_source_needs_no_list():
    data = {**MICRO["data"], "sources": "builtin"}
    assert make_preset({**MICRO, "data": data}, "micro").data.sources == ("builtin",)


def test_a_shape_that_is_none_is_refused_before_anything_is_trained():
    sizes = {"8M": {**MICRO["sizes"]["8M"], "num_attention_heads": 3}}
    (cell, _) = cells_of(make_preset({**MICRO, "sizes": sizes}, "micro"), "data")
    with pytest.raises(ValueError, match=r"cell 8M-F: .*16.*3"):
        cost_of(cell)


def test_files_and_names(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**MICRO, "name": "mine"}))
    assert read_preset(tmp_path / "own.yaml").name == "mine"
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    assert main(["study", "--preset", str(tmp_path / "bad.yaml"), "--dry-run"]) == 2
    assert main(["study", "--preset", "maxi", "--dry-run"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "bad.yaml must be YAML" in errors[0]
    names = "mini, paper, small, transfer"
    wanted = f"curr-ab: unknown preset 'maxi'; choose one of {names} or name a YAML file (--preset)"
    assert errors[1] == wanted


def test_cells_depart_from_the_common_plan_by_name_or_pattern():
    preset = make_preset({**MICRO, "cells": {"35M-*": {"steps": 20}}}, "micro")
    preset = change(
        preset, ["*-Q.config.hidden_dropout_prob=0.25", "35M-Q.steps=30", "evaluation.loss.pairs=9"]
    )
    plans = {cell.name: cell.plan for cell in cells_of(preset, "data")}
    assert {name: plan.steps for name, plan in plans.items()} == {
        "8M-F": 12,
        "8M-Q": 12,
        "35M-F": 20,
        "35M-Q": 30,
    }
    assert plans["8M-Q"].model_config["hidden_dropout_prob"] == 0.25
    assert plans["8M-F"].model_config["hidden_dropout_prob"] == 0.1
    assert plans["8M-Q"].model_config["hidden_size"] == 16
    assert preset.evaluation["loss"]["pairs"] == 9
    assert change(preset, ["launch.gpus_per_cell=2"]).launch.gpus_per_cell == 2
    with pytest.raises(ValueError, match=r"set must be CELL\.key=value"):
        change(preset, ["steps=3"])
    with pytest.raises(ValueError, match=r"unknown launch option 'speed'"):
        change(preset, ["launch.speed=2"])


def test_seeds_and_own_sizes_make_cells_of_which_one_of_each_member_is_exported():
    sizes = {**MICRO["sizes"], "own": MICRO["sizes"]["8M"]}
    cells = cells_of(make_preset({**MICRO, "sizes": sizes, "seeds": [3, 4]}, "micro"), "data")
    assert [cell.name for cell in cells[:3]] == ["8M-F-seed3", "8M-F-seed4", "8M-Q-seed3"]
    assert [cell.name for cell in cells if cell.exported] == [
        *("8M-F-seed3", "8M-Q-seed3", "35M-F-seed3", "35M-Q-seed3")
    ]
    assert [cell.plan.seed for cell in cells[:2]] == [3, 4]
    assert [cell.name for cell in chosen(cells, ["8M-F", "own-Q-seed4"], "only")] == [
        *("8M-F-seed3", "8M-F-seed4", "own-Q-seed4")
    ]
    with pytest.raises(ValueError, match=r"unknown cell in only '9M-F'; choose one of 8M-F-seed3"):
        chosen(cells, ["9M-F"], "only")
    assert {size.name for size in SIZES} >= {"8M", "35M"}


def test_draws_make_cells_with_pairs_and_seeds_of_their_own():
    preset = make_preset({**MICRO, "data": {"subsets": {"F": 40, "Q": 8}, "draws": 2}}, "micro")
    cells = cells_of(preset, "data")
    assert [cell.name for cell in cells[:4]] == ["8M-F-draw1", "8M-F-draw2", "8M-Q-draw1", "8M-Q-draw2"]
    assert [cell.plan.draw for cell in cells] == [1, 2] * 4
    assert len({cell.plan.seed for cell in cells}) == 8
    assert [cell.name for cell in cells if cell.exported] == [
        *("8M-F-draw1", "8M-Q-draw1", "35M-F-draw1", "35M-Q-draw1")
    ]
    assert [cell.plan.seed for cell in cells_of(preset, "data")] == [cell.plan.seed for cell in cells]
    both = cells_of(make_preset({**preset.to_dict(), "seeds": [1, 2]}, "micro"), "data")
    assert both[1].name == "8M-F-draw1-seed2" and len({cell.plan.seed for cell in both}) == 16
    (only,) = chosen(both, ["35M-Q-draw2-seed1"], "only")
    assert (only.plan.draw, only.member, only.title) == (2, "35M-Q", "35M-Q")


def test_cells_of_the_grid_may_be_left_out():
    preset = make_preset({**MICRO, "left_out": ["35M-Q"], "transfer": {"clm_steps": [3]}}, "micro")
    names = [cell.name for cell in cells_of(preset, "data")]
    assert names == ["8M-F", "8M-Q", "35M-F", "8M-F-clm3", "8M-Q-clm3", "35M-F-clm3"]
    assert make_preset(preset.to_dict(), "micro") == preset
    with pytest.raises(ValueError, match=r"left_out must be of 8M-F, 8M-Q, 35M-F, 35M-Q; got '9M-\*'"):
        cells_of(make_preset({**MICRO, "left_out": ["9M-*"]}, "micro"), "data")


@pytest.mark.heavy
def test_small_gives_every_data_size_six_sizes_or_more_and_exports_nothing():
    preset = read_preset("small")
    cells = cells_of(preset, "data")
    assert not any(cell.exported for cell in cells) and {cell.plan.draw for cell in cells} == {1, 2, 3, 4, 5}
    sizes = {data: {cell.size for cell in cells if cell.data == data} for data in preset.data.subsets}
    assert {len(names) for names in sizes.values()} == {6, 7}
    assert make_preset(preset.to_dict(), "small") == preset
    assert {cell.plan.mask_fraction for cell in cells} == {0.4} and MASK_FRACTION == 0.15


def test_with_one_draw_cells_are_what_they_were():
    cells = cells_of(make_preset(MICRO, "micro"), "data")
    assert [cell.name for cell in cells] == ["8M-F", "8M-Q", "35M-F", "35M-Q"]
    assert {(cell.plan.draw, cell.plan.seed) for cell in cells} == {(0, 42)}
