"""What is installed, built and run is bound: dependencies by a lock, actions and remote code by commits."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
UNLOCKED = {"torch"}  # its digest depends on where it comes from
SYSTEMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64"))
WORKFLOWS = {path.name: path for path in (ROOT / ".github" / "workflows").iterdir()}


def entries_of_the_lock() -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement with its digests."""
    text = (ROOT / "requirements-lock.txt").read_text().replace("\\\n", "")
    for line in text.splitlines():
        if not line.startswith("#"):
            requirement, *digests = line.split("--hash=")
            yield Requirement(requirement), [digest.strip() for digest in digests]


def declared() -> Iterator[Requirement]:
    """What the package and its extras, `dev` among them, ask for; not each other."""
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        yield from (one for one in map(Requirement, lines) if one.name != PROJECT["name"])


def test_the_lock_names_one_version_with_digests():
    for requirement, digests in entries_of_the_lock():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)) and requirement.url is None, requirement
        assert digests and all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in digests), requirement


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_has_what_pyproject_asks_for(python):
    """On each system one version, within the range. If not: `make lock`."""
    assert python in SpecifierSet(PROJECT["requires-python"])
    lock = [requirement for requirement, _ in entries_of_the_lock()]
    for system, machine in SYSTEMS:
        place = {"python_version": python, "python_full_version": f"{python}.9", "extra": ""}
        place |= {"sys_platform": system, "platform_machine": machine}
        place |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
        here = [one for one in lock if one.marker is None or one.marker.evaluate(place)]
        locked = {one.name: str(one.specifier).removeprefix("==") for one in here}
        assert len(here) == len(locked), "two versions of a package"
        for one in declared():
            if one.name not in UNLOCKED and (one.marker is None or one.marker.evaluate(place)):
                assert one.specifier.contains(locked[canonicalize_name(one.name)], prereleases=True), one
    assert not [one.name for one in lock if one.name in UNLOCKED or one.name.startswith("nvidia")]


def test_torch_is_pinned_where_the_lock_cannot():
    text = (ROOT / "constraints-cpu.txt").read_text()
    (pin,) = map(Requirement, re.findall(r"^[^#\n]+$", text, re.MULTILINE))
    version = str(pin.specifier).removeprefix("==")
    assert {pin.name} == UNLOCKED
    assert all(one.specifier.contains(version) for one in declared() if one.name == pin.name)


def test_development_installs_by_digest():
    """All but torch, and the package itself, which brings nothing along."""
    rule = re.search(r"^\$\(VENV\)/installed:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    installs = re.findall(r"pip install --quiet (.*)", rule)
    assert installs == [
        "--no-deps --require-hashes --requirement requirements-lock.txt",
        "$(CONSTRAINTS) torch",
        "--no-deps --no-build-isolation --editable .",
    ]
    assert "pip check" in rule and not re.findall(r" -m build (?!--no-isolation)", MAKEFILE)


def steps_of(workflow: dict) -> Iterator[tuple[dict, dict]]:
    for job in workflow["jobs"].values():
        yield from ((job, step) for step in job["steps"])


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_a_workflow_runs_what_is_here_with_the_least_rights(name):
    text = WORKFLOWS[name].read_text()
    workflow = yaml.safe_load(text)
    targets = re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    # `on` is YAML's word for true. The second would give a stranger's code our rights.
    assert "secrets." not in text and "pull_request_target" not in workflow[True]
    for job, step in steps_of(workflow):
        rights = {right for right, value in job.get("permissions", {}).items() if value != "read"}
        if rights:  # then it runs nothing of this repository or of others but actions
            runs = step["run"].startswith("gh release ") if "run" in step else "checkout" not in step["uses"]
            assert runs, step
        if "uses" in step:
            pinned = re.search(rf"uses: {re.escape(step['uses'])} # v\d+\.\d+\.\d+$", text, re.MULTILINE)
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]) and pinned, step
            assert "checkout" not in step["uses"] or step["with"] == {"persist-credentials": False}
        elif step["run"].startswith("make "):
            assert step["run"].split()[1:] and set(step["run"].split()[1:]) <= set(targets), step
        elif step["run"].startswith("bash "):
            assert (ROOT / step["run"].split()[1]).is_file(), step
        else:
            assert step["run"].startswith(("gh release ", "test -e ")), step


def test_the_workflows_are_those():
    assert set(WORKFLOWS) == {"ci.yml", "release.yml"}
    runs = [step.get("run") for _, step in steps_of(yaml.safe_load(WORKFLOWS["ci.yml"].read_text()))]
    assert runs.count("bash .ci/run") == 1


def test_a_release_has_provenance_and_an_sbom_and_no_token():
    workflow = yaml.safe_load(WORKFLOWS["release.yml"].read_text())
    build, publish = workflow["jobs"].values()
    assert build["permissions"] == {"contents": "read"} and publish["needs"] == "build"
    assert publish["permissions"] == dict.fromkeys(["attestations", "contents", "id-token"], "write")
    ran = [step["run"] for step in build["steps"] if "run" in step]
    assert ran.index("bash .ci/run") < ran.index("make release")
    attested = [step["with"] for step in publish["steps"] if "/attest@" in step.get("uses", "")]
    assert attested == [
        {"subject-path": "dist/*"},
        {"subject-path": "dist/*", "sbom-path": "build/sbom.cdx.json"},
    ]
    (upload,) = [step for step in publish["steps"] if "pypi-publish" in step.get("uses", "")]
    assert "with" not in upload  # no password: the workflow itself is trusted


@pytest.mark.heavy
def test_the_sbom_is_valid_and_has_what_the_wheel_needs():
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    command = [sys.executable, str(ROOT / ".ci" / "sbom.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout) is None
    bom = json.loads(done.stdout)
    described = bom["metadata"]["component"]
    assert (described["name"], described["version"]) == (PROJECT["name"], PROJECT["version"])
    parts = {part["name"]: part for part in bom["components"]}
    core = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert {name for name, part in parts.items() if part["scope"] == "required"} >= {*core, "sympy"}
    optional = {name for name, part in parts.items() if part["scope"] == "optional"}
    assert optional >= {"peft", "datatrove", "gradio", "model-signing"}
    assert not {"pytest", "mkdocs", "ruff", "pip-audit", PROJECT["name"]} & parts.keys()
    assert parts["jinja2"]["purl"] == f"pkg:pypi/jinja2@{parts['jinja2']['version']}"
    edges = {one["ref"]: one.get("dependsOn", []) for one in bom["dependencies"]}
    assert set(edges[PROJECT["name"]]) >= core and "markupsafe" in edges["jinja2"]
    reached = {PROJECT["name"]}
    for _ in edges:
        reached |= {needed for name in reached for needed in edges[name]}
    assert reached == {*parts, PROJECT["name"]}


def shown() -> list[Path]:
    """What readers copy from: pages, cards, their templates, notebooks."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "model_cards").rglob("*.md")]
    templates = [*(ROOT / "curr_ab").rglob("*.md"), *(ROOT / "curr_ab").rglob("*.html")]
    return [*pages, *templates, *(ROOT / "docs").rglob("*.ipynb")]


def unpinned(text: str) -> list[str]:
    """Calls with remote code that name no commit, but for those of a folder, which has none."""
    calls = re.findall(r"[\w.]+\([^()]*(?:trust_remote_code=True|\{\{ ?trust ?\}\})[^()]*\)", text)
    pinned = r"\((folder\b|.*\brevision=(commit\b|\\?[\"'][0-9a-f]{40}))"
    return [call for call in calls if not re.search(pinned, call, re.DOTALL)]


def test_every_example_with_remote_code_names_the_commit():
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in shown()}
    assert {name: found for name, text in texts.items() if (found := unpinned(text))} == {}
    calls = [name for name, text in texts.items() if "revision=commit, trust_remote_code=True" in text]
    assert {"curr_ab/hub/card.md", "curr_ab/hub/causal_card.md", "model_cards/8M-F.md"} <= set(calls)


@pytest.mark.parametrize(
    "call",
    [
        'AutoModel.from_pretrained("a/b", trust_remote_code=True)',
        'AutoModel.from_pretrained("a/b", revision="main", trust_remote_code=True)',
        'pipeline(\n    "fill-mask", model="a/b", trust_remote_code=True\n)',
        "SentenceTransformer(name{{ trust }})",
    ],
)
def test_an_example_without_a_commit_is_seen(call):
    assert unpinned(f"text `{call}` text") == [call]
