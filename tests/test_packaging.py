"""What is declared is what there is."""

import ast
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import curr_ab

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules():
    names = [info.name for info in pkgutil.walk_packages(curr_ab.__path__, "curr_ab.")]
    return ["curr_ab", *names]


def packages(folder):
    """Names of all packages below a folder; the links to modeling/ and tokenization/ are followed."""
    for entry in folder.iterdir():
        if (entry / "__init__.py").exists():
            yield f"{folder.name}.{entry.name}"
            yield from (f"{folder.name}.{name}" for name in packages(entry))


def test_listed_packages_are_those_of_the_tree():
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert set(listed) == {"curr_ab", *packages(ROOT / "curr_ab")}


def files(folder):
    for place, _, names in os.walk(folder, followlinks=True):
        if "__pycache__" not in place:
            yield from (Path(place, name).relative_to(folder).as_posix() for name in names)


def test_the_installed_package_holds_every_file_of_the_tree():
    """A checkout does anyway; a wheel, as `make test-wheel` installs it, if nothing was left out."""
    tree = set(files(ROOT / "curr_ab"))
    assert {"pages.css", "modeling/__init__.py", "finetuning/adapter_card.md"} <= tree
    assert sorted(tree - set(files(Path(curr_ab.__file__).parent))) == []


def test_links_point_at_the_owner_s_folders():
    for name in ("modeling", "tokenization"):
        link = ROOT / "curr_ab" / name
        assert link.is_symlink() and link.resolve() == ROOT / name
        assert not Path(link.readlink()).is_absolute()


@pytest.mark.parametrize("name", modules())
def test_all_is_the_truth(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    for attribute in exported:
        assert getattr(module, attribute) is not None
        assert attribute in dir(module)
    if hasattr(module, "__path__") and not exported:
        statements = ast.parse(Path(module.__file__).read_text()).body
        assert len(statements) == 1, f"{name} is neither a docstring nor a face with __all__"


def test_unknown_attributes_are_refused():
    with pytest.raises(AttributeError, match="no_such_name"):
        curr_ab.no_such_name  # noqa: B018


def test_version_is_stated_once():
    assert PYPROJECT["project"]["version"] == curr_ab.__version__


@pytest.mark.slow
@pytest.mark.parametrize("links", ["links", "text files"])
def test_the_wheel_holds_the_linked_folders_themselves(tmp_path, links):
    """Also from a checkout without symbolic links, where text files stand in place of them."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("curr_ab", "modeling", "tokenization"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, checkout / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, checkout / name)
    for name in ("modeling", "tokenization"):
        link = checkout / "curr_ab" / name
        if links == "text files":
            target = link.readlink()
            link.unlink()
            link.write_text(str(target))
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    # `pip install` and `make study` print the warnings of setuptools.
    command = [sys.executable, "-W", "error", "-c", build, str(tmp_path)]
    done = subprocess.run(command, cwd=checkout, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    (path,) = tmp_path.glob("*.whl")
    assert path.stat().st_size < 10_000_000
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(tmp_path / "site")
    for name in ("modeling", "tokenization"):
        folder = tmp_path / "site" / "curr_ab" / name
        assert folder.is_dir() and not folder.is_symlink()
        for source in (ROOT / name).glob("*.py"):
            assert (folder / source.name).read_bytes() == source.read_bytes()
    for name in ("demo", "demo_clm"):
        demo = set(files(ROOT / "curr_ab" / name))
        assert {"model.safetensors", "modeling_curr_ab.py", "README.md"} <= demo
        assert demo == set(files(tmp_path / "site" / "curr_ab" / name))
