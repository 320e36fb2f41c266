"""Signatures: what a manifest cannot prove, because whoever can write a folder can write its manifest."""

from __future__ import annotations

import base64
import importlib.util
import json
import py_compile
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from curr_ab import member
from curr_ab.cli.main import main
from curr_ab.hub import write_card
from curr_ab.hub.exports import export
from curr_ab.hub.manifest import REVISIONS, SIGNATURE, file_table, read_manifest
from curr_ab.hub.signatures import PASSWORD, _one_line
from curr_ab.hub.verification import verify
from curr_ab.results import Result, write_results

# Without the extra `sign` there is nothing to test; where half of it is missing, the tests fail.
if importlib.util.find_spec("model_signing") is None:
    pytest.skip("needs the extra sign", allow_module_level=True)
serialization = importlib.import_module("cryptography.hazmat.primitives.serialization")
ec = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ec")


def write_keys(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(pem, pkcs8, locked))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> tuple[Path, Path]:
    return write_keys(tmp_path_factory.mktemp("keys"), "lab")


@pytest.fixture(scope="module")
def signed(keys, run_folder, tmp_path_factory, fresh_process) -> Path:
    folder = tmp_path_factory.mktemp("signed") / "mine"
    how = {"rehearsal": True, "sign": str(keys[0]), "fresh_process": fresh_process}
    export(member("350M-F"), run_folder, folder, **how)
    return folder


@pytest.fixture
def problems(fresh_process):
    def verified(folder, public=None):
        identity = None if public is None else str(public)
        return verify(folder, identity=identity, say=lambda line: None, fresh_process=fresh_process)

    return verified


def rewrite_manifest(folder: Path) -> None:
    """The manifest that belongs to the files, as anyone can make it."""
    replace(read_manifest(folder), files=file_table(folder)).write(folder)


def test_a_tampered_file_with_its_manifest_made_anew_fails_by_the_signature_alone(
    signed, keys, tmp_path, problems
) -> None:
    assert problems(signed) == [] and problems(signed, keys[1]) == []
    tampered = shutil.copytree(signed, tmp_path / "tampered")
    with (tampered / "handler.py").open("a") as file:
        file.write("\n# what it should not do\n")
    assert any("handler.py is not what was exported" in line for line in problems(tampered))
    rewrite_manifest(tampered)
    assert problems(tampered) == []  # whole, as far as a manifest can tell
    (problem,) = problems(tampered, keys[1])
    assert problem.startswith(f"main: {SIGNATURE} is not that of {keys[1]} over these files")
    assert "handler.py" in problem and "manifest.json" in problem


def test_compiled_code_in_the_place_of_checked_code_does_not_pass(signed, keys, tmp_path, problems) -> None:
    """Python runs it without a look at the source that the manifest and the signature are over."""
    tampered, trap = shutil.copytree(signed, tmp_path / "tampered"), tmp_path / "trap.py"
    trap.write_text("SPRUNG = True\n")
    compiled = importlib.util.cache_from_source(str(tampered / "handler.py"))
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(trap), cfile=compiled, invalidation_mode=unchecked)
    spec = importlib.util.spec_from_file_location("handler", tampered / "handler.py")
    handler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(handler)
    assert handler.SPRUNG  # so much for the source
    [problem] = problems(tampered)
    assert "__pycache__ does not belong in an export; remove it" in problem
    [problem] = problems(tampered, keys[1])
    assert problem.startswith(f"main: {SIGNATURE} is not that of {keys[1]} over these files")
    assert "__pycache__" in problem


def test_a_step_is_covered_by_the_signature_of_main(signed, keys, tmp_path) -> None:
    tampered = shutil.copytree(signed, tmp_path / "tampered")
    step = tampered / REVISIONS / "step5000"
    code, sprung = step / "modeling_curr_ab.py", tmp_path / "sprung"
    code.write_text(code.read_text() + f"open({str(sprung)!r}, 'w')\n")
    rewrite_manifest(step)
    (problem,) = verify(tampered, identity=str(keys[1]), say=lambda line: None)
    assert problem.startswith("step5000: its manifest is not the one that main lists")
    assert not sprung.exists()  # nobody has signed that code


def test_cards_and_numbers_may_change_and_nothing_else(signed, keys, tmp_path, problems) -> None:
    folder = shutil.copytree(signed, tmp_path / "folder")
    with (folder / "README.md").open("a") as file:
        file.write("\n## Thanks\n\nTo all donors.\n")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert problems(folder, keys[1]) == []
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    results = tmp_path / "results.json"
    named = {"model": "350M-F", "task": "test-loss", "metric": "loss", "source": "a test"}
    where = {"dataset": "CurrAb-pairs", "split": "test", "checkpoint": read_manifest(folder).weights}
    counts = {"value": 0.5, "standard_error": None, "num_items": 9}
    write_results(results, [Result(**named, **where, **counts, code_version="0.1.0", details={})])
    with pytest.raises(ValueError, match="must not be signed for another owner to be named"):
        write_card(folder, namespace="curator", results=[results])
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert problems(folder, keys[1]) == []
    (folder / "more.json").write_text("{}")
    assert any("more.json" in line for line in problems(folder, keys[1]))


def test_nobody_else_s_signature_counts(signed, keys, tmp_path, problems) -> None:
    other = write_keys(tmp_path, "other")[1]
    assert problems(signed, other)[0].startswith(f"main: {SIGNATURE} is not that of")
    bare = shutil.copytree(signed, tmp_path / "bare")
    (bare / SIGNATURE).unlink()
    assert problems(bare) == []
    assert problems(bare, keys[1]) == [f"main: {SIGNATURE} is missing: nobody has signed it"]


def test_code_of_a_repository_whose_signature_is_wrong_does_not_run(signed, keys, tmp_path) -> None:
    tampered = shutil.copytree(signed, tmp_path / "tampered")
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\n"
    code = tampered / "modeling_curr_ab.py"
    code.write_text(code.read_text() + trap)
    rewrite_manifest(tampered)

    class Never:
        def load(self, *args):
            raise AssertionError("it was loaded")

    assert verify(tampered, identity=str(keys[1]), say=lambda line: None, fresh_process=Never())
    assert not (tmp_path / "sprung").exists()


def test_the_signature_names_the_repository_and_nothing_of_this_machine(signed, keys) -> None:
    bundle = (signed / SIGNATURE).read_text()
    statement = base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]).decode()
    assert json.loads(statement)["subject"][0]["name"] == "CurrAb-350M-F"
    for text in (bundle, statement):
        assert "/tmp" not in text and str(signed) not in text and str(keys[0].parent) not in text
        assert "PRIVATE" not in text
    assert SIGNATURE not in read_manifest(signed).files


def test_model_signing_s_own_command_agrees(signed, keys) -> None:
    """With the paths left out that change later, as docs/how-to/publish.md shows."""
    ignored = ("README.md", "results.json", ".eval_results", REVISIONS)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(signed)]
    command += ["--signature", str(signed / SIGNATURE), "--public_key", str(keys[1])]
    for name in ignored:
        command += ["--ignore-paths", str(signed / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_no_key_is_refused_before_anything_is_written(tmp_path, run_folder, capsys) -> None:
    secret = "MHcCAQEEIEcretThatMustNeverBeSeen"
    broken = tmp_path / "broken.pem"
    broken.write_text(f"-----BEGIN EC PRIVATE KEY-----\n{secret}\n-----END EC PRIVATE KEY-----\n")
    out = tmp_path / "out"
    command = ["export", "350M-F", "--weights", str(run_folder), "--out", str(out), "--rehearsal", "--sign"]
    for key, complaint in (
        (broken, "sign must be a private key of the curve P-256, P-384 or P-521, in PEM"),
        (tmp_path / "none.pem", "sign must be the file of a private key, or sigstore; got"),
        (write_keys(tmp_path, "locked", b"open sesame")[0], "locked by another password than"),
    ):
        assert main([*command, str(key)]) == 2
        shown = "".join(capsys.readouterr())
        assert complaint in shown and secret not in shown and len(shown.strip().splitlines()) == 1
        assert not out.exists() and not list(tmp_path.glob(".*"))


def test_a_key_with_a_password_signs(tmp_path, run_folder, fresh_process, monkeypatch, problems) -> None:
    private, public = write_keys(tmp_path, "locked", b"open sesame")
    monkeypatch.setenv(PASSWORD, "open sesame")
    source = run_folder / "checkpoints" / "step5000"
    how = {"rehearsal": True, "sign": str(private), "fresh_process": fresh_process}
    export(member("350M-F"), source, tmp_path / "out", **how)
    assert problems(tmp_path / "out", public) == []


def test_identities_are_complete(signed, keys, capsys) -> None:
    for more, complaint in (
        (["--identity", "me@lab.org"], "identity must be the file of a public key, or have an issuer"),
        (["--identity", str(keys[1]), "--issuer", "https://x"], "issuer must be left out"),
        (["--issuer", "https://x"], "identity must be given with an issuer"),
        (["--identity", str(signed / "README.md")], "identity must be a public key in PEM"),
    ):
        assert main(["verify", str(signed), *more]) == 2
        assert complaint in capsys.readouterr().err


@pytest.mark.heavy
def test_it_is_published_and_verified_with_the_rest(hub, signed, keys, tmp_path) -> None:
    hub.run("publish", signed, "--namespace", "brineylab")
    branches = hub.state()["repos"]["brineylab/CurrAb-350M-F"]["branches"]
    assert SIGNATURE in branches["main"] and SIGNATURE not in branches["step5000"]
    said = hub.run("verify", "350M-F", "--identity", keys[1])
    assert f"main: signed by {keys[1]}" in said and "350M-F: verified" in said
    assert "is not checked; say by whom" in hub.run("verify", "350M-F")
    hub.damage("350M-F", path="handler.py", flip=100)
    assert "is not that of" in hub.run("verify", "350M-F", "--identity", keys[1], code=2)


def test_a_file_is_named_whatever_bytes_its_digest_has() -> None:
    quoted = ["Hash mismatch for 'a.py': Expected \"b'x'\"", "Hash mismatch for 'b.py': Expected 'x'"]
    assert _one_line(ValueError(f"Signature mismatch: {quoted}")) == "a.py, b.py"
