"""Numbers of a written policy are short, and near enough to what was derived."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from replay.services import built, pd_day

from hs_analysis.policy.document import dump, load
from hs_analysis.policy.rounding import rounded

PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))


def test_no_number_has_more_than_five_digits() -> None:
    """Targets, ratios, bands and what the backtest said; nothing moves by more than the fifth digit."""
    exact = replace(built(pd_day(), PAIR), replay={"instance_hours": 295.66666666666663, "test": ["a", "b"]})
    short = rounded(exact)
    numbers = re.findall(r": (\d+\.\d+)$", dump(short), re.M)
    assert numbers
    assert all(len(number.replace(".", "").strip("0")) <= 5 for number in numbers)
    for before, after in zip(exact.primaries, short.primaries, strict=True):
        assert after.target_per_instance.value == pytest.approx(before.target_per_instance.value, rel=5e-5)
    assert short.replay == {"instance_hours": 295.67, "test": ["a", "b"]}


def test_whole_numbers_stay_and_the_document_holds() -> None:
    """Counts are no floats, rounding twice changes nothing, and reading gives back what was written."""
    short = rounded(built(pd_day(), PAIR))
    assert isinstance(short.bounds["decode"].max, int)
    assert rounded(short) == short
    assert load(dump(short)) == short
