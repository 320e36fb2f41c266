"""Files by which other people's servers and libraries take an export, beside those of transformers."""

from __future__ import annotations

import shutil
from pathlib import Path

from curr_ab.checkpoint_files import CONFIG
from curr_ab.family import MAX_TOKENS
from curr_ab.files import read_object, write_json
from curr_ab.hub.manifest import POOLING_FOLDER

HANDLER = Path(__file__).with_name("handler.py")


def write_serving_files(folder: Path) -> None:
    """Write what sentence-transformers reads, and with it other servers; the handler of Inference Endpoints.

    By the former an embedding is the mean of all tokens, special ones too: no static file can say which are
    residues. Names and keys are those that sentence-transformers had first, which all its versions read.
    """
    width = read_object(folder / CONFIG)["hidden_size"]
    module = "sentence_transformers.models"
    write_json(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": f"{module}.Transformer"},
            {"idx": 1, "name": "1", "path": POOLING_FOLDER, "type": f"{module}.Pooling"},
        ],
    )
    write_json(folder / "sentence_bert_config.json", {"do_lower_case": False, "max_seq_length": MAX_TOKENS})
    # Without this file version 5 asks the Hub for it, of a folder on disk, too.
    write_json(
        folder / "config_sentence_transformers.json",
        {"default_prompt_name": None, "prompts": {}, "similarity_fn_name": "cosine"},
    )
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    pooling = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in modes}
    write_json(folder / POOLING_FOLDER / "config.json", {"word_embedding_dimension": width, **pooling})
    shutil.copyfile(HANDLER, folder / HANDLER.name)
