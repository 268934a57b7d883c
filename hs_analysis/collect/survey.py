"""What a server has of the metrics a study needs: their series, and how often they are scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hs_analysis.catalogue import Catalogue
from hs_analysis.collect.needs import Need, around, selector_of
from hs_analysis.collect.plan import MOST_SAMPLES, chunks, number
from hs_analysis.collect.selectors import Matcher, Selector, one_of, query_of
from hs_analysis.collect.server import QueryError, Server, TooHeavyError, TooManyPointsError
from hs_analysis.collect.shares import Labels, Share, shares_of
from hs_analysis.errors import ServerError

LOOK_S = 900
"""Raw samples are looked at over this long to tell the scrape interval [s]; longer than any usual one."""

LOOKS = 5
"""At so many places of the window, the latest first, until samples are found."""

SHORTEST_LISTING_S = 3_600.0
"""Series are not listed for shorter windows [s]: a server that refuses an hour refuses for other reasons."""

USUAL_STEP_S = 15.0
"""Assumed when nobody can be asked [s]: the interval of the common charts for these engines. Where scrapes
are rarer it repeats samples, which is seen and counted once; a longer one would lose them."""


@dataclass(frozen=True)
class Found:
    """A metric the server has: its selector and the labels of its series in the window."""

    need: Need
    selector: Selector
    series: tuple[Labels, ...]


@dataclass(frozen=True)
class Survey:
    """What was found, which metrics are absent, and what to know of the user's own."""

    found: tuple[Found, ...]
    absent: tuple[str, ...]
    notes: tuple[str, ...] = ()


def survey(
    server: Server,
    needs: Sequence[Need],
    matchers: Sequence[Matcher],
    namespace: str | None,
    window: tuple[float, float],
    progress: Callable[[int, int], None],
) -> Survey:
    """Ask the server for the series of every needed metric in a window [Unix s].

    The service's own metrics come first; scrape targets and Kubernetes objects are then narrowed to its jobs
    and namespaces. A query of the user's is tried as it stands; one that the server refuses is noted and left
    out.

    Raises
    ------
    ServerError
        When the server has none of the service's metrics, or lists no series.
    """
    found: list[Found] = []
    absent: list[str] = []
    notes: list[str] = []
    ordered = sorted(needs, key=lambda need: need.reach != "pods")
    for done, need in enumerate(ordered):
        progress(done, len(ordered))
        selector = selector_of(need, matchers, namespace)
        service = [row for one in found if one.need.reach == "pods" for row in one.series]
        selector = around(need, selector, service)
        series = _tried(server, need, window, notes) if need.is_query else listed(server, selector, window)
        if series:
            found.append(Found(need, selector, tuple(series)))
            continue
        absent.append(need.metric)
        if series is not None and need.reach == "own":
            notes.append(f"{need.metric} of [metrics]: the server has no series of it in this window")
    if not any(one.need.signal for one in found):
        raise ServerError(
            "has no metric of the catalogue in this window", where=server.base,
            hint="check --from, --to, --match and --namespace; hsa signals lists what is looked for",
        )  # fmt: skip
    order = {need.metric: place for place, need in enumerate(needs)}
    found.sort(key=lambda one: order[one.need.metric])
    return Survey(tuple(found), tuple(sorted(absent, key=order.__getitem__)), tuple(notes))


def _tried(server: Server, need: Need, window: tuple[float, float], notes: list[str]) -> list[Labels] | None:
    """Return the labels a query of the user's gives at some moments of a window; None when it is refused."""
    found: dict[tuple[tuple[str, str], ...], Labels] = {}
    for at in _moments(window, 0.0):
        try:
            answer = server.data("query", [("query", need.metric), ("time", number(at))])
            rows = [dict(row["metric"]) for row in answer["result"]]
        except (QueryError, TooHeavyError, TooManyPointsError) as error:
            notes.append(f"{need.metric} of [metrics]: {server.access.masked(_what(error))}: it is left out")
            return None
        except (KeyError, TypeError, AttributeError):
            notes.append(f"{need.metric} of [metrics]: its answer has no series: it is left out")
            return None
        found |= {tuple(sorted(row.items())): row for row in rows}
    names = sorted({row["__name__"] for row in found.values() if "__name__" in row})
    if names:
        notes.append(
            f"{need.metric} of [metrics]: its series keep the name {names[0]}, by which they are read: map "
            "that name, with `where`"
        )
    return [found[key] for key in sorted(found)]


def _what(error: Exception) -> str:
    return error.what if isinstance(error, QueryError) else str(error)


def _moments(window: tuple[float, float], look_s: float) -> list[float]:
    """Return moments of a window [Unix s] to look at, the latest first, each with ``look_s`` before it."""
    start, end = window
    return [end - (end - start - look_s) * place / max(LOOKS - 1, 1) for place in range(LOOKS)]


def listed(server: Server, selector: Selector, window: tuple[float, float]) -> list[Labels]:
    """Return the labels of a selector's series in a window, in a fixed order, each once.

    A server that does not look through a long window at once is asked for parts of it.
    """
    found: dict[tuple[tuple[str, str], ...], Labels] = {}
    waiting = [window]
    while waiting:
        start, end = waiting.pop()
        bounds = [("start", number(start)), ("end", number(end))]
        try:
            rows = server.data("series", [*(("match[]", one) for one in selector.match), *bounds])
        except (TooHeavyError, TooManyPointsError) as error:
            if end - start <= SHORTEST_LISTING_S:
                raise ServerError(
                    f"can't list the series of {selector.metric} ({server.access.masked(str(error))})",
                    where=server.base,
                    hint="narrow it with --match or --namespace, or ask for a shorter window",
                ) from None
            middle = (start + end) / 2
            waiting += [(start, middle), (middle, end)]
        else:
            found |= {tuple(sorted(row.items())): dict(row) for row in rows}
    return [found[key] for key in sorted(found)]


def intervals(server: Server, found: Sequence[Found], window: tuple[float, float]) -> dict[str, float]:
    """Return the scrape interval of each metric [s], as the times of its raw samples show it.

    Metrics of the same jobs are scraped together and asked for once. A query has no raw samples.
    """
    by_jobs: dict[tuple[str, ...], float | None] = {}
    result: dict[str, float] = {}
    for one in found:
        if one.need.is_query:
            continue
        jobs = tuple(sorted({row.get("job", "") for row in one.series}))
        if jobs not in by_jobs:
            by_jobs[jobs] = _interval(server, one, window)
        if (interval := by_jobs[jobs]) is not None:
            result[one.need.metric] = interval
    return result


def _interval(server: Server, one: Found, window: tuple[float, float]) -> float | None:
    """Return the shortest of the jobs' usual intervals, so that nothing is dropped; None when unseen."""
    seen = [
        interval
        for job in sorted({row.get("job", "") for row in one.series})
        if (interval := _interval_of_job(server, one, job, window)) is not None
    ]
    return min(seen) if seen else None


def _interval_of_job(server: Server, one: Found, job: str, window: tuple[float, float]) -> float | None:
    label = next((name for name in ("instance", "pod") if one.series[0].get(name)), None)
    own = [row for row in one.series if row.get("job", "") == job]
    selector = one.selector.narrowed(Matcher("job", "=", job))
    if label:
        selector = selector.narrowed(one_of(label, sorted({row.get(label, "") for row in own})[-3:]))
    start, end = window
    look = min(LOOK_S, max(end - start, 1.0))
    for at in _moments(window, look):
        query = query_of(f"{text}[{look:.0f}s]" for text in selector.match[:1])
        try:
            rows = server.data("query", [("query", query), ("time", number(at))])["result"]
        except (TooHeavyError, TooManyPointsError, KeyError, TypeError):
            return None
        if interval := usual_spacing([[float(t) for t, _ in row.get("values", ())] for row in rows]):
            return interval
    return None


def usual_spacing(times: Sequence[Sequence[float]]) -> float | None:
    """Return the commonest spacing of some series' sample times [s], to the second where it is near one."""
    gaps = Counter(round(b - a, 1) for series in times for a, b in pairwise(series) if b > a)
    if not gaps:
        return None
    (usual, _count) = min(gaps.items(), key=lambda pair: (-pair[1], pair[0]))
    whole = float(round(usual))
    return whole if whole >= 1 and abs(usual - whole) <= 0.1 else usual


def shares(
    survey_: Survey,
    intervals_: dict[str, float],
    step_s: float | None,
    window: tuple[float, float],
    catalogue: Catalogue,
) -> list[Share]:
    """Return every metric's shares; the step is the one given, else the metric's scrape interval.

    A query is asked at the shortest interval of all: what it reads may change as often.
    """
    result: list[Share] = []
    shortest = min(intervals_.values(), default=None)
    for one in survey_.found:
        measured = shortest if one.need.is_query else intervals_.get(one.need.metric)
        step = step_s or measured or USUAL_STEP_S
        points = max((chunk.points for chunk in chunks(*window, step)), default=1)
        most = max(1, MOST_SAMPLES // points)
        result += shares_of(one.need, one.selector, step, one.series, most, catalogue)
    return result


def step_notes(intervals_: dict[str, float], step_s: float | None) -> tuple[str, ...]:
    """Return what to know of the step: another than the scrape interval loses or repeats samples."""
    measured = sorted(set(intervals_.values()))
    if not measured:
        text = "the scrape interval could not be told from the samples"
        return () if step_s else (f"{text}: step {USUAL_STEP_S:g} s is assumed; set it with --step",)
    if step_s is None:
        return ()
    notes = [
        _step_note(interval, step_s) for interval in measured if abs(interval - step_s) > 0.01 * interval
    ]
    return tuple(notes)


def _step_note(interval: float, step_s: float) -> str:
    if step_s > interval:
        lost = 1 - interval / step_s
        what = f"longer than the scrape interval of {interval:g} s: {lost:.0%} of samples are dropped"
    else:
        what = f"shorter than the scrape interval of {interval:g} s: samples repeat"
    return f"step {step_s:g} s is {what}"
