"""What alerts ask of the history itself: at which loads it broke its limits for as long as an alert waits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import Service, make_frame, with_columns

from hs_analysis.export.constants import DRIFT_FOR_S
from hs_analysis.pipeline.watched import broken_at
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.settings import Slo

SLO = Slo(tbt_s=0.05)
MINUTES = int(DRIFT_FOR_S // 60) + 1
"""Minutes after which an alert fires: `for` counts from the first."""


def history(load: np.ndarray, over: np.ndarray, interval_s: float = 15.0) -> ServiceFrame:
    """Return a history of decode load per instance and of the share over the edge above the limit."""
    service = Service()
    frame = make_frame(service, np.ones(load.size), 500.0, load * service.decode, 0)
    frame = with_columns(frame, {"decode_tps@decode": load * service.decode, "tbt_over_high@decode": over})
    infos = [
        replace(one, interval_s=interval_s) if one.signal == "decode_tps" else one for one in frame.signals
    ]
    return replace(frame, signals=tuple(infos))


def found(frame: ServiceFrame, slo: Slo = SLO) -> float | None:
    return broken_at(frame, slo).get("decode_tps@decode")


@pytest.mark.parametrize(("minutes", "least"), [(MINUTES - 1, None), (MINUTES, 610.0), (MINUTES + 5, 610.0)])
def test_a_limit_counts_once_it_was_broken_for_as_long_as_the_alert_waits(minutes, least):
    """The highest load of that time: below it the alert would have been silent."""
    load, over = np.full(120, 500.0), np.zeros(120)
    over[40 : 40 + minutes] = 0.06
    load[45] = 610.0
    assert found(history(load, over)) == (None if least is None else pytest.approx(least))


def test_the_lowest_of_several_times_counts_and_a_gap_ends_one():
    """A window without a value, as one within the limit, ends what the alert waits for."""
    load, over = np.repeat([700.0, 400.0, 300.0], 60), np.full(180, 0.06)
    over[[60, 119, 120]] = 0.0
    over[120:] = np.where(np.arange(60) % 10 == 0, np.nan, over[120:])
    assert found(history(load, over)) == pytest.approx(400.0)
    assert found(history(load, over), Slo()) is None


def test_the_time_that_the_rule_takes_its_rate_over_is_the_alerts():
    """Scraped every 30 s the rule looks back two minutes: one bad window in two keeps it over the limit."""
    load, over = np.full(60, 500.0), np.where(np.arange(60) % 2 == 0, 0.12, 0.0)
    assert found(history(load, over)) is None
    assert found(history(load, over, interval_s=30.0)) == pytest.approx(500.0)
