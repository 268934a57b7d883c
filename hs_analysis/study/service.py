"""The study of one service: a verdict per signal, and the one it would scale on."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

from hs_analysis import evidence
from hs_analysis.schema.aligned import ServiceFrame, SignalInfo, column
from hs_analysis.schema.detail import STUDY_POINTS
from hs_analysis.schema.frames import check, empty
from hs_analysis.schema.results import Reason, SignalVerdict, StudyResult
from hs_analysis.schema.settings import Settings
from hs_analysis.study.changes import after_change, common_change, find_jump
from hs_analysis.study.gpu_types import of_type, say_types, type_frames
from hs_analysis.study.loads import Pair, pair_signal
from hs_analysis.study.measured import Measured, StudyRows, as_fields
from hs_analysis.study.multiplicity import correct_chances
from hs_analysis.study.pressure import study_pressure
from hs_analysis.study.production import study_production
from hs_analysis.study.recommend import recommend
from hs_analysis.study.rule import judge, turns
from hs_analysis.study.simpson import find_simpson


@dataclass(frozen=True)
class _Studied:
    info: SignalInfo
    pair: Pair | None
    measured: Measured
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
    corrected = correct_chances([one.measured for one in studied])
    studied = [replace(one, measured=measured) for one, measured in zip(studied, corrected, strict=True)]
    studied = [_settle_circular(frame, one, studied) for one in studied]
    verdicts = tuple(_verdict(frame.service, one) for one in studied)
    types = _per_type(frame, settings, typed)
    verdicts = tuple(
        say_types(pool, [v for v in types if (v.signal, v.role) == (pool.signal, pool.role)])
        for pool in verdicts
    )
    points = [_points(frame, one.info, one.rows) for one in studied if one.rows is not None]
    table = pl.concat([empty(STUDY_POINTS), *points])
    return StudyResult((*verdicts, *types), recommend(frame, verdicts), check(table, STUDY_POINTS))


def _within_instances(frame: ServiceFrame, one: _Studied, instances: pl.DataFrame) -> _Studied:
    """Bound the verdict on a signal whose relation to the load is another one within instances."""
    if one.pair is None or one.rows is None or one.measured.gates:
        return one
    cap = find_simpson(one.pair, one.rows, frame.captures(), instances)
    if cap is None:
        return one
    return replace(one, measured=replace(one.measured, caps=(*one.measured.caps, cap)))


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
        if one.rows is not None and not one.measured.gates and one.info.family != "queue"
    ]
    at_s = common_change([jump for jump in jumps if jump is not None])
    if at_s is None:
        return studied
    when = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
    late = frame.seconds() >= at_s

    def parts(one: _Studied) -> _Studied:
        def part(after: bool) -> tuple[Measured, StudyRows | None]:
            alone = _study(frame.rows(late if after else ~late), one.info, settings)
            return alone.measured, alone.rows

        measured, rows = after_change((one.measured, one.rows), at_s, when, part)
        return replace(one, measured=measured, rows=rows)

    return [parts(one) for one in studied]


def _study(frame: ServiceFrame, info: SignalInfo, settings: Settings) -> _Studied:
    pair = pair_signal(frame, info)
    if isinstance(pair, Reason):
        return _Studied(info, None, Measured(info.family, gates=(pair,)), None)
    # Each signal has a stream of its own, so that a signal more or less changes no other interval.
    rng = np.random.default_rng([settings.seed, zlib.crc32(pair.name.encode())])
    study = study_pressure if frame.kind == "pressure_test" else study_production
    measured, rows = study(frame, pair, settings, rng)
    return _Studied(info, pair, measured, rows)


def _settle_circular(frame: ServiceFrame, one: _Studied, studied: list[_Studied]) -> _Studied:
    """Decide on a served rate whose reference is that served rate.

    Its association is perfect by construction, so it proves nothing. Below saturation what is served is what
    was asked for, so the rate may still size a pool where two things hold that do not rest on it: saturated
    windows are known (and were left out), and another signal of the same pool, from a counter or gauge of its
    own, follows the same load. In a pressure test it stays untested.
    """
    if one.pair is None or not one.pair.circular or one.measured.gates:
        return one
    role = one.pair.load_role
    witness = next((other for other in studied if _is_witness(other, role)), None)
    known = bool(np.isfinite(frame.values("saturated", role)[one.pair.recorded]).all())
    if witness is None or not known or frame.kind == "pressure_test":
        lack = "no independent signal of the pool follows it" if known else "saturated windows are not known"
        if frame.kind == "pressure_test":
            lack = "in a pressure test it is the load itself"
        reason = Reason("circular_reference", f"not tested: its reference is its own served rate, and {lack}")
        return replace(one, measured=_gated(one.measured, reason))
    name = column(witness.info.signal, witness.info.role)
    text = (
        "the reference is its own served rate, so the association is perfect by construction: it counts "
        f"because saturated windows are left out and {name} follows the same load"
    )
    return replace(one, measured=one.measured.noting(Reason("served_reference", text)))


def _is_witness(other: _Studied, role: str) -> bool:
    if other.pair is None or other.pair.circular or other.pair.load_role != role:
        return False
    return judge(other.measured)[0] in ("proportional", "guard")


def _gated(measured: Measured, reason: Reason) -> Measured:
    notes = tuple(note for note in measured.notes if note.code != "tests")
    return Measured(measured.family, rows=measured.rows, gates=(reason,), notes=notes)


def _verdict(service: str, one: _Studied) -> SignalVerdict:
    verdict, reasons = judge(one.measured)
    fields = as_fields(one.measured)
    drift = fields["drift"]
    return SignalVerdict(
        one.info.signal,
        one.info.role,
        one.info.source,
        verdict,
        reasons,
        **fields,
        stability=None if drift is None else float(np.clip(1.0 - drift, 0.0, 1.0)),
        coverage=one.info.coverage,
        interval_s=one.info.interval_s,
        turns=turns(one.measured),
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
