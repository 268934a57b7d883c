"""Offered work per role, and what is reported at a request's end counted at its arrival."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import polars as pl

from hs_analysis.align.offered_work import offered_work
from hs_analysis.align.requests_in_flight import Flows, backlog_ages, saturated
from hs_analysis.schema.aligned import PROMPT_TOKENS, REQUESTS, WEIGHED_REQUESTS, column, served_signal
from hs_analysis.statistics.episodes import dilate

GAUGE_ROWS = 5
"""Windows on each side over which the gauge of requests in flight says where its counters stand."""


def at_arrival(windows: pl.DataFrame, window_s: float, *, cached_at_end: bool) -> pl.DataFrame:
    """Return the windows with what is counted at the end of a request where the request arrived.

    Requests are taken to end in the order they came: those in flight when a window begins end first, and what
    ends then, up to those in flight when it ends, is what arrived in it.

    Parameters
    ----------
    windows
        One row per capture and window, rates per second, null = missing: capture, started, finished_rate,
        output_tps (of finished requests), prompt_tps, effective_tps, in_flight (mean requests).
    window_s
        Width of a row [s].
    cached_at_end
        Whether ``effective_tps`` is prompt tokens counted as they come less cached ones counted at the end.

    Returns
    -------
    The windows with ``output_tps`` and ``finished_rate`` moved, and ``effective_tps`` where that was asked
    for. Where requests in flight are unknown, or what ends until they are out, counts stay where they are.
    """
    return pl.concat(
        _one_at_arrival(part, window_s, cached_at_end)
        for _, part in windows.group_by("capture", maintain_order=True)
    )


def _one_at_arrival(part: pl.DataFrame, window_s: float, cached_at_end: bool) -> pl.DataFrame:
    names = ("output_tps", "finished_rate", "prompt_tps", "effective_tps", "started", "in_flight")
    output, finished, prompt, effective, started, inside = (
        part[name].fill_null(math.nan).to_numpy() for name in names
    )
    spans = _ends_of(started * window_s, finished * window_s, inside)
    moved = [_between(values, spans) for values in (output, finished)]
    known = np.isfinite(moved).all(axis=0) & (moved[1] > 0)
    columns = {
        "output_tps": np.where(known, moved[0], output), "finished_rate": np.where(known, moved[1], finished),
    }  # fmt: skip
    if cached_at_end:
        missed = prompt - _between(prompt - effective, spans)
        columns["effective_tps"] = np.where(known & np.isfinite(missed), np.maximum(missed, 0.0), effective)
    return part.with_columns(pl.Series(name, values).fill_nan(None) for name, values in columns.items())


def prefill_at_arrival(windows: pl.DataFrame, window_s: float) -> pl.DataFrame:
    """Return the windows with prompt tokens and first tokens counted where their requests came.

    Behind a backlog of minutes, what is prefilled now came minutes ago, with the mix of that time. Requests
    are served in the order they came: those that wait when a window begins have their first token first.
    Without a backlog nothing moves.

    Parameters
    ----------
    windows
        One row per capture and window, rates per second, null = missing: capture, started, first_token_rate,
        prompt_tps, effective_tps, waiting_prefill (mean requests).
    window_s
        Width of a row [s].

    Returns
    -------
    The windows with ``effective_tps``, ``prompt_tps`` and ``first_token_rate`` moved; where the queue is not
    known, or not out by the end, counts stay where they are.
    """
    return pl.concat(
        _one_prefill(part, window_s) for _, part in windows.group_by("capture", maintain_order=True)
    )


def _one_prefill(part: pl.DataFrame, window_s: float) -> pl.DataFrame:
    names = ("effective_tps", "prompt_tps", "first_token_rate")
    effective, prompt, first, started, waiting = (
        part[name].fill_null(math.nan).to_numpy() for name in (*names, "started", "waiting_prefill")
    )
    spans = _ends_of(started * window_s, first * window_s, waiting)
    moved = [_between(values, spans) for values in (effective, prompt, first)]
    # A ratio of two counts needs both from the same requests.
    whole = [
        np.isfinite(after) | ~np.isfinite(before)
        for before, after in zip((effective, prompt), moved[:2], strict=True)
    ]
    known = np.all(whole, axis=0) & (moved[2] > 0)
    columns = zip(names, (effective, prompt, first), moved, strict=True)
    return part.with_columns(
        pl.Series(name, np.where(known, after, before)).fill_nan(None) for name, before, after in columns
    )


def _ends_of(started: np.ndarray, finished: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return when the requests in flight at each edge of a window are out, in windows since the first edge.

    Parameters
    ----------
    started, finished
        Requests that came and that ended in each window.
    inside
        Mean requests in flight in each window.

    Returns
    -------
    Shape (windows + 1,), never falling; NaN where requests in flight are unknown or not out by the end.
    """
    ended = np.r_[0.0, np.cumsum(np.nan_to_num(finished))]
    goal = ended + np.maximum(_inside_at_edges(started - finished, inside), 0.0)
    out = np.interp(goal, ended, np.arange(ended.size), right=math.nan)
    return np.asarray(np.where(np.isfinite(out), np.fmax.accumulate(out), math.nan))


def _inside_at_edges(net: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the requests in flight at the edges of windows, shape (windows + 1,).

    The counters tell how they change from edge to edge, the gauge where they stand: the median of its
    distance from the counters over eleven windows, which leaves out what requests that never ended add up to.
    """
    level = np.r_[0.0, np.cumsum(np.nan_to_num(net))]
    apart = inside - 0.5 * (level[:-1] + level[1:])
    stretch = np.cumsum(~np.isfinite(net))
    stands = np.where(np.isfinite(net), _median_around(apart, stretch), math.nan)
    before, after = np.r_[math.nan, stands], np.r_[stands, math.nan]
    both = np.where(np.isfinite(before) & np.isfinite(after), 0.5 * (before + after), math.nan)
    return np.asarray(level + np.where(np.isfinite(both), both, np.fmax(before, after)))


def _median_around(values: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """Return the median of the finite values near each row and of its stretch, NaN where there is none."""
    rows = np.arange(values.size)[:, None] + np.arange(-GAUGE_ROWS, GAUGE_ROWS + 1)
    inside = np.clip(rows, 0, max(values.size - 1, 0))
    same = (rows == inside) & (stretch[inside] == stretch[:, None]) & np.isfinite(values[inside])
    near = np.sort(np.where(same, values[inside], math.nan), axis=1)  # what is missing comes last
    count = same.sum(axis=1)
    low, high = (np.maximum(place, 0) for place in ((count - 1) // 2, count // 2))
    middle = (near[np.arange(values.size), at] for at in (low, high))
    return np.asarray(np.mean(list(middle), axis=0))


def _between(rates: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return what a rate adds up to between each two moments in windows, as a rate of one window.

    NaN where a moment or a rate between both is unknown.
    """
    edges = np.arange(rates.size + 1)
    total, missing = (np.r_[0.0, np.cumsum(v)] for v in (np.nan_to_num(rates), ~np.isfinite(rates)))
    at, holes = (np.diff(np.interp(spans, edges, values)) for values in (total, missing))
    return np.asarray(np.where(holes == 0, at, math.nan))


ENOUGH_REQUESTS = 400
"""Finished requests that make a mean of tokens per request trustworthy; default of this project, measured on
simulated services and on a capture of real components: a wide mean is wrong when the mix moves."""

ENOUGH_TESTED_REQUESTS = 100
"""The same in a pressure test, whose mix moves at once and between two levels: a mean over 400 slow requests
mixes both. A tenth of the spread of their lengths is left. Default of this project, measured on a capture of
real components."""

NARROWEST_S, NARROWEST_TESTED_S = 60.0, 0.0
"""Least half width of a mean of tokens per request, 0 = the row alone [s]."""

PREFILL_BACKLOG_S = 1.0
"""Prefill backlog age above which decode's arrivals are first tokens, not started requests."""


CENTRED, TRAILING = 1.0, 0.0
"""How much of a mean of tokens per request lies ahead of its row: as much as behind, or nothing."""


def _column(table: pl.DataFrame, signal: str, role: str) -> np.ndarray:
    name = column(signal, role)
    if name not in table.columns:
        return np.full(table.height, np.nan)
    return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()


def _first_known(*candidates: np.ndarray) -> np.ndarray:
    return next((c for c in candidates if np.isfinite(c).any()), candidates[0])


def _flows(table: pl.DataFrame, decode: str, bounded: bool) -> Flows:
    """Collect the flows; ``decode`` is the role that decodes: decode, or mixed in a single pool."""
    return Flows(
        started=_column(table, "request_rate", "service"),
        first_tokens=_column(table, "first_token_rate", "service"),
        completed=_column(table, "completion_rate", "service"),
        waiting_prefill=_column(table, "queue_length", "prefill"),
        waiting_decode=_column(table, "queue_length", decode),
        running_prefill=np.full(table.height, np.nan),
        running_decode=_column(table, "running", decode),
        in_flight=_column(table, "in_flight", "service"),
        wait_s=_column(table, "ttft", "service") if bounded else np.full(table.height, np.nan),
    )


def _started(flows: Flows, window_s: float) -> tuple[np.ndarray, bool]:
    """Return started requests per second and whether they are offered load.

    Without a counter of started requests they are first tokens plus what queued up; without queues, first
    tokens. A window whose queue, or the queue before it, is unknown has no value.
    """
    if np.isfinite(flows.started).any():
        return flows.started, True
    served = _first_known(flows.first_tokens, flows.completed)
    queues = [q for q in (flows.waiting_prefill, flows.waiting_decode) if np.isfinite(q).any()]
    if not queues:
        return served, False
    levels = queues + [flows.running_decode] * bool(np.isfinite(flows.running_decode).any())
    queued = np.sum(levels, axis=0)
    growth = np.diff(queued, prepend=queued[:1]) / window_s
    return np.maximum(served + growth, 0.0), True


def add_demand(
    table: pl.DataFrame,
    window_s: float,
    kind: str,
    *,
    ttft_bounds_wait: bool = False,
    cached_at_end: bool = False,
) -> tuple[pl.DataFrame, Literal["offered", "served"]]:
    """Add offered work, backlog age and saturation per role to one service's table.

    Parameters
    ----------
    table
        Columns capture, t and ``signal@role``; at least one row, regular grid inside each capture.
    window_s
        Width of a row [s].
    kind
        ``production`` or ``pressure_test``: they differ in what counts as saturated.
    ttft_bounds_wait
        Whether requests in flight are a difference of counters, which drifts, and TTFT holds the whole wait.
    cached_at_end
        Whether cached prompt tokens are counted when a request ends, the rest of its prompt when it comes.

    Returns
    -------
    table
        With ``offered_tps@role``, ``offered_tps_trailing@role``, ``backlog_age_s@role`` and
        ``saturated@role`` for each pool; the trailing form knows nothing of later rows. Where decode's
        offered work is unknown the served rate stands in, but not in a saturated window that is told apart:
        there it hides demand. Work is counted in what `schema.aligned.served_signal` names: raw prompt tokens
        of prefill where nothing tells which missed the cache; prompt tokens, else requests per second, of a
        single pool that gives no output tokens.
    reference
        ``offered``, or ``served`` when no count of arrivals or queues, or no mean of tokens, was to be had;
        then saturated rows hide demand.
    """
    single = column("instances", "mixed") in table.columns
    decode = "mixed" if single else "decode"
    counted = served_signal(table, decode)
    parts, offered = [], True
    for (_,), part in table.group_by("capture", maintain_order=True):
        extended, is_offered = _one_capture(
            part, window_s, kind, _flows(part, decode, ttft_bounds_wait), decode
        )
        parts.append(extended)
        offered = offered and is_offered
    whole = pl.concat(parts)
    windows = _work_inputs(whole, decode)
    if kind == "pressure_test":
        later = at_arrival(windows, window_s, cached_at_end=cached_at_end)
    else:
        later = prefill_at_arrival(windows, window_s)
    work = {
        ahead: _work(inputs, window_s, kind, ahead)
        for ahead, inputs in ((CENTRED, later), (TRAILING, windows))
    }
    counts = {ahead: _of_decode(found, whole, counted) for ahead, found in work.items()}
    offered = offered and counts[CENTRED].null_count() < whole.height
    result = whole
    for ahead, name in ((CENTRED, "offered_tps"), (TRAILING, "offered_tps_trailing")):
        decoded = pl.coalesce(counts[ahead], _served_work(whole, decode, counted, offered))
        result = result.with_columns(
            decoded.alias(column(name, decode)), work[ahead]["prefill_tps"].alias(column(name, "prefill"))
        )
    result = result.drop("_started", "_decode_arrivals", "_in_flight")
    if single:
        result = result.drop(
            column(name, "prefill")
            for name in ("offered_tps", "offered_tps_trailing", "backlog_age_s", "saturated")
        )
    return result, "offered" if offered else "served"


def _work(windows: pl.DataFrame, window_s: float, kind: str, ahead: float) -> pl.DataFrame:
    """Return offered work per window, in their order."""
    tested = kind == "pressure_test"
    return offered_work(
        windows,
        window_s,
        enough_requests=ENOUGH_TESTED_REQUESTS if tested else ENOUGH_REQUESTS,
        narrowest_s=NARROWEST_TESTED_S if tested else NARROWEST_S,
        ahead=ahead,
    )


def _of_decode(work: pl.DataFrame, table: pl.DataFrame, counted: tuple[str, str]) -> pl.Series:
    """Return the offered work of the pool that decodes, in what is counted of it.

    Output tokens; of a single pool that gives none its prompt tokens, else its started requests, weighed by
    size where that is told.
    """
    if counted == WEIGHED_REQUESTS:
        return table[column(*counted)].cast(pl.Float64)
    if counted in REQUESTS:
        return table["_started"]
    return work["prefill_tps" if counted in PROMPT_TOKENS else "decode_tps"]


def _served_work(table: pl.DataFrame, decode: str, counted: tuple[str, str], offered: bool) -> pl.Expr:
    """Return the served work of the pool that decodes.

    Null where offered work is known elsewhere and this window saturated, and where started requests are the
    work: then nothing of them is served work.
    """
    if column(*counted) not in table.columns or counted in REQUESTS:
        return pl.lit(None, pl.Float64)
    served = pl.col(column(*counted)).cast(pl.Float64)
    hides = [pl.col(column("saturated", role)).fill_null(0.0) > 0 for role in ("prefill", decode)]
    return pl.when(pl.any_horizontal(hides)).then(None).otherwise(served) if offered else served


def _one_capture(
    part: pl.DataFrame, window_s: float, kind: str, flows: Flows, decode: str
) -> tuple[pl.DataFrame, bool]:
    started, offered = _started(flows, window_s)
    ages = backlog_ages(flows)
    behind = dilate(np.nan_to_num(ages["prefill"]) > PREFILL_BACKLOG_S, 1)
    behind &= np.isfinite(flows.waiting_prefill) & np.isfinite(flows.first_tokens)
    arrivals = np.where(behind, flows.first_tokens, started)
    columns: dict[str, np.ndarray] = {
        "_started": started, "_decode_arrivals": arrivals, "_in_flight": _inside(flows),
    }  # fmt: skip
    for role, name in (("prefill", "prefill"), ("decode", decode)):
        columns[column("backlog_age_s", name)] = ages[role]
        columns[column("saturated", name)] = saturated(ages[role], window_s, kind)
    return part.with_columns(
        pl.Series(name, values).fill_nan(None) for name, values in columns.items()
    ), offered


def _inside(flows: Flows) -> np.ndarray:
    """Return the requests in flight, else those that wait or run; NaN where neither is known."""
    parts = (flows.waiting_prefill, flows.waiting_decode, flows.running_decode)
    known = [q for q in parts if np.isfinite(q).any()]
    if np.isfinite(flows.in_flight).any() or not known:
        return flows.in_flight
    return np.asarray(np.sum(known, axis=0))


def _work_inputs(table: pl.DataFrame, decode: str) -> pl.DataFrame:
    # A recorded mean length stands for the tokens of the requests it is a mean over.
    started = table["_started"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    length = _column(table, "output_length", "service")
    prefill = "prefill" if decode == "decode" else "mixed"
    columns: dict[str, np.ndarray | pl.Series] = {
        "started": table["_started"],
        "decode_arrivals": table["_decode_arrivals"],
        "in_flight": table["_in_flight"],
        "waiting_prefill": _column(table, "queue_length", "prefill"),
        "arrived_tps": _column(table, "arrived_prompt_tps", "service"),
        "prompt_tps": _column(table, "prompt_tps", "service"),
        # Without a count of what missed the cache all of a prompt stands for it: a hit rate that moves is
        # then hidden, which every number that rests on it says.
        "effective_tps": _first_known(
            _column(table, "prefill_tps_effective", prefill), _column(table, "prefill_tps", prefill)
        ),
        "first_token_rate": _first_known(
            _column(table, "first_token_rate", "service"), _column(table, "completion_rate", "service")
        ),
        "output_tps": _first_known(_column(table, "finished_output_tps", "service"), length * started),
        "finished_rate": _first_known(
            _column(table, "finished_rate", "service"), np.where(np.isfinite(length), started, np.nan)
        ),
    }
    frame = pl.DataFrame(
        {name: pl.Series(values).cast(pl.Float64).fill_nan(None) for name, values in columns.items()}
    )
    return frame.with_columns(table["capture"], (table["t"].dt.epoch("us") / 1e6).alias("t"))
