"""Handler of Inference Endpoints: embeddings, scores and mutants of antibody chains, by the files beside it.

A request is {"inputs": {"heavy": "EVQL...", "light": "DIQM..."}, "parameters": {"task": "score"}}. One of
the chains may be missing; a list of inputs gets a list as answer. By task:

embed   {"embedding": [...]}, the mean of the last states over all residues
score   {"log_likelihood": ..., "perplexity": ...}, over the residues that are known
mutate  {"residues": "ACDE...", "heavy": [[...], ...], "light": ...}: log p(mutant) - log p(wild type) for
        each residue of a chain and each of the 20; null where the residue is not known

Score and mutate mask each residue alone; with "mode": "unmasked" one pass serves all of them. A causal model
has no modes, and does not mutate: it scores each residue given what precedes it.
"""

import math
import re
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

TASKS, MODES = ("embed", "score", "mutate"), ("exact", "unmasked")
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
MOST_PAIRS = 256  # in a request, which would keep others waiting
ROWS = 32  # in a batch


class EndpointHandler:
    """Answers to requests, with the checkpoint in the folder `path`."""

    def __init__(self, path: str = "", **_: Any) -> None:
        self.causal: bool = AutoConfig.from_pretrained(path, trust_remote_code=True).is_decoder
        auto = AutoModelForCausalLM if self.causal else AutoModelForMaskedLM
        model = auto.from_pretrained(path, trust_remote_code=True, dtype=torch.float32)
        self.model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)
        self.known = torch.tensor(self.tokenizer.convert_tokens_to_ids(list(RESIDUES)))
        self.separators = torch.tensor([self.tokenizer.cls_token_id, self.tokenizer.eos_token_id])

    @torch.inference_mode()
    def __call__(self, data: dict[str, Any]) -> Any:
        """Answer one request; what is wrong with it is a ValueError of one line."""
        pairs, task, mode = self._read(data)
        tokens = [self._tokenize(number, pair) for number, pair in enumerate(pairs, start=1)]
        if task == "embed":
            batches = [tokens[start : start + ROWS] for start in range(0, len(tokens), ROWS)]
            answers = [answer for batch in batches for answer in self._embed(batch)]
        else:
            form = self._score if task == "score" else self._mutate
            answers = [form(ids, pair, mode) for ids, pair in zip(tokens, pairs, strict=True)]
        return answers if isinstance(data["inputs"], list) else answers[0]

    def _read(self, data: Any) -> tuple[list[dict[str, str]], str, str]:
        """The pairs, the task and the mode of a request."""
        if not isinstance(data, dict) or not {"inputs"} <= set(data) <= {"inputs", "parameters"}:
            raise ValueError("a request must be an object of `inputs` and, if wanted, `parameters`")
        given = data.get("parameters") or {}
        if not isinstance(given, dict) or not set(given) <= {"task", "mode"}:
            raise ValueError(f"parameters must be an object of `task` and `mode`; got {given!r:.99}")
        task, mode = given.get("task", "embed"), given.get("mode", "exact")
        for name, value, choices in (("task", task, TASKS), ("mode", mode, MODES)):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r:.99}")
        if self.causal and task == "mutate":
            raise ValueError("mutate must have a masked model; got a causal one; ask for embed or score")
        if "mode" in given and (self.causal or task == "embed"):
            raise ValueError("mode must be left out with embed and with a causal model")
        pairs = data["inputs"] if isinstance(data["inputs"], list) else [data["inputs"]]
        if not 1 <= len(pairs) <= MOST_PAIRS:
            raise ValueError(f"inputs must be 1 to {MOST_PAIRS} pairs; got {len(pairs)}; split the request")
        for number, pair in enumerate(pairs, start=1):
            is_pair = isinstance(pair, dict) and pair and set(pair) <= {"heavy", "light"}
            if not is_pair or not all(isinstance(chain, str) for chain in pair.values()):
                raise ValueError(f"pair {number} must be an object of `heavy`, `light`; got {pair!r:.99}")
        return pairs, task, mode

    def _tokenize(self, number: int, pair: dict[str, str]) -> Tensor:
        """Ids of one pair [S]; the tokenizer refuses what is no chain and what is too long."""
        try:
            return torch.tensor(self.tokenizer(**pair)["input_ids"])
        except ValueError as error:
            text = str(error).replace("record 1", f"pair {number}", 1)
            # A request cannot follow the rest of the advice: it is about the tokenizer's options.
            raise ValueError(re.sub("(residues are upper-case|shorten it).*", r"\1", text)) from None

    def _places(self, ids: Tensor) -> Tensor:
        """Places of the residues [R], also of those that are written as `<mask>`."""
        return (~torch.isin(ids, self.separators)).nonzero()[:, 0]

    def _embed(self, batch: list[Tensor]) -> list[dict[str, Any]]:
        rows = pad_sequence(batch, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        mask = (rows != self.tokenizer.pad_token_id).to(self.model.device)
        states = self.model.esm(input_ids=rows.to(self.model.device), attention_mask=mask)[0].cpu()
        pooled = [row[self._places(ids)].mean(0) for row, ids in zip(states, batch, strict=True)]
        return [{"embedding": one.tolist()} for one in pooled]

    def _log_probabilities(self, ids: Tensor, mode: str) -> Tensor:
        """Log-probabilities of the vocabulary at each residue [R, V]."""
        places, device = self._places(ids), self.model.device
        if self.causal or mode == "unmasked":
            logits = self.model(input_ids=ids[None].to(device)).logits[0].cpu()
            rows: Tensor = logits[places - int(self.causal)]  # of a causal model the next token's
            return rows.log_softmax(-1)
        parts = []
        for some in torch.split(places, ROWS):
            rows, each = ids.repeat(len(some), 1), torch.arange(len(some))
            rows[each, some] = self.tokenizer.mask_token_id
            parts.append(self.model(input_ids=rows.to(device)).logits.cpu()[each, some].log_softmax(-1))
        return torch.cat(parts)

    def _score(self, ids: Tensor, pair: dict[str, str], mode: str) -> dict[str, Any]:
        observed = ids[self._places(ids)]
        known = torch.isin(observed, self.known)
        if not known.any():
            raise ValueError(f"a pair must have a known residue; got none in {pair!r:.99}")
        own = self._log_probabilities(ids, mode).gather(1, observed[:, None])[known].double()
        return {"log_likelihood": own.sum().item(), "perplexity": math.exp(-own.mean().item())}

    def _mutate(self, ids: Tensor, pair: dict[str, str], mode: str) -> dict[str, Any]:
        observed, rows = ids[self._places(ids)], self._log_probabilities(ids, mode)
        odds = (rows[:, self.known] - rows.gather(1, observed[:, None])).tolist()
        known = torch.isin(observed, self.known).tolist()
        table = [row if is_known else None for row, is_known in zip(odds, known, strict=True)]
        num_heavy = len(table) - len(pair.get("light", "").replace("<mask>", "X"))
        chains = {"heavy": table[:num_heavy], "light": table[num_heavy:]}
        return {"residues": RESIDUES, **{chain: chains[chain] for chain in pair}}
