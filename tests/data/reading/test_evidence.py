"""Letters of a column, told from its bytes without a pattern."""

import re
from string import ascii_uppercase

import pyarrow as pa
import pytest

from curr_ab.data.reading.evidence import holds, holds_only

COLUMNS = [
    [],
    [None],
    [""],
    ["AC", None, "DE"],
    ["AC", "D*"],
    ["ac"],
    ["AC", "DJ"],
    ["1172", "7"],
    ["VDJN", "E"],
    ["é"],
]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("letters", [ascii_uppercase, "1234567", "VDJN", "ACDEFGHIKLMNPQRSTVWY"])
@pytest.mark.parametrize("texts", COLUMNS)
def test_the_letters_of_a_column(texts, letters, kind):
    column = pa.array(texts, kind)
    assert holds_only(column, letters) == all(re.fullmatch(f"[{letters}]*", text or "") for text in texts)
    assert holds(column, letters[0]) == any(letters[0] in (text or "") for text in texts)


def test_rows_beside_a_slice_do_not_count():
    column = pa.array(["é", "AC", "(", None, "D"])
    assert holds_only(column.slice(1, 1), ascii_uppercase) and not holds_only(
        column.slice(1, 2), ascii_uppercase
    )
    assert holds_only(column.slice(3), ascii_uppercase) and not holds(column.slice(3), "(")
