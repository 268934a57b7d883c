"""Every signal as the driver of an autoscaler, study-qualified or not, and what each does in a dip.

HeteroScale tried eight signals this way (arXiv:2508.19559, Fig. 6): drivers by throughput followed the load
down, decode GPU utilisation and decode SM activity stayed near the cap. The loop is closed here, the study's
is not, so that the two may disagree. Only the signal differs between drivers: same target load, dead band,
cooldowns and steps, no guards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hs_analysis import evidence
from hs_analysis.policy.build import build_policy, work_target
from hs_analysis.policy.constants import SCALE_IN_RATIO, SCALE_OUT_RATIO
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Cooldown, Hysteresis, Policy, Primary, Target
from hs_analysis.replay.constants import NO_DIP, RESTLESS_PER_DAY, SETTLING_S
from hs_analysis.replay.demand import DemandTrace, demands, rows_of, trailing_mean_of_known
from hs_analysis.replay.fleet import FleetModel, fit_fleet
from hs_analysis.replay.score import score
from hs_analysis.replay.signals import SERVICE_LOAD, SignalModel, work_signal
from hs_analysis.replay.simulate import SimulationResult, simulate_all
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.schema.constants import DAY_S, HOUR_S, MAJORITY, RESTS_S, SUSTAINED_S
from hs_analysis.schema.results import Derived, SignalDriver, SignalVerdict
from hs_analysis.schema.settings import Settings
from hs_analysis.statistics.constants import TOP_SHARE

BAND = Hysteresis(SCALE_OUT_RATIO, SCALE_IN_RATIO, "default")
REST = Cooldown(*RESTS_S, "default")
"""Dead band and cooldowns [s] of every driver; the defaults of a policy whose signal's noise is unknown."""

LEAST_S = 4 * SETTLING_S
"""Shortest capture that is tried [s]; a shorter one ends before a fleet has come down and up again."""


def try_signals(
    frame_test: ServiceFrame,
    frame_train: ServiceFrame,
    derived_train: Derived,
    verdicts: Sequence[SignalVerdict],
    settings: Settings,
) -> tuple[SignalDriver, ...]:
    """Let every signal that was studied drive its pool over the test window.

    The target of a driver is what the signal reads on the training window at ``target_load``; its pool is
    sized in proportion (pool total ÷ target, or instances × mean ÷ target). The other pool follows its own
    work, so that only the driver is judged. A request rate drives decode.

    Returns
    -------
    tuple
        One row per verdict, in their order. Where a signal could not be tried, ``reading`` says why and the
        figures are None. Empty without pools or demand.
    """
    if not frame_test.pools or not frame_train.pools or not frame_test.table.height:
        return ()
    model = fit_fleet(frame_train, derived_train, settings)
    parts = tuple(
        part
        for part in demands(frame_test, model.pools)
        if part.rows * part.window_s >= LEAST_S and part.scored.any()
    )
    base = build_policy(frame_train, derived_train, (), _work_pair(frame_train, model), settings, {}, {})
    rest = replace(
        base,
        mode="metric",
        controller="heteroscale",
        pd_ratio=None,
        guards=(),
        soft_scale_in=None,
        hysteresis=dict.fromkeys(model.pools, BAND),
        cooldown=dict.fromkeys(model.pools, REST),
    )
    tried = [_driver(one, rest, parts, model, frame_train, derived_train, settings) for one in verdicts]
    controls = [control_of(policy) for _, policy in tried if policy is not None]
    results = iter(zip(*(simulate_all(controls, part, model) for part in parts), strict=True))
    return tuple(row if policy is None else _measured(row, next(results), model) for row, policy in tried)


def _work_pair(history: ServiceFrame, model: FleetModel) -> tuple[tuple[str, str], ...]:
    """Return the work signal of every pool that has one and a target."""
    pairs = ((work_signal(history, role), role) for role, pool in model.pools.items() if pool.target)
    return tuple((signal, role) for signal, role in pairs if signal)


def _driver(
    verdict: SignalVerdict,
    rest: Policy,
    parts: Sequence[DemandTrace],
    model: FleetModel,
    history: ServiceFrame,
    derived: Derived,
    settings: Settings,
) -> tuple[SignalDriver, Policy | None]:
    """Return the row of a signal and the policy that it drives; no policy where it can't be tried."""
    pool = pool_of(verdict.signal, verdict.role, tuple(model.pools))
    blank = SignalDriver(
        signal=verdict.signal,
        role=verdict.role,
        pool=pool,
        verdict=verdict.verdict,
        evidence=evidence.path(history.service, "select", f"driver:{verdict.signal}@{verdict.role}"),
    )
    if not pool:
        return replace(blank, reading="not tried: no pool answers to it"), None
    if not parts:
        why = f"not tried: no capture of the test window has {LEAST_S / HOUR_S:.0f} h"
        return replace(blank, reading=why), None
    load = target_load(history, derived, pool, settings)
    if load is None:
        return replace(blank, reading=f"not tried: no target load of {pool} is known"), None
    target = driver_target(verdict.signal, verdict.role, pool, load, model, demands(history))
    if target is None:
        why = "not tried: what it reads at the target load is not known, or zero"
        return replace(blank, reading=why), None
    info = history.info(verdict.signal, verdict.role)
    driver = Primary(
        verdict.signal,
        pool,
        info.unit if info else "",
        "",
        verdict.source,
        Target(target),
        "sum" if info is not None and info.pool == "sum" else "mean",
    )
    others = tuple(one for one in rest.primaries if one.role != pool)
    return replace(blank, target_per_instance=target), replace(rest, primaries=(driver, *others))


def pool_of(signal: str, role: str, pools: Sequence[str]) -> str:
    """Return the pool that a signal drives; empty when there is none."""
    if role != "service":
        return role if role in pools else ""
    wanted = SERVICE_LOAD.get(signal, ("decode", "mixed"))
    return next((pool for pool in wanted if pool in pools), "")


def target_load(history: ServiceFrame, derived: Derived, pool: str, settings: Settings) -> float | None:
    """Return the work per instance that every driver of a pool steers to [tokens/s]; None when not known.

    The derived target, but no more than the head-room share of the highest 5-min load per instance on
    record: a signal is flat beyond what history showed, and could never ask for more instances there.
    """
    target = work_target(derived, pool, settings)
    if target is None:
        return None
    highest = -math.inf
    for part in demands(history):
        with np.errstate(invalid="ignore", divide="ignore"):
            load = _mean(part, pool, SUSTAINED_S) / part.column("instances", pool)
        highest = max(highest, float(load[np.isfinite(load)].max(initial=-math.inf)))
    return min(target, settings.headroom_ratio * highest) if highest > 0 else target


def driver_target(
    signal: str, role: str, pool: str, load: float, model: FleetModel, history: Sequence[DemandTrace]
) -> float | None:
    """Return what a signal reads where an instance carries ``load`` [unit of the signal, per instance].

    None when there is no model of the signal, or it reads nothing there.
    """
    found = model.signals.get((signal, role))
    value = None if found is None else _reading(found, signal, role, pool, load, history)
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _reading(
    model: SignalModel, signal: str, role: str, pool: str, load: float, history: Sequence[DemandTrace]
) -> float | None:
    if model.kind == "served":
        return load * model.factor
    if model.kind != "recorded":
        return model.at(load) if model.pool == pool else None
    # A request rate does not depend on the counts: work of a request turns one load into the other.
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.concatenate([part.column(signal, role) / part.offered[pool] for part in history])
    shares = shares[np.isfinite(shares)]
    return load * float(np.median(shares)) if shares.size else None


def _measured(blank: SignalDriver, results: Sequence[SimulationResult], model: FleetModel) -> SignalDriver:
    pool, parts = blank.pool, [result.demand for result in results]
    load = np.concatenate([_mean(part, pool, SETTLING_S) for part in parts])
    quick = np.concatenate([_mean(part, pool, SUSTAINED_S) for part in parts])
    counts = np.concatenate([result.desired[pool] for result in results])
    kept = np.concatenate([_after_warm_up(part) for part in parts]) & np.isfinite(load)
    dip, peak = _tenths(load, kept)
    load_dip = _over(load[dip].mean(), load[peak].mean())
    count_dip = _over(counts[dip].mean(), counts[peak].mean())
    scored = score(blank.signal, results, model)
    turns = sum(_reversals(r, pool) for r in results) / (scored.scored_s / DAY_S)
    hours = sum(float(r.paid[pool][r.scored].sum()) * r.demand.window_s for r in results) / HOUR_S
    return replace(
        blank,
        load_dip_ratio=load_dip,
        dip_ratio=count_dip,
        correlation=_correlation(counts[kept], quick[kept]),
        reversals_per_day=turns,
        instance_hours=hours,
        strain_ratio=scored.strain_ratio,
        reading=reading(load_dip, count_dip, turns),
    )


def _mean(part: DemandTrace, pool: str, seconds: float) -> Floats:
    return trailing_mean_of_known(part.offered[pool], rows_of(seconds, part.window_s))


def _after_warm_up(part: DemandTrace) -> Mask:
    kept: Mask = part.scored & (part.t_s - part.t_s[0] >= SETTLING_S)
    return kept


def _tenths(load: Floats, kept: Mask) -> tuple[Mask, Mask]:
    """Return the rows of lowest and of highest load, a tenth of those kept each."""
    low, high = np.quantile(load[kept], (TOP_SHARE, 1.0 - TOP_SHARE))
    with np.errstate(invalid="ignore"):
        return kept & (load <= low), kept & (load >= high)


def _over(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None


def _correlation(counts: Floats, load: Floats) -> float | None:
    """Return Pearson's correlation; None where either stands still."""
    if counts.size < 2 or np.ptp(counts) == 0 or np.ptp(load) == 0:
        return None
    return float(np.corrcoef(counts, load)[0, 1])


def _reversals(result: SimulationResult, pool: str) -> int:
    """Return the moves of a pool that undo the direction of its last one."""
    change = np.diff(result.desired[pool])
    signs = np.sign(change[change != 0])
    return int((signs[1:] != signs[:-1]).sum())


def reading(load_dip: float | None, count_dip: float | None, reversals_per_day: float = 0.0) -> str:
    """Say in words how a fleet took part in a dip of the load; both are dip ÷ peak."""
    if load_dip is None or count_dip is None or load_dip > NO_DIP:
        return "the load has no dip to follow"
    if count_dip > NO_DIP:
        return "stays near its peak: hardly scales in"
    followed = (1.0 - count_dip) / (1.0 - load_dip)
    words = "follows the dip" if followed >= MAJORITY else "follows the dip in part"
    return words + (
        ", but turns round more than once an hour" if reversals_per_day > RESTLESS_PER_DAY else ""
    )
