"""Brackets of JSON outside of its texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.ingest import streams
from hs_analysis.ingest.streams import BracketState, nesting_of, scan_brackets

VALUES = st.recursive(
    st.one_of(st.text('[]{}"\\ab', max_size=12), st.integers()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text('"[\\', max_size=3), inner)),
    max_leaves=40,
)


def counted(value: Any) -> tuple[int, int]:
    """Return lists and objects of a decoded value, and how many lie in each other."""
    if not isinstance(value, list | dict):
        return 0, 0
    inner = [counted(one) for one in (value.values() if isinstance(value, dict) else value)]
    return 1 + sum(n for n, _ in inner), 1 + max((levels for _, levels in inner), default=0)


def closing(data: bytes, most: int = 100) -> BracketState:
    told = BracketState(0)
    while not told.cut and (told.depth or not told.opened) and told.depth <= most:
        told = scan_brackets(data, told, most)
    return told


@given(VALUES, st.integers(1, 40), st.integers(0, 3))
def test_brackets_are_those_of_the_decoded_value(value: Any, chunk: int, few: int) -> None:
    """Whatever the chunks, whether one or many are told at once; those in texts are none."""
    raw = json.dumps([value]).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "SMALLEST_CHUNK_BYTES", chunk + 1)
        patch.setattr(streams, "LARGEST_CHUNK_BYTES", chunk + 7)
        patch.setattr(streams, "FEW", few)
        opened, levels = counted([value])
        assert nesting_of(raw) == (opened, levels)
        assert closing(raw + b'] "[" {') == BracketState(len(raw), 0, opened)
        if levels > 1:
            deep = closing(raw, levels - 1)
            assert (deep.depth, raw[deep.end - 1 : deep.end] in (b"[", b"{")) == (levels, True)
        cut = closing(raw[:-1])
        assert cut.cut
        assert cut.depth == 1


@given(VALUES, st.integers(1, 40))
def test_what_is_cut_is_told_on_from_where_it_is_cut(value: Any, at: int) -> None:
    """An unfinished text is looked at again when there is more of it."""
    raw = json.dumps([value] * 3).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "SMALLEST_CHUNK_BYTES", 8)
        patch.setattr(streams, "FEW", 1)
        told = closing(raw[:at])._replace(cut=False)
        while told.depth or not told.opened:
            told = scan_brackets(raw, told, 100)
            assert not told.cut
        assert told.end == len(raw)
