"""Tables of assays: which direction is better, and what cannot be read."""

import pytest
from support.assay_tables import write
from support.tiny_models import PAIRS

from curr_ab.evaluation.suites.assays import read_assays


@pytest.fixture(scope="module")
def pairs():
    [(heavy, light), *_] = PAIRS
    heavies = [heavy[:place] + "S" + heavy[place + 1 :] for place in range(60, 65)]
    return [{"heavy": one, "light": light} for one in heavies]


def test_the_direction_is_never_guessed(pairs, tmp_path):
    rows = [{"heavy": r["heavy"], "light": r["light"], "fitness": i} for i, r in enumerate(pairs)]
    table = write(tmp_path / "kd.csv", rows)
    with pytest.raises(ValueError, match=r"is higher or lower fitness better\? .* `kd: higher`"):
        read_assays([str(table)], None)
    said = write(tmp_path / "said.csv", [row | {"direction": "lower"} for row in rows])
    assert read_assays([str(said)], None)[0].fitness[1] == -1
    with pytest.raises(ValueError, match="must be higher or lower; got "):
        read_assays([str(said)], "higher")
    by_assay = tmp_path / "directions.yaml"
    by_assay.write_text("kd: lower\nsaid: lower\n")
    assert [one.fitness[2] for one in read_assays([str(table), str(said)], str(by_assay))] == [-2, -2]
    by_assay.write_text("kd: lower\nbinding: higher\n")
    with pytest.raises(ValueError, match=r"those of assays .kd.; got 'binding'"):
        read_assays([str(table)], str(by_assay))
    for text, message in {
        "kd: up\n": "kd must be higher or lower; got 'up'; write lines `assay: higher` or `assay: lower`",
        "kd: {a: higher}\n": "kd must be higher or lower; got {'a': 'higher'}",
        "higher: [kd]\n": r"higher must be higher or lower; got \['kd'\]",
        "kd: [higher\n": "directions.yaml must be YAML; ",
        "kd: lower: higher\n": "directions.yaml must be YAML; ",
        "- kd\n": "directions.yaml must hold",
    }.items():
        by_assay.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_assays([str(table)], str(by_assay))
    with pytest.raises(ValueError, match="direction must be higher, lower or a YAML file"):
        read_assays([str(table)], "up")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("high", r"record 3: fitness must be a number or empty; got 'high'"),
        ("inf", "record 3: fitness must be finite; got inf"),
    ],
)
def test_fitness_that_is_no_number(cell, message, pairs, tmp_path):
    rows = [{"heavy": r["heavy"], "light": r["light"], "fitness": i} for i, r in enumerate(pairs)]
    rows[2]["fitness"] = cell
    with pytest.raises(ValueError, match=message):
        read_assays([str(write(tmp_path / "a.csv", rows))], "higher")


def test_assays_without_what_they_need(pairs, tmp_path):
    rows = [{"heavy": r["heavy"], "light": r["light"], "kd": 1} for r in pairs]
    with pytest.raises(ValueError, match="no column 'fitness'; the columns are heavy, light, kd"):
        read_assays([str(write(tmp_path / "a.csv", rows))], "higher")
    rows = [
        {"heavy": r["heavy"], "light": "" if i == 3 else r["light"], "fitness": 1}
        for i, r in enumerate(pairs)
    ]
    with pytest.raises(ValueError, match="record 4 must have both chains; the light one is missing"):
        read_assays([str(write(tmp_path / "a.csv", rows))], "higher")
    (tmp_path / "b").mkdir()
    twice = [str(write(tmp_path / part / "x.csv", [rows[0] | {"light": "DIQ"}])) for part in (".", "b")]
    with pytest.raises(ValueError, match="got two files of x"):
        read_assays(twice, "higher")


def test_repeats_of_a_pair_are_merged(pairs, tmp_path):
    rows = [row | {"fitness": i + shift} for shift in (0, -0.4, 0.4) for i, row in enumerate(pairs)]
    rows.append(
        {
            **pairs[0],
            "heavy": pairs[1]["heavy"],
            "light": pairs[0]["light"].replace("T", "S", 1),
            "fitness": 9,
        }
    )
    rows.append({**pairs[0], "fitness": ""})
    [assay] = read_assays([str(write(tmp_path / "a.csv", rows))], "higher")
    assert assay.fitness == pytest.approx([0, 1, 2, 3, 4, 9])
    assert assay.pairs["heavy"].to_pylist()[:5] == [row["heavy"] for row in pairs]
    assert (assay.num_repeats, assay.num_without) == (10, 1)


def test_a_table_with_only_a_header(tmp_path):
    (tmp_path / "empty.csv").write_text("heavy,light,fitness\n")
    with pytest.raises(
        ValueError, match=r"empty\.csv must have records; got none; add rows below its header"
    ):
        read_assays([str(tmp_path / "empty.csv")], "higher")
