"""The command line: what it prints, where its options come from, and how it says no."""

import argparse
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import MISSING, fields
from pathlib import Path
from types import SimpleNamespace

import pytest

import curr_ab
from curr_ab.cli.main import GROUPS, build_parser, main
from curr_ab.cli.shell import Parser, run, say_recognised
from curr_ab.data.preparing.plan import CleaningLimits, PreparationPlan
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.evaluation.plan import PLANS
from curr_ab.finetuning.recipe import Recipe
from curr_ab.inference import settings
from curr_ab.options import OptionError, Options, add_flags, read_flags, read_options, shown_default
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from curr_ab.scaling.doubt import Doubt
from curr_ab.study.preset import Launch

# The arguments that each command cannot do without; none of these files exists.
COMMANDS = {
    "models": "",
    "data prepare": "pairs.csv --out shards --cluster exact",
    "data simulate": "--pairs 3 --out pairs.parquet",
    "data describe": "shards",
    "pretrain": "8M-F --data shards --out run",
    "finetune": "pairing --model ./folder --data pairs.csv --out run",
    "example-data": "pairing --out pairs.csv",
    "embed": "./folder pairs.csv --out e.npy",
    "score": "./folder pairs.csv --out s.csv",
    "mutate": "./folder pairs.csv --out m.csv",
    "design": "./folder pairs.csv --out d.csv",
    "restore": "./folder pairs.csv --out r.csv",
    "pair": "./folder heavies.csv lights.csv --out p.csv",
    "generate": "./folder heavies.csv --out g.csv",
    "predict": "./folder pairs.csv --out p.csv",
    "simulate-rounds": "affinity --model demo --data assay.csv --out rounds",
    "number": "pairs.csv --out n.csv",
    **{f"evaluate {suite}": "--model ./folder --data shards --out measured" for suite in PLANS},
    "benchmark": "loss --models ./folder --data pairs.csv --out measured",
    "compare": "runs/a runs/b",
    "scaling fit": "runs.csv --law iso-data",
    "scaling advise": "--params 650M",
    "scaling reproduce": "",
    "scaling template": "",
    "scaling plan": "--budget 1e20",
    "export": "8M-F --weights run --out export",
    "adopt": "run --out exports",
    "card": "export",
    "publish": "export --namespace somebody",
    "verify": "8M-F",
    "space": "demo",
    "study": "--dry-run",
    "completion": "bash",
}
SETTINGS = [one for one in vars(settings).values() if hasattr(one, "__dataclass_fields__")]
PLAN_CLASSES = [PretrainingPlan, Recipe, PreparationPlan, CleaningLimits, ColumnNames, Doubt, Launch]


def subclasses(kind):
    return [kind, *(deep for one in kind.__subclasses__() for deep in subclasses(one))]


CLASSES = list(dict.fromkeys([*PLAN_CLASSES, *PLANS.values(), *SETTINGS, *subclasses(Options)[1:]]))


def leaves(parser, words=()):
    """Every command that does something, by its words."""
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not groups:
        return {" ".join(words): parser}
    return {
        name: leaf
        for word, inner in groups[0].choices.items()
        for name, leaf in leaves(inner, (*words, word)).items()
    }


PARSER = build_parser()
LEAVES = leaves(PARSER)


def options_of(leaf):
    return [one for one in leaf._actions if one.option_strings and one.dest != "help"]


def flags_of(kind):
    """The dataclass, and the parser of its flags alone."""
    parser = Parser(prog="test")
    add_flags(parser, kind)
    return parser, {one.dest: one for one in options_of(parser)}


@pytest.mark.parametrize("command", [name for names in GROUPS.values() for name in names])
def test_a_command_has_the_same_help_without_the_other_groups(command):
    def helps(all_leaves):
        return {words: one.format_help() for words, one in all_leaves.items() if words.split()[0] == command}

    assert helps(leaves(build_parser(command))) == helps(LEAVES) != {}


def test_a_command_loads_its_own_group_alone():
    found = {words.split()[0] for words in leaves(build_parser("data"))}
    assert found == {"models", "data", "completion"}
    assert {words.split()[0] for words in LEAVES} == found | {name for one in GROUPS.values() for name in one}


def test_models_prints_the_table(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 20
        and lines[16] == ""
        and [line.split()[0] for line in lines[18:]] == ["demo", "CLM-demo"]
    )
    assert lines[10].split() == [
        *("350M-F", "brineylab/CurrAb-350M-F", "355,252,514", "32", "960", "3840", "48"),
        *("1,648,726", "38.8"),
    ]


def test_models_as_json(capsys):
    assert main(["models", "--json", "--namespace", "somebody"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 15
    assert rows[0]["repo_id"] == "somebody/CurrAb-8M-F"
    assert rows[0]["plan"]["steps"] == 500_000
    assert {"task", "metric", "value", "source"} <= rows[0]["published"][0].keys()


def test_errors_are_one_line(monkeypatch, capsys):
    import curr_ab.cli.main

    def fail():
        raise ValueError("record 3 is empty; remove it")

    monkeypatch.setattr(curr_ab.cli.main, "members", fail)
    assert main(["models"]) == 2
    assert capsys.readouterr().err == "curr-ab: record 3 is empty; remove it\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "stopped by SIGINT; run the same command again"),
        (ImportError("GenAIRR is damaged:\n  reinstall it"), 2, "GenAIRR is damaged: reinstall it"),
        (
            PermissionError(13, "Permission denied", "locked.csv"),
            2,
            "locked.csv: permission denied; name another file or folder, or change its permissions",
        ),
        (ValueError("no column \x1b]0;mine\x07 in a\x9bfile"), 2, r"no column \x1b]0;mine\x07 in a\x9bfile"),
        (OSError(28, "No space left on device"), 2, "[Errno 28] No space left on device"),
    ],
)
def test_what_stops_a_command_is_one_line(error, status, line, monkeypatch, capsys):
    import curr_ab.cli.main

    def fail():
        raise error

    monkeypatch.setattr(curr_ab.cli.main, "members", fail)
    assert main(["models"]) == status
    assert capsys.readouterr() == ("", f"curr-ab: {line}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_command_in_one_line(number, monkeypatch, capsys):
    import curr_ab.cli.main

    closed = []

    def work():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), number)  # whoever is impatient: what is open is closed all the same
            closed.append(True)

    monkeypatch.setattr(curr_ab.cli.main, "members", work)
    before = signal.signal(number, signal.default_int_handler)  # whatever those ignore who started the tests
    try:
        assert main(["models"]) == 128 + number
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    line = f"curr-ab: stopped by {number.name}; run the same command again\n"
    assert capsys.readouterr() == ("", line) and closed


def test_what_was_recognised_gives_no_orders_to_a_terminal(capsys):
    """Names of files and columns are the source's own."""
    say_recognised([SimpleNamespace(source="a\x1b]0;mine\x07.csv", lines=lambda: ["id \x1b[31m", "v \x9b"])])
    assert capsys.readouterr().err == "a\\x1b]0;mine\\x07.csv: id \\x1b[31m\n  v \\x9b\n"


def test_what_a_caller_ignores_a_command_ignores(monkeypatch, capsys):
    """As after `nohup`."""
    import curr_ab.cli.main

    monkeypatch.setattr(curr_ab.cli.main, "members", lambda: os.kill(os.getpid(), signal.SIGHUP) or ())
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(["models"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_every_command_is_in_the_table():
    assert LEAVES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_is_complete(command):
    leaf = LEAVES[command]
    text = "".join(leaf.format_help().split())  # lines may break after a hyphen
    for one in leaf._actions:
        assert one.help and one.help[0].isupper() and len(one.help.split()) >= 3, one.dest
        assert "".join((one.help % {}).split()) in text
        if one.option_strings and one.dest != "help":
            assert one.help.endswith("(required)" if one.required else ")"), one.help
            assert one.required or "(default: " in one.help, one.help
        if one.choices and one.option_strings:
            assert f"{one.option_strings[0]}{{{','.join(one.choices)}}}" in text
    assert leaf.description


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_comes_from_a_dataclass(command):
    flags = LEAVES[command].get_default("flags") or {}
    assert {one.dest for one in options_of(LEAVES[command])} <= flags.keys()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_printed_default_is_that_of_the_dataclass(kind):
    """Given back to the command line, it makes what the dataclass makes without it."""
    parser, actions = flags_of(kind)
    own = {one.name: one for one in fields(kind) if one.metadata.get("help")}
    assert own.keys() <= actions.keys()
    for name, one in own.items():
        action = actions[name]
        if one.default is MISSING and one.default_factory is MISSING:
            assert action.required and action.help.endswith(" (required)")
            continue
        printed = shown_default(one)
        assert action.help.endswith(f" (default: {printed})".replace("%", "%%"))
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if one.metadata["shown"]:
            assert default in (None, (), 0) or str(default) in printed
            continue
        if default in (None, "", ()) or default == {}:
            assert printed == "none"
            continue
        words = [action.option_strings[0], *printed.split()]
        if isinstance(default, bool):
            assert printed == ("yes" if default else "no")
            words = [action.option_strings[0 if default else 1]]
        action.required = False
        parsed = parser.parse_args([*words, *required_words(actions)])
        assert read_flags(parsed, kind)[name] == default


def required_words(actions):
    return [word for one in actions.values() if one.required for word in (one.option_strings[0], "1")]


@pytest.mark.parametrize("kind", [PretrainingPlan, Recipe, *PLANS.values()], ids=lambda kind: kind.__name__)
def test_a_text_field_takes_any_text(kind):
    parser, _ = flags_of(kind)
    text = [one for one in fields(kind) if one.type in ("str", "str | None") and one.name != "member"]
    assert text
    for word in ("50", "no", "null", "1e-4", "[a", "a: b", "none"):
        for one in text:
            parsed = parser.parse_args([f"--{one.name.replace('_', '-')}", word])
            assert read_flags(parsed, kind) == {one.name: word}
    if kind is PretrainingPlan:
        plan = resolve_plan(read_flags(parser.parse_args(["--subset", "50", "--attention", "no"]), kind))
        assert (plan.subset, plan.attention) == ("50", "no")


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("--steps 5_000", {"steps": 5000}),
        ("--steps 5,000", {"steps": 5000}),
        ("--steps 5K", {"steps": 5000}),
        ("--steps 5e3", {"steps": 5000}),
        ("--peak-learning-rate 1e-4", {"peak_learning_rate": 1e-4}),
        ("--cdr3-mask-fraction none", {"cdr3_mask_fraction": None}),
        ("--checkpoint-steps 5 9", {"checkpoint_steps": (5, 9)}),
        ("--checkpoint-steps 5 --checkpoint-steps 9", {"checkpoint_steps": (5, 9)}),
        ("--checkpoint-steps", {"checkpoint_steps": ()}),
        ("--no-compile", {"compile": False}),
        (
            "--config hidden_size=40 hidden_dropout_prob=1e-1",
            {"config": {"hidden_size": 40, "hidden_dropout_prob": 0.1}},
        ),
        ("", {}),
    ],
)
def test_words_are_read_by_the_type_of_their_field(words, given):
    parser, _ = flags_of(PretrainingPlan)
    read = read_flags(parser.parse_args(words.split()), PretrainingPlan)
    assert read == given and all(type(read[name]) is type(value) for name, value in given.items())


def test_sizes_are_shares_with_a_point_and_counts_without():
    parser, _ = flags_of(PreparationPlan)
    words = ["--validation", "0.1", "--test", "1K", "--subsets", "F=1.0", "H=200"]
    plan = read_options(parser.parse_args(words), PreparationPlan)
    assert (plan.validation, plan.test, plan.subsets) == (0.1, 1000, {"F": 1.0, "H": 200})
    assert isinstance(plan.test, int) and isinstance(plan.subsets["F"], float)
    assert plan.names == ColumnNames() and plan.limits.min_length == 70


def test_a_name_is_given_one_value():
    parser, _ = flags_of(PreparationPlan)
    with pytest.raises(OptionError, match="subsets must give F once; got it more often"):
        read_options(parser.parse_args(["--subsets", "F=1.0", "H=0.5", "F=0.5"]), PreparationPlan)


def wrong_inputs(leaf, base):
    """Words that a command must refuse, and what its line must say."""
    for one in leaf._actions:
        for flag in [name for name in one.option_strings if name.startswith("--")][:1]:
            typos = (flag[:-2] + flag[-1], flag[:4] + flag[3:], flag.upper())
            for typo in typos[2 * (len(flag) == 3) :]:  # --n has no typo that is none of its short forms
                yield [*base, typo], "unknown option"
    for one in options_of(leaf):
        flag = one.option_strings[0]
        if one.nargs == 0:
            yield [*base, f"{flag}=yes"], "ignored explicit argument"
            continue
        if one.nargs is None:
            yield [*base, flag], "expected one argument"
        if one.required:
            place = base.index(flag)
            yield [*base[:place], *base[place + 2 :]], "required"
        if one.metavar in ("N", "NUMBER", "SIZE", "SHARE", "COUNT"):
            yield [*base, flag, "many"], f"got 'many' ({flag}"
            yield [*base, flag, "nan"], "got"
        if one.choices:
            yield [*base, flag, "what"], f"must be one of {', '.join(one.choices)}; got 'what' ({flag})"


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_inputs_end_in_one_line(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wrong = list(wrong_inputs(LEAVES[command], COMMANDS[command].split()))
    assert len(wrong) >= 10 or command in ("completion", "models", "data describe", "scaling template")
    for words, message in wrong:
        try:
            status = run(PARSER, [*command.split(), *words])
        except SystemExit as stopped:
            status = stopped.code
        said = capsys.readouterr()
        assert status == 2 and said.out == "", words
        assert said.err.count("\n") == 1 and said.err.startswith("curr-ab") and message in said.err, said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("modells", "unknown command 'modells'; did you mean models?"),
        ("scaling advice", "unknown verb 'advice'; did you mean advise?"),
        ("evaluate los", "unknown suite 'los'; did you mean loss?"),
        ("pretrain --batchsize 3", "unknown option '--batchsize'"),
        ("pretrain --pair-per-step 3", "unknown option '--pair-per-step'; did you mean --pairs-per-step?"),
        ("embed m i --outt x", "unknown option '--outt'; did you mean --out?"),
        ("pretrain --step 3", "unknown option '--step'; did you mean --steps?"),
        ("completion bsh", "unknown shell 'bsh'; did you mean bash?"),
        ("pretrain --schedule cosin", "got 'cosin'; did you mean cosine? (--schedule)"),
        ("pretrain --config hidden_sise=3", "'hidden_sise'; did you mean hidden_size? (--config)"),
        ("pretrain --config hidden_size", "config must be KEY=VALUE; got 'hidden_size' (--config)"),
        ("pretrain --plan plan.yaml", "plan.yaml: unknown plan option 'stepz'; did you mean steps?"),
        ("finetune plan.yaml --model m --data d", "plan.yaml: unknown recipe option 'stepz'"),
        ("finetune pairings --model m --data d", "unknown recipe 'pairings'; did you mean pairing?"),
        ("study --preset minni", "unknown preset 'minni'; did you mean mini?"),
        ("study --preset plan.yaml", "plan.yaml: unknown preset option 'stepz'"),
        ("study --dry-run --set 8M-F.stepz=3", "unknown plan option 'stepz'; did you mean steps?"),
        (
            "study --dry-run --set launch.max_paralel=3",
            "unknown launch option 'max_paralel'; did you mean max_parallel?",
        ),
        (
            "study --dry-run --set evaluation.loss.drawz=3",
            "unknown suite loss option 'drawz'; did you mean draws?",
        ),
        (
            "study --dry-run --set steps=3",
            "set must be CELL.key=value, such as 8M-F.steps=600; got 'steps=3' (--set)",
        ),
        ("study --dry-run --only 8M-X", "unknown cell in only '8M-X'; did you mean 8M-"),
        (
            "scaling advise --params 8M --flops 1e20",
            "exactly one of params, sequences, flops, gpu_hours, budget, loss must be given",
        ),
        (
            "mutate m i --out o --mutant H:Y32A --heat-maps d",
            "heat_maps must be none where mutants are given",
        ),
        ("design m i --out o --mutations 5-1", "mutations must be a number from 1, or two such as 1-5"),
        ("restore m i --out o --allow-at 5=A", "allow_at must be like H:101=AVL; got '5=A' (--allow-at)"),
        ("restore m i --out o --top 0", "top_k must be at least 1 and at most 20; got 0 (--top)"),
        ("embed m i --out o --part CDR3", "unknown parts of a pair 'CDR3'; did you mean CDR"),
        (
            "data prepare x --out o --min-length 200",
            "min_length must be at most max_length, 160; got 200 (--min-length",
        ),
        ("card a b --name x", "name must be left out for several folders; got 2 (--name)"),
        (
            "example-data pairs --out x.csv --seed 3",
            "seed must be left out for pairs, which are always the same (--seed)",
        ),
        ("example-data pairing --out x.txt", "out must end in .csv, .tsv or .parquet; got x.txt (--out)"),
        (
            "example-data pairng --out x.csv",
            "unknown recipe with example data 'pairng'; did you mean pairing?",
        ),
        ("example-data pairing --out x.csv --pairs 30K", "as many as the corpus has; got 30,000 (--pairs)"),
        ("export 350M-X --weights w --out e", "no member is called '350M-X'; did you mean 350M-"),
        ("scaling fit nowhere.csv --law iso-data", "nowhere.csv: no such file or folder; correct the name"),
        (
            "scaling fit folder --law iso-data",
            "folder must be the folder of a finished run of `curr-ab pretrain`; got none",
        ),
        ("scaling fit bytes.csv --law iso-data", "a file must be text in UTF-8"),
        ("scaling reproduce --seed -1", "seed must be at least 0; got -1 (--seed)"),
        ("pretrain --data d --plan folder", "folder: this is a folder; name a file"),
        (
            "pretrain --data d --out plan.yaml",
            "plan.yaml: a file stands in the way of a folder; name another",
        ),
        (
            "mutate m i --out o --mutants empty.txt",
            "mutants_file must hold mutants, one in a line; empty.txt is",
        ),
        ("restore m i --out o --allow-at H:0=A", "allow_at must be like H:101=AVL; got 'H:0=A' (--allow-at)"),
        ("embed m i --out o --device tpu", "cuda:1 or the like; got 'tpu' (--device)"),
        ("embed m i --out o --device cuda:99", "GPUs here; got cuda:99 (--device)"),
        (
            "data prepare pairs.csv --out o --cluster exact --unpaired --quiet",
            "name the columns of whole variable domains (--heavy-column, --light-column)",
        ),
        (
            "data prepare pairs.csv --out o --cluster exact --quiet --light-column lite",
            "there is no column 'lite'; the columns are heavy, light (--light-column)",
        ),
        (
            "data prepare plan.yaml --out o --cluster exact --quiet",
            "name the columns that hold the chains (--heavy-column, --light-column)",
        ),
    ],
)
def test_the_nearest_name_and_the_flag_are_said(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text("stepz: 3\n")
    (tmp_path / "pairs.csv").write_text("heavy,light\nEVQ,DIQ\n")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "folder").mkdir()
    try:
        status = main(words.split())
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2 and message in error and error.count("\n") == 1, error


def test_changes_of_a_recipe_are_read_by_their_fields():
    from curr_ab.evaluation.plan import make_plan
    from curr_ab.evaluation.suites.classification import recipe_of

    changes = ("folds=2", "learning_rate=1e-4", "id_column=no", "final=yes", "labels=[a, b]")
    recipe = recipe_of(make_plan("specificity", {"set": changes}))
    assert (recipe.folds, recipe.learning_rate, recipe.id_column, recipe.final) == (2, 1e-4, "no", True)
    assert recipe.labels == ("a", "b")
    for change, message in {
        "fold=2": "unknown recipe option 'fold'; did you mean folds",
        "x": "KEY=VALUE",
    }.items():
        with pytest.raises(ValueError, match=message):
            recipe_of(make_plan("specificity", {"set": (change,)}))


def test_a_field_of_the_recipe_is_a_setting_in_an_evaluation():
    """Fine-tuning's errors name fields; a suite that lacks one of them as an option changes it by --set."""
    flags = LEAVES["evaluate specificity"].get_default("flags")
    assert (flags["seed"], flags["group_by"]) == ("--seed", "--group-by")
    assert (
        flags["fold_scheme"] == "--set fold_scheme=..."
        and LEAVES["finetune"].get_default("flags")["fold_scheme"] == "--fold-scheme"
    )


def test_an_error_keeps_its_fields_between_processes():
    malformed = MalformedSource("a.csv", "no column", 3, ("unpaired",))
    for error, given in ((OptionError("steps must be 3", "steps"), ("steps",)), (malformed, ("unpaired",))):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.fields) == (type(error), str(error), given)
    assert str(again) == "a.csv, line 3: no column"


def test_a_checkpoint_is_loaded_by_the_defaults_that_the_options_state():
    from curr_ab.checkpoints import Checkpoint

    stated = {one.name: one.default for one in fields(settings.LoadingOptions)}
    assert stated == {one.name: one.default for one in fields(Checkpoint) if one.name in stated}


WITHOUT_LIBRARIES = """
import sys
import time
sys.modules.update(dict.fromkeys(["torch", "pyarrow", "numpy", "transformers", "scipy", "tqdm", "yaml"]))
from curr_ab.cli.main import main
for command in sys.argv[1:]:
    try:
        main([*command.split(), "--help"])
    except SystemExit as stopped:
        assert not stopped.code, command
main(["models"])
"""


def test_help_and_the_table_need_no_library():
    words = [sys.executable, "-c", WITHOUT_LIBRARIES, "", "data", "scaling", "evaluate", *COMMANDS]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("usage: curr-ab") == len(COMMANDS) + 4 and "350M-F" in result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_completion_is_printed(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "curr-ab" in script and "_ARGCOMPLETE" in script


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("curr-ab pre", {"pretrain", "predict"}),
        ("curr-ab scaling ", {"fit", "advise", "reproduce", "template", "plan"}),
        ("curr-ab pretrain --pairs-per-s", {"--pairs-per-step"}),
        ("curr-ab pretrain --schedule ", {"linear", "cosine", "constant"}),
        ("curr-ab completion f", {"fish"}),
    ],
)
def test_words_are_completed(line, completed, tmp_path):
    """As the script asks: the line in the environment, the answers in a file."""
    answers = tmp_path / "answers"
    environment = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answers),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    code = "from curr_ab.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert {word.strip() for word in answers.read_text().splitlines()} - {"-h", "--help"} == completed


@pytest.mark.heavy
def test_quiet_prints_nothing(tmp_path):
    """Nor do the processes that it starts: each loads the model."""
    bars = {name: value for name, value in os.environ.items() if "TQDM" not in name and "BARS" not in name}
    pairs = Path(curr_ab.resolve("demo"), "pairs.csv")
    options = ["--mode", "unmasked", "--device", "cpu", "--processes", "2", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "curr_ab", "score", "demo", pairs, "--out", tmp_path / "scores.csv", *options],
        env=bars | {"PYTHONPATH": str(Path(curr_ab.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
