"""Affinity tasks: signs, repeats, parents, single heavy chains, and the form of each source."""

import math

import pytest
from support.benchmark_files import pairs, variants, write_table

from curr_ab.benchmark.tasks.catalogue import read_task


def magma_rows(count=30, parent=0):
    return [{"VH": h, "VL": v, "KD": 10.0 * (n + 1)} for n, (h, v) in enumerate(variants(count, parent))]


def test_a_kd_is_learnt_as_its_logarithm_and_lower_is_better(tmp_path):
    (task,) = read_task("affinity-magma", [write_table(tmp_path / "kd.csv", magma_rows())])
    assert (task.kind, task.metric, task.sign) == ("ranking", "spearman", -1)
    assert task.labels == pytest.approx([math.log10(10 * (n + 1)) for n in range(30)])
    assert task.pairs == tuple(variants(30))
    assert task.folds is None  # a few shots are drawn at random


def test_a_direction_that_is_given_wins(tmp_path):
    file = write_table(tmp_path / "kd.csv", magma_rows())
    assert read_task("affinity-magma", [file], direction="higher")[0].sign == 1


def test_a_kd_of_zero_is_refused_with_its_record(tmp_path):
    rows = magma_rows()
    rows[6]["KD"] = 0
    with pytest.raises(ValueError, match="record 7: KD must be above 0; got 0"):
        read_task("affinity-magma", [write_table(tmp_path / "kd.csv", rows)])


def test_repeats_are_one_pair_with_their_mean(tmp_path):
    rows = [*magma_rows(), magma_rows()[0] | {"KD": 1000.0}]
    (task,) = read_task("affinity-magma", [write_table(tmp_path / "kd.csv", rows)])
    assert len(task) == 30 and task.labels[0] == pytest.approx(2.0)  # of 10 and 1,000
    assert any("counts once with its mean: 1" in note for note in task.notes)


def test_each_parent_is_a_task_and_small_ones_are_said(tmp_path):
    rows = magma_rows(25, 0) + magma_rows(22, 1) + magma_rows(5, 2)
    tasks = read_task("affinity-magma", [write_table(tmp_path / "kd.csv", rows)])
    assert [(task.name, len(task)) for task in tasks] == [
        ("affinity-magma-kd-1", 25),
        ("affinity-magma-kd-2", 22),
    ]
    assert any("parents with fewer than 20, which are left out: 5" in note for note in tasks[0].notes)
    with pytest.raises(ValueError, match=r"must have 20 variants of an antibody; the most .* is 5"):
        read_task("affinity-magma", [write_table(tmp_path / "few.csv", magma_rows(5))])


def test_a_file_of_one_antibody_is_one_task_whatever_the_cdr3s(tmp_path):
    rows = [{"heavy": h, "light": v, "fitness": n} for n, (h, v) in enumerate(pairs(24))]
    (task,) = read_task("affinity-flab", [write_table(tmp_path / "designs.csv", rows)], direction="higher")
    assert len(task) == 24


def test_an_scfv_of_alphaseq_is_split(tmp_path):
    rows = [
        {
            "mata_description": f"v{number}",
            "matalpha_description": "target",
            "alphaseq_affinity": number / 10,
            "mata_sequence": f"{heavy}GGGGSGGGGSGGGGS{light}R",
            "edit_distance": 1,
        }
        for number, (heavy, light) in enumerate(variants(24))
    ]
    (task,) = read_task("affinity-alphaseq", [write_table(tmp_path / "scfv.csv", rows)])
    assert task.pairs == tuple(variants(24)) and task.sign == -1 and task.ids[3] == "v3"
    with pytest.raises(ValueError, match=r"columns must be those of AlphaSeq.*no 'alphaseq_affinity'"):
        read_task("affinity-alphaseq", [write_table(tmp_path / "kd.csv", magma_rows())])


def test_the_direction_of_flab_is_asked_for_unless_the_file_says_it(tmp_path):
    rows = [{"heavy": h, "light": v, "fitness": n / 3} for n, (h, v) in enumerate(variants(24))]
    file = write_table(tmp_path / "koenig.csv", rows)
    with pytest.raises(ValueError, match=r"is a higher or a lower fitness better.*set direction to"):
        read_task("affinity-flab", [file])
    assert read_task("affinity-flab", [file], direction="lower")[0].sign == -1
    copied = [row | {"neg_log_Kd": row["fitness"]} for row in rows]
    assert read_task("affinity-flab", [write_table(tmp_path / "hie.csv", copied)])[0].sign == 1
    copied[2]["neg_log_Kd"] = 7
    with pytest.raises(ValueError, match="set direction"):
        read_task("affinity-flab", [write_table(tmp_path / "hie.csv", copied)])


def test_heavy_variants_of_abbibench_take_the_light_chain_of_their_parent(tmp_path):
    light = pairs(1)[0][1]
    rows = [{"mut_heavy_chain_seq": heavy, "binding_score": n} for n, (heavy, _) in enumerate(variants(24))]
    file = write_table(tmp_path / "1mhp_benchmarking_data.csv", rows)
    (alone,) = read_task("affinity-abbibench", [file])
    assert alone.pairs[0][1] is None and any("heavy chains alone" in note for note in alone.notes)
    (paired,) = read_task("affinity-abbibench", [file], light_chain=light)
    assert paired.pairs == tuple(variants(24)) and paired.sign == 1
    both = [row | {"light_chain_seq": light} for row in rows]
    (named,) = read_task("affinity-abbibench", [write_table(file, both)])
    assert named.pairs == tuple(variants(24)) and not any("alone" in note for note in named.notes)
    with pytest.raises(ValueError, match="set direction"):
        read_task("affinity-abbibench", [write_table(tmp_path / "unknown_benchmarking_data.csv", rows)])


def test_equal_numbers_rank_nothing(tmp_path):
    rows = [row | {"KD": 5} for row in magma_rows()]
    with pytest.raises(ValueError, match=r"must differ; all are 0\.69897; leave the file out"):
        read_task("affinity-magma", [write_table(tmp_path / "kd.csv", rows)])
