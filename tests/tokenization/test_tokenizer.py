"""The trained ids, special tokens that are always special, and no input that passes by mistake."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from golden.make import golden_ids
from support.tiny_models import PAIRS, TESTS
from transformers import AutoTokenizer, DataCollatorForLanguageModeling

from curr_ab import CurrAbConfig, CurrAbTokenizer
from curr_ab.tokenization.tokenization_curr_ab import VOCABULARY

HEAVY, LIGHT = "EVQLVESGGG", "DIQMTQSPSS"
# Written out once more, on purpose: the order of ESM-2's vocabulary.
ESM2 = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO", ".", "-", "<null_1>", "<mask>"]


def ids_of(*tokens):
    return [ESM2.index(token) for token in tokens]


TRAINED = ids_of("<cls>", *HEAVY, "<cls>", "<cls>", *LIGHT, "<eos>")


def test_ids_equal_the_golden_file():
    assert golden_ids() == json.loads((TESTS / "golden" / "tokenizer_ids.json").read_text())


def test_vocabulary_is_that_of_esm2(tokenizer):
    assert list(VOCABULARY) == ESM2
    assert tokenizer.get_vocab() == {token: index for index, token in enumerate(ESM2)}
    assert len(tokenizer) == 33


@pytest.mark.parametrize(
    "call",
    [
        lambda tok: tok(HEAVY, LIGHT),
        lambda tok: tok(heavy=HEAVY, light=LIGHT),
        lambda tok: tok(f"{HEAVY}<cls><cls>{LIGHT}"),
        lambda tok: tok(HEAVY.lower(), LIGHT.lower(), uppercase=True),
        lambda tok: {key: value[0] for key, value in tok([HEAVY], [LIGHT]).items()},
        lambda tok: {key: value[0] for key, value in tok([(HEAVY, LIGHT)]).items()},
        lambda tok: {key: value[0] for key, value in tok([[HEAVY, LIGHT]]).items()},
        lambda tok: {key: value[0] for key, value in tok(np.array([[HEAVY, LIGHT]])).items()},
        lambda tok: {key: value[0] for key, value in tok(pd.Series([HEAVY]), pd.Series([LIGHT])).items()},
        lambda tok: {key: value[0] for key, value in tok(np.array([HEAVY]), np.array([LIGHT])).items()},
        lambda tok: {key: value[0] for key, value in tok(zip([HEAVY], [LIGHT], strict=True)).items()},
        lambda tok: {key: value[0] for key, value in tok([f"{HEAVY}<cls><cls>{LIGHT}"]).items()},
    ],
)
def test_every_form_of_a_pair_gives_the_trained_ids(call, tokenizer):
    encoded = call(tokenizer)
    assert encoded["input_ids"] == TRAINED
    assert set(encoded) == {"input_ids", "attention_mask"}  # what stock ESM's forward takes
    assert encoded["attention_mask"] == [1] * len(TRAINED)


def test_one_chain(tokenizer):
    heavy = ids_of("<cls>", *HEAVY, "<eos>")
    assert tokenizer(HEAVY)["input_ids"] == tokenizer(heavy=HEAVY)["input_ids"] == heavy
    light = tokenizer(light=LIGHT, return_token_type_ids=True)
    assert light["input_ids"] == ids_of("<cls>", *LIGHT, "<eos>")
    assert light["token_type_ids"] == [1] * (len(LIGHT) + 2)
    assert tokenizer([HEAVY, HEAVY])["input_ids"] == [heavy, heavy]
    batch = tokenizer(
        light=[LIGHT, LIGHT + "AA"],
        padding=True,
        return_tensors="pt",
        return_token_type_ids=True,
        return_attention_mask=False,
    )
    assert set(batch) == {"input_ids", "token_type_ids"}
    both = tokenizer(light=LIGHT, return_token_type_ids=True)
    assert both["token_type_ids"] is not both["attention_mask"]
    assert batch["token_type_ids"].tolist() == [[1] * 12 + [0, 0], [1] * 14]


def test_single_cls_separator_and_its_forms_for_one_chain():
    tok = CurrAbTokenizer(separator="<cls>")
    pair = ids_of("<cls>", *HEAVY, "<cls>", *LIGHT, "<eos>")
    heavy = ids_of("<cls>", *HEAVY, "<cls>", "<eos>")
    light = ids_of("<cls>", "<cls>", *LIGHT, "<eos>")
    assert tok(HEAVY, LIGHT)["input_ids"] == tok(f"{HEAVY}<cls>{LIGHT}")["input_ids"] == pair
    assert tok(HEAVY)["input_ids"] == tok(f"{HEAVY}<cls>")["input_ids"] == heavy
    assert tok(light=LIGHT)["input_ids"] == tok(f"<cls>{LIGHT}")["input_ids"] == light
    assert tok.decode_pair(pair) == (HEAVY, LIGHT)
    assert tok.decode_pair(heavy) == (HEAVY, None)
    assert tok.decode_pair(light) == (None, LIGHT)


def test_separators_are_always_special(tokenizer):
    expected = [1] + [0] * 10 + [1, 1] + [0] * 10 + [1]
    for call in ((HEAVY, LIGHT), (f"{HEAVY}<cls><cls>{LIGHT}",)):
        encoded = tokenizer(*call, return_special_tokens_mask=True)
        assert encoded["special_tokens_mask"] == expected
    ids = encoded["input_ids"]
    assert tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True) == expected
    # A masked residue stands where a residue stands: it is to be predicted, not skipped.
    masked = tokenizer("EVQ<mask>V", LIGHT, return_special_tokens_mask=True)
    assert masked["special_tokens_mask"][4] == 0


def test_masking_collator_never_selects_a_separator(tokenizer):
    """The published training predicted its own separators."""
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.9)
    encoded = tokenizer([f"{HEAVY}<cls><cls>{LIGHT}"] * 50)
    rows = [{"input_ids": ids} for ids in encoded["input_ids"]]
    labels = collate(rows)["labels"]
    special = torch.isin(torch.tensor(encoded["input_ids"]), torch.tensor([0, 2]))
    assert (labels[special] == -100).all()
    assert (labels[~special] != -100).float().mean() > 0.8


def test_chain_ids(tokenizer):
    encoded = tokenizer(HEAVY, LIGHT, return_token_type_ids=True)
    assert encoded["token_type_ids"] == [0] * 13 + [1] * 11


def test_masks_and_rare_residues(tokenizer):
    assert tokenizer("XBZUO", "E<mask><mask>V")["input_ids"] == ids_of(
        "<cls>", *"XBZUO", "<cls>", "<cls>", "E", "<mask>", "<mask>", "V", "<eos>"
    )
    assert tokenizer("ev<mask>", "d", uppercase=True)["input_ids"][3] == 32


def test_decoding(tokenizer):
    assert tokenizer.decode(TRAINED) == f"<cls>{HEAVY}<cls><cls>{LIGHT}<eos>"
    assert tokenizer.decode(TRAINED, skip_special_tokens=True) == HEAVY + LIGHT
    padded = tokenizer([(HEAVY, LIGHT), (HEAVY + "A", LIGHT)], padding=True, return_tensors="pt")
    assert tokenizer.decode_pair(padded["input_ids"][0]) == (HEAVY, LIGHT)
    assert tokenizer.decode_pair(padded["input_ids"]) == [(HEAVY, LIGHT), (HEAVY + "A", LIGHT)]
    assert tokenizer.decode_pair(tokenizer("E<mask>Q", "D")["input_ids"]) == ("E<mask>Q", "D")
    assert tokenizer.decode_pair(tokenizer(HEAVY)["input_ids"]) == (HEAVY, None)
    for pair in PAIRS:
        assert tokenizer.decode_pair(tokenizer(*pair)["input_ids"]) == pair


def test_other_entrances(tokenizer):
    assert tokenizer.encode(HEAVY, LIGHT) == TRAINED
    assert tokenizer.tokenize(HEAVY) == list(HEAVY)
    assert tokenizer(HEAVY, LIGHT, return_tensors="pt")["input_ids"].shape == (1, len(TRAINED))
    fixed = tokenizer(HEAVY, LIGHT, padding="max_length", max_length=30)
    assert len(fixed["input_ids"]) == 30
    for entrance in (tokenizer.encode, tokenizer.tokenize):
        with pytest.raises(ValueError, match="'e'"):
            entrance("evq")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((HEAVY.lower(), LIGHT), "record 1, heavy chain, position 1: 'e' .*uppercase=True"),
        (([HEAVY] * 3, [LIGHT, LIGHT, "DIQ*T"]), r"record 3, light chain, position 4: '\*'"),
        ((HEAVY, "DI-QM"), "position 3: '-' .*gaps"),
        ((HEAVY, "DI.QM"), "position 3: '.' .*gaps"),
        ((HEAVY, "D1QM"), "position 2: '1'"),
        ((HEAVY, "DI QM"), "position 3: ' ' .*blanks"),
        ((HEAVY, LIGHT + "\n"), r"position 11: '\\n' .*blanks"),
        ((HEAVY, "DI|QM"), r"position 3: '\|'"),
        ((HEAVY, "DIJQM"), "position 3: 'J'"),
        ((HEAVY, "E<mask>é"), "position 3: 'é'"),
        ((HEAVY, ""), "light chain is empty"),
        (("", LIGHT), "heavy chain is empty"),
        ((f"{HEAVY}<cls><cls>",), "light chain is empty"),
        ((f"{HEAVY}<cls>{LIGHT}",), "position 11: '<cls>' .*chains only"),
        ((f"{HEAVY}<sep>{LIGHT}",), "position 11: '<sep>'"),
        ((f"{HEAVY}<cls><cls>{LIGHT}<cls><cls>{LIGHT}",), "light chain, position 11: '<cls>'"),
        (("ATGGAGGTGCAGCTGGTG", LIGHT), "heavy chain .*nucleotides"),
        (("ATGGAGGTSCAGCTRGTGA<mask>", LIGHT), "heavy chain .*nucleotides"),
        (({"H": [HEAVY], "L": [LIGHT]},), "two columns"),
        ((pd.DataFrame({"H": [HEAVY], "L": [LIGHT]}),), "two columns"),
        (([{"heavy": HEAVY}],), "record 1: .* neither"),
        (([HEAVY, HEAVY], [LIGHT, None]), "record 2, light chain: None .*call of their own"),
        (([HEAVY, HEAVY], [LIGHT, float("nan")]), "record 2, light chain: nan"),
        (([HEAVY, HEAVY], [LIGHT]), "2 heavy chains but 1 light"),
        (([(HEAVY, LIGHT, LIGHT)],), "record 1 has 3 chains"),
        (([HEAVY, 7],), "record 2: 7"),
        (((HEAVY, LIGHT),), "could be a pair or a list"),
        (([HEAVY], LIGHT), "expected a list"),
        ((7,), "expected a list"),
        (([],), "nothing to tokenize"),
        ((), "nothing to tokenize"),
        ((HEAVY * 20, LIGHT * 20), "record 1 has 404 tokens .*more than 320.*truncation=True"),
    ],
)
def test_bad_input_is_refused(arguments, complaint, tokenizer):
    with pytest.raises(ValueError, match=complaint):
        tokenizer(*arguments)


def test_unsupported_options_are_refused(tokenizer):
    with pytest.raises(ValueError, match="not both"):
        tokenizer(HEAVY, light=LIGHT)
    with pytest.raises(ValueError, match="is_split_into_words"):
        tokenizer([list(HEAVY)], is_split_into_words=True)
    with pytest.raises(ValueError, match=r"<sep>.*<unk>"):
        CurrAbTokenizer(separator="<sep>")
    with pytest.raises(ValueError, match="neither"):
        CurrAbTokenizer(separator="GGGGS")


def test_length_is_counted_in_tokens(tokenizer):
    longest = 320 - 4 - len(LIGHT)
    assert len(tokenizer("A" * 5 + "E" * (longest - 5), LIGHT)["input_ids"]) == 320
    with pytest.raises(ValueError, match="321 tokens"):
        tokenizer("E" * (longest + 1), LIGHT)
    assert len(tokenizer("<mask>" * longest, LIGHT)["input_ids"]) == 320
    assert len(tokenizer("E" * 400, LIGHT, max_length=500)["input_ids"]) == 414
    with pytest.raises(ValueError, match="more than 20"):
        tokenizer(HEAVY, LIGHT, max_length=20, padding="max_length")


def test_cutting_is_possible_but_never_silent(tokenizer):
    with pytest.warns(UserWarning, match="1 of 2 records are cut to 320 tokens: record 2 has 414"):
        ids = tokenizer([HEAVY, "E" * 400], [LIGHT, LIGHT], truncation=True)["input_ids"]
    assert [len(row) for row in ids] == [24, 320]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer(HEAVY, LIGHT, truncation=True)


@pytest.mark.parametrize("of", [list, iter])
def test_a_pair_as_one_text_is_not_cut(tokenizer, of):
    """Stock transformers would cut such a text at its end, and this tokenizer the longer chain."""
    texts = [HEAVY, "E" * 400, HEAVY + "<cls><cls>" + LIGHT, "E" * 400 + "<cls><cls>" + LIGHT]
    complaint = "record 4 has 414 tokens with its separators, more than 320; a pair .* as one text is not cut"
    with pytest.raises(ValueError, match=complaint):
        tokenizer(of(texts), truncation=True)
    with pytest.raises(ValueError, match="record 1 has 414"):
        tokenizer(texts[3], truncation="longest_first")
    with pytest.warns(UserWarning, match="1 of 3 records are cut"):
        ids = tokenizer(of(texts[:3]), truncation=True)["input_ids"]
    assert [len(row) for row in ids] == [12, 320, 24]


@pytest.mark.parametrize("separator", ["<cls><cls>", "<cls>"])
def test_separator_is_saved(separator, tmp_path):
    tok = CurrAbTokenizer(separator=separator, model_max_length=300)
    tok.save_pretrained(tmp_path)
    expected = tok(HEAVY, LIGHT)
    for again in (CurrAbTokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert again(HEAVY, LIGHT) == expected
        assert again.model_max_length == 300
        assert again.decode(expected["input_ids"]) == tok.decode(expected["input_ids"])
    assert CurrAbTokenizer.from_pretrained(tmp_path).separator == separator
    assert CurrAbTokenizer.from_pretrained(tmp_path, separator="<cls>").separator == "<cls>"

    # The template is enough: the property may be missing from an older file.
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["separator"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert CurrAbTokenizer.from_pretrained(tmp_path).separator == separator


def test_vocabulary_of_another_checkpoint(tmp_path):
    """CurrAb's has `<sep>` where ESM-2's has `<null_1>`, and no use for it."""
    tokens = ["<sep>" if token == "<null_1>" else token for token in ESM2]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens))
    tok = CurrAbTokenizer(vocab_file=tmp_path / "vocab.txt", separator="<cls>")
    assert tok(HEAVY, LIGHT)["input_ids"] == ids_of("<cls>", *HEAVY, "<cls>", *LIGHT, "<eos>")
    assert tok.get_vocab()["<sep>"] == 31
    (tmp_path / "vocab.txt").write_text("A\nC\n")
    with pytest.raises(ValueError, match="no ESM-2 tokenizer"):
        CurrAbTokenizer(vocab_file=tmp_path / "vocab.txt")


def test_a_folder_without_tokenizer_is_not_guessed_at(tmp_path):
    CurrAbConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no tokenizer files .*separator='<cls><cls>'"):
        CurrAbTokenizer.from_pretrained(tmp_path)
    assert CurrAbTokenizer.from_pretrained(tmp_path, separator="<cls>").separator == "<cls>"


def test_fragments_are_no_nucleotides(tokenizer):
    for fragment in ("CARSTYYGGDWY", "CASSA", "GGGGSGGGGS"):
        assert len(tokenizer(fragment)["input_ids"]) == len(fragment) + 2


def test_upper_casing_invents_no_residue(tokenizer):
    with pytest.raises(ValueError, match="position 2: 'ß'"):
        tokenizer("eßv", LIGHT, uppercase=True)


def test_work_per_token_is_done_in_rust(tokenizer, monkeypatch):
    """Ten times the residues, the same number of Python calls."""
    import sys

    def calls(chain):
        count = 0

        def profile(frame, event, arg):
            nonlocal count
            count += event == "call"

        sys.setprofile(profile)
        try:
            tokenizer([chain] * 5, [LIGHT] * 5)
        finally:
            sys.setprofile(None)
        return count

    calls(HEAVY)
    assert calls(HEAVY) == calls(HEAVY * 10)
