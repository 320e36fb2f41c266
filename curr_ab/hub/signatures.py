"""Signatures of exports: a manifest proves that a folder is whole, a signature from whom it comes.

One signature over the files of `main` covers the step checkpoints, too, because the manifest there lists the
digests of theirs. The format is that of model-signing, whose own command checks it as well.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from curr_ab.extras import needs_extra
from curr_ab.files import scratch_folder
from curr_ab.hub.manifest import HUB_FILES, LIVING, REVISIONS, SIGNATURE
from curr_ab.hub_results import EVAL_RESULTS_FOLDER
from curr_ab.options import OptionError

if TYPE_CHECKING:
    import model_signing

SIGSTORE = "sigstore"
PASSWORD = "CURR_AB_KEY_PASSWORD"  # environment variable, of a private key that has one
# Cards and results change after the signature; what `main` does not hold is covered by its manifest.
_UNSIGNED = (*LIVING, *HUB_FILES, EVAL_RESULTS_FOLDER, SIGNATURE, REVISIONS)


class Signer:
    """Key or identity to sign with; one that cannot be used is refused before an export is made.

    `sign` is the file of a private key of an elliptic curve (PEM), or `sigstore` for the identity that a
    browser or the environment logs in with. Nothing of the key is kept or shown but by the library.
    """

    def __init__(self, sign: str) -> None:
        with needs_extra("sign"):
            import model_signing
        self._config = model_signing.signing.Config().set_hashing_config(_hashing())
        if sign == SIGSTORE:
            self._config.use_sigstore_signer(use_ambient_credentials=True)
            return
        if not Path(sign).is_file():
            raise OptionError(f"sign must be the file of a private key, or {SIGSTORE}; got {sign}", "sign")
        password = os.environ.get(PASSWORD)
        try:
            # The library hands the password on to one that takes bytes alone.
            secret: str | None = password.encode() if password else None  # type: ignore[assignment]
            self._config.use_elliptic_key_signer(private_key=sign, password=secret)
        except (ValueError, TypeError, AttributeError):  # its words might quote the file
            raise OptionError(
                f"sign must be a private key of the curve P-256, P-384 or P-521, in PEM; got {sign}, which "
                f"is none, or is locked by another password than {PASSWORD} holds",
                "sign",
            ) from None

    def sign(self, folder: Path, name: str) -> None:
        """Write the signature of the export in a folder, which is signed under a name."""
        with scratch_folder("curr-ab-sign-") as scratch:
            # The folder has a name of its own until it is whole; the signature names what it will be.
            named = scratch / name
            named.symlink_to(folder.resolve(), target_is_directory=True)
            try:
                self._config.sign(named, folder / SIGNATURE)
            except Exception as error:
                raise ValueError(f"{name} cannot be signed: {_one_line(error)}") from None


def signature_problems(folder: Path, identity: str, issuer: str | None) -> list[str]:
    """What is wrong with the signature of an export, or with the files that it is over.

    `identity` is the file of a public key (PEM), or a name that the `issuer` vouched for with sigstore.
    """
    with needs_extra("sign"):
        import model_signing
    config = model_signing.verifying.Config().set_hashing_config(_hashing())
    if Path(identity).is_file():
        if issuer is not None:
            raise OptionError("issuer must be left out where identity is the file of a public key", "issuer")
        try:
            config.use_elliptic_key_verifier(public_key=identity)
        except (ValueError, TypeError, AttributeError):
            raise OptionError(f"identity must be a public key in PEM; got {identity}", "identity") from None
    elif issuer is None:
        raise OptionError(
            f"identity must be the file of a public key, or have an issuer beside it, such as "
            f"https://accounts.google.com; got {identity} alone",
            *("identity", "issuer"),
        )
    else:
        config.use_sigstore_verifier(identity=identity, oidc_issuer=issuer)
    if not (folder / SIGNATURE).is_file():
        return [f"{SIGNATURE} is missing: nobody has signed it"]
    try:
        config.verify(folder, folder / SIGNATURE)
    except Exception as error:  # of several libraries; whatever it is, nothing is proved
        return [f"{SIGNATURE} is not that of {identity} over these files: {_one_line(error)}"]
    return []


def refuse_signed(folder: Path) -> None:
    """Refuse to change what was signed."""
    if (folder / SIGNATURE).is_file():
        raise ValueError(f"{folder} must not be signed for another owner to be named; export it anew")


def _hashing() -> model_signing.hashing.Config:
    import model_signing

    config = model_signing.hashing.Config().set_ignored_paths(paths=_UNSIGNED)
    return config.set_allow_symlinks(True)  # as the cache of the Hub has them


def _one_line(error: Exception) -> str:
    """The files that differ, where the error names any; digests in bytes tell a reader nothing."""
    text = " ".join(str(error).split())
    # A digest that has both kinds of quotes among its bytes is printed with backslashes before one of them.
    named = re.findall(
        r"Hash mismatch for \\?'([^'\\]+)\\?'|(?:Extra|Missing) files (?:found )?in[^:]*: ([^\"]+)", text
    )
    return (
        ", ".join(dict.fromkeys(one or other for one, other in named)) or text[:300] or type(error).__name__
    )
