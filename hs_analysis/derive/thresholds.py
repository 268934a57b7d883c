"""Thresholds: what each usable signal reads when one instance carries its target, and the band around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis import evidence
from hs_analysis.derive.format import NOISE_COLLECT, STARTUP_COLLECT
from hs_analysis.derive.gpu_types import is_pool_mean
from hs_analysis.derive.noise import cooldowns, dead_band, noise_of
from hs_analysis.derive.rows import centred_mean, saturated_rows, smooth_rows
from hs_analysis.derive.startup import with_measured
from hs_analysis.derive.targets import LoadTarget, estimate_of, operating_point
from hs_analysis.derive.versions import ActiveVersion
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import FIT_BINS, GROUP_MIN, ROWS_MIN, STARTUP_S
from hs_analysis.schema.results import Capacity, Estimate, Reason, Refusal, SignalVerdict, Startup, Threshold
from hs_analysis.schema.settings import Settings
from hs_analysis.statistics.episodes import operating_rows
from hs_analysis.statistics.isotonic import monotone_fit

SERVICE_POOL = ("mixed", "decode")
"""A service signal (request rate) is counted per instance of the first of these pools that exists."""


_UNKNOWN = "the start-up time of {pool} is not known: {seconds:.0f} s are used"


def pool_of(role: str, pools: tuple[str, ...]) -> str | None:
    """Return the pool whose instances a signal of this role is counted by, None when there is none."""
    if role in pools:
        return role
    return next((pool for pool in SERVICE_POOL if pool in pools), None) if role == "service" else None


def thresholds_of(
    frame: ServiceFrame,
    verdicts: tuple[SignalVerdict, ...],
    targets: dict[str, LoadTarget],
    settings: Settings,
    startups: Sequence[Startup] = (),
    active: ActiveVersion | None = None,
) -> tuple[tuple[Threshold, ...], tuple[Refusal, ...]]:
    """Return the thresholds of a service, and what could not be had of them.

    One for the served token rate of each pool, and one for every other signal that the study found
    proportional. A request rate (role ``service``) is counted per instance of the decode or mixed pool.
    With ``active`` noise and counts are those of the active version.
    """
    active = active or ActiveVersion()
    wanted = [frame.served(pool) for pool in targets]
    wanted += sorted(
        (v.signal, v.role)
        for v in verdicts
        if v.verdict == "proportional"
        and (v.signal, v.role) not in wanted
        and pool_of(v.role, frame.pools) in targets
    )
    times = _startup_times(targets, settings, startups)
    found = tuple(_threshold(frame, signal, role, targets, times, active) for signal, role in wanted)
    return found, _refusals(found, times)


@dataclass(frozen=True)
class _StartupTime:
    """Start-up time of a pool [s], None when unknown; what the dump shows of it; whether the user gave it."""

    seconds: float | None
    shown: Startup | None
    given: bool


def _startup_times(
    targets: dict[str, LoadTarget], settings: Settings, startups: Sequence[Startup]
) -> dict[str, _StartupTime]:
    shown = {one.role: one for one in startups}
    effective = with_measured(settings, startups).startup_s
    return {
        pool: _StartupTime(effective.get(pool), shown.get(pool), pool in settings.startup_s)
        for pool in targets
    }


def _threshold(
    frame: ServiceFrame,
    signal: str,
    role: str,
    targets: dict[str, LoadTarget],
    times: dict[str, _StartupTime],
    active: ActiveVersion,
) -> Threshold:
    pool = pool_of(role, tuple(targets)) or role
    target = targets[pool]
    link = evidence.path(frame.service, "derive", f"threshold:{signal}@{role}")
    value, capacity = target.value, target.capacity
    if (signal, role) != frame.served(pool):
        value, capacity = signal_at(frame, signal, role, target)
    reason, status = target.reason, target.status
    if value is None and target.value is not None:
        status = "refused"
        reason = Reason("thin", f"fewer than {ROWS_MIN} rows hold both {signal} and the load of {pool}")
    values = np.where(saturated_rows(frame, pool), np.nan, active.signal(pool, frame.values(signal, role)))
    group = target.fit.labelled.rows.group
    counts = active.signal(pool, frame.values("instances", pool))
    noise = noise_of(values, frame.window_s, group, set_load=frame.kind == "pressure_test")
    size = _usual_size(counts)
    known = math.isfinite(noise.newest_cv) and math.isfinite(noise.highest_cv) and size > 0
    band = dead_band(noise, size, frame.window_s) if known else None
    out_s, in_s = cooldowns()
    if reason is None:
        reason = _gap(band is None, times[pool], pool)
    return Threshold(
        signal=signal, role=role, gpu_type=None,
        target_per_instance=value, capacity=capacity, headroom_ratio=target.headroom,
        scale_out_ratio=band.scale_out_ratio if band else None,
        scale_in_ratio=band.scale_in_ratio if band else None,
        noise_cv=noise.newest_cv if band else None, usual_instances=size if band else None,
        cooldown_out_s=out_s, cooldown_in_s=in_s,
        status=status, reason=reason, evidence=link,
    )  # fmt: skip


def _usual_size(counts: Floats) -> float:
    """Return the size of the pool that the mean instance-hour was in, 0 where none ran: Σ n² ÷ Σ n.

    The median would be the size of the quiet hours in a pool that moves, and one of 1 ÷ 3 as a step of its
    band would hold it large in the busy ones.
    """
    known = counts[np.isfinite(counts) & (counts > 0)]
    return float((known**2).sum() / known.sum()) if known.size else 0.0


def _gap(no_band: bool, startup: _StartupTime, pool: str) -> Reason | None:
    """Say what a threshold lacks, or that its pool's start-up time was measured."""
    if no_band:
        return Reason("noise_unknown", "too few rows in a row to tell the signal's noise, so no dead band")
    if startup.seconds is None:
        return Reason("startup_unknown", _UNKNOWN.format(pool=pool, seconds=STARTUP_S))
    if startup.given or startup.shown is None or startup.shown.reason is None:
        return None
    shown = startup.shown.reason.text
    text = f"a start-up takes {startup.seconds:.0f} s, measured: {shown}"
    return Reason("startup_measured", text, startup.seconds)


def type_thresholds(
    thresholds: tuple[Threshold, ...], capacities: tuple[Capacity, ...], service: str, settings: Settings
) -> tuple[Threshold, ...]:
    """Return what an instance of each GPU type should carry of its pool's served token rate.

    Band and cooldowns are the pool's: one controller moves all types. A type whose own capacity is
    unknown has none, for the pool's mean is no number of its.

    Parameters
    ----------
    thresholds
        Those over all types.
    capacities
        Those per type; others are left out.
    """
    found = []
    for capacity in capacities:
        signal, role, name = capacity.signal, capacity.role, capacity.gpu_type
        pool = next((t for t in thresholds if (t.signal, t.role) == (signal, role)), None)
        if name is None or pool is None or is_pool_mean(capacity):
            continue
        headroom, value = operating_point(capacity, settings)
        link = evidence.path(service, "derive", f"threshold:{signal}@{role}@{name}")
        found.append(
            replace(
                pool, gpu_type=name, target_per_instance=value, capacity=estimate_of(capacity),
                status=capacity.status, reason=capacity.reason or pool.reason, headroom_ratio=headroom,
                evidence=link,
            )
        )  # fmt: skip
    return tuple(found)


def signal_at(
    frame: ServiceFrame, signal: str, role: str, target: LoadTarget
) -> tuple[float | None, Estimate | None]:
    """Return what a signal reads per instance at the target load, and at the capacity and its interval.

    A monotone fit of the signal (pool totals divided by instances, 5-minute means as the load) on load per
    instance, over rows in the operating range in which the role is not saturated and has settled. Beyond the
    loads seen the curve is continued in proportion. None without a target or with fewer than 12 rows.
    """
    if target.value is None or target.capacity is None:
        return None, None
    rows = target.fit.labelled.rows
    values = frame.values(signal, role)
    info = frame.info(signal, role)
    if info is None or info.pool == "sum":
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.where(rows.instances > 0, values / rows.instances, np.nan)
    if frame.kind == "production":
        values = centred_mean(values, smooth_rows(frame.window_s), rows.group)
    used = rows.usable & ~rows.saturated & np.isfinite(rows.sustained) & np.isfinite(values)
    if rows.role == "prefill":
        used &= ~saturated_rows(frame, "decode")
    used = operating_rows(rows.sustained, used)
    if int(used.sum()) < ROWS_MIN:
        return None, None
    bins = min(FIT_BINS, int(used.sum()) // GROUP_MIN)
    fit = monotone_fit(rows.sustained[used], values[used], bins=bins)
    known = target.capacity
    at = np.array([target.value, known.value, known.low, known.high])
    seen = np.clip(at, fit.x[0], fit.x[-1])
    value, reached, *ends = fit.predict(seen) * (at / seen if fit.increasing else np.ones(at.size))
    return float(value), Estimate(float(reached), float(min(ends)), float(max(ends)))


def _refusals(found: tuple[Threshold, ...], times: dict[str, _StartupTime]) -> tuple[Refusal, ...]:
    out = [
        Refusal(
            f"startup@{pool}",
            "startup_unknown",
            _UNKNOWN.format(pool=pool, seconds=STARTUP_S) + _shown(startup),
            STARTUP_COLLECT.format(role=pool),
        )
        for pool, startup in times.items()
        if startup.seconds is None
    ]
    for threshold in found:
        name = f"{threshold.signal}@{threshold.role}"
        if threshold.scale_out_ratio is None:
            text = f"too few rows in a row to tell the noise of {name}, so no dead band"
            collect = NOISE_COLLECT.format(signal=threshold.signal)
            out.append(Refusal(f"hysteresis:{name}", "noise_unknown", text, collect))
    return tuple(out)


def _shown(startup: _StartupTime) -> str:
    """Return what the dump shows of an unknown start-up time, as the rest of a sentence."""
    shown = startup.shown
    if shown is None or shown.reason is None:
        return ""
    least = f" (at least {shown.value_s:.0f} s)" if shown.value_s is not None else ""
    return f": {shown.reason.text}{least}"
