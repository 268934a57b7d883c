"""What the user leaves out is missing, not zero, and no total counts it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from align.service import SETTINGS, STEP, aligned, put_on_grid, scene, write
from polars.testing import assert_frame_equal

from hs_analysis.align import Aligned
from hs_analysis.align.counters import Increases
from hs_analysis.align.excluded import gain_outside, widened
from hs_analysis.schema.settings import Excluded

MADE = scene()
START = MADE.times[0]
FIRST, LAST = START + 1830, START + 2390  # inside whole minutes, so that both are widened
WIDE = (START + 1800, START + 2400)


def instant(seconds: float) -> str:
    """Return a Unix time as ISO text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


OUT = Excluded(instant(FIRST), instant(LAST), "load test")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    """The service with nothing left out."""
    return aligned(tmp_path_factory.mktemp("whole"), MADE.elements)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    """The service without ten minutes."""
    folder = tmp_path_factory.mktemp("without")
    dumps = write(folder / "in", MADE.elements)
    return put_on_grid(folder / "out", dumps, replace(SETTINGS, excluded=(OUT,)))[1]


def test_windows_left_out_are_missing(whole: Aligned, without: Aligned) -> None:
    """Every value of every touched window is null, the grid stays, and what was measured outside stays."""
    before, after = whole.frames[0].table, without.frames[0].table
    assert_frame_equal(before.select("capture", "t"), after.select("capture", "t"))
    seconds = after["t"].dt.epoch("us").to_numpy() / 1e6
    inside = (seconds >= WIDE[0]) & (seconds < WIDE[1])
    assert inside.sum() == 10
    values = [name for name in after.columns if name not in ("capture", "t")]
    assert all(after.filter(pl.Series(inside))[name].null_count() == 10 for name in values)
    measured = [name for name in values if not name.startswith(("offered_tps", "backlog_age", "saturated"))]
    outside = pl.Series(~inside)
    assert_frame_equal(before.filter(outside).select(measured), after.filter(outside).select(measured))


def test_the_long_frame_says_the_same(without: Aligned) -> None:
    """No row of the long frame has a value inside."""
    seconds = pl.col("t").dt.epoch("us") / 1e6
    inside = without.signals.filter((seconds >= WIDE[0]) & (seconds < WIDE[1]))
    assert inside["value"].null_count() == inside.height


def test_coverage_is_of_the_windows_that_count(whole: Aligned, without: Aligned) -> None:
    """Leaving out a stretch that was recorded does not make a signal patchy."""
    before = {(i.signal, i.role): i.coverage for i in whole.frames[0].signals}
    for info in without.frames[0].signals:
        assert info.coverage == pytest.approx(before[info.signal, info.role], abs=0.02), info


def test_totals_do_not_count_it(whole: Aligned, without: Aligned) -> None:
    """Requests, tokens and instance-hours are those of the time outside, exactly."""
    before, after = whole.facts[0], without.facts[0]
    slots = (np.array(MADE.times[:-1]) >= WIDE[0]) & (np.array(MADE.times[:-1]) < WIDE[1])
    assert slots.sum() * STEP == 600
    assert before.requests - after.requests == pytest.approx(MADE.started[slots].sum(), rel=1e-9)
    assert before.instance_hours - after.instance_hours == pytest.approx(5 * 600 / 3600, rel=1e-9)
    assert before.output_tokens > after.output_tokens


def test_nothing_of_a_stretch_left_out_reaches_its_neighbours(tmp_path: Path, without: Aligned) -> None:
    """Whatever was measured inside, the answer is the same to the bit."""
    times = np.array(MADE.times)
    inside = (times >= WIDE[0] + STEP) & (times <= WIDE[1] - STEP)
    wild = [
        {**e, "values": [[t, repr(float(v) * 3)] if hit else [t, v] for (t, v), hit in
                         zip(e["values"], inside, strict=True)]}
        if e["metric"]["__name__"].startswith(("vllm:num", "vllm:kv", "DCGM")) else e
        for e in MADE.elements
    ]  # fmt: skip
    dumps = write(tmp_path / "in", wild)
    found = put_on_grid(tmp_path / "out", dumps, replace(SETTINGS, excluded=(OUT,)))[1]
    assert_frame_equal(found.frames[0].table, without.frames[0].table)


def test_leaving_out_nothing_changes_nothing(tmp_path: Path, whole: Aligned) -> None:
    """A stretch beside the history has no effect."""
    dumps = write(tmp_path / "in", MADE.elements)
    aside = Excluded("2030-01-01T00:00:00Z", "2030-01-02T00:00:00Z")
    found = put_on_grid(tmp_path / "out", dumps, replace(SETTINGS, excluded=(aside,)))[1]
    assert_frame_equal(found.frames[0].table, whole.frames[0].table)
    assert found.facts == whole.facts


def test_stretches_are_widened_to_windows() -> None:
    """A window that is touched is left out as a whole; one that only borders is not."""
    assert widened(Excluded("2026-07-01T00:00:30Z", "2026-07-01T00:01:01Z"), 60.0) == (
        1782864000.0,
        1782864120.0,
    )
    assert widened(Excluded("2026-07-01T00:01:00Z", "2026-07-01T00:02:00Z"), 60.0) == (
        1782864060.0,
        1782864120.0,
    )


def test_increases_are_cut_by_the_share_of_their_time() -> None:
    """Before, across the start, inside, across all of it, after; stretches that overlap count once."""
    t0, t1 = [0.0, 50, 110, 0, 300, 100], [50.0, 150, 140, 400, 400, 100]
    rows = Increases(np.array(t0), np.array(t1), np.full(6, 10.0), np.zeros(6, bool))
    stretches = ((100.0, 180.0), (160.0, 200.0), (100.0, 120.0))
    cut = [gain_outside(rows.only(np.arange(6) == k), stretches) for k in range(6)]
    assert cut == pytest.approx([10.0, 5.0, 0.0, 7.5, 10.0, 10.0])
    assert gain_outside(rows, stretches) == pytest.approx(sum(cut))
    assert gain_outside(rows, ()) == 60.0
