"""Many numbers at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.ingest import text_lines
from hs_analysis.ingest.text_lines import PLACEHOLDERS, bulk_numbers

TEXTS = st.one_of(
    st.floats().map(lambda v: "NaN" if math.isnan(v) else repr(v).replace("inf", "+Inf").replace("-+", "-")),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["1e+06", "-0", "NaN", "+Inf", "-Inf", "Inf", "5.", ".5", "+7", "1e400"]),
    st.sampled_from([word.decode() for _, word, _ in PLACEHOLDERS]),
)


@pytest.mark.parametrize("fast", [True, False])
@given(texts=st.lists(TEXTS, max_size=8))
def test_every_number_is_what_float_says(fast: bool, texts: list[str]) -> None:
    """Bit for bit, with the fast parser and without it, even a number that stands in for NaN."""
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(text_lines, "_new_parser", None)
        found = bulk_numbers(",".join(texts).encode())
    assert found is not None
    assert np.array_equal(found, np.array([float(text) for text in texts]), equal_nan=True)


@given(texts=st.lists(TEXTS | st.sampled_from(["", " ", "x"]), max_size=12), size=st.integers(1, 20))
def test_parts_are_the_whole(texts: list[str], size: int) -> None:
    """A long text is parsed in parts, and is no numbers wherever it is none as a whole."""
    raw = ",".join(texts).encode()
    whole = bulk_numbers(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_lines, "PIECE_BYTES", size)
        parts = bulk_numbers(raw)
    assert (whole is None) == (parts is None)
    assert whole is None or parts is None or np.array_equal(whole, parts, equal_nan=True)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "1,",
        ",1",
        "1,,2",
        "1, ,2",
        " ,1",
        "1, ",
        "x",
        "1,x",
        "1 2",
        "null",
        "true",
        '"1"',
        "NaNx",
        "1NaN",
        "0x10",
        "[1]",
        "1_0",
        "1e",
        "é",
    ],
)
def test_what_is_no_number_is_left_to_the_slow_way(
    text: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is made up for an empty field or a word."""
    if not fast:
        monkeypatch.setattr(text_lines, "_new_parser", None)
    found = bulk_numbers(text.encode())
    assert found is None or text == "[1]"
