"""Which latencies act, and from which excess over the limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from replay.services import SETTINGS, VERDICTS, pd_day
from scipy.stats import norm

from hs_analysis.policy.guards import GUARD_TIERS, guard_tiers, guards_of
from hs_analysis.policy.model import Tier
from hs_analysis.schema.aligned import ServiceFrame

LIMIT_S = 0.05


def frame(latency_s: np.ndarray) -> ServiceFrame:
    """Return a day whose TBT is this, a row each; the rest of the day is quiet."""
    whole = pd_day()
    values = np.full(whole.table.height, 0.1 * LIMIT_S)
    values[: latency_s.size] = latency_s
    table = whole.table.with_columns(tbt=values).drop("tbt@decode", strict=False)
    return ServiceFrame(
        whole.service, whole.window_s, whole.kind, whole.reference, table.rename({"tbt": "tbt@decode"}),
        whole.signals, whole.gpus_per_instance, whole.gpu_types,
    )  # fmt: skip


def noisy(sd: float, rows: int = 600, level: float = 0.8) -> np.ndarray:
    """Return a latency that rises slowly to a share of its limit under multiplicative noise."""
    rng = np.random.default_rng(5)
    course = np.linspace(0.6, level, rows)
    return LIMIT_S * course * np.exp(rng.normal(0.0, sd, rows))


@pytest.mark.parametrize("sd", [0.03, 0.08])
def test_the_upper_tier_is_what_noise_alone_seldom_reaches(sd: float) -> None:
    """e^(z·σ) with z for a tenth of a crossing a day of minutes; the lower one stays at the limit."""
    tiers, provenance = guard_tiers(frame(noisy(sd)), "tbt", "decode", LIMIT_S)
    z = norm.ppf(1 - 0.1 / (2 * 1440))
    assert provenance == "noise"
    assert tiers[0] == Tier(1.0, 0.10)
    assert tiers[1].add_fraction == 0.20
    assert math.log(tiers[1].above_ratio) == pytest.approx(z * sd, rel=0.15)


def test_the_upper_tier_has_bounds() -> None:
    """A latency without noise to speak of, and one that is all noise."""
    assert guard_tiers(frame(noisy(1e-4)), "tbt", "decode", LIMIT_S)[0][1].above_ratio == 1.05
    assert guard_tiers(frame(noisy(0.4)), "tbt", "decode", LIMIT_S)[0][1].above_ratio == 2.0


def test_a_history_seldom_near_the_limit_has_the_default() -> None:
    """Scatter at light loads is another; a signal that is not there has none."""
    assert guard_tiers(frame(noisy(0.03, rows=50)), "tbt", "decode", LIMIT_S) == (GUARD_TIERS, "default")
    far = np.full(600, 0.2 * LIMIT_S) * np.exp(np.random.default_rng(1).normal(0, 0.2, 600))
    assert guard_tiers(frame(far), "tbt", "decode", LIMIT_S) == (GUARD_TIERS, "default")
    assert guard_tiers(pd_day(), "nothing", "decode", LIMIT_S) == (GUARD_TIERS, "default")


def test_guards_say_what_gave_their_tiers() -> None:
    """The provenance goes with the tiers into the policy."""
    made = guards_of(frame(noisy(0.05)), VERDICTS, SETTINGS, {})
    by_signal = {guard.signal: guard for guard in made}
    assert by_signal["tbt"].provenance == "noise"
    assert by_signal["tbt"].tiers != GUARD_TIERS
