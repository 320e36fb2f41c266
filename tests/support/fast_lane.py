"""Plug-in for `make test-fast`: tests that start processes or train are marked `heavy` by what they name.

A test is heavy if it, a fixture that it uses, or a function of the tests that these call, names one of
`NAMES`. What no name gives away, or takes seconds for another reason, is marked by hand:
`@pytest.mark.heavy`. A test that starts a process or trains all the same fails, in every lane, and says so.
"""

import multiprocessing.process
import subprocess
from collections.abc import Generator
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from torch.optim.optimizer import register_optimizer_step_pre_hook

TESTS = str(Path(__file__).parents[1])
NAMES = {"subprocess", "Popen", "multiprocessing", "Process", "ProcessPoolExecutor", "FreshProcess"}
NAMES |= {"pretrain", "cross_validate", "run_study", "training_step", "clip_grad_norm_"}
MARKS = ("heavy", "slow", "browser")
FEW_STEPS = 200  # of an optimiser: a test of a schedule is no training

_seen: list[str] = []


def names_in(code: CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names, *code.co_freevars}.union(*(names_in(one) for one in inner))


def is_heavy(function: FunctionType, visited: set[FunctionType]) -> bool:
    """True if the function, or one of the tests' functions that it names, names what starts or trains."""
    visited.add(function)
    names = names_in(function.__code__)
    if names & NAMES:
        return True
    named = [function.__globals__.get(name) for name in names]
    return any(
        is_heavy(one, visited)
        for one in named
        if isinstance(one, FunctionType) and one not in visited and one.__code__.co_filename.startswith(TESTS)
    )


@pytest.hookimpl(tryfirst=True)  # before the selection by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known: dict[FunctionType, bool] = {}
    for item in items:
        definitions = item._fixtureinfo.name2fixturedefs.values()
        for function in (item.function, *(one.func for several in definitions for one in several)):
            if isinstance(function, FunctionType):
                if function not in known:
                    known[function] = is_heavy(function, set())
                if known[function]:
                    item.add_marker("heavy")


def pytest_configure(config: pytest.Config) -> None:
    def watch(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def watched(*args: object, **options: object) -> object:
            _seen.append("starts a process")
            return real(*args, **options)

        setattr(owner, name, watched)

    watch(subprocess.Popen, "__init__")
    watch(multiprocessing.process.BaseProcess, "start")
    register_optimizer_step_pre_hook(lambda *_: _seen.append("trains"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> object:
    return (yield from _guarded(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> object:
    return (yield from _guarded(item))


def _guarded(item: pytest.Item) -> Generator[None, object, object]:
    _seen.clear()  # of a test before this one that failed
    result = yield
    done = {what for what in _seen if what != "trains" or _seen.count(what) > FEW_STEPS}
    if done and not any(item.get_closest_marker(mark) for mark in MARKS):
        pytest.fail(f"{item.name} {' and '.join(sorted(done))}: mark it with @pytest.mark.heavy")
    return result
