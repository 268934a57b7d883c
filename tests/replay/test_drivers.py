"""Every signal as a driver: the shapes that HeteroScale's figure shows, and when nothing can be tried."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import D_CAPACITY, SETTINGS, day, derived, service, verdict

from hs_analysis.replay.constants import NO_DIP
from hs_analysis.replay.drivers import pool_of, reading, try_signals
from hs_analysis.schema.aligned import ServiceFrame

PAPER: dict[tuple[str, str], float] = {
    ("prefill_tps_effective", "prefill"): 0.51,
    ("decode_tps", "decode"): 0.37,
    ("gpu_util", "prefill"): 0.58,
    ("gpu_util", "decode"): 0.99,
    ("sm_activity", "decode"): 0.93,
}
"""HeteroScale's Fig. 6 by (signal, pool): instances at the dip ÷ at the peak, read off the figure.

There load fell to about 0.72 of its peak, and counts seem scaled per panel: shapes compare, levels do not.
"""

STUDIED = (
    verdict("decode_tps", "decode"),
    verdict("prefill_tps_effective", "prefill"),
    verdict("gpu_util", "decode", "unusable"),
    verdict("sm_activity", "decode", "guard"),
    verdict("gpu_util", "prefill"),
    verdict("request_rate", "service"),
    verdict("ttft", "service", "guard"),
)


def two_days(seed: int = 1) -> ServiceFrame:
    """Return two days on fixed pools whose signals have the shapes of HeteroScale's Fig. 2.

    Decode GPU utilisation is flat, decode SM activity hardly moves with load, prefill utilisation follows it.
    """
    prefill = np.r_[day(1440, 18_000.0, seed=seed), day(1440, 18_000.0, seed=seed + 1)]
    decode = prefill / 7.3
    rng = np.random.default_rng(seed)
    share = decode / decode.max()
    return service(
        {"prefill": prefill, "decode": decode},
        {"prefill": 9, "decode": 3},
        gpu_util__decode=0.93 + rng.normal(0, 0.004, prefill.size),
        sm_activity__decode=0.55 * share**0.15 * np.exp(rng.normal(0, 0.01, prefill.size)),
        gpu_util__prefill=0.8 * prefill / prefill.max() * np.exp(rng.normal(0, 0.02, prefill.size)),
        request_rate__service=decode / 200.0,
        ttft__service=0.3 + 2.0 * (prefill / prefill.max()) ** 4,
    )


def tried(frame: ServiceFrame, verdicts=STUDIED, numbers=None) -> dict:
    """Return the drivers on the last half by (signal, pool)."""
    first = np.arange(frame.table.height) < 0.5 * frame.table.height
    rows = try_signals(frame.rows(~first), frame.rows(first), numbers or derived(), verdicts, SETTINGS)
    return {(row.signal, row.pool): row for row in rows}


def test_shapes_of_the_paper() -> None:
    """Flat decode signals stay near their peak; throughput drivers, and a request rate, come down."""
    found = tried(two_days())
    for key in (("gpu_util", "decode"), ("sm_activity", "decode")):
        assert found[key].dip_ratio > 0.9, key
        assert found[key].reading == "stays near its peak: hardly scales in"
    for key in (
        ("decode_tps", "decode"),
        ("prefill_tps_effective", "prefill"),
        ("gpu_util", "prefill"),
        ("request_rate", "decode"),
    ):
        assert found[key].dip_ratio < 0.55, key
        assert found[key].correlation > 0.8, key
        assert found[key].reading == "follows the dip"
    assert found[("decode_tps", "decode")].load_dip_ratio == pytest.approx(0.26, abs=0.04)


def test_a_signal_that_stays_up_pays_for_it() -> None:
    """What does not scale in has more hours than what does, though that has an instance more at the peak."""
    found = tried(two_days())
    assert (
        found[("gpu_util", "decode")].instance_hours > 1.05 * found[("decode_tps", "decode")].instance_hours
    )


def derived_load(frame: ServiceFrame) -> np.ndarray:
    """Return the 5-min work per decode instance of the first half."""
    load = frame.values("offered_tps", "decode")[:1440] / 3.0
    return np.array([load[max(0, i - 4) : i + 1].mean() for i in range(load.size)])


def test_targets_are_what_the_signal_reads_at_the_target_load() -> None:
    """The work signal gets the derived target, a mean its reading there, a request rate its share."""
    found = tried(two_days())
    highest = 0.85 * max(derived_load(two_days()))
    target = min(0.85 * 0.95 * D_CAPACITY, highest)
    assert target == highest
    assert found[("decode_tps", "decode")].target_per_instance == pytest.approx(target)
    assert found[("gpu_util", "decode")].target_per_instance == pytest.approx(0.93, abs=0.01)
    assert found[("request_rate", "decode")].target_per_instance == pytest.approx(target / 200.0, rel=1e-6)


def test_who_stays_up_in_the_paper_stays_up_here() -> None:
    """Drivers near their peak in the figure are near it on signals of the figure's shapes, no others."""
    rows = tried(two_days())
    here = {key: rows[key].dip_ratio > NO_DIP for key in PAPER}
    assert here == {key: dip > NO_DIP for key, dip in PAPER.items()}


def test_rows_are_those_of_the_study() -> None:
    """Order and verdict are the study's."""
    rows = tried(two_days())
    assert list(rows) == [(v.signal, pool_of(v.signal, v.role, ("prefill", "decode"))) for v in STUDIED]
    assert rows[("gpu_util", "decode")].verdict == "unusable"


def test_the_other_pool_does_not_depend_on_the_driver() -> None:
    """Work waits for prefill wherever prefill is short, but never because of a decode driver."""
    alone = tried(two_days(), STUDIED[1:2])
    beside = tried(two_days())
    key = ("prefill_tps_effective", "prefill")
    assert alone[key] == beside[key]


def test_what_can_not_be_tried_says_why() -> None:
    """Short windows, unknown signals, unknown capacity: no figure, and a sentence."""
    short = two_days().rows(np.arange(2880) < 400)
    assert tried(short)[("decode_tps", "decode")].reading.startswith("not tried: no capture")
    unknown = tried(two_days(), (verdict("kv_usage", "decode"), verdict("decode_tps", "mixed")))
    assert unknown[("kv_usage", "decode")].reading.startswith("not tried: what it reads")
    assert unknown[("decode_tps", "")].reading == "not tried: no pool answers to it"
    refused = derived()
    refused = replace(refused, capacity=(), thresholds=(), refusals=())
    assert tried(two_days(), numbers=refused)[("decode_tps", "decode")].reading.startswith("not tried")
    assert all(row.dip_ratio is None for row in [*tried(short).values(), *unknown.values()])


@pytest.mark.parametrize(
    ("load", "count", "turns", "want"),
    [
        (0.95, 0.5, 0, "the load has no dip to follow"),
        (None, 0.5, 0, "the load has no dip to follow"),
        (0.3, 0.91, 0, "stays near its peak: hardly scales in"),
        (0.3, 0.6, 0, "follows the dip"),
        (0.3, 0.7, 0, "follows the dip in part"),
        (0.3, 0.3, 25, "follows the dip, but turns round more than once an hour"),
    ],
)
def test_readings(load: float | None, count: float, turns: float, want: str) -> None:
    """The words follow from both ratios and the reversals."""
    assert reading(load, count, turns) == want
