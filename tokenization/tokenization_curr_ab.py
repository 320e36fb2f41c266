"""Tokenizer for antibody pairs: ESM-2's vocabulary, the trained separator, and no silent guesses."""

import copy
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, processors
from transformers import BatchEncoding, PreTrainedTokenizerFast

VOCABULARY = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO",
    *(".", "-", "<null_1>", "<mask>"),
)
SPECIAL_TOKENS = {
    "cls_token": "<cls>",
    "pad_token": "<pad>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
SEPARATOR = "<cls><cls>"
# CurrAb was trained with one <cls> between the chains, and keeps it where a chain is missing: H<cls>, <cls>L.
CURRAB_SEPARATOR = "<cls>"
MAX_TOKENS = 320

Pair = tuple[str | None, str | None]  # heavy and light; None for a chain that is not there

_RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO"
_PLAIN_CHAIN = re.compile(f"[{_RESIDUES}]+")
_CHAIN = re.compile(f"(?:[{_RESIDUES}]|<mask>)+")
# The letters for nucleotides and their mixtures: an antibody chain soon has an E, I, L, P or Q.
_NUCLEOTIDES = re.compile("(?:[ACGTUNRYSWKMBDHV]|<mask>){10,}")
_UPPERCASE = str.maketrans(ascii_lowercase, ascii_uppercase)  # `str.upper` makes two letters of some
_TOKENS = re.compile("<[^<>]+>")


class CurrAbTokenizer(PreTrainedTokenizerFast):
    """`tok(heavy, light)` gives the ids that the models were trained on, and refuses what has no id.

    `separator` stands between the chains and is saved with the tokenizer: `<cls><cls>` for this family,
    `<cls>` for CurrAb.
    """

    # vocab.txt is what stock ESM-2 checkpoints have; we write tokenizer.json alone.
    vocab_files_names = {"vocab_file": "vocab.txt", "tokenizer_file": "tokenizer.json"}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    slow_tokenizer_class = None

    def __init__(
        self,
        tokenizer_file: str | os.PathLike[str] | None = None,
        vocab_file: str | os.PathLike[str] | None = None,
        tokenizer_object: Tokenizer | None = None,
        separator: str | None = None,
        model_max_length: int = MAX_TOKENS,
        **kwargs: Any,
    ) -> None:
        if tokenizer_object is None:
            if tokenizer_file is not None:
                tokenizer_object = Tokenizer.from_file(str(tokenizer_file))
            else:
                vocabulary: Sequence[str] = VOCABULARY
                if vocab_file is None and separator is None and kwargs.get("name_or_path"):
                    raise ValueError(
                        f"{kwargs['name_or_path']} has no tokenizer files to say how its chains were joined; "
                        f"name the separator that it was trained with, such as separator={SEPARATOR!r}"
                    )
                if vocab_file is not None:
                    vocabulary = Path(vocab_file).read_text(encoding="utf-8").split()
                tokenizer_object = _backend(vocabulary)
        if separator is None:
            separator = _read_separator(tokenizer_object) or SEPARATOR
        _write_template(tokenizer_object, separator)
        kwargs = {**SPECIAL_TOKENS, **kwargs, "clean_up_tokenization_spaces": False}
        super().__init__(
            tokenizer_object=tokenizer_object,
            separator=separator,
            model_max_length=model_max_length,
            **kwargs,
        )
        self._separator = separator

    @property
    def separator(self) -> str:
        return self._separator

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Keep transformers 5 from taking tokenizer.json apart: `__init__` reads it."""
        return kwargs

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        *,
        heavy: Any = None,
        light: Any = None,
        uppercase: bool = False,
        **kwargs: Any,
    ) -> BatchEncoding:
        """Tokenize one pair, lists of chains, a list of pairs, or text with the separator in it.

        `heavy` and `light` are other names of `text` and `text_pair`; one alone gives a single chain.
        `uppercase` accepts lower-case residues. Input longer than `model_max_length`, or than `max_length`
        where that is given, is an error unless `truncation` asks to cut it. A pair as one text is not cut.

        Text that begins with `<cls>` is the beginning of a pair, for a causal model to go on from: it is
        taken as it stands, such as `<cls>EVQL...<cls><cls>`, and no `<eos>` is added.
        """
        if heavy is not None or light is not None:
            if text is not None or text_pair is not None:
                raise ValueError("give the chains either by position or as heavy= and light=, not both")
            text, text_pair = heavy, light
        for unsupported in ("is_split_into_words", "text_target", "text_pair_target"):
            if kwargs.pop(unsupported, None):
                raise ValueError(f"{unsupported} has no meaning for antibody chains")

        if isinstance(text, Iterator):
            text = list(text)
        if text_pair is None and self._are_prompts(text):
            return self._encode_prompts(text, uppercase, kwargs)
        pairs, batched = self._read_pairs(text, text_pair)
        pairs = [
            (_checked(index, "heavy", first, uppercase), _checked(index, "light", second, uppercase))
            for index, (first, second) in _numbered(pairs)
        ]
        self._check_lengths(pairs, text if text_pair is None else (), kwargs)

        only_light = text is None
        if only_light and kwargs.get("return_token_type_ids"):
            return self._encode_light(pairs, batched, kwargs)
        return self._encode_pairs(pairs, batched, kwargs)

    def _are_prompts(self, text: Any) -> bool:
        texts = [text] if isinstance(text, str) else text
        if self._separator == CURRAB_SEPARATOR or not isinstance(texts, (list, tuple)):
            return False
        if not all(isinstance(one, str) for one in texts):
            return False
        return bool(texts) and all(one.startswith(self.cls_token) for one in texts)

    def _encode_prompts(
        self, text: str | Sequence[str], uppercase: bool, kwargs: dict[str, Any]
    ) -> BatchEncoding:
        prompts = []
        for index, prompt in _numbered([text] if isinstance(text, str) else list(text)):
            chains = prompt.removeprefix(self.cls_token).split(self._separator, maxsplit=1)
            checked = [
                _checked(index, name, chain, uppercase) or "" if chain else ""
                for name, chain in zip(("heavy", "light"), chains, strict=False)
            ]
            if len(chains) > 1 and not chains[0]:
                raise ValueError(f"record {index}: a prompt must have a chain in front of its separator")
            prompts.append(self.cls_token + self._separator.join(checked))
        whole = prompts[0] if isinstance(text, str) else prompts
        return super().__call__(whole, **{**kwargs, "add_special_tokens": False})

    def _encode_pairs(self, pairs: list[Pair], batched: bool, kwargs: dict[str, Any]) -> BatchEncoding:
        if not pairs:
            raise ValueError("there is nothing to tokenize: the list of chains is empty")
        # Always as a batch: for one example transformers drops an empty second text, and with it a separator.
        encoding = super().__call__([self._template_input(pair) for pair in pairs], **kwargs)
        if batched or kwargs.get("return_tensors") or kwargs.get("return_overflowing_tokens"):
            return encoding
        return BatchEncoding({key: value[0] for key, value in encoding.items()}, encoding.encodings)

    def _encode_light(self, pairs: list[Pair], batched: bool, kwargs: dict[str, Any]) -> BatchEncoding:
        # The template numbers a single chain 0; here that chain is the light one.
        wants_mask = kwargs.get("return_attention_mask") is not False
        encoding = self._encode_pairs(pairs, batched, {**kwargs, "return_attention_mask": True})
        encoding["token_type_ids"] = copy.deepcopy(encoding["attention_mask"])
        if not wants_mask:
            del encoding["attention_mask"]
        return encoding

    def _read_pairs(self, text: Any, text_pair: Any) -> tuple[list[Pair], bool]:
        """All records as (heavy or None, light or None), and whether they came as a list."""
        for chains in (text, text_pair):
            if isinstance(chains, Mapping) or hasattr(chains, "columns"):
                raise ValueError("name the two columns of a table: tok(table['heavy'], table['light'])")
        if text is None and text_pair is None:
            raise ValueError("there is nothing to tokenize: give a heavy chain, a light chain, or both")
        if isinstance(text, str) and text_pair is None:
            return [self._split_at_separator(text)], False
        if all(chain is None or isinstance(chain, str) for chain in (text, text_pair)):
            return [(text, text_pair)], False
        if isinstance(text, tuple) and text_pair is None and all(isinstance(chain, str) for chain in text):
            raise ValueError(
                "a tuple of chains could be a pair or a list: write tok(heavy, light) or tok([pair])"
            )
        for chains in (text, text_pair):
            if isinstance(chains, str) or not (chains is None or hasattr(chains, "__iter__")):
                raise ValueError(f"expected a list of chains beside the other list, found {chains!r}")
        if text is None:
            return [(None, _present(index, "light", chain)) for index, chain in _numbered(text_pair)], True
        if text_pair is None:
            return [self._read_record(index, record) for index, record in _numbered(text)], True
        heavies, lights = list(text), list(text_pair)
        if len(heavies) != len(lights):
            raise ValueError(f"there are {len(heavies)} heavy chains but {len(lights)} light chains")
        return [
            (_present(index, "heavy", heavy), _present(index, "light", lights[index - 1]))
            for index, heavy in _numbered(heavies)
        ], True

    def _read_record(self, index: int, record: Any) -> Pair:
        if isinstance(record, str):
            return self._split_at_separator(record)
        if hasattr(record, "__len__") and not isinstance(record, Mapping):
            if len(record) != 2:
                raise ValueError(
                    f"record {index} has {len(record)} chains; a pair has a heavy and a light one"
                )
            return _present(index, "heavy", record[0]), _present(index, "light", record[1])
        raise ValueError(f"record {index}: {record!r} is neither a sequence nor a pair of sequences")

    def _split_at_separator(self, text: str) -> Pair:
        """A text with the separator in it is a pair; CurrAb's forms for one chain leave a side empty."""
        heavy, found, light = text.partition(self._separator)
        if not found:
            return text, None
        if self._separator == CURRAB_SEPARATOR and bool(heavy) != bool(light):
            return heavy or None, light or None
        return heavy, light

    def _template_input(self, pair: Pair) -> str | tuple[str, str]:
        heavy, light = pair
        both = heavy is not None and light is not None
        if both or self._separator == CURRAB_SEPARATOR:
            return heavy or "", light or ""
        return heavy or light or ""

    def _check_lengths(self, pairs: list[Pair], records: Any, kwargs: dict[str, Any]) -> None:
        """Refuse what is too long; of `records`, as they were given, some may be pairs as one text."""
        limit = kwargs.get("max_length") or self.model_max_length
        num_special = {False: 0, True: 0}  # by whether the template is that of a pair
        if kwargs.get("add_special_tokens", True):
            num_special = {pair: self.num_special_tokens_to_add(pair) for pair in num_special}
        lengths = []
        for pair in pairs:
            template_input = self._template_input(pair)
            chains = (template_input,) if isinstance(template_input, str) else template_input
            num_residues = sum(len(chain) - chain.count("<mask>") * (len("<mask>") - 1) for chain in chains)
            lengths.append(num_residues + num_special[len(chains) == 2])
        too_long = [index for index, length in enumerate(lengths, start=1) if length > limit]
        if not too_long:
            return
        first = too_long[0]
        what = f"record {first} has {lengths[first - 1]} tokens with its separators"
        if kwargs.get("truncation") in (None, False, "do_not_truncate"):
            raise ValueError(
                f"{what}, more than {limit}; shorten it, allow more with max_length=, "
                "or cut it knowingly with truncation=True"
            )
        # Such a text is cut at its end by the tokenizer of stock transformers, and the light chain is lost.
        for index, record in _numbered([records] if isinstance(records, str) else records):
            if isinstance(record, str) and self._separator in record and lengths[index - 1] > limit:
                raise ValueError(
                    f"record {index} has {lengths[index - 1]} tokens with its separators, more than {limit}; "
                    "a pair that is given as one text is not cut: shorten it, or give its chains as a pair"
                )
        warnings.warn(
            f"{len(too_long)} of {len(pairs)} records are cut to {limit} tokens: {what}", stacklevel=3
        )

    def encode(self, text: Any = None, text_pair: Any = None, **kwargs: Any) -> Any:
        """The ids of one pair, or of each of several."""
        return self(text, text_pair, **kwargs)["input_ids"]

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any
    ) -> list[str]:
        """The tokens of one pair as text."""
        ids = self.encode(text, pair, add_special_tokens=add_special_tokens, **kwargs)
        return self.convert_ids_to_tokens(ids)

    def decode_pair(self, token_ids: Any) -> Any:
        """`(heavy, light)` of a row of ids, or of each of several; None for a chain that is not there.

        `<mask>` is kept. Without a separator the one chain is taken for the heavy one.
        """
        ids = token_ids.tolist() if hasattr(token_ids, "tolist") else list(token_ids)
        if ids and not isinstance(ids[0], Integral):
            return [self.decode_pair(row) for row in ids]
        ids = [token_id for token_id in ids if token_id != self.pad_token_id]
        text = self.decode(ids, skip_special_tokens=False)
        text = text.removeprefix(self.cls_token).removesuffix(self.eos_token)
        heavy, _, light = text.partition(self._separator)
        return heavy or None, light or None

    def _save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        # The folder must load without this class: stock transformers reads tokenizer.json by the generic one.
        files = super()._save_pretrained(save_directory, *args, **kwargs)
        config_file = Path(save_directory) / "tokenizer_config.json"
        config = json.loads(config_file.read_text(encoding="utf-8"))
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        # Stock ESM's forward takes no token_type_ids, which the generic class would return in version 4.
        config["model_input_names"] = list(self.model_input_names)
        config["auto_map"] = {"AutoTokenizer": [None, "tokenization_curr_ab.CurrAbTokenizer"]}
        unfinished = config_file.with_suffix(".json.unfinished")
        unfinished.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(unfinished, config_file)
        source, target = Path(__file__), Path(save_directory) / Path(__file__).name
        if not (target.exists() and target.samefile(source)):
            shutil.copyfile(source, target)
        return files


def _backend(vocabulary: Sequence[str]) -> Tokenizer:
    # BPE without merges reads character by character, which is faster than splitting first.
    vocab = {token: index for index, token in enumerate(vocabulary)}
    if missing := [token for token in SPECIAL_TOKENS.values() if token not in vocab]:
        raise ValueError(f"the vocabulary has no {', '.join(missing)}: this is no ESM-2 tokenizer")
    backend = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS.values()])
    backend.decoder = decoders.Fuse()
    return backend


def _write_template(backend: Tokenizer, separator: str) -> None:
    if separator not in (SEPARATOR, CURRAB_SEPARATOR):
        raise ValueError(
            f"the separator {separator!r} is neither {SEPARATOR!r}, this family's, nor {CURRAB_SEPARATOR!r}, "
            "CurrAb's; with any other, such as <sep>, which would become <unk>, no such model was trained"
        )
    tokens = _TOKENS.findall(separator)
    backend.post_processor = processors.TemplateProcessing(
        single="<cls> $A <eos>",
        pair=["<cls>", "$A", *tokens, "$B:1", "<eos>:1"],
        special_tokens=[(token, backend.token_to_id(token)) for token in ("<cls>", "<eos>")],
    )


def _read_separator(backend: Tokenizer) -> str | None:
    """The separator of a saved tokenizer, from its template; None where there is none for pairs."""
    template = json.loads(backend.to_str())["post_processor"]
    if not template or template.get("type") != "TemplateProcessing":
        return None
    kinds = [next(iter(piece.items())) for piece in template["pair"]]
    chains = [index for index, (kind, _) in enumerate(kinds) if kind == "Sequence"]
    return "".join(piece["id"] for _, piece in kinds[chains[0] + 1 : chains[1]])


def _numbered(records: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    return enumerate(records, start=1)


def _present(index: int, name: str, chain: Any) -> str:
    if not isinstance(chain, str):
        raise ValueError(
            f"record {index}, {name} chain: {chain!r} is not a sequence; "
            "chains without a partner go into a call of their own"
        )
    return chain


def _checked(index: int, name: str, chain: str | None, uppercase: bool) -> str | None:
    if chain is None:
        return None
    if uppercase:
        chain = chain.translate(_UPPERCASE).replace("<MASK>", "<mask>")
    if not (_PLAIN_CHAIN.fullmatch(chain) or _CHAIN.fullmatch(chain)):
        raise ValueError(f"record {index}, {name} chain{_complaint(chain)}")
    if _NUCLEOTIDES.fullmatch(chain) and _is_mostly(chain.replace("<mask>", ""), "ACGTUN"):
        raise ValueError(
            f"record {index}, {name} chain is written in the letters of nucleotides; "
            "translate it to residues first"
        )
    return chain


def _is_mostly(chain: str, letters: str) -> bool:
    return sum(map(chain.count, letters)) > 0.8 * len(chain)


def _complaint(chain: str) -> str:
    """What is wrong with a chain, where, and what to do about it."""
    if not chain:
        return " is empty; to tokenize one chain alone, leave the other out"
    start = _CHAIN.match(chain)
    rest = chain[start.end() :] if start else chain
    position = 1 + (len(start.group().replace("<mask>", "X")) if start else 0)
    token = _TOKENS.match(rest)
    character = token.group() if token else rest[0]
    if token:
        advice = "write the chains only; the tokenizer adds the special tokens"
    elif character.islower():
        advice = "residues are upper-case; pass uppercase=True to accept lower case"
    elif character.isspace():
        advice = "a chain is written without blanks"
    elif character in ".-":
        advice = "remove the gaps of the alignment"
    elif character == "*":
        advice = "a stop codon or an unknown residue; cut the chain there, or write X or <mask>"
    else:
        advice = f"residues are {''.join(sorted(_RESIDUES))}, with X for unknown and <mask> for masked"
    return f", position {position}: {character!r} is not a residue; {advice}"
