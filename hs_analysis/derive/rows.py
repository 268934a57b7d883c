"""The rows that capacity is read from, and the gates that a history must pass first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hs_analysis.derive.constants import CARRY_OVER_ROWS, END_SHARE, KV_FULL_RATIO, MIX_S, RESIDENCE_ROWS_MAX
from hs_analysis.schema.aligned import LATENCIES, ServiceFrame
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import (
    BACKLOG_S,
    COVERAGE_MIN,
    GROUP_MIN,
    HOUR_S,
    HOURS_MIN,
    RANGE_MIN,
    ROWS_MIN,
    STARTUP_S,
    SUSTAINED_S,
    TEST_LEVEL_STEP,
    TEST_RANGE_MIN,
)
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import Reason
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.statistics.between_edges import SharesOver
from hs_analysis.statistics.constants import ALL_OR_NONE
from hs_analysis.statistics.episodes import FLOWS, operating_rows, steady
from hs_analysis.statistics.load_range import load_levels, load_range
from hs_analysis.statistics.noise import count_noise, steps


@dataclass(frozen=True, kw_only=True)
class RoleRows:
    """One role of one service, on the rows of its table.

    Attributes
    ----------
    role
        prefill, decode or mixed.
    work
        Work of the pool [tokens/s], shape (rows,), NaN where unknown.
    instances
        Instances that report.
    load
        Work per instance that the latency of the row answers to [tokens/s]. In production what came in the
        row itself, chance included; NaN where the load moved between it and a neighbour, for part of such a
        row belongs to another load.
    earlier
        Work per instance of the row before [tokens/s], NaN without one.
    request_tokens
        Tokens of a request that weigh on the role, a 30-min mean: for decode those a sequence holds in KV
        memory on average (prompt and half of the output), for prefill cache-missed ones; NaN where unknown.
    sustained
        Work per instance that lasted: a centred 5-minute mean in production, else as `load` [tokens/s].
    count_noise
        Variance ÷ mean of `load` at one mean load: the chance in what comes [tokens/s]; NaN where it can't
        be estimated, and in a pressure test, whose loads are means.
    limits
        Latencies of this role that were given a limit: ``ttft``, ``tbt``.
    over, over_least, over_other
        Share of samples over the limit, the worst limit of the role: as it is judged, with windows taken as
        within of which the buckets can't tell, and by the next best reading (see
        `statistics.between_edges.SharesOver`). Below the first edge only the second is known.
    usable
        Rows whose load may be judged: instance count settled, work not censored, latency this role's own.
    settled
        Rows in which the instance count has been the same for one start-up time.
    saturated, backlog_s
        The role's own backlog.
    steady
        Rows in which as much left the pool as arrived; all where flows are not counted.
    group
        Capture number of each row.
    window_s
        Width of a row [s].
    kind
        ``production`` or ``pressure_test``.
    mix_sd
        Standard deviation of ln capacity because the limit was met under another token mix than usual.
    alone
        Whether this is one pool of two in production and the other is not in the input: what held requests
        back, there or here, can't be seen.
    limit_edges
        Histogram edges about the role's limits.
    signal
        Served rate in whose unit work is counted; empty = the role's usual one.
    hit_rate_unknown
        Whether work is raw prompt tokens, of which nobody knows how many missed the cache.
    unit
        Of work.
    over_surely
        Share of samples over the edge at or above the limit, 1 where their mean is over the limit: what no
        reading between edges can change. None or NaN where it is not known.
    in_bucket
        Share of samples in the bucket that the limit cuts, 0 where an edge lies at it. None or NaN where it
        is not known.
    kv_usage
        Share of the pool's KV memory in use [ratio]; NaN or None where it is not known.
    """

    role: str
    work: Floats
    instances: Floats
    load: Floats
    earlier: Floats
    request_tokens: Floats
    sustained: Floats
    count_noise: float
    limits: tuple[str, ...]
    over: Floats
    over_least: Floats
    over_other: Floats
    usable: Mask
    settled: Mask
    saturated: Mask
    backlog_s: Floats
    steady: Mask
    group: Integers
    window_s: float
    kind: str
    mix_sd: float = 0.0
    alone: bool = False
    limit_edges: tuple[LimitEdges, ...] = ()
    signal: str = ""
    hit_rate_unknown: bool = False
    unit: str = "tokens/s"
    over_surely: Floats | None = None
    in_bucket: Floats | None = None
    kv_usage: Floats | None = None

    @property
    def labelled(self) -> Mask:
        """Rows with a usable load and a known share."""
        return self.usable & np.isfinite(self.load) & np.isfinite(self.over)

    @property
    def between_edges(self) -> bool:
        """Whether a share was read between two edges: none of the histogram's lies at the limit."""
        apart = (np.abs(one - self.over) > ALL_OR_NONE for one in (self.over_other, self.over_least))
        return any(not edges.exact for edges in self.limit_edges) or bool(np.any(list(apart)))


def capture_numbers(frame: ServiceFrame) -> Integers:
    """Return the number of the capture of each row, shape (rows,), in table order."""
    names = {name: number for number, name in enumerate(frame.captures())}
    return np.array([names[name] for name in frame.table["capture"].to_list()], dtype=np.int64)


def trailing_mean(values: Floats, rows: Integers | int, group: Integers) -> Floats:
    """Return the mean of each row and the rows before it, NaN where under 70 % of them have a value.

    Parameters
    ----------
    values
        Shape (n,).
    rows
        Rows in the mean, the row itself included; one number or one a row. Cut at the start of a capture.
    group
        Capture number of each row, shape (n,).
    """
    back = np.broadcast_to(np.asarray(rows, dtype=np.int64) - 1, values.shape)
    return _window_mean(values, back, np.zeros(values.size, dtype=np.int64), group)


def centred_mean(values: Floats, rows: int, group: Integers) -> Floats:
    """Return the mean of `rows` rows (made odd, upwards) about each row, NaN under 70 % coverage."""
    half = np.full(values.size, rows // 2)
    return _window_mean(values, half, half, group)


def _window_mean(values: Floats, back: Integers, ahead: Integers, group: Integers) -> Floats:
    n = values.size
    if n == 0:
        return values.copy()
    edges = np.flatnonzero(np.r_[True, group[1:] != group[:-1], True])
    first = np.repeat(edges[:-1], np.diff(edges))
    end = np.repeat(edges[1:], np.diff(edges))
    row = np.arange(n)
    low = np.maximum(row - back, first).astype(np.int64)
    high = np.minimum(row + ahead + 1, end).astype(np.int64)
    good = np.isfinite(values)
    total = np.r_[0.0, np.cumsum(np.where(good, values, 0.0))]
    count = np.r_[0, np.cumsum(good)]
    held = count[high] - count[low]
    out = np.full(n, np.nan)
    enough = held >= COVERAGE_MIN * (high - low)
    enough &= held > 0
    out[enough] = (total[high] - total[low])[enough] / held[enough]
    return out


def smooth_rows(window_s: float, span_s: float = SUSTAINED_S) -> int:
    """Return how many rows of `window_s` make `span_s`, at least 1."""
    return max(1, round(span_s / window_s))


def work_of(frame: ServiceFrame, role: str) -> tuple[Floats, bool]:
    """Return the work of a role [tokens/s], and whether it is offered work.

    Else it is served work, which is a lower bound at saturation. All NaN where neither is in the input.
    """
    if frame.has("offered_tps", role):
        return frame.values("offered_tps", role), frame.reference == "offered"
    return frame.served_values(role), False


def saturated_rows(frame: ServiceFrame, role: str) -> Mask:
    """Return the rows in which the role has an old backlog, shape (rows,); unknown counts as none."""
    mask: Mask = frame.values("saturated", role) > 0.5
    return mask


def busiest_rows(rows: RoleRows) -> Integers:
    """Return the places, among the labelled rows, of the 5 % with the highest load per instance."""
    load = rows.sustained[rows.labelled]
    return np.argsort(load, kind="stable")[load.size - int(np.ceil(END_SHARE * load.size)) :]


def was_full(rows: RoleRows) -> bool:
    """Return whether decode's KV memory was full, or nearly, in its busiest rows.

    A full pool makes requests wait for room and emits no more tokens, while its gaps between tokens stay
    short: no latency and no rate shows it, so that its highest load may be all it can carry. Full is a
    backlog of 1 s or more on average, or KV-cache usage of 0.8 or more in three rows: a scrape may find the
    one request that is just being let in, or one long prompt. What is not known counts as room.
    """
    if rows.role != "decode":
        return False
    busiest = busiest_rows(rows)
    if busiest.size < GROUP_MIN:
        return False
    if np.nan_to_num(rows.backlog_s[rows.labelled][busiest]).mean() >= BACKLOG_S:
        return True
    usage = rows.kv_usage
    return usage is not None and int((usage[rows.labelled][busiest] >= KV_FULL_RATIO).sum()) >= GROUP_MIN


def limits_of(role: str, slo: Slo) -> tuple[str, ...]:
    """Return the latencies of a role that were given a limit, of those in `LATENCIES`."""
    return tuple(signal for signal in LATENCIES[role] if slo.limit_s(signal) is not None)


def limit_shares(frame: ServiceFrame, role: str, limits: tuple[str, ...]) -> SharesOver:
    """Return the shares of samples over the limits, the worst limit of each row.

    All NaN without limits, or when the input has no histogram of them.
    """
    nothing = np.full(frame.table.height, np.nan)
    worst = SharesOver(nothing, nothing, nothing)
    for signal in limits:
        own = _shares_of(frame, signal, role)
        worst = SharesOver(
            np.fmax(worst.over, own.over),
            np.fmax(worst.least, own.least),
            np.fmax(worst.other, own.other),
        )
    return worst


def _shares_of(frame: ServiceFrame, signal: str, role: str) -> SharesOver:
    for emitter in (role, "service", "decode"):
        if frame.has(f"{signal}_over", emitter) or frame.has(f"{signal}_over_least", emitter):
            over = np.clip(frame.values(f"{signal}_over", emitter), 0.0, 1.0)
            least, other = (
                np.clip(frame.values(f"{signal}_over_{ending}", emitter), 0.0, 1.0)
                if frame.has(f"{signal}_over_{ending}", emitter)
                else over
                for ending in ("least", "other")
            )
            return SharesOver(over, least, other)
    nothing = np.full(frame.table.height, np.nan)
    return SharesOver(nothing, nothing, nothing)


def edge_shares(frame: ServiceFrame, role: str, slo: Slo) -> tuple[Floats, Floats]:
    """Return `RoleRows.over_surely` and `RoleRows.in_bucket` of a role, of the worst limit of each row."""
    surely = inside = np.full(frame.table.height, np.nan)
    for signal in limits_of(role, slo):
        for emitter in (role, "service", "decode"):
            if frame.has(f"{signal}_over_high", emitter):
                low, high = (frame.values(f"{signal}_over_{end}", emitter) for end in ("low", "high"))
                late = frame.values(signal, emitter) > (slo.limit_s(signal) or math.inf)
                surely = np.fmax(surely, np.where(late, 1.0, high))
                inside = np.fmax(inside, low - high)
                break
    return surely, inside


def role_rows(frame: ServiceFrame, role: str, settings: Settings) -> RoleRows:
    """Return the rows of one role, ready to be judged.

    Load is offered work per reporting instance: of the row itself in production; in a pressure test the mean
    of three windows (prefill) or of the last residence time (decode). Left out: rows within one start-up
    time of a change of the instance count; saturated rows where only served work is known (censored); prefill
    rows whose first tokens wait for decode (a TTFT violation there says nothing of prefill).
    """
    group = capture_numbers(frame)
    work, offered = work_of(frame, role)
    instances = frame.values("instances", role)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_instance = np.where(instances > 0, work / instances, np.nan)
    per_instance[after_hole(frame, work, group)] = np.nan
    load = sustained = _answering_load(frame, role, per_instance, group)
    noise = math.nan
    if frame.kind == "production":
        noise = _count_noise(work, instances, group)
        load = np.where(steps(per_instance, noise, group), np.nan, per_instance)
    limits = limits_of(role, settings.slo)
    saturated = saturated_rows(frame, role)
    settled = _settled(frame, instances, work, settings.startup_s.get(role, STARTUP_S), group)
    usable = settled.copy()
    if not offered:
        usable &= ~saturated
    if role == "prefill":
        usable &= ~waits_for_decode(frame)
    shares = limit_shares(frame, role, limits)
    surely, inside = edge_shares(frame, role, settings.slo)
    return RoleRows(
        role=role, work=work, instances=instances, load=load, earlier=_before(per_instance, group),
        request_tokens=_request_tokens(frame, role, work, group), sustained=sustained, count_noise=noise,
        limits=limits, over=shares.over, over_least=shares.least, over_other=shares.other, usable=usable,
        settled=settled, saturated=saturated, backlog_s=frame.values("backlog_age_s", role),
        steady=steady_rows(frame, role), group=group, window_s=frame.window_s, kind=frame.kind,
        alone=frame.kind == "production" and frame.pools in (("prefill",), ("decode",)),
        limit_edges=tuple(one for one in frame.limit_edges if one.signal in limits),
        signal=frame.served(role)[0], hit_rate_unknown=role == "prefill" and frame.hit_rate_unknown,
        unit=frame.work_unit(role), over_surely=surely, in_bucket=inside,
        kv_usage=frame.values("kv_usage", role),
    )  # fmt: skip


def _before(values: Floats, group: Integers) -> Floats:
    out = np.full(values.size, np.nan)
    out[1:] = np.where(group[1:] == group[:-1], values[:-1], np.nan)
    return out


def _request_tokens(frame: ServiceFrame, role: str, work: Floats, group: Integers) -> Floats:
    if frame.kind != "production" or role == "mixed":
        return np.full(work.size, np.nan)
    if role == "decode":
        tokens = frame.values("input_length", "service") + frame.values("output_length", "service") / 2.0
    else:
        rate = frame.values("request_rate", "service")
        with np.errstate(invalid="ignore", divide="ignore"):
            tokens = np.where(rate > 0, work / rate, np.nan)
    return centred_mean(tokens, smooth_rows(frame.window_s, MIX_S), group)


def _count_noise(work: Floats, instances: Floats, group: Integers) -> float:
    """Noise of work per instance: that of the pool's work, shared by the mean number of instances."""
    known = instances[instances > 0]
    return count_noise(work, group) / float(np.median(known)) if known.size else math.nan


def steady_rows(frame: ServiceFrame, role: str) -> Mask:
    """Return the rows in which as much left the pool as arrived, shape (rows,); all where not counted."""
    names = FLOWS[role]
    if not all(frame.has(name, "service") for name in names):
        return np.ones(frame.table.height, dtype=bool)
    arrivals, departures = (frame.values(name, "service") * frame.window_s for name in names)
    return steady(arrivals, departures)


def _answering_load(frame: ServiceFrame, role: str, per_instance: Floats, group: Integers) -> Floats:
    if frame.kind == "production":
        return centred_mean(per_instance, smooth_rows(frame.window_s), group)
    if role == "prefill":
        return trailing_mean(per_instance, CARRY_OVER_ROWS, group)
    with np.errstate(invalid="ignore", divide="ignore"):
        residence_s = frame.values("running", role) / frame.values("first_token_rate", "service")
    rows = np.nan_to_num(residence_s / frame.window_s, nan=1.0, posinf=1.0)
    return trailing_mean(per_instance, np.clip(np.rint(rows), 1, RESIDENCE_ROWS_MAX).astype(np.int64), group)


def _settled(frame: ServiceFrame, instances: Floats, work: Floats, startup_s: float, group: Integers) -> Mask:
    """Rows in which the instance count has been the same for one start-up time.

    In a pressure test the count has to hold for the three windows that carry over: a start-up time
    would leave nothing of it. No instance and no work is a hole in the input, not a pool scaled to zero.
    """
    known = np.isfinite(instances) & ((instances > 0) | np.isfinite(work))
    row = np.arange(instances.size)
    last = np.maximum.accumulate(np.where(known, row, -1))
    before = np.r_[-1, last[:-1]]
    changed = known & (before >= 0)
    changed &= (instances != instances[before]) & (group == group[before])
    rows = max(1, math.ceil(startup_s / frame.window_s))
    if frame.kind == "pressure_test":
        rows = CARRY_OVER_ROWS
    return ~(trailing_mean(np.where(changed, 1.0, 0.0), rows, group) > 0.0)


def after_hole(frame: ServiceFrame, work: Floats, group: Integers) -> Mask:
    """Return the rows that follow a hole in the work of their capture, shape (rows,).

    A counter's increase over the hole may land in them, and would be the highest load ever carried. A hole is
    a missing window in a pressure test, two in a row in production.
    """
    rows = 1 if frame.kind == "pressure_test" else 2
    missing = ~np.isfinite(work)
    mask: Mask = ~missing
    for back in range(1, rows + 1):
        before = np.zeros(work.size, dtype=bool)
        before[back:] = missing[:-back] & (group[back:] == group[:-back])
        mask = mask & before
    return mask


def waits_for_decode(frame: ServiceFrame) -> Mask:
    """Return the rows in which first tokens wait for decode, not for prefill, shape (rows,).

    Decode is saturated, or its backlog is older than 1 s, while prefill is not saturated and its own
    backlog is younger than decode's (or under 1 s). A row in which prefill is saturated too stays
    prefill's: its backlog breaks the limit by itself.
    """
    prefill_age = np.nan_to_num(frame.values("backlog_age_s", "prefill"), nan=0.0)
    decode_age = np.nan_to_num(frame.values("backlog_age_s", "decode"), nan=0.0)
    decode_waits = saturated_rows(frame, "decode") | (decode_age > BACKLOG_S)
    prefill_does_not = (prefill_age < decode_age) | (prefill_age <= BACKLOG_S)
    mask: Mask = decode_waits & prefill_does_not & ~saturated_rows(frame, "prefill")
    return mask


STEADY_MIN_S = ROWS_MIN * SUSTAINED_S
"""Production: time without saturation that a load range is read from [s]: twelve 5-minute rows."""


def operating_load_range(load: Floats) -> float:
    """Return q95 ÷ q05 of the load in its operating range, NaN without rows."""
    return load_range(load[operating_rows(load, np.isfinite(load)) & (load > 0)])


def production_gate(rows: RoleRows) -> Reason | None:
    """Return why a production history can't pin a capacity, None when it may: hours and load range.

    The range is that of load per instance or of the pool's total, whichever is wider: an autoscaled pool
    keeps the former tight. Saturated rows do not count, unless there is under an hour of others.
    """
    usable = rows.usable & np.isfinite(rows.sustained)
    hours = float(usable.sum()) * rows.window_s / HOUR_S
    if hours < HOURS_MIN:
        text = f"{hours:.1f} h of known load, at least {HOURS_MIN:.0f} h are needed"
        return Reason("thin", text, hours, HOURS_MIN)
    steady = usable & ~rows.saturated
    if float(steady.sum()) * rows.window_s < STEADY_MIN_S:
        steady = usable
    widest = float(
        np.fmax(operating_load_range(rows.sustained[steady]), operating_load_range(rows.work[steady]))
    )
    return None if widest >= RANGE_MIN else _too_narrow(widest, RANGE_MIN)


def _too_narrow(found: float, least: float) -> Reason:
    if math.isnan(found):
        return Reason("load_range", "there is no load above zero", None, least)
    return Reason(
        "load_range", f"load moves by a factor of {found:.2f}, at least {least} is needed", found, least
    )


def pressure_gate(rows: RoleRows) -> Reason | None:
    """Return why a pressure test can't pin a capacity, None when it may: windows, load range and levels."""
    load = rows.sustained[rows.usable & np.isfinite(rows.sustained)]
    if load.size < ROWS_MIN:
        text = f"{load.size} usable windows, at least {ROWS_MIN} are needed"
        return Reason("thin", text, float(load.size), float(ROWS_MIN))
    reach = operating_load_range(load)
    if not reach >= TEST_RANGE_MIN:
        return _too_narrow(reach, TEST_RANGE_MIN)
    count = load_levels(load)
    if count < GROUP_MIN:
        apart = percent(TEST_LEVEL_STEP - 1, whole=True)
        text = f"{count} load levels {apart} apart, at least {GROUP_MIN} are needed"
        return Reason("load_range", text, float(count), float(GROUP_MIN))
    return None
