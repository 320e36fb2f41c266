"""What docs/how-to/many-pairs.md says of folders of results and of several machines."""

import shlex

import pytest
from support.documents import ROOT, blocks_of, commands_in

from curr_ab.cli.inference import BulkOptions
from curr_ab.cli.main import build_parser, main
from curr_ab.options import read_options
from curr_ab.share import Share

BLOCKS = blocks_of((ROOT / "docs" / "how-to" / "many-pairs.md").read_text())


@pytest.mark.heavy
def test_reading_a_folder(folder, table, simulated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--records-per-part", "25", "--dtype", "float32", "--quiet", "--precision", "float16"]
    assert main(["embed", str(folder), str(table), "--out", "embeddings/", *options]) == 0
    (reading,) = (block.text for block in BLOCKS if block.language == "python")
    reading = reading.replace("1_000", "20").replace("P10", simulated[20].id).replace("P20", simulated[30].id)
    variables = {"wanted": simulated[40].id}
    exec(reading, variables)
    assert variables["one"]["id"].to_pylist() == [simulated[40].id]
    assert variables["some"]["id"].to_list() == [one.id for one in simulated[20:40]]
    assert sorted(row[0] for row in variables["between"]) == [one.id for one in simulated[20:31]]


def test_commands_on_several_machines(monkeypatch):
    """What Slurm and the launchers are given is understood, too."""
    lines = "".join(block.text for block in BLOCKS if block.language == "sh").splitlines()
    commands = [command for line in lines for command in commands_in(line)]
    assert len(commands) == 4
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    for command in commands:
        args = build_parser().parse_args(shlex.split(command))
        options = read_options(args, BulkOptions)
        assert options.join or options.share == Share(0, 4)
