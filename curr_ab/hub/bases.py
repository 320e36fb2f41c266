"""The base of what was fine-tuned, as the Hub has it: its weights, compared without a download."""

from __future__ import annotations

import re
import sys

from curr_ab.checkpoint_files import ADAPTER_WEIGHTS, CONFIG, WEIGHTS
from curr_ab.files import file_digest
from curr_ab.reach import NoAnswer, ask
from curr_ab.results import joined_digest


def commit_of_base(name: str, weights: str) -> str | None:
    """The commit of `main`, whose weights must have this digest; None, with a word, without network."""
    from huggingface_hub import HfApi

    try:
        ask(name, (CONFIG,))
    except NoAnswer as error:
        if error.status is not None:
            raise
        print(f"{name}: not reached ({error.reason}), its weights are not compared", file=sys.stderr)
        return None
    commit = str(HfApi().repo_info(name).sha)
    found = _digest_on_hub(name, commit)
    if found != weights:
        got = "none" if found is None else f"{found[:12]}…"
        raise ValueError(
            f"{name} must have the weights that were tuned, SHA-256 {weights[:12]}…; got {got}: name the "
            "repository that has them"
        )
    return commit


def _digest_on_hub(name: str, commit: str) -> str | None:
    """The digest that results have of a checkpoint, from what the Hub says of its files."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.hf_api import RepoFile

    entries = HfApi().list_repo_tree(name, revision=commit)
    files = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    first = next((file for file in (ADAPTER_WEIGHTS, *WEIGHTS) if file in files), None)
    if first is None:
        return None
    chosen = [first]
    if first.endswith(".index.json"):
        stem, suffix = first.removesuffix(".index.json").rsplit(".", 1)
        shard = re.compile(rf"{re.escape(stem)}-\d+-of-\d+\.{suffix}")
        chosen = sorted(path for path in files if shard.fullmatch(path))
    digests = []
    for path in chosen:
        stored = files[path].lfs  # None for a small file, which git holds
        digests.append(stored.sha256 if stored else file_digest(hf_hub_download(name, path, revision=commit)))
    return joined_digest(digests) if digests else None
