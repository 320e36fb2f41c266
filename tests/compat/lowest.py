"""Print the requirements of the package and all its extras, each in the lowest version that it allows."""

import tomllib
from collections import defaultdict
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# torch comes by constraints-cpu.txt where there is no GPU: an older one would bring gigabytes of CUDA.
# datatrove's huggingface_hub is one that the lowest transformers does not take.
LEFT_OUT = {"torch", "datatrove"}


def lowest() -> list[str]:
    """`name==version` of what has a lower bound, the highest of several; the name alone of the rest."""
    bounds: dict[str, list[Version]] = defaultdict(list)
    for line in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        wanted = Requirement(line)
        if wanted.name not in {PROJECT["name"], *LEFT_OUT}:
            versions = [Version(one.version) for one in wanted.specifier if one.operator == ">="]
            bounds[wanted.name] += versions
    return [f"{name}=={max(versions)}" if versions else name for name, versions in sorted(bounds.items())]


if __name__ == "__main__":
    print("torch", *lowest(), sep="\n")
