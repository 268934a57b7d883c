"""The study of one service: a verdict per signal and GPU type, and the signal it would scale on."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

from hs_analysis import evidence
from hs_analysis.schema.aligned import HIT_RATE_TEXT, POOL_ROLES, ServiceFrame, SignalInfo, column
from hs_analysis.schema.constants import MIX_MOVED_RATIO, SHORTEST_S, SUSTAINED_S
from hs_analysis.schema.frames import STUDY_POINTS, check, empty
from hs_analysis.schema.results import Reason, Recommendation, SignalVerdict, StudyResult
from hs_analysis.schema.settings import Settings
from hs_analysis.statistics.smoothing import positive_log
from hs_analysis.study.changes import after_change, common_change, find_jump
from hs_analysis.study.confounders import find_simpson
from hs_analysis.study.constants import DRIFT_MAX, SNR_RANKS, SNR_SIZING
from hs_analysis.study.effects import block_drift
from hs_analysis.study.pressure_test import mix_spread, study_pressure
from hs_analysis.study.production import study_production
from hs_analysis.study.reference_load import Pair, lay_grid, pair_signal
from hs_analysis.study.signal_statistics import SignalStatistics, StudyRows, as_fields
from hs_analysis.study.verdict import correct_chances, judge, turn_texts, turns

DRIFT_STEP = DRIFT_MAX / 4.0
"""Relative drifts that round to the same multiple of this count as equal: a quarter of what is allowed;
default of this project."""

CHANGES_NAMED = 2
"""Numbers of the recommended signal whose limits are named; default of this project."""


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
    doublings = math.floor(math.log2(max(verdict.snr or SNR_SIZING, SNR_SIZING) / SNR_SIZING))
    lag = round(max(verdict.lag_s or 0.0, 0.0) / SHORTEST_S)
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
    if verdict.role in POOL_ROLES:
        rank += " of a pool"
    else:
        note = "; no signal of a pool is proportional, and tokens per request were steady"
    return f"{rank}: " + ", ".join(part for part in parts if part) + note


def _changes(best: SignalVerdict, others: list[SignalVerdict]) -> tuple[str, ...]:
    """Return what would change the answer: the best signal's nearest limits, then what keeps it ahead."""
    found = turn_texts(column(best.signal, best.role), best.turns, CHANGES_NAMED)
    if others:
        name, first, second = column(others[0].signal, others[0].role), _rank(best), _rank(others[0])
        words = ("drift", "signal to noise", "lag", "the order of ties", "the last digits of signal to noise")
        ahead = next((w for w, a, b in zip(words, first, second, strict=True) if a != b), words[-1])
        found.append(f"{name} is the next best: {ahead} decided between the two")
    return tuple(found)


def _lengths_steady(frame: ServiceFrame) -> bool:
    """Return whether offered tokens per request kept still in every pool.

    That is a drift of at most 0.2 over 3-h blocks, or q90 ÷ q10 of at most 1.25 in a pressure test.
    """
    if frame.kind == "pressure_test":
        spreads = [mix_spread(frame, role) for role in POOL_ROLES if frame.has("offered_tps", role)]
        return all(spread is not None and spread <= MIX_MOVED_RATIO for spread in spreads)
    grid = lay_grid(frame, max(1, round(SUSTAINED_S / frame.window_s)))
    requests = frame.values("request_rate", "service")
    for role in POOL_ROLES:
        if not frame.has("offered_tps", role):
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            tokens = np.where(requests > 0, frame.values("offered_tps", role) / requests, np.nan)
        drift = block_drift(positive_log(grid.mean(tokens)), grid.start_s)
        if drift is None or drift > DRIFT_MAX:
            return False
    return True


CODE = "mixed_gpu_types"


def type_frames(frame: ServiceFrame, typed: pl.DataFrame) -> tuple[tuple[str, str, ServiceFrame], ...]:
    """Return the service as seen by each GPU type of each pool that mixes types.

    Offered work of the pool is split as the served work was, because routing decides which type gets it. That
    makes the served rate a part of its own reference, so the frame says ``served``: the rate counts only
    where an independent signal of the same type follows the same load.

    Parameters
    ----------
    frame
        The service over all types.
    typed
        Its rows of the contract SIGNALS that have a GPU type.

    Returns
    -------
    (role, GPU type, frame), by role and name of the type; a role whose served rate is not known per type is
    left out.
    """
    found = []
    for role in POOL_ROLES:
        types = frame.gpu_types.get(role, ())
        parts = [(name, _type_frame(frame, typed, role, name)) for name in types if len(types) > 1]
        found += [(role, name, part) for name, part in parts if part is not None]
    return tuple(found)


def _type_frame(frame: ServiceFrame, typed: pl.DataFrame, role: str, gpu_type: str) -> ServiceFrame | None:
    rows = typed.filter((pl.col("role") == role) & (pl.col("gpu_type") == gpu_type))
    rate = frame.served(role)[0]
    served = rows.filter(pl.col("signal") == rate)
    total, offered = column(rate, role), column("offered_tps", role)
    if served.is_empty() or not {total, offered} <= set(frame.table.columns):
        return None
    key = ["capture", "t"]
    values = rows.pivot("signal", index=key, values="value", aggregate_function="first")
    counts = served.select(*key, pl.col("instances").cast(pl.Float64))
    own = frame.table.select(key).join(values, key, how="left", maintain_order="left")
    own = own.join(counts, key, how="left", maintain_order="left")
    infos = tuple(info for info in frame.signals if info.role == role and info.signal in own.columns)
    kept = [name for name in frame.table.columns if not name.endswith(f"@{role}") and name not in key]
    table = frame.table.select(
        *key, *kept,
        own["instances"].alias(column("instances", role)),
        (pl.col(offered) * own[rate] / pl.when(pl.col(total) > 0).then(pl.col(total))).alias(offered),
        *(pl.col(name) for name in (column("saturated", role), column("backlog_age_s", role))
          if name in frame.table.columns),
        *(own[info.signal].cast(pl.Float64).alias(column(info.signal, role)) for info in infos
          if info.family != "auxiliary"),
    )  # fmt: skip
    candidates = tuple(info for info in infos if info.family != "auxiliary")
    return replace(frame, reference="served", table=table, signals=candidates, gpu_types={role: (gpu_type,)})


def of_type(verdict: SignalVerdict, service: str, gpu_type: str) -> SignalVerdict:
    """Return the verdict of a type's frame as one of that type, with a link of its own."""
    what = f"{column(verdict.signal, verdict.role)}@{gpu_type}"
    return replace(verdict, gpu_type=gpu_type, evidence=evidence.path(service, "study", what))


def with_type_note(pool: SignalVerdict, types: Sequence[SignalVerdict]) -> SignalVerdict:
    """Return the pool's verdict with what its GPU types say where these disagree.

    Types disagree where the verdicts of those that were tested differ, or their elasticities by more than
    0.2. The pool's own verdict stays: it is about what the pool did as a whole.

    Parameters
    ----------
    pool
        Verdict over all types.
    types
        Verdicts of the same signal and role per type; fewer than two that were tested say nothing.
    """
    tested = [one for one in types if one.verdict != "unknown"]
    slopes = [one.elasticity for one in tested if one.elasticity is not None]
    gap = max(slopes) - min(slopes) if len(slopes) > 1 else 0.0
    if len(tested) < 2 or (len({one.verdict for one in tested}) == 1 and gap <= DRIFT_MAX):
        return pool
    text = "its GPU types disagree: " + ", ".join(_type_text(one) for one in tested)
    reason = Reason(CODE, f"{text}; one number over all of them moves with their share", gap, DRIFT_MAX)
    others = tuple(one for one in pool.reasons if one.code != CODE)
    return replace(pool, reasons=(*others, reason))


def _type_text(one: SignalVerdict) -> str:
    slope = "" if one.elasticity is None else f" (elasticity {one.elasticity:.2f})"
    return f"{one.gpu_type} {one.verdict}{slope}"


@dataclass(frozen=True)
class _Studied:
    info: SignalInfo
    pair: Pair | None
    stats: SignalStatistics
    rows: StudyRows | None


def study_service(
    frame: ServiceFrame,
    settings: Settings,
    typed: pl.DataFrame | None = None,
    instances: pl.DataFrame | None = None,
) -> StudyResult:
    """Judge every candidate signal of a service on the offered work of its role.

    Prefill signals and TTFT are judged on cache-missed prefill work, decode signals and the request rate on
    output tokens, signals of a single pool on that pool's work. Production histories and pressure tests have
    rules of their own (`frame.kind`).

    Parameters
    ----------
    frame
        The aligned service; windows of 60 s in production.
    settings
        Seed and number of bootstrap draws.
    typed
        Rows of the contract SIGNALS that have a GPU type, of this service and these windows; None where no
        pool mixes types.
    instances
        Rows of the contract INSTANCES of this service and these windows; None where single instances are not
        known. Read for production histories alone.

    Returns
    -------
    StudyResult
        Verdicts in the order of `frame.signals`, then those per GPU type of pools that mix types.
        `stability` of a verdict is 1 − relative drift, within 0 .. 1: 1 = the relation to the load never
        moved, 0 = it moved by the elasticity itself.
    """
    studied = [_study(frame, info, settings) for info in frame.signals if info.family != "auxiliary"]
    studied = _split_at_change(frame, studied, settings)
    if instances is not None and frame.kind == "production":
        studied = [_within_instances(frame, one, instances) for one in studied]
    corrected = correct_chances([one.stats for one in studied])
    studied = [replace(one, stats=stats) for one, stats in zip(studied, corrected, strict=True)]
    studied = [_settle_circular(frame, one, studied) for one in studied]
    verdicts = tuple(_verdict(frame.service, one) for one in studied)
    types = _per_type(frame, settings, typed)
    verdicts = tuple(
        with_type_note(pool, [v for v in types if (v.signal, v.role) == (pool.signal, pool.role)])
        for pool in verdicts
    )
    points = [_points(frame, one.info, one.rows) for one in studied if one.rows is not None]
    table = pl.concat([empty(STUDY_POINTS), *points])
    return StudyResult((*verdicts, *types), recommend(frame, verdicts), check(table, STUDY_POINTS))


def _within_instances(frame: ServiceFrame, one: _Studied, instances: pl.DataFrame) -> _Studied:
    """Bound the verdict on a signal whose relation to the load is another one within instances."""
    if one.pair is None or one.rows is None or one.stats.gates:
        return one
    cap = find_simpson(one.pair, one.rows, frame.captures(), instances)
    if cap is None:
        return one
    return replace(one, stats=replace(one.stats, caps=(*one.stats.caps, cap)))


def _per_type(
    frame: ServiceFrame, settings: Settings, typed: pl.DataFrame | None
) -> tuple[SignalVerdict, ...]:
    """Judge every signal of each GPU type of the pools that mix types."""
    parts = () if typed is None else type_frames(frame, typed)
    return tuple(
        of_type(verdict, frame.service, gpu_type)
        for _, gpu_type, part in parts
        for verdict in study_service(part, settings).verdicts
    )


def _split_at_change(frame: ServiceFrame, studied: list[_Studied], settings: Settings) -> list[_Studied]:
    """Judge signals that a new version changed on the rows after it."""
    if frame.kind != "production" or len(frame.captures()) != 1:
        return studied
    jumps = [
        find_jump(one.rows)
        for one in studied
        if one.rows is not None and not one.stats.gates and one.info.family != "queue"
    ]
    at_s = common_change([jump for jump in jumps if jump is not None])
    if at_s is None:
        return studied
    when = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
    late = frame.seconds() >= at_s

    def parts(one: _Studied) -> _Studied:
        def part(after: bool) -> tuple[SignalStatistics, StudyRows | None]:
            alone = _study(frame.rows(late if after else ~late), one.info, settings)
            return alone.stats, alone.rows

        stats, rows = after_change((one.stats, one.rows), at_s, when, part)
        return replace(one, stats=stats, rows=rows)

    return [parts(one) for one in studied]


def _study(frame: ServiceFrame, info: SignalInfo, settings: Settings) -> _Studied:
    pair = pair_signal(frame, info)
    if isinstance(pair, Reason):
        return _Studied(info, None, SignalStatistics(info.family, gates=(pair,)), None)
    # Each signal has a stream of its own, so that a signal more or less changes no other interval.
    rng = np.random.default_rng([settings.seed, zlib.crc32(pair.name.encode())])
    study = study_pressure if frame.kind == "pressure_test" else study_production
    stats, rows = study(frame, pair, settings, rng)
    if pair.load_role == "prefill" and frame.hit_rate_unknown:
        text = f"{HIT_RATE_TEXT}: judged on all of them, it says nothing of a hit rate that moves"
        stats = stats.noting(Reason("hit_rate_unknown", text))
    return _Studied(info, pair, stats, rows)


def _settle_circular(frame: ServiceFrame, one: _Studied, studied: list[_Studied]) -> _Studied:
    """Decide on a rate whose reference is that very rate.

    Its association is perfect by construction, so it proves nothing. Below saturation what is served is what
    was asked for, so the rate may still size a pool where two things hold that do not rest on it: saturated
    windows are known (and were left out) unless the reference is what was asked for, and another signal of
    the same pool, from a counter or gauge of its own, follows the same load. In a pressure test it stays
    untested.
    """
    if one.pair is None or not one.pair.circular or one.stats.gates:
        return one
    role = one.pair.load_role
    witness = next((other for other in studied if _is_witness(other, role)), None)
    known = frame.reference == "offered"
    known |= bool(np.isfinite(frame.values("saturated", role)[one.pair.recorded]).all())
    itself = "a count of requests" if frame.counts_requests(role) else "its own served rate"
    if witness is None or not known or frame.kind == "pressure_test":
        lack = "no independent signal of the pool follows it" if known else "saturated windows are not known"
        if frame.kind == "pressure_test":
            lack = "in a pressure test it is the load itself"
        reason = Reason("circular_reference", f"not tested: its reference is {itself}, and {lack}")
        return replace(one, stats=_gated(one.stats, reason))
    name = column(witness.info.signal, witness.info.role)
    text = (
        f"the reference is {itself}, so the association is perfect by construction: it counts "
        f"because saturated windows are left out and {name} follows the same load"
    )
    return replace(one, stats=one.stats.noting(Reason("served_reference", text)))


def _is_witness(other: _Studied, role: str) -> bool:
    if other.pair is None or other.pair.circular or other.pair.load_role != role:
        return False
    return judge(other.stats)[0] in ("proportional", "guard")


def _gated(stats: SignalStatistics, reason: Reason) -> SignalStatistics:
    notes = tuple(note for note in stats.notes if note.code != "tests")
    return SignalStatistics(stats.family, rows=stats.rows, gates=(reason,), notes=notes)


def _verdict(service: str, one: _Studied) -> SignalVerdict:
    verdict, reasons = judge(one.stats)
    fields = as_fields(one.stats)
    drift = fields["drift"]
    return SignalVerdict(
        signal=one.info.signal,
        role=one.info.role,
        source=one.info.source,
        verdict=verdict,
        reasons=reasons,
        **fields,
        stability=None if drift is None else float(np.clip(1.0 - drift, 0.0, 1.0)),
        coverage=one.info.coverage,
        interval_s=one.info.interval_s,
        turns=turns(one.stats),
        evidence=evidence.path(service, "study", column(one.info.signal, one.info.role)),
    )


def _points(frame: ServiceFrame, info: SignalInfo, rows: StudyRows) -> pl.DataFrame:
    """Return the rows a signal was judged on, one per grid row that exists."""
    real = rows.grid.capture >= 0
    names = np.array(frame.captures(), dtype=object)
    count = int(real.sum())
    return pl.DataFrame(
        {
            "service": [frame.service] * count,
            "capture": names[rows.grid.capture[real]].tolist(),
            "signal": [info.signal] * count,
            "role": [info.role] * count,
            "t": np.rint(rows.grid.start_s[real] * 1e6).astype(np.int64),
            "load": rows.load[real],
            "value": rows.value[real],
            "fit": rows.fit[real],
            "used": rows.used[real],
        },
        schema_overrides={"capture": pl.String},
    ).with_columns(pl.col("t").cast(pl.Datetime("us", "UTC")), pl.col("load", "value", "fit").fill_nan(None))
