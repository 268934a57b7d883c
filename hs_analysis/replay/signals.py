"""Quantiles of a latency that an autoscaler asks for: their names, and when they follow the load.

A quantile over a range is a signal of its own, such as ``ttft_p95_300s``: its recorded values are the query's
own answers, and at other counts it follows the load of the pool that the latency answers to.

What a signal would have read at counts that were never run.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hs_analysis.replay.constants import CLEAR_WAIT_S, CURVE_ROWS_MIN, FULLEST, LOAD_BINS, QUANTILE_LINK_MIN
from hs_analysis.replay.demand import DemandTrace, Key, demands, rows_of, trailing_mean_of_known
from hs_analysis.schema.aligned import ServiceFrame, SignalInfo
from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.schema.constants import BACKLOG_S
from hs_analysis.statistics.isotonic import monotone_fit
from hs_analysis.statistics.noise import count_noise
from hs_analysis.statistics.separation import top_separation

UNKNOWN = float("inf")
"""Reading of a quantile whose value the replay does not know: Prometheus has one, so that nothing is missing
to an autoscaler, and a count holds on it."""

_NAME = re.compile(r"(?P<latency>.+)_p(?P<percent>\d+(?:\.\d+)?)_(?P<range>\d+(?:\.\d+)?)s")


@dataclass(frozen=True)
class Quantile:
    """A quantile of a latency: its signal, the share at or below it [ratio], the range of its query [s]."""

    latency: str
    share: float
    range_s: float

    @property
    def name(self) -> str:
        """Name as a signal, such as ``ttft_p95_300s``."""
        return f"{self.latency}_p{100.0 * self.share:.10g}_{self.range_s:.10g}s"


def quantile_of(signal: str) -> Quantile | None:
    """Return the quantile that a signal's name says; None for other signals."""
    found = _NAME.fullmatch(signal)
    return (
        Quantile(found["latency"], float(found["percent"]) / 100.0, float(found["range"])) if found else None
    )


SERVICE_LOAD = {"ttft": ("prefill", "mixed"), "tbt": ("decode", "mixed")}
"""Pool whose load a service-level latency answers to."""

OF_REQUESTS = ("input_length", "output_length")
"""Signals of the requests as they come: other counts change nothing of them."""

FINISHED = {
    "completion_rate": ("decode", "mixed"), "finished_rate": ("decode", "mixed"),
    "first_token_rate": ("prefill", "mixed"),
}  # fmt: skip
"""Rates of the whole service at which requests leave a pool: as its served work rises, so do they."""

INSIDE = "in_flight"
"""Signal of all requests in the service: as many as run with the last pool's load, and all that wait."""

IN_FRONT = "router_queue"
"""Signal of requests that a front end holds: taken for all that waits before it answers."""

HANDED_OUT = "in_flight_tokens"
"""Signal of prompt tokens that a router handed out and that are not prefilled yet."""

WHOLE_S = "e2e_latency"
"""Latency of a whole request: it follows the last pool's load, and gains every wait."""

BEYOND_POINTS = 8
"""Points that a curve is carried on by."""


@dataclass(frozen=True)
class SignalModel:
    """How a signal answers.

    ``served``: served work × ``factor`` (recorded signal ÷ recorded work of the row, else its median).
    ``curve``: a monotone function of work per ready instance of ``pool``, flat beyond what history showed;
    where the signal is a pool total, the curve is of one instance (``per_instance``).
    ``queue``: such a curve, plus the simulated backlog in requests of ``tokens_per_request``.
    ``recorded``: the recorded value, because the signal does not depend on the counts.
    ``inside``: a curve too, plus the backlogs of pools in requests (``waits``: tokens per request of each).
    ``quantile``: a curve of the mean load over the quantile's range, known up to the load ``known_to`` per
    instance.
    ``noise`` is the variance ÷ mean of what a row reads, about its course; NaN where it is not known.
    ``kept``: what a row read beside the curve, as a factor, is taken over to other counts (``kept_ratio``).
    """

    kind: Literal["served", "curve", "queue", "inside", "recorded", "quantile"]
    pool: str
    factor: float = 1.0
    work: str = ""
    loads: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    per_instance: bool = False
    tokens_per_request: float | None = None
    kept: bool = False
    waits: tuple[tuple[str, float], ...] = ()
    known_to: float = math.inf
    noise: float = math.nan

    def at(self, load: float) -> float:
        """Return the curve's value at a load per ready instance [unit of the signal]."""
        right = bisect_right(self.loads, load)
        if right == 0:
            return self.values[0]
        if right == len(self.loads):
            return self.values[-1]
        x0, x1, y0, y1 = self.loads[right - 1], self.loads[right], self.values[right - 1], self.values[right]
        return y0 + (y1 - y0) * (load - x0) / (x1 - x0)


def batch_limit(curve: SignalModel) -> float | None:
    """Return the load per instance at which a batch grows without end [tokens/s]; None if TBT does not rise.

    A step of a batch of B takes a + b·B, and B = load · step (Little 1961), so step = a ÷ (1 − load ÷ X);
    a and X come from the ends of the curve.
    """
    (x0, x1), (v0, v1) = (curve.loads[0], curve.loads[-1]), (curve.values[0], curve.values[-1])
    if not (0 < v0 < v1 and v1 * x1 > v0 * x0):
        return None
    return (v1 * x1 - v0 * x0) / (v1 - v0)


def to_ceiling(curve: SignalModel, ceiling: float) -> SignalModel:
    """Carry the latency of a batch on from the highest load that history showed to what a pool can serve.

    Unchanged where the curve does not rise or reaches the ceiling; see ``batch_limit``.
    """
    x1, v1, most = curve.loads[-1], curve.values[-1], batch_limit(curve)
    if most is None or not x1 < ceiling < math.inf:
        return curve
    loads = np.linspace(x1, max(x1, min(ceiling, FULLEST * most)), BEYOND_POINTS + 1)[1:]
    loads = loads[loads > x1]
    values = v1 * (1.0 - x1 / most) / (1.0 - loads / most)
    return replace(curve, loads=(*curve.loads, *loads.tolist()), values=(*curve.values, *values.tolist()))


def work_signal(frame: ServiceFrame, role: str) -> str:
    """Return the column that holds a pool's served work; empty when the frame has none."""
    signal, counted_by = frame.served(role)
    served = (signal,) if counted_by == role else ()
    return next((name for name in (*served, "offered_tps") if frame.has(name, role)), "")


def fit_signals(history: ServiceFrame) -> dict[Key, SignalModel]:
    """Fit every signal that a policy may follow or guard by; those that can't be modelled are absent."""
    parts = demands(history)
    group = np.repeat(np.arange(len(parts)), [part.rows for part in parts])
    models = {}
    for info in history.signals:
        key = (info.signal, info.role)
        model = _fit(history, parts, info)
        if model is not None and model.kind == "quantile":  # it has a range of its own
            models[key] = model
        elif model is not None:
            row = np.concatenate([part.column(*key) for part in parts]) if parts else np.empty(0)
            models[key] = replace(model, noise=count_noise(row, group))
    return models


def factors(model: SignalModel, key: Key, demand: DemandTrace) -> Floats:
    """Return the recorded signal ÷ recorded work per row, the model's median where either is missing.

    Shape (rows,). 1 for the work signal itself.
    """
    if model.work == key[0] or model.work == "":
        return np.full(demand.rows, 1.0)
    ratio = _ratio(demand.column(*key), demand.column(model.work, model.pool))
    return np.where(np.isfinite(ratio), ratio, model.factor)


def kept_ratio(model: SignalModel, key: Key, demand: DemandTrace) -> Floats:
    """Return what each row read ÷ what the model says of the counts that ran.

    Requests of one row are longer, or come later in it, than those of another, whatever the counts. So a
    reading at other counts is the model's times this ratio, as long as nothing waits in the replay either:
    of served work that is the recorded value itself, since what comes is what is served.

    Shape (rows,). NaN where something waited, or had in the row before, where a value is missing, and for
    signals whose rows tell nothing of other counts: queues, and latencies, which rise out of proportion.
    """
    if not (model.kind == "served" or model.kept):
        return np.full(demand.rows, np.nan)
    ratio = _ratio(demand.column(*key), expected_reading(model, demand))
    return np.where(_quiet(demand) & np.isfinite(ratio), ratio, np.nan)


def expected_reading(model: SignalModel, demand: DemandTrace) -> Floats:
    """Return what the model says that a signal of a pool reads, while nothing waits, at the counts that ran.

    Shape (rows,); of served work that is the work which comes. NaN for a signal of no pool, such as the
    request rate of a service: no work of a pool says what it reads.
    """
    if model.pool not in demand.offered:
        return np.full(demand.rows, np.nan)
    offered = demand.offered[model.pool]
    if model.kind not in ("curve", "inside"):
        return offered
    counts = demand.column("instances", model.pool)
    value: Floats = np.interp(_ratio(offered, counts), model.loads, model.values)
    return value * counts if model.per_instance else value


def waited(demand: DemandTrace, role: str) -> Mask:
    """Return the rows as recorded in which a pool had work waiting. Shape (rows,)."""
    late: Mask = demand.column("backlog_age_s", role) > BACKLOG_S
    return late | (demand.column("saturated", role) > 0)


def _quiet(demand: DemandTrace) -> Mask:
    """Return the rows as recorded in and before which no pool had work waiting. Shape (rows,)."""
    waits = np.zeros(demand.rows, bool)
    for role in demand.offered:
        waits |= waited(demand, role)
    waits[1:] |= waits[:-1].copy()
    quiet: Mask = ~waits
    return quiet


def _fit(history: ServiceFrame, parts: tuple[DemandTrace, ...], info: SignalInfo) -> SignalModel | None:
    key = (info.signal, info.role)
    if quantile_of(info.signal):
        quantile = fit_quantile(history, info)
        return None if isinstance(quantile, str) else quantile
    if info.family == "load" or info.signal in OF_REQUESTS:
        return SignalModel("recorded", info.role)
    if info.family == "throughput" and info.role in history.pools:
        return _served(history, parts, key, info.role)
    if info.signal in (INSIDE, IN_FRONT):
        return _inside(history, parts, info)
    if info.signal in FINISHED:
        pool = next((p for p in FINISHED[info.signal] if p in history.pools), None)
        return _served(history, parts, key, pool) if pool and work_signal(history, pool) else None
    if info.family in ("hardware", "memory", "latency", "queue"):
        pool = _answering(history, info.signal, info.role)
        curve = _curve(parts, key, pool, per_instance=info.pool == "sum") if pool else None
        if curve is None or pool is None:
            return None
        if info.family != "queue":
            return replace(curve, kept=info.family != "latency")
        if info.signal == HANDED_OUT:  # without load nothing is in flight
            loads, values = (0.0, *curve.loads), (0.0, *curve.values)
            return replace(curve, kind="queue", tokens_per_request=1.0, loads=loads, values=values)
        return replace(curve, kind="queue", tokens_per_request=tokens_per_request(parts, pool))
    return None


def fit_quantile(history: ServiceFrame, info: SignalInfo) -> SignalModel | str:
    """Fit a quantile of a latency as a monotone function of load per ready instance.

    The load is the mean over the quantile's own range, and rows count in whose range nothing waited. What is
    recorded is the answer of the query itself, so that the model gives it back at the counts that ran.

    Returns
    -------
    SignalModel or str
        The model, or why the quantile has none: too few rows, or no dependence on the load.
    """
    asked = quantile_of(info.signal)
    pool = _answering(history, asked.latency, info.role) if asked else None
    if asked is None or pool is None:
        return "it answers to the load of no one pool of this service"
    load, value = _quiet_ranges(demands(history), (info.signal, info.role), pool, asked)
    least = CURVE_ROWS_MIN * rows_of(asked.range_s, history.window_s)
    if load.size < least:
        return f"it is known in {load.size} windows without a queue, and a curve of it needs {least}"
    link = top_separation(load, value)
    if link is None or link < QUANTILE_LINK_MIN:
        return (
            f"it does not follow the load of {pool}: at the highest tenth of load it is above that of the "
            f"calm half in {100.0 * (link or 0.0):.0f} % of pairs, and {100.0 * QUANTILE_LINK_MIN:.0f} % are "
            "needed"
        )
    curve = _fitted(load, value, pool, per_instance=False)
    return replace(curve, kind="quantile", known_to=float(load.max()))


def _quiet_ranges(
    parts: tuple[DemandTrace, ...], key: Key, pool: str, asked: Quantile
) -> tuple[Floats, Floats]:
    """Return mean loads per instance and values of a quantile, of rows in whose range nothing waited."""
    loads, values = [], []
    for part in parts:
        rows = rows_of(asked.range_s, part.window_s)
        load = _ratio(part.offered[pool], part.column("instances", pool))
        use = part.scored & np.isfinite(load)
        held = part.offered if asked.latency in ("ttft", WHOLE_S) else (pool,)  # whose waits are in it
        for role in held:
            use &= ~(part.column("backlog_age_s", role) > BACKLOG_S)
        whole = trailing_mean_of_known(use.astype(float), rows) == 1.0
        mean, value = trailing_mean_of_known(load, rows), part.column(*key)
        known = whole & np.isfinite(mean) & np.isfinite(value)
        loads.append(mean[known])
        values.append(value[known])
    return np.concatenate(loads), np.concatenate(values)


def _answering(history: ServiceFrame, signal: str, role: str) -> str | None:
    """Return the pool whose load a latency, or another signal of a pool, answers to; None without one."""
    of_service = SERVICE_LOAD | {WHOLE_S: SERVICE_LOAD["tbt"]}
    pools = (role,) if role != "service" else of_service.get(signal, ())
    return next((pool for pool in pools if pool in history.pools), None)


def _served(history: ServiceFrame, parts: tuple[DemandTrace, ...], key: Key, pool: str) -> SignalModel:
    """Return a signal that follows the served work of a pool, by its median ratio to it."""
    work = work_signal(history, pool)
    both = [_ratio(part.column(*key), part.column(work, pool)) for part in parts if work]
    ratio = np.concatenate(both) if both else np.empty(0)
    ratio = ratio[np.isfinite(ratio)]
    return SignalModel("served", pool, float(np.median(ratio)) if ratio.size else 1.0, work)


def _inside(history: ServiceFrame, parts: tuple[DemandTrace, ...], info: SignalInfo) -> SignalModel | None:
    """Return a level of requests: a curve of one pool's load while nothing waits, and the backlogs.

    All in the service follow the last pool's load. What a front end holds follows the first one's, and only
    where the history shows that it moves: without flow control it reads 0 whatever waits. Dynamo's front end
    holds a request until its prefill answers; an endpoint picker holds it while any pool is full.
    """
    key, last = (info.signal, info.role), SERVICE_LOAD["tbt"]
    first = SERVICE_LOAD["ttft"]
    pool = next((p for p in (last if info.signal == INSIDE else first) if p in history.pools), None)
    moves = info.signal == INSIDE or any((part.column(*key) > 0).any() for part in parts)
    curve = _curve(parts, key, pool, per_instance=True) if pool and moves else None
    only_first = info.signal == IN_FRONT and info.source == "dynamo_frontend"
    held = [role for role in history.pools if role in first or not only_first]
    waits = {role: tokens_per_request(parts, role) for role in held}
    known = tuple((role, tokens) for role, tokens in waits.items() if tokens)
    if curve is None or not waits or len(known) < len(waits):
        return None
    return replace(curve, kind="inside", kept=info.signal == INSIDE, waits=known)


def tokens_per_request(parts: tuple[DemandTrace, ...], pool: str) -> float | None:
    """Return the median work of a request in a pool [tokens]; None without a request rate."""
    each = [_ratio(part.offered[pool], part.column("request_rate", "service")) for part in parts]
    known = np.concatenate(each) if each else np.empty(0)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if known.size else None


def _curve(parts: tuple[DemandTrace, ...], key: Key, pool: str, *, per_instance: bool) -> SignalModel | None:
    """Fit the medians of bins of load by isotonic regression (Barlow et al. 1972); None with too few rows."""
    loads, values = [], []
    for part in parts:
        instances = part.column("instances", pool)
        load = _ratio(part.offered[pool], instances)
        value, age = part.column(*key), part.column("backlog_age_s", pool)
        value = _ratio(value, instances) if per_instance else value
        use = np.isfinite(load) & np.isfinite(value) & part.scored & ~(age > BACKLOG_S)
        if key[0] in (INSIDE, IN_FRONT, WHOLE_S):  # what waits for any pool is in it
            for role in part.offered:
                use &= ~(part.column("backlog_age_s", role) > BACKLOG_S)
        if key[0] == "ttft":  # first tokens may wait for decode, whose load is not on this axis
            use &= ~(part.column("backlog_age_s", "decode") > CLEAR_WAIT_S)
        loads.append(load[use])
        values.append(value[use])
    x, y = np.concatenate(loads), np.concatenate(values)
    return None if x.size < CURVE_ROWS_MIN else _fitted(x, y, pool, per_instance=per_instance)


def _fitted(x: Floats, y: Floats, pool: str, *, per_instance: bool) -> SignalModel:
    """Return the monotone curve through the medians of equal-count bins of load."""
    order = np.argsort(x, kind="stable")
    groups = np.array_split(order, min(LOAD_BINS, x.size // (CURVE_ROWS_MIN // 2)))
    centres = np.array([np.median(x[g]) for g in groups])
    medians = np.array([np.median(y[g]) for g in groups])
    fitted = monotone_fit(centres, medians, increasing=True)
    return SignalModel(
        "curve",
        pool,
        loads=tuple(fitted.x.tolist()),
        values=tuple(fitted.y.tolist()),
        per_instance=per_instance,
    )


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = np.where(denominator > 0, numerator / denominator, np.nan)
    return ratio
