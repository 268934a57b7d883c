"""The signal the study would scale on: small drift first, then little noise, then little lag."""

from __future__ import annotations

import math

import numpy as np

from hs_analysis.schema.aligned import POOL_ROLES, ServiceFrame, column
from hs_analysis.schema.results import Recommendation, SignalVerdict
from hs_analysis.statistics.smoothing import positive_log
from hs_analysis.study.grid import lay_grid
from hs_analysis.study.noise import block_drift
from hs_analysis.study.windows import MIX_SPREAD_MAX, mix_spread

DRIFT_STEP = 0.05
"""Relative drifts that round to the same multiple of this count as equal: a quarter of what is allowed;
default of this project."""

SNR_LEAST = 5.0
"""Signal to noise that a proportional signal has at least; ranks go up with each doubling of it."""

SNR_RANKS = 2
"""Doublings above which more signal to noise helps nobody (20 = noise of 5 % of the swing); default of this
project."""

LAG_STEP_S = 60.0
"""Lags that round to the same multiple count as equal [s]: one production row."""

CHANGES_NAMED = 2
"""Limits of the recommended signal that are named; default of this project."""

LENGTHS_DRIFT_MAX = 0.20
"""Largest drift of the tokens per request at which requests can stand for tokens; default of this project."""


def recommend(frame: ServiceFrame, verdicts: tuple[SignalVerdict, ...]) -> Recommendation | None:
    """Return the recommended signal and the next best, None when nothing is fit to size a pool.

    Proportional signals of a pool rank by smaller relative drift, then higher SNR, then smaller lag, each in
    steps, so that a hair's breadth decides nothing; ties go to decode TPS, then to the other token rates. The
    request rate is blind to a mix that moves: it is named only when tokens per request are steady and nothing
    else is proportional.
    """
    fit = [v for v in verdicts if v.verdict == "proportional"]
    pool = sorted((v for v in fit if v.role in POOL_ROLES), key=_rank)
    rest = [v for v in fit if v.role not in POOL_ROLES and _lengths_steady(frame)]
    ranked = pool or rest
    if not ranked:
        return None
    best = ranked[0]
    runner_up = column(ranked[1].signal, ranked[1].role) if len(ranked) > 1 else None
    return Recommendation(
        best.signal, best.role, _why(best, len(ranked)), runner_up, _changes(best, ranked[1:])
    )


def _rank(verdict: SignalVerdict) -> tuple[float, float, float, int, float]:
    drift = round((verdict.drift or 0.0) / DRIFT_STEP)
    doublings = math.floor(math.log2(max(verdict.snr or SNR_LEAST, SNR_LEAST) / SNR_LEAST))
    lag = round(max(verdict.lag_s or 0.0, 0.0) / LAG_STEP_S)
    order = ("decode_tps", "prefill_tps_effective", "prefill_tps")
    tie = order.index(verdict.signal) if verdict.signal in order else len(order)
    return drift, -min(doublings, SNR_RANKS), lag, tie, -(verdict.snr or 0.0)


def _why(verdict: SignalVerdict, count: int) -> str:
    parts = [f"elasticity {verdict.elasticity:.2f}" if verdict.elasticity is not None else ""]
    if verdict.drift is not None:
        parts.append(f"drift {verdict.drift:.2f} of it")
    if verdict.snr is not None:
        parts.append(f"signal to noise {verdict.snr:.0f}")
    if verdict.lag_s is not None:
        parts.append(f"lag {verdict.lag_s:.0f} s")
    rank = "the only proportional signal" if count == 1 else f"first of {count} proportional signals"
    note = ""
    if verdict.role not in POOL_ROLES:
        note = "; no signal of a pool is proportional, and tokens per request were steady"
    return f"{rank}: " + ", ".join(part for part in parts if part) + note


def _changes(best: SignalVerdict, others: list[SignalVerdict]) -> tuple[str, ...]:
    """Return what would change the answer: the best signal's nearest limits, then what keeps it ahead."""
    found = [
        f"{turn.code.replace('_', ' ')} {turn.value:.3g} past {turn.limit:g} makes "
        f"{column(best.signal, best.role)} {turn.verdict}"
        for turn in best.turns[:CHANGES_NAMED]
    ]
    if others:
        name, first, second = column(others[0].signal, others[0].role), _rank(best), _rank(others[0])
        words = ("drift", "signal to noise", "lag", "the order of ties", "the last digits of signal to noise")
        ahead = next((w for w, a, b in zip(words, first, second, strict=True) if a != b), words[-1])
        found.append(f"{name} is next: {ahead} decided")
    return tuple(found)


def _lengths_steady(frame: ServiceFrame) -> bool:
    """Return whether offered tokens per request kept still in every pool.

    That is a drift of at most 0.2 over 3-h blocks, or q90 ÷ q10 of at most 1.25 in a pressure test.
    """
    if frame.kind == "pressure_test":
        spreads = [mix_spread(frame, role) for role in POOL_ROLES if frame.has("offered_tps", role)]
        return all(spread is not None and spread <= MIX_SPREAD_MAX for spread in spreads)
    grid = lay_grid(frame, max(1, round(300.0 / frame.window_s)))
    requests = frame.values("request_rate", "service")
    for role in POOL_ROLES:
        if not frame.has("offered_tps", role):
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            tokens = np.where(requests > 0, frame.values("offered_tps", role) / requests, np.nan)
        drift = block_drift(positive_log(grid.mean(tokens)), grid.start_s)
        if drift is None or drift > LENGTHS_DRIFT_MAX:
            return False
    return True
