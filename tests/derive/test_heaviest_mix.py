"""What the heaviest mix of requests leaves of a floor that was carried while requests were short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import SETTINGS
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.derive.heaviest_mix import heaviest_mix_ratio
from hs_analysis.derive.load import RoleRows
from hs_analysis.derive.targets import operating_point
from hs_analysis.schema.results import Capacity


def _rows(load: np.ndarray, tokens: np.ndarray, role: str = "decode", kind: str = "production") -> RoleRows:
    n = load.size
    nan, off = np.full(n, np.nan), np.zeros(n, dtype=bool)
    return RoleRows(
        role, 4 * load, np.full(n, 4.0), load, load, tokens, load, 0.0, ("tbt",), nan, nan, ~off,
        ~off, off, nan, ~off, np.zeros(n, dtype=np.int64), 60.0, kind,
    )  # fmt: skip


RISING = np.linspace(50.0, 100.0, 1000)
HALF = np.where(np.arange(1000) < 500, 1.0, 0.5)


def test_a_peak_of_short_requests_carried_less_of_the_long_ones() -> None:
    """Half as many tokens a sequence at the peak as by night: half of the floor at worst."""
    assert heaviest_mix_ratio(_rows(RISING, 800.0 * HALF)) == pytest.approx(0.5)


def test_a_peak_of_long_requests_carried_the_heaviest() -> None:
    """Nothing is taken off."""
    assert heaviest_mix_ratio(_rows(RISING, 800.0 * HALF[::-1])) == pytest.approx(1.0)


def test_what_says_nothing_of_the_mix_is_not_told() -> None:
    """A mix that moves by less than a quarter, prefill, a test, an hour, unknown tokens, idle rows alone."""
    assert heaviest_mix_ratio(_rows(RISING, np.linspace(800.0, 1000.0, 1000))) is None
    assert heaviest_mix_ratio(_rows(RISING, 800.0 * HALF, role="prefill")) is None
    assert heaviest_mix_ratio(_rows(RISING, 800.0 * HALF, kind="pressure_test")) is None
    assert heaviest_mix_ratio(_rows(RISING[:59], 800.0 * HALF[:59])) is None
    assert heaviest_mix_ratio(_rows(RISING, np.full(1000, np.nan))) is None
    idle = np.where(np.arange(1000) < 500, 1.0, 100.0)
    assert heaviest_mix_ratio(_rows(idle, 800.0 * HALF)) is None


@given(st.floats(0.1, 1e4), st.integers(0, 50))
def test_the_unit_of_tokens_does_not_matter(scale: float, seed: int) -> None:
    """It is a ratio, at most 1."""
    rng = np.random.default_rng(seed)
    load, tokens = rng.uniform(50, 100, 300), np.exp(rng.uniform(5, 7, 300))
    once, scaled = (heaviest_mix_ratio(_rows(load, by * tokens)) for by in (1.0, scale))
    assert once is not None
    assert once <= 1.0
    assert scaled == pytest.approx(once)


@pytest.mark.parametrize(
    ("status", "calm", "ratio", "share"),
    [("floor", True, None, 1.0), ("floor", True, 0.95, 0.95), ("floor", True, 0.5, 0.925),
     ("floor", False, 0.5, 0.85), ("ok", None, 0.5, 0.85)],
)  # fmt: skip
def test_a_calm_floor_is_used_as_much_less_as_a_mix_is_heavier(
    status: str, calm: bool | None, ratio: float | None, share: float
) -> None:
    """A head-room that is there already covers it."""
    capacity = Capacity("decode", None, "decode_tps", 1000.0, (1000.0, 1000.0), status, "observed", None)
    capacity = replace(capacity, calm=calm, growth_ratio=1.1, heaviest_mix_ratio=ratio)
    assert operating_point(capacity, SETTINGS) == pytest.approx((share, share * 1000.0))
