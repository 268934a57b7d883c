"""Many policies at once decide, count and score as each alone does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import SETTINGS, built, day, derived, guard, pd_day, primary, service

from hs_analysis.errors import UsageError
from hs_analysis.policy.model import Bounds, Cooldown, Highest, Hysteresis, Policy, SoftScaleIn, Step
from hs_analysis.replay.batch import counts_batch, score_batch
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.kernel import curve_at
from hs_analysis.replay.packing import pack_policies
from hs_analysis.replay.score import score
from hs_analysis.replay.signals import SignalModel
from hs_analysis.replay.simulate import simulate
from hs_analysis.schema.aligned import ServiceFrame

DECODE = (("decode_tps", "decode"),)
PREFILL = (("prefill_tps_effective", "prefill"),)
PAIR = (*PREFILL, *DECODE)


def variants(policy: Policy, count: int, seed: int = 0) -> list[Policy]:
    """Return policies that differ from one in every number a search may turn."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        share, out, down = rng.uniform(0.6, 1.3), rng.uniform(1.0, 1.3), rng.uniform(0.5, 0.95)
        usual = rng.choice([None, 3.0, 11.5])
        highest = Highest(rng.uniform(2e3, 2e4), rng.uniform(3.0, 9.0)) if rng.random() < 0.5 else None
        primaries = tuple(
            replace(
                p,
                target_per_instance=replace(
                    p.target_per_instance, value=share * (p.target_per_instance.value or 1.0)
                ),
                highest=highest if p.pool == "sum" else None,
            )
            for p in policy.primaries
        )
        found.append(
            replace(
                policy,
                primaries=primaries,
                hysteresis={role: Hysteresis(out, down, "", usual) for role in policy.hysteresis},
                cooldown={
                    role: Cooldown(float(rng.choice([0, 120, 300])), float(rng.choice([300, 600, 1200])))
                    for role in policy.cooldown
                },
                step=Step(rng.uniform(0.4, 1.0), rng.uniform(0.05, 1.0), rng.uniform(0.05, 0.6)),
            )
        )
    return found


def gappy(frame: ServiceFrame) -> ServiceFrame:
    """Return a frame with a gap of everything, a gap of the metrics, and latencies that guard."""
    rows = np.arange(frame.table.height)
    prefill, decode = (frame.values("offered_tps", role) for role in ("prefill", "decode"))
    for load in (prefill, decode):
        load[150:160] = np.nan
    made = service(
        {"prefill": prefill, "decode": decode},
        {"prefill": 11, "decode": 4},
        ttft__service=np.where(rows % 97 == 0, np.nan, 0.4 + 2.2e-4 * np.nan_to_num(prefill) / 2),
        tbt__decode=0.02 + 1.5e-5 * np.nan_to_num(decode) / 2,
    )
    blind = made.table["decode_tps@decode"].to_numpy().copy()
    blind[60:75] = np.nan
    table = made.table.with_columns(made.table["decode_tps@decode"].set(rows_mask(rows, 60, 75), None))
    return replace(made, table=table)


def rows_mask(rows: np.ndarray, first: int, last: int):
    """Return a polars mask of a stretch of rows."""
    import polars as pl

    return pl.Series((rows >= first) & (rows < last))


FRAME = gappy(pd_day(320))
MODEL = replace(fit_fleet(FRAME, derived(), SETTINGS), gpus_per_instance={"prefill": 8.0, "decode": 4.0})
PARTS = demands(FRAME)


@pytest.mark.parametrize("keys", [DECODE, PREFILL, PAIR])
def test_counts_and_figures_equal_those_of_each_policy_alone(keys: tuple[tuple[str, str], ...]) -> None:
    """Forty settings with guards, soft scale-in, gaps and missing metrics: same counts, same figures."""
    base = built(FRAME, keys)
    assert base.guards
    assert base.soft_scale_in
    policies = variants(base, 40)
    counts = counts_batch(policies, PARTS[0], MODEL)
    figures = score_batch(policies, PARTS, MODEL)
    for i, policy in enumerate(policies):
        alone = simulate(policy, PARTS[0], MODEL)
        for role in MODEL.pools:
            np.testing.assert_array_equal(counts[role][:, i], alone.desired[role], err_msg=f"{i} {role}")
        expected = score("x", [alone], MODEL)
        row = expected.row
        assert figures.instance_hours[i] == pytest.approx(row.instance_hours)
        assert figures.gpu_hours[i] == pytest.approx(row.gpu_hours)
        assert figures.actions_per_day[i] == pytest.approx(row.actions_per_day)
        assert figures.unserved_tokens[i] == pytest.approx(row.unserved_tokens, abs=1e-6)
        assert figures.strain_ratio[i] == pytest.approx(expected.strain_ratio, rel=1e-9, abs=1e-12)
        assert figures.slo_violation_ratio[i] == pytest.approx(row.slo_violation_ratio, rel=1e-9, abs=1e-12)


def test_guards_act_in_the_batch_as_alone() -> None:
    """A queue that lifts a latency over its SLO adds instances and restores those under observation."""
    load = np.concatenate([day(120, 12_000.0, noise=0.0), np.full(60, 60_000.0), np.full(60, 8_000.0)])
    frame = service({"prefill": load}, {"prefill": 6}, ttft__service=0.2 + load / 1e5)
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    base = replace(
        built(frame, PREFILL),
        guards=(guard("ttft", "prefill", 0.35),),
        soft_scale_in=SoftScaleIn(300.0, "ttft > 0.35 s"),
        bounds={"prefill": Bounds(2, 30)},
        pd_ratio=None,
    )
    policies = variants(base, 25, seed=5)
    counts = counts_batch(policies, part, model)
    reasons = ""
    for i, policy in enumerate(policies):
        alone = simulate(policy, part, model)
        np.testing.assert_array_equal(counts["prefill"][:, i], alone.desired["prefill"])
        reasons += " ".join(alone.reason)
    assert "restored" in reasons
    assert "of its SLO: out to" in reasons


def test_utilisation_and_several_captures() -> None:
    """A pool mean read from its curve, over two captures."""
    load = np.concatenate([day(200, 18_000.0), day(160, 14_000.0, seed=2)])
    frame = service(
        {"prefill": load},
        {"prefill": 11},
        captures=["a"] * 200 + ["b"] * 160,
        gpu_util__prefill=load / 11 / 5000,
    )
    model = fit_fleet(frame, derived(), SETTINGS)
    base = replace(
        built(frame, PREFILL), primaries=(primary("gpu_util", "prefill", 0.4, "mean"),), pd_ratio=None
    )
    policies = variants(base, 12)
    parts = demands(frame)
    figures = score_batch(policies, parts, model)
    for i, policy in enumerate(policies):
        expected = score("x", [simulate(policy, part, model) for part in parts], model)
        assert figures.instance_hours[i] == pytest.approx(expected.row.instance_hours)
        assert figures.strain_ratio[i] == pytest.approx(expected.strain_ratio)
        assert np.isnan(figures.gpu_hours[i])


def test_a_family_differs_in_numbers_only() -> None:
    """Other primaries are another family."""
    with pytest.raises(UsageError, match="differ in numbers only"):
        pack_policies([built(FRAME, DECODE), built(FRAME, PAIR)], ("prefill", "decode"))


def test_curves_read_as_one_by_one() -> None:
    """Inside, at the edges, beyond them, and for a single point."""
    model = SignalModel("curve", "decode", loads=(1.0, 2.0, 4.0), values=(0.1, 0.3, 0.9))
    loads, values = np.array([model.loads]), np.array([model.values])
    for load in (0.5, 1.0, 1.7, 2.0, 3.999, 4.0, 9.0):
        assert curve_at(loads, values, 0, 3, load) == model.at(load)
        assert curve_at(loads, values, 0, 1, load) == 0.1
    assert np.isnan(curve_at(loads, values, 0, 3, np.nan))
