"""Dataclasses survive the way through plain data."""

from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.pipeline.records import from_plain, to_plain
from hs_analysis.schema.replays import ReplayResult
from hs_analysis.schema.results import PdRatio, RatioWindow, Reason, SignalVerdict
from hs_analysis.schema.settings import Settings

finite = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | finite
interval = st.none() | st.tuples(finite, finite)
reasons = st.builds(Reason, st.text(), st.text(), maybe, maybe)


@given(
    st.builds(
        PdRatio,
        value=maybe,
        ci=interval,
        status=st.sampled_from(["ok", "floor", "drifting", "refused"]),
        at_least=maybe,
        at_most=maybe,
        reason=st.none() | reasons,
        band=interval,
        by_window=st.lists(st.builds(RatioWindow, st.text(), st.text(), finite, interval), max_size=3).map(
            tuple
        ),
        integer_pairs=st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), max_size=3).map(tuple),
        evidence=st.text(),
    )
)
def test_round_trip_through_json(ratio: PdRatio) -> None:
    """Nested dataclasses, intervals and pairs come back equal."""
    assert from_plain(PdRatio, json.loads(json.dumps(to_plain(ratio)))) == ratio


def test_reasons_and_settings_round_trip() -> None:
    """Tuples of dataclasses, dicts and literals."""
    verdict = SignalVerdict(
        signal="ttft",
        role="service",
        source="vllm",
        verdict="guard",
        reasons=(Reason("flat", "it is flat", 0.1, 0.2),),
        snr=3.0,
    )
    assert from_plain(SignalVerdict, to_plain(verdict)) == verdict
    settings = Settings(startup_s={"prefill": 240.0}, history_kind="pressure_test")
    assert from_plain(Settings, to_plain(settings)) == settings


def test_windows_of_a_backtest_round_trip() -> None:
    """First and last moment as text, or none where nothing was left to test on."""
    for window in (("a", "b"), None):
        result = ReplayResult(window, window, {"ok": True})
        assert from_plain(ReplayResult, to_plain(result)) == result


def test_what_json_has_no_word_for_becomes_null() -> None:
    """NaN and infinities are null; numpy values are plain numbers."""
    got = to_plain(
        {"a": math.nan, "b": np.float64("inf"), "c": np.int64(3), "d": np.array([1.0, math.nan]), 5: (1,)}
    )
    assert got == {"a": None, "b": None, "c": 3, "d": [1.0, None], "5": [1]}
    assert type(got["c"]) is int
