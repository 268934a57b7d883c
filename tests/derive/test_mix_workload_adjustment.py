"""Loads of a moving mix, adjusted to its mean."""

import math
from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import SETTINGS, day_shape, frame_of, wander
from scipy.stats import norm

from hs_analysis.derive.capacity import fit_capacity
from hs_analysis.derive.capacity_laws import label_rows
from hs_analysis.derive.constants import ELASTICITY_SD
from hs_analysis.derive.mix import adjust_workload_mix
from hs_analysis.derive.rows import RoleRows, role_rows
from hs_analysis.derive.service import _resamples
from hs_analysis.schema.aligned import ServiceFrame

HOURS, LIMIT, ELASTICITY, STEEPNESS, SCATTER = 30.0, 1000.0, -0.4, 15.0, 0.3
"""Length [h]; load at which the share is what a window may have at the usual mix [tokens/s], its elasticity
in tokens held; slope of the probit of the share in ln load, and its sd."""

TRUE = LIMIT * math.exp(norm.ppf(0.05) * SCATTER / STEEPNESS)
"""Mean load at which 5 % of windows violate at the usual mix [tokens/s]."""


def frame_with_mix(seed: int, moved: float = 0.6, role: str = "decode") -> ServiceFrame:
    """Return a history in which requests get shorter by `moved` in logs and long again.

    Its highest loads come while they are short."""
    rng = np.random.default_rng([seed, 33])
    rows = round(HOURS * 60)
    away = 0.5 * (1.0 - np.cos(2.0 * np.pi * np.arange(rows) / rows))
    length = np.exp(-moved * away)
    load = 1.15 * LIMIT * day_shape(HOURS, low=0.5, days=3) * (0.6 + 0.4 * away) * wander(rows, 0.05, rng)
    g = np.log(length) - np.average(np.log(length), weights=load)
    probit = norm.ppf(0.05) + STEEPNESS * (np.log(load / LIMIT) - ELASTICITY * g)
    share = norm.cdf(probit + SCATTER * rng.standard_normal(rows))
    latency = "tbt" if role == "decode" else "ttft"
    columns = {
        f"offered_tps@{role}": load,
        f"instances@{role}": np.ones(rows),
        f"{latency}_over@{role}": share,
        "input_length@service": 1200.0 * length,
        "output_length@service": 400.0 * length,
        "request_rate@service": load / (900.0 * length),
    }
    return frame_of(columns, "production", 60.0)


def rows_of(frame: ServiceFrame, role: str = "decode") -> RoleRows:
    """Return the rows of the only role, as if the other pool had been seen to keep up."""
    return replace(role_rows(frame, role, SETTINGS), alone=False)


def test_capacity_is_that_of_the_usual_mix() -> None:
    """Limits met while requests are short: 2 % off on average, covered; loads as they came say 10 % more."""
    errors, covered = [], 0
    for seed in range(4):
        frame = frame_with_mix(seed)
        resamples = _resamples(frame, SETTINGS, np.random.default_rng(seed))[:60]
        found = fit_capacity(rows_of(frame), SETTINGS, resamples, np.random.default_rng(0), "").capacity
        assert found.per_instance is not None
        assert found.ci is not None
        errors.append(math.log(found.per_instance / TRUE))
        covered += found.ci[0] <= TRUE <= found.ci[1]
    assert abs(np.mean(errors)) < 0.035
    assert covered == len(errors)


def test_loads_are_brought_to_the_usual_mix_by_the_elasticity_told() -> None:
    """Load × exp(-γ g) with γ near the true one, and what is left of the doubt as a term of the interval."""
    rows = rows_of(frame_with_mix(0))
    found = adjust_workload_mix(rows, SETTINGS.slo)
    labelled = label_rows(rows, SETTINGS.slo, drop_recovery=True)
    g = np.log(rows.request_tokens)
    g -= np.average(g[labelled.kept], weights=rows.load[labelled.kept])
    told = -np.polyfit(g[labelled.kept], np.log(found.load / rows.load)[labelled.kept], 1)[0]
    assert told == pytest.approx(ELASTICITY, abs=0.16)
    off = abs(float(g[labelled.bad & labelled.kept].mean()))
    assert off > 0.05
    assert found.mix_sd == pytest.approx(ELASTICITY_SD * off)


def test_prefill_keeps_its_loads_and_gets_the_doubt() -> None:
    """No elasticity of prefill can be told: the interval alone says that the limit was met at another mix."""
    rows = rows_of(frame_with_mix(0, role="prefill"), "prefill")
    found = adjust_workload_mix(rows, SETTINGS.slo)
    np.testing.assert_array_equal(found.load, rows.load)
    assert found.mix_sd > 0.01


@pytest.mark.parametrize("moved", [0.0, 0.15])
def test_a_mix_that_stays_changes_nothing(moved: float) -> None:
    """Tokens per request within a quarter between their deciles, or unknown: rows as they came."""
    rows = rows_of(frame_with_mix(0, moved))
    assert adjust_workload_mix(rows, SETTINGS.slo) is rows
    frame = frame_with_mix(0)
    bare = ServiceFrame(**{**vars(frame), "table": frame.table.drop("input_length@service")})
    unknown = rows_of(bare)
    assert np.isnan(unknown.request_tokens).all()
    assert adjust_workload_mix(unknown, SETTINGS.slo) is unknown
