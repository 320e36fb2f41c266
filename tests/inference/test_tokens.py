"""Tokens of many records at once: those that the tokenizer gives, without asking it."""

import random
import re
from unittest import mock

import numpy as np
import pytest
from support.tiny_models import PAIRS

from curr_ab import CurrAbTokenizer
from curr_ab.inference import records_of
from curr_ab.inference.tokens import residues_of, tokenize, tokenize_one
from curr_ab.tokenization.tokenization_curr_ab import CURRAB_SEPARATOR
from curr_ab.words import STANDARD_RESIDUES

ODD = [
    ("EVQLX", "DIQMT"),
    ("EV<mask>L", "DI<mask>MT"),
    ("ACGTACGTAA", "DIQMT"),  # letters of nucleotides, but told apart by the tokenizer alone
    ("AVWYSS", "GGSS"),  # no E, P or Q
    ("EVQL", None),
    (None, "DIQMT"),
]


def chains(number):
    drawn = random.Random(number)
    return tuple(
        "E" + "".join(drawn.choices(STANDARD_RESIDUES, k=drawn.randint(0, 140))) for _ in ("heavy", "light")
    )


def asked(tokenizer, record):
    return tokenizer(heavy=record.heavy, light=record.light)["input_ids"]


@pytest.mark.parametrize("separator", [None, CURRAB_SEPARATOR])
@pytest.mark.parametrize("odd", [[], ODD[1:2], ODD[:2] + ODD[3:]])
def test_the_same_as_one_by_one(odd, separator):
    tokenizer = CurrAbTokenizer(separator=separator)
    records = list(records_of([*map(chains, range(40)), *odd, *map(chains, range(40, 60))]))
    window = tokenize(tokenizer, records)
    assert len(window) == len(records) and window.records == records
    for record, tokens in zip(records, window, strict=True):
        assert tokens.record is record
        assert tokens.input_ids.tolist() == asked(tokenizer, record)
        text = (record.heavy or "").replace("<mask>", "X")
        assert tokens.num_heavy == len(text)
        special = {tokenizer.cls_token_id, tokenizer.eos_token_id}
        places = [place for place, one in enumerate(tokens.input_ids.tolist()) if one not in special]
        assert tokens.positions.tolist() == places


def test_ordinary_pairs_are_not_asked_about(tokenizer):
    records = list(records_of([*map(chains, range(20)), ("EVQL", None), (None, "DIQMT")]))
    with mock.patch.object(CurrAbTokenizer, "__call__", side_effect=AssertionError):
        window = tokenize(tokenizer, records)
    assert [one.input_ids.tolist() for one in window] == [asked(tokenizer, record) for record in records]


def test_only_odd_records_are_asked_about(tokenizer):
    records = list(records_of([*map(chains, range(20)), ODD[0], *map(chains, range(20, 25))]))
    plain = CurrAbTokenizer.__call__
    with mock.patch.object(CurrAbTokenizer, "__call__", autospec=True, side_effect=plain) as asking:
        window = tokenize(tokenizer, records)
    assert asking.call_count == 1
    assert [one.input_ids.tolist() for one in window] == [asked(tokenizer, record) for record in records]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("EVQLJ", "DIQMT"), "record 3 ('3'), heavy chain, position 5: 'J' is not a residue"),
        (("EVQ^L", "DIQMT"), "record 3 ('3'), heavy chain, position 4: '^' is not a residue"),
        (("EVQL", "DI?MT"), "record 3 ('3'), light chain, position 3: '?' is not a residue"),
        (("EVQÄ", "DIQMT"), "record 3 ('3'), heavy chain, position 4: 'Ä' is not a residue"),
        (("EVQL", ""), "record 3 ('3'), light chain is empty"),
        (("EVQL", 7), "record 3 ('3'), light chain: 7 is not a sequence"),
        (("E" * 300, "D" * 20), "record 3 ('3') has 324 tokens"),
        (("EVQL", "ACGT" * 20), "record 3 ('3'), light chain is written in the letters of nucleotides"),
        (("GATTACA" * 8, "DIQMT"), "record 3 ('3'), heavy chain is written in the letters of nucleotides"),
    ],
)
def test_a_bad_record_is_named_among_good_ones(pair, message, tokenizer):
    records = list(records_of([chains(1), chains(2), pair, chains(3)]))
    with pytest.raises(ValueError, match=re.escape(message)):
        tokenize(tokenizer, records)


@pytest.mark.parametrize("part", ["pair", "heavy", "light"])
def test_parts_of_all_records_are_those_of_each(part, tokenizer):
    window = tokenize(tokenizer, list(records_of([*PAIRS, ("EV<mask>L", "DIQMT"), *map(chains, range(9))])))
    inside = np.split(window.in_part(part), window.tokens.offsets[1:])
    for one, own in zip(window, inside, strict=True):
        assert np.flatnonzero(own).tolist() == one.positions[residues_of(part, one)].tolist()


@pytest.mark.parametrize("separator", [None, CURRAB_SEPARATOR])
def test_no_records_have_no_tokens(separator):
    assert list(tokenize(CurrAbTokenizer(separator=separator), [])) == []


def test_a_record_without_the_part_is_named(tokenizer):
    records = list(records_of([chains(1), ("EVQL", None)]))
    with pytest.raises(ValueError, match=r"record 2 \('2'\) has no light chain"):
        tokenize(tokenizer, records).in_part("light")
    assert tokenize_one(tokenizer, records[1]).input_ids.tolist() == asked(tokenizer, records[1])
