"""What a server has of the metrics a study needs: their series, and how often they are scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import TypeVar
from urllib.parse import quote

from hs_analysis.catalogue import Catalogue
from hs_analysis.catalogue.rows import RECORDED_PREFIX
from hs_analysis.collect.answers import kind_of, names_of, series_of, times_of, vector_of
from hs_analysis.collect.backends import PROMETHEUS, Backend
from hs_analysis.collect.plan import (
    MOST_SAMPLES,
    Api,
    Labels,
    MetricShare,
    WantedMetric,
    around_service,
    cut,
    iso,
    most_points,
    number,
    selector_of,
    shares_of,
)
from hs_analysis.collect.selectors import LabelMatcher, SeriesSelector, one_of, query_of
from hs_analysis.collect.server import (
    LONGEST_GET,
    PrometheusServer,
    QueryError,
    RefusedError,
    TooHeavyError,
    TooManyPointsError,
)
from hs_analysis.errors import ServerError
from hs_analysis.schema.number_text import percent

Item = TypeVar("Item")

LOOKBACK_S = 900
"""Raw samples are looked at over this long to tell the scrape interval [s]; longer than any usual one."""

LOOKBACKS = 5
"""At so many places of the window, the latest first, until samples are found."""

MOST_LISTED = 300_000
"""More series in all are no service's; each takes about a kilobyte of memory."""

SPARE = 400
"""Characters of a query that are kept for what stands beside the names: times and the user's matchers."""

SHORTEST_LISTING_S = 3_600.0
"""Series are not listed for shorter windows [s]: a server that refuses an hour refuses for other reasons."""

USUAL_STEP_S = 15.0
"""Assumed when nobody can be asked [s]: the interval of the common charts for these engines. Of samples as
scraped it only sizes the chunks. Of a grid: where scrapes are rarer it repeats samples, which is seen and
counted once; a longer one would lose them."""

SAME_STEP = 0.01
"""A step that differs by less from the scrape interval is meant to be it [share of the interval]."""

TRIED_S = 60
"""A range selector over this long shows whether a server takes any [s]."""


ENDED_STEP_S = 3_600.0
"""How finely it is told when samples ended [s]: an hour more of a window costs nothing."""

ENDED_REACH_S = 400 * 86_400.0
"""How far back that is looked for [s]: over a year, in fewer points than the 11,000 that Prometheus gives."""


@dataclass(frozen=True)
class FoundMetric:
    """A metric the server has: its selector and the labels of its series in the window."""

    need: WantedMetric
    selector: SeriesSelector
    series: tuple[Labels, ...]


@dataclass(frozen=True)
class ServerSurvey:
    """What was found, which metrics are absent, and what to know of the user's own."""

    found: tuple[FoundMetric, ...]
    absent: tuple[str, ...]
    notes: tuple[str, ...] = ()


def survey(
    server: PrometheusServer,
    needs: Sequence[WantedMetric],
    matchers: Sequence[LabelMatcher],
    namespace: str | None,
    window: tuple[float, float],
    progress: Callable[[int, int], None],
) -> ServerSurvey:
    """Ask the server for the series of every needed metric in a window [Unix s].

    The service's own metrics come first; scrape targets and Kubernetes objects are then narrowed to its jobs
    and namespaces. A query of the user's is tried as it stands; one that the server refuses is noted and left
    out.

    Raises
    ------
    ServerError
        When the server has none of the service's metrics, or lists no series.
    """
    found: list[FoundMetric] = []
    absent: list[str] = []
    notes: list[str] = []
    named = names(server, [need.metric for need in needs if not need.is_query], matchers, window)
    for reach in (True, False):
        some = [need for need in needs if (need.reach == "pods") == reach]
        service = [row for one in found if one.need.reach == "pods" for row in one.series]
        selectors = {
            need: around_service(need, selector_of(need, matchers, namespace), service) for need in some
        }
        asked = [selectors[need] for need in some if _not_absent(need, named)]
        progress(0 if reach else len(needs) - len(some), len(needs))
        there = listed_together(server, asked, window)
        for need in some:
            series = _tried(server, need, window, notes) if need.is_query else there.get(need.metric)
            if series:
                found.append(FoundMetric(need, selectors[need], tuple(series)))
                continue
            if not need.is_recorded:
                absent.append(need.metric)
            if need.reach == "own" and not (need.is_query and series is None):
                notes.append(f"{need.metric} of [metrics]: the server has no series of it in this window")
    if not any(one.need.signal for one in found):
        raise ServerError(
            "has no metric of the catalogue in this window", where=server.base,
            hint=_when_they_ended(server, needs, matchers, window[1])
            or "check --from, --to, --match and --namespace; hsa signals lists what is looked for",
        )  # fmt: skip
    order = {need.metric: place for place, need in enumerate(needs)}
    found.sort(key=lambda one: order[one.need.metric])
    return ServerSurvey(tuple(found), tuple(sorted(absent, key=order.__getitem__)), tuple(notes))


def _when_they_ended(
    server: PrometheusServer, needs: Sequence[WantedMetric], matchers: Sequence[LabelMatcher], end: float
) -> str:
    """Return when the samples of a service's metric ended before a moment [Unix s]; empty if nobody tells.

    One metric that the server knows of any time is looked at once an hour, as far back as it has points for.
    """
    own = [need.metric for need in needs if need.signal and not need.is_query]
    known = names(server, own, matchers, None)
    metric = next((one for one in own if one in (known or ())), None)
    if metric is None:
        return ""
    text = ",".join(one.text for one in matchers)
    reach = min(ENDED_REACH_S, server.backend.longest_query_s or ENDED_REACH_S)
    end = ceil(end / ENDED_STEP_S) * ENDED_STEP_S  # whole hours are easier to read and to type
    span = [("start", number(end - reach)), ("end", number(end)), ("step", number(ENDED_STEP_S))]
    try:
        times = server.ask("query_range", [("query", f"group({metric}{{{text}}})"), *span], times_of)
    except (QueryError, TooHeavyError, TooManyPointsError, ServerError):
        return ""
    last = max((moment for row in times for moment in row), default=None)
    if last is None:
        return ""
    return f"samples of {metric} end about {iso(last)}: ask with --to {iso(last + ENDED_STEP_S)}"


def _not_absent(need: WantedMetric, named: frozenset[str] | None) -> bool:
    return not need.is_query and (named is None or need.metric in named)


def names(
    server: PrometheusServer,
    metrics: Sequence[str],
    matchers: Sequence[LabelMatcher],
    window: tuple[float, float] | None,
) -> frozenset[str] | None:
    """Return which of some metrics a server knows by name, perhaps more than it has in the window.

    Without a window, of any time that it looks through then. It is asked for those by a matcher, then for all
    names; None when it gives neither, or names that are none of these: such a list is not relied upon.
    """
    bounds = [("start", number(window[0])), ("end", number(window[1]))] if window else []
    bare = tuple(dict.fromkeys(name.removeprefix(RECORDED_PREFIX) for name in metrics))
    by_name = [[("match[]", _named(some, matchers)), *bounds] for some in _parts(bare, lambda name: name)]
    for queries in (by_name, [bounds]):
        try:
            answers = [server.ask("label/__name__/values", one, names_of) for one in queries]
        except (QueryError, TooHeavyError, TooManyPointsError):
            continue
        except ServerError:  # no such page, or not for everyone: the next question tells
            return None
        if there := frozenset(metrics).intersection(*[[name for one in answers for name in one]]):
            return there
    return None


def _named(metrics: Sequence[str], matchers: Sequence[LabelMatcher]) -> str:
    """Return the selector of all series that have one of some names, or were recorded under one."""
    any_of = one_of("__name__", metrics)
    recorded_too = replace(any_of, value=f"({RECORDED_PREFIX})?({any_of.value})")
    return "{" + ",".join(one.text for one in (recorded_too, *matchers)) + "}"


def _parts(items: Sequence[Item], text: Callable[[Item], str]) -> list[list[Item]]:
    """Return items in parts whose texts, joined in one query, need not be sent as a form."""
    parts: list[list[Item]] = [[]]
    room = 0
    for item in items:
        length = len(quote(text(item), safe="")) + len("match%5B%5D=&")
        if parts[-1] and room + length > LONGEST_GET - SPARE:
            parts.append([])
            room = 0
        parts[-1].append(item)
        room += length
    return [part for part in parts if part]


def _tried(
    server: PrometheusServer, need: WantedMetric, window: tuple[float, float], notes: list[str]
) -> list[Labels] | None:
    """Return the labels a query of the user's gives at some moments of a window; None when it is refused."""
    found: dict[tuple[tuple[str, str], ...], Labels] = {}
    for at in _lookback_times(window, 0.0):
        try:
            rows = server.ask("query", [("query", need.metric), ("time", number(at))], vector_of)
        except (QueryError, TooHeavyError, TooManyPointsError) as error:
            notes.append(f"{need.metric} of [metrics]: {server.access.masked(_what(error))}: it is left out")
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


def _lookback_times(window: tuple[float, float], look_s: float) -> list[float]:
    """Return moments of a window [Unix s] to look at, the latest first, each with ``look_s`` before it."""
    start, end = window
    return [end - (end - start - look_s) * place / max(LOOKBACKS - 1, 1) for place in range(LOOKBACKS)]


def listed_together(
    server: PrometheusServer, selectors: Sequence[SeriesSelector], window: tuple[float, float]
) -> dict[str, list[Labels]]:
    """Return the labels of the series of several metrics in a window, by metric; each as `listed` gives it.

    Many are asked for at once; what a server finds too much in halves, what it does not take one by one.
    """
    found: dict[str, list[Labels]] = {}
    if server.backend.lists_one_metric:
        waiting = [[one] for one in selectors][::-1]
    else:
        waiting = _parts(selectors, lambda one: "".join(one.match))[::-1]
    while waiting:
        part = waiting.pop()
        if len(part) == 1:
            found[part[0].metric] = listed(server, part[0], window)
            continue
        try:
            rows = _at_once(server, part, window)
        except (TooHeavyError, TooManyPointsError):
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
            continue
        if rows is None:
            waiting += [[one] for one in part[::-1]]
            continue
        found |= rows
        if sum(map(len, found.values())) > MOST_LISTED:
            raise ServerError(
                f"lists more than {MOST_LISTED:,} series of the catalogue's metrics", where=server.base,
                hint="narrow them with --match, --namespace or --exporter",
            )  # fmt: skip
    return found


def _at_once(
    server: PrometheusServer, part: Sequence[SeriesSelector], window: tuple[float, float]
) -> dict[str, list[Labels]] | None:
    """Return the series of several metrics, by metric, from one answer; None where there is none such."""
    bounds = [("start", number(window[0])), ("end", number(window[1]))]
    match = [("match[]", text) for one in part for text in one.match]
    try:
        rows = server.ask("series", [*match, *bounds], series_of)
    except QueryError:
        return None
    unique: dict[str, dict[tuple[tuple[str, str], ...], Labels]] = {one.metric: {} for one in part}
    for row in rows:
        own = unique.get(row.get("__name__", ""))
        if own is None:  # which of the metrics it is of can't be told
            return None
        own[tuple(sorted(row.items()))] = row
    return {metric: [own[key] for key in sorted(own)] for metric, own in unique.items()}


def listed(server: PrometheusServer, selector: SeriesSelector, window: tuple[float, float]) -> list[Labels]:
    """Return the labels of a selector's series in a window, in a fixed order, each once.

    A server that does not look through a long window at once is asked for parts of it.
    """
    found: dict[tuple[tuple[str, str], ...], Labels] = {}
    waiting = _lists(window, server.backend.longest_listing_s)
    while waiting:
        start, end = waiting.pop()
        bounds = [("start", number(start)), ("end", number(end))]
        try:
            rows = server.ask("series", [*(("match[]", one) for one in selector.match), *bounds], series_of)
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
            found |= {tuple(sorted(row.items())): row for row in rows}
    return [found[key] for key in sorted(found)]


def _lists(window: tuple[float, float], longest_s: float | None) -> list[tuple[float, float]]:
    """Return the parts of a window that a server lists series of at once; neighbours share a moment."""
    start, end = window
    count = 1 if longest_s is None else max(1, ceil((end - start) / longest_s))
    edges = [start + (end - start) * place / count for place in range(count)] + [end]
    return list(pairwise(edges))


def intervals(
    server: PrometheusServer, found: Sequence[FoundMetric], window: tuple[float, float]
) -> dict[str, float]:
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


def _interval(server: PrometheusServer, one: FoundMetric, window: tuple[float, float]) -> float | None:
    """Return the shortest of the jobs' usual intervals, so that nothing is dropped; None when unseen."""
    seen = [
        interval
        for job in sorted({row.get("job", "") for row in one.series})
        if (interval := _interval_of_job(server, one, job, window)) is not None
    ]
    return min(seen) if seen else None


def _interval_of_job(
    server: PrometheusServer, one: FoundMetric, job: str, window: tuple[float, float]
) -> float | None:
    label = next((name for name in ("instance", "pod") if one.series[0].get(name)), None)
    own = [row for row in one.series if row.get("job", "") == job]
    selector = one.selector.narrowed(LabelMatcher("job", "=", job))
    if label:
        selector = selector.narrowed(one_of(label, sorted({row.get(label, "") for row in own})[-3:]))
    start, end = window
    look = min(LOOKBACK_S, max(end - start, 1.0))
    for at in _lookback_times(window, look):
        query = query_of(f"{text}[{look:.0f}s]" for text in selector.match[:1])
        try:
            times = server.ask("query", [("query", query), ("time", number(at))], times_of)
        except (QueryError, TooHeavyError, TooManyPointsError):
            return None
        if interval := usual_spacing(times):
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


def refuses_ranges(server: PrometheusServer, selector: str, at: float) -> str | None:
    """Return how a server refuses the samples as scraped of a selector up to a moment [Unix s]; None if not.

    A server that finds a minute of one metric too heavy will give no more of it.
    """
    try:
        kind = server.ask("query", [("query", f"{selector}[{TRIED_S}s]"), ("time", number(at))], kind_of)
    except (RefusedError, TooHeavyError, TooManyPointsError) as error:
        return server.access.masked(_what(error))
    return None if kind == "matrix" else f"the server answers a range selector with a {kind}"


def how_to_ask(need: WantedMetric, interval_s: float | None, step_s: float | None) -> tuple[Api, float, bool]:
    """Return how a metric is asked for, at which spacing [s], and whether that is an assumption.

    Samples as scraped, unless a step longer than their interval says that fewer are wanted. A query has none.
    """
    usual = interval_s or USUAL_STEP_S
    if need.is_query or (step_s is not None and step_s > usual * (1 + SAME_STEP)):
        return "query_range", step_s or usual, not (step_s or interval_s)
    return "query", interval_s or step_s or usual, not (interval_s or step_s)


def shares(
    survey_: ServerSurvey,
    intervals_: dict[str, float],
    step_s: float | None,
    window: tuple[float, float],
    catalogue: Catalogue,
    backend: Backend = PROMETHEUS,
) -> list[MetricShare]:
    """Return every metric's shares, as ``how_to_ask`` says, within what the kind of server answers.

    A query is asked at the shortest interval of all: what it reads may change as often.
    """
    result: list[MetricShare] = []
    shortest = min(intervals_.values(), default=None)
    for one in survey_.found:
        measured = shortest if one.need.is_query else intervals_.get(one.need.metric)
        api, step, assumed = how_to_ask(one.need, measured, step_s)
        points = max(
            (chunk.points for chunk in cut(api, *window, step, most_points(step, backend.longest_query_s))),
            default=1,
        )
        most = max(1, min(MOST_SAMPLES // points, (backend.most_series or MOST_SAMPLES) - 1))
        parts = shares_of(one.need, one.selector, step, one.series, most, catalogue)
        result += [replace(part, api=api, assumed=assumed) for part in parts]
    return result


def step_notes(
    parts: Sequence[MetricShare], intervals_: dict[str, float], step_s: float | None
) -> tuple[str, ...]:
    """Return what to know of the step: one longer than the scrape interval loses samples."""
    if step_s is None:
        assumed = any(part.assumed and part.need.is_query for part in parts)
        return (f"queries are asked every {USUAL_STEP_S:g} s: set it with --step",) if assumed else ()
    if not intervals_ and step_s > USUAL_STEP_S * (1 + SAME_STEP):
        text = f"step {step_s:g} s is longer than {USUAL_STEP_S:g} s, the scrape interval assumed"
        return (f"{text}: leave --step out for all samples, as scraped",)
    measured = sorted(set(intervals_.values()))
    return tuple(_step_note(one, step_s) for one in measured if abs(one - step_s) > SAME_STEP * one)


def _step_note(interval: float, step_s: float) -> str:
    longer = step_s > interval
    what = (
        f"{percent(1 - interval / step_s, whole=True)} of samples are dropped"
        if longer
        else "samples come as scraped"
    )
    than = f"{'longer' if longer else 'shorter'} than the scrape interval of {interval:g} s"
    return f"step {step_s:g} s is {than}: {what}"
