"""The plan: which queries give a study's data, in chunks that a server answers, and as commands to type.

The series are asked for as they are, never summed on the server. A sum over pods adds counters that restart
apart, so that one pod's restart reads as a reset of the whole sum; it hides how many instances report, which
is itself a measurement; and roles are told by the labels a sum takes away. Within one scrape target a sum
over labels nobody reads would be harmless, and saves next to nothing: 4 of 221 series of a Dynamo service
with five workers. What saves is asking for the catalogue's metrics only (221 of 1,209 series there), and for
buckets only where a latency limit is judged by them.

Every split is a matcher and its complement, so that a series which appears only later still lands in exactly
one file.

One grid is aligned to the step; chunk i holds the points ``first + i·n·step`` to
``first + (i·n + n − 1)·step`` inclusive, so that two chunks share no edge and leave no hole. Samples as
scraped are asked for in stretches of time that end where those chunks do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from zlib import crc32

from hs_analysis.catalogue import MAPPING, Catalogue, can_be_asked, is_query
from hs_analysis.catalogue.pod_labels import IMAGE_METRIC, POD_LABEL_METRIC, POD_LABEL_PREFIX, POD_ROLES
from hs_analysis.catalogue.rows import RECORDED_BY, RECORDED_PREFIX
from hs_analysis.collect.access import TENANT_HEADER
from hs_analysis.collect.selectors import LabelMatcher, SeriesSelector, complement, one_of, query_of
from hs_analysis.errors import UsageError
from hs_analysis.schema.settings import Reading

Reach = Literal["pods", "targets", "cluster", "own"]


@dataclass(frozen=True)
class WantedMetric:
    """A metric to ask for.

    ``signal`` is the first one that reads it, None for a witness. ``reach`` tells which of its series
    concern the service: those of its ``pods`` only (engines and front ends export nothing else), or out of
    those of all scrape ``targets`` or of the whole ``cluster``; the user's ``own`` metrics concern it as the
    user says, and may carry no namespace at all.
    """

    metric: str
    signal: str | None
    exporter: str
    reach: Reach

    @property
    def is_recorded(self) -> bool:
        """Whether it is what a rule records of another one: nobody misses it."""
        return self.metric.startswith(RECORDED_PREFIX) and self.reach != "own"

    @property
    def is_query(self) -> bool:
        """Whether it is a query of the user's, asked as it stands: no matcher goes into it."""
        return self.reach == "own" and is_query(self.metric)


SUPPORTING_METRICS = (
    "up", "scrape_duration_seconds", "dynamo_component_uptime_seconds", POD_LABEL_METRIC,
    IMAGE_METRIC, "kube_pod_owner", "kube_replicaset_owner",
)  # fmt: skip
"""Not signals: who was scraped, values that move at every scrape (where even they repeat, nothing was
scraped), pod labels that tell roles (llm-d, AIBrix), the images that tell a release from a restart, and what
runs the pods: the name that an export scales."""

ROLE_LABELS = tuple(POD_LABEL_PREFIX + label for label in POD_ROLES)
"""Labels of kube_pod_labels that tell a role; a pod without them is left out."""

LIMITED = ("ttft", "tbt")
"""Signals that may have a latency limit, which is judged by the buckets of their histograms."""

_REACH: dict[str, Reach] = {"prometheus": "targets", "ksm": "cluster", "node": "cluster", MAPPING: "own"}

NAMESPACE_ALTERNATIVES = ("exported_namespace", "namespace")
"""Where a series' Kubernetes namespace is: an exporter's own namespace gives way to the exported one."""


def wanted_metrics(
    catalogue: Catalogue, exporters: Sequence[str] = (), *, recorded: bool = False
) -> tuple[WantedMetric, ...]:
    """Return the metrics a study reads, every name a signal may have, in catalogue order, each once.

    Parameters
    ----------
    catalogue
        Signals and their sources.
    exporters
        Only metrics of these exporters; all of them when empty. Witnesses are always kept.
    recorded
        Also under the names that the rules of ``hsa init --rules`` record them under.

    Notes
    -----
    What the user maps under ``[metrics]`` is of the exporter ``mapping``: a metric's name, or a query. Names
    of another kind (a legend, a column) are no server's.
    """
    found: dict[str, WantedMetric] = {}
    for signal in catalogue.signals:
        for source in signal.sources:
            asked = [names for names in source.names if recorded or names.renamed != RECORDED_BY]
            families = [names.histogram for names in asked if names.histogram and signal.id in LIMITED]
            metrics = [term.metric for names in asked for term in names.terms]
            for metric in [*metrics, *(f"{family}_bucket" for family in families)]:
                found.setdefault(metric, _wanted(catalogue, metric, signal.id))
    kept = (f"{RECORDED_PREFIX}{POD_LABEL_METRIC}",) if recorded else ()
    for metric in (*SUPPORTING_METRICS, *kept):
        found.setdefault(metric, _wanted(catalogue, metric, None))
    return tuple(
        need
        for need in found.values()
        if (not exporters or need.signal is None or need.exporter in exporters) and can_be_asked(need.metric)
    )


def own_notes(asked: Reading) -> tuple[str, ...]:
    """Return what the settings name and no server is asked for, a sentence each."""
    notes = [
        f"{metric!r} of [metrics] is no metric name and no query: it is not asked for"
        for metric in sorted(asked.metrics)
        if not can_be_asked(metric)
    ]
    unread = sorted({text for text in asked.queries.values() if is_query(text)} - set(asked.metrics))
    return (*notes, *(f"{text!r} of [queries] carries no signal: map it under [metrics]" for text in unread))


def _wanted(catalogue: Catalogue, metric: str, signal: str | None) -> WantedMetric:
    exporter = catalogue.exporter_of(metric)
    reach = "cluster" if exporter.watches_gpus else _REACH.get(exporter.name, "pods")
    return WantedMetric(metric, signal, exporter.name, reach)


def selector_of(
    need: WantedMetric, matchers: Sequence[LabelMatcher], namespace: str | None
) -> SeriesSelector:
    """Return the selector of a metric under the user's matchers and namespace.

    A series that was relabelled carries its pod's namespace as ``exported_namespace``; where that is absent
    ``namespace`` counts. Scrape targets (``up``) often have neither, so a namespace does not narrow them; nor
    does what a recording rule made, so that of the user's own metrics series with neither are kept.
    """
    if need.is_query:
        return SeriesSelector(need.metric)
    selector = SeriesSelector(need.metric).narrowed(*matchers)
    if need.metric == POD_LABEL_METRIC:
        selector = selector.spread(
            [
                (
                    *(LabelMatcher(earlier, "=", "") for earlier in ROLE_LABELS[:i]),
                    LabelMatcher(label, "!=", ""),
                )
                for i, label in enumerate(ROLE_LABELS)
            ]
        )
    if namespace and need.reach != "targets":
        own = need.reach == "own"
        selector = in_namespaces(
            selector, [LabelMatcher(NAMESPACE_ALTERNATIVES[0], "=", namespace)], without=own
        )
    return selector


def in_namespaces(
    selector: SeriesSelector, exported: Sequence[LabelMatcher], *, without: bool = False
) -> SeriesSelector:
    """Return a selector with matchers on ``exported_namespace`` that fall back to ``namespace``.

    ``without``: series that have neither match too.
    """
    exported_label, label = NAMESPACE_ALTERNATIVES
    fallback = [LabelMatcher(label, m.operator, m.value) for m in exported]
    neither = [(LabelMatcher(exported_label, "=", ""), LabelMatcher(label, "=", ""))] if without else []
    return selector.spread([tuple(exported), (LabelMatcher(exported_label, "=", ""), *fallback), *neither])


def around_service(
    need: WantedMetric, selector: SeriesSelector, service: Iterable[Mapping[str, str]]
) -> SeriesSelector:
    """Return a selector narrowed to the surroundings of the service's own series.

    Scrape targets are those of the service's jobs; what kube-state-metrics says is that of its namespaces.
    Nothing is narrowed by a label that some of the service's series lack, and GPU series never are: on
    hosts without Kubernetes labels only their host tells whose they are.
    """
    rows = list(service)
    if need.reach == "targets":
        jobs = _values(rows, ("job",))
        return selector.narrowed(one_of("job", jobs)) if jobs else selector
    if need.exporter == "ksm":
        names = _values(rows, NAMESPACE_ALTERNATIVES)
        return in_namespaces(selector, [one_of(NAMESPACE_ALTERNATIVES[0], names)]) if names else selector
    return selector


def _values(rows: Sequence[Mapping[str, str]], labels: Sequence[str]) -> list[str]:
    """Return the values of the first label each series has; none when a series has none of them."""
    found = [next((row[label] for label in labels if row.get(label)), "") for row in rows]
    return sorted(set(found)) if found and all(found) else []


Labels = Mapping[str, str]

Api = Literal["query", "query_range"]
"""How series are asked for: their samples as scraped (`/api/v1/query` with a range selector), or their value
at the points of a grid (`/api/v1/query_range`)."""

SPLIT_LABELS = ("exported_pod", "pod_name", "pod", "instance", "Hostname", "le")
"""Labels to split series by, in order of preference; a label with one value splits nothing."""

_NAMED_ROLES = ("prefill", "decode")


@dataclass(frozen=True)
class MetricShare:
    """A part of a metric's series that makes one file a chunk.

    ``step_s`` is the distance of the grid's points, or of samples as scraped, which is ``assumed`` where
    nobody measured or said it [s]; ``series`` is how many the server lists, None when it was not asked.
    """

    need: WantedMetric
    selector: SeriesSelector
    step_s: float
    series: int | None = None
    role: str | None = None
    group: int | None = None
    api: Api = "query_range"
    assumed: bool = False


def shares_of(
    need: WantedMetric,
    selector: SeriesSelector,
    step_s: float,
    series: Sequence[Labels],
    most: int,
    catalogue: Catalogue,
) -> list[MetricShare]:
    """Return the shares of a metric, each of at most ``most`` series where labels allow it.

    All in one when they fit; else by role; what is still too large by pod groups. The user's queries are not
    divided: no matcher goes into them.
    """
    if len(series) <= most or need.is_query:
        return [MetricShare(need, selector, step_s, len(series))]
    return [
        share
        for role, matchers in _by_role(need, series, catalogue)
        for share in _by_group(need, selector.narrowed(*matchers), step_s, series, most, role)
    ]


def _by_role(
    need: WantedMetric, series: Sequence[Labels], catalogue: Catalogue
) -> list[tuple[str | None, tuple[LabelMatcher, ...]]]:
    """Return (role, matchers) parts: by the exporter's role label, else by the words in the pod's name."""
    exporter = next(e for e in catalogue.exporters if e.name == need.exporter)
    for label, roles in exporter.role_label.items():
        if any(row.get(label) for row in series):
            by_role: dict[str, list[str]] = {}
            for value, role in roles.items():
                by_role.setdefault(role, []).append(value)
            matchers = {role: one_of(label, sorted(values)) for role, values in by_role.items()}
            return [*((role, (m,)) for role, m in matchers.items()), _rest(list(matchers.values()))]
    pod = next((label for label in SPLIT_LABELS[:3] if any(row.get(label) for row in series)), None)
    if pod is None:
        return [(None, ())]
    first, second = (LabelMatcher(pod, "=~", f".*{role}.*") for role in _NAMED_ROLES)
    return [
        (_NAMED_ROLES[0], (first,)),
        (_NAMED_ROLES[1], (complement(first), second)),
        _rest([first, second]),
    ]


def _rest(matchers: Sequence[LabelMatcher]) -> tuple[str | None, tuple[LabelMatcher, ...]]:
    return "other", tuple(complement(matcher) for matcher in matchers)


def _by_group(
    need: WantedMetric,
    selector: SeriesSelector,
    step_s: float,
    series: Sequence[Labels],
    most: int,
    role: str | None,
) -> list[MetricShare]:
    """Return the non-empty pod groups of a part; a part nothing was listed for is kept, for what may come."""
    parts = [selector]
    done: list[tuple[SeriesSelector, int]] = []
    while parts:
        part = parts.pop()
        own = [row for row in series if part.accepts(row)]
        cut = halves(own) if len(own) > most else None
        if cut is None:
            done.append((part, len(own)))
        else:
            parts += [part.narrowed(matcher) for matcher in reversed(cut)]
    numbered = len(done) > 1
    return [
        MetricShare(need, part, step_s, count, role, number if numbered else None)
        for number, (part, count) in enumerate(done)
    ]


def halves(series: Sequence[Labels]) -> tuple[LabelMatcher, LabelMatcher] | None:
    """Return a matcher for about half of some series, and its complement; None when no label divides them."""
    for label in SPLIT_LABELS:
        values = sorted({row.get(label, "") for row in series})
        if len(values) > 1:
            named = [value for value in values if value]
            first = one_of(label, named[: max(1, len(named) // 2)])
            return first, complement(first)
    return None


PLAN_SCHEMA = "hs-analysis/plan/v1"
PLAN_FILE = "plan.json"

MOST_POINTS = 11_000
"""Points per series and query; Prometheus refuses when (end − start) ÷ step is above it (web/api/v1).
Samples as scraped have no such limit; as many make a file of theirs."""

MOST_SAMPLES = 5_000_000
"""Series × points per file: a tenth of the samples a Prometheus query may load (--query.max-samples)."""

LONGEST_NAME = 60
"""Characters of a query that its file is called by."""


@dataclass(frozen=True)
class PlanRequest:
    """What the user asked for, as it was given; None is not given.

    ``last_s`` and ``step_s`` in seconds, ``start`` and ``end`` ISO 8601 UTC; ``own`` are the metrics and
    queries that the settings map to signals.
    """

    start: str | None = None
    end: str | None = None
    last_s: float | None = None
    step_s: float | None = None
    match: str | None = None
    namespace: str | None = None
    exporters: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A stretch of the grid: Unix seconds of its first and last point, both inclusive.

    Of samples as scraped: its earliest and latest moment, both inclusive, and the most samples that a series
    of this spacing has in it.
    """

    start: float
    end: float
    points: int


@dataclass(frozen=True)
class PlannedFile:
    """One file and what gives it.

    Attributes
    ----------
    file
        File name.
    metric, signal, exporter, role
        What it carries; ``signal`` is null for witnesses of scrapes and roles, ``role`` unless split by it.
    query
        The PromQL expression of the series; ``match`` are its selectors, one by one, and none for a query of
        the user's, which can't be divided by series.
    start, end
        Unix seconds of the first and last point, or of the earliest and latest sample; both inclusive.
    step_s
        Distance of points, or of samples as scraped [s].
    expected_points
        Points of a series that is there all the time; null where the scrape interval is an assumption.
    expected_series
        Series the server listed; null when it was not asked.
    api
        Whether ``query`` is evaluated on the grid by ``query_range``, or the samples of each of ``match`` are
        asked for as scraped, by ``query`` with a range selector.
    """

    file: str
    metric: str
    signal: str | None
    exporter: str
    role: str | None
    query: str
    match: tuple[str, ...]
    start: float
    end: float
    step_s: float
    expected_points: int | None
    expected_series: int | None = None
    api: Api = "query_range"

    @property
    def chunk(self) -> Chunk:
        """The stretch of the grid, or of time."""
        step = max(_ms(self.step_s), 1)
        return Chunk(self.start, self.end, (_ms(self.end) - _ms(self.start)) // step + 1)

    @property
    def selections(self) -> tuple[tuple[str, ...], ...]:
        """Selectors that are asked for together: ``or`` joins those of a grid, but no range selectors."""
        return tuple((one,) for one in self.match) if self.api == "query" else (self.match or (self.query,),)


@dataclass(frozen=True)
class Plan:
    """All files, and what they were planned from.

    ``start`` and ``end`` bound the window (ISO 8601 UTC); ``absent`` are metrics the server does not have;
    ``notes`` what the user should know. Credentials are never part of it.
    """

    schema: str
    request: PlanRequest
    start: str
    end: str
    files: tuple[PlannedFile, ...]
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def chunks(start: float, end: float, step_s: float, points: int = MOST_POINTS) -> Iterator[Chunk]:
    """Yield the chunks of the grid points within [start, end], Unix seconds; none when it holds no point.

    Worked in whole milliseconds, the resolution of Prometheus.
    """
    step = max(_ms(step_s), 1)
    first = -(-_ms(start) // step) * step
    total = (_ms(end) - first) // step + 1
    for begin in range(0, total, points):
        size = min(points, total - begin)
        at = first + begin * step
        yield Chunk(at / 1000, (at + (size - 1) * step) / 1000, size)


def time_ranges(start: float, end: float, step_s: float, points: int = MOST_POINTS) -> Iterator[Chunk]:
    """Yield stretches of time that cover [start, end], Unix seconds, each millisecond in exactly one.

    A series sampled every ``step_s`` has at most ``points`` samples in one. A stretch ends at a point of the
    grid where its chunk would, the next begins a millisecond later, and the last ends with the window.
    """
    step = max(_ms(step_s), 1)
    at, last = _ms(start), _ms(end)
    while at <= last:
        stop = min(-(-at // step) * step + (points - 1) * step, last)
        yield Chunk(at / 1000, stop / 1000, (stop - at) // step + 1)
        at = stop + 1


def cut(api: Api, start: float, end: float, step_s: float, points: int) -> Iterator[Chunk]:
    """Yield the chunks of a window as an API is asked for them."""
    yield from (time_ranges if api == "query" else chunks)(start, end, step_s, points)


def parameters(api: Api, match: Sequence[str], chunk: Chunk, step_s: float) -> list[tuple[str, str]]:
    """Return what the API is sent for some selectors over a chunk.

    A range selector is a millisecond longer than the stretch: since Prometheus 3, and in VictoriaMetrics, it
    leaves its early edge out. Older servers take it in, so that a sample exactly there comes twice.
    """
    query = query_of(match)
    if api == "query":
        return [("query", f"{query}[{_length(chunk)}]"), ("time", number(chunk.end))]
    start, end, step = (number(value) for value in (chunk.start, chunk.end, step_s))
    return [("query", query), ("start", start), ("end", end), ("step", step)]


def count_of(api: Api, match: Sequence[str], chunk: Chunk, step_s: float) -> list[tuple[str, str]]:
    """Return what an instant query is sent for the number of samples that ``parameters`` asks for.

    Of a grid a subquery counts the points: its own are at the multiples of the step, as the plan's are.
    """
    if api == "query":
        parts = [f"count_over_time({one}[{_length(chunk)}])" for one in match]
    else:
        parts = [f"count_over_time(({query_of(match)})[{_length(chunk)}:{_ms(step_s)}ms])"]
    return [("query", f"sum({query_of(parts)})"), ("time", number(chunk.end))]


def _length(chunk: Chunk) -> str:
    """Return the length of a range selector over a stretch, both edges in it."""
    length = _ms(chunk.end) - _ms(chunk.start) + 1
    return f"{length}ms" if length % 1000 else f"{length // 1000}s"


def _ms(seconds: float) -> int:
    """Return seconds in whole milliseconds, the resolution of Prometheus."""
    return round(seconds * 1000)


def make_plan(
    request: PlanRequest,
    window: tuple[float, float],
    shares: Iterable[MetricShare],
    absent: Sequence[str] = (),
    notes: Sequence[str] = (),
    longest_s: float | None = None,
) -> Plan:
    """Return the plan of some shares over a window [Unix s].

    A share too large for one file over a full chunk gets shorter chunks; so do all where the server answers
    no more than ``longest_s`` at once [s].

    Raises
    ------
    UsageError
        When the window is shorter than a step, so that no point lies in it.
    """
    files = tuple(file for share in shares for file in _files(share, window, longest_s))
    if not files:
        raise UsageError(
            "the window holds no point of the grid", where="--from, --to and --step", hint="widen the window"
        )
    start, end = (iso(moment) for moment in window)
    return Plan(PLAN_SCHEMA, request, start, end, files, tuple(absent), tuple(notes))


def most_points(step_s: float, longest_s: float | None) -> int:
    """Return the points of a chunk: the most a server gives, within the longest query it answers [s]."""
    return MOST_POINTS if longest_s is None else max(1, min(MOST_POINTS, int(longest_s // step_s)))


def _files(share: MetricShare, window: tuple[float, float], longest_s: float | None) -> Iterator[PlannedFile]:
    points = most_points(share.step_s, longest_s)
    points = points if not share.series else max(1, min(points, MOST_SAMPLES // share.series))
    query = query_of(share.selector.match)
    match = () if share.need.is_query else share.selector.match
    for number, chunk in enumerate(cut(share.api, *window, share.step_s, points)):
        yield PlannedFile(
            file=file_name(share, number), metric=share.need.metric, signal=share.need.signal,
            exporter=share.need.exporter, role=share.role, query=query, match=match,
            start=chunk.start, end=chunk.end, step_s=share.step_s,
            expected_points=None if share.assumed and share.api == "query" else chunk.points,
            expected_series=share.series, api=share.api,
        )  # fmt: skip


def on_grid(plan: Plan, there: Collection[str], why: str) -> Plan:
    """Return a plan whose files are asked for by ``query_range``, but for those that are there.

    ``why`` becomes a note. A stretch of time too short to hold a point of the grid has no file any more.
    """
    files = (
        file if file.api == "query_range" or file.file in there else _gridded(file) for file in plan.files
    )
    return replace(plan, files=tuple(file for file in files if file), notes=(*plan.notes, why))


def _gridded(file: PlannedFile) -> PlannedFile | None:
    """Return a file of samples as scraped as one of points; None where no point lies in its stretch."""
    for chunk in chunks(file.start, file.end, file.step_s):
        return replace(
            file, api="query_range", start=chunk.start, end=chunk.end, expected_points=chunk.points
        )
    return None


def file_name(share: MetricShare, chunk: int) -> str:
    """Return the name of a share's file: metric, role and pod group where split, number of the chunk.

    A colon becomes two underscores, so that `trtllm:x` and `trtllm_x` have files of their own. A query's name
    is its words, cut, and its checksum, by which two that begin alike differ.
    """
    metric = share.need.metric
    if share.need.is_query:
        words = "_".join(re.findall(r"[A-Za-z0-9_]+", metric))
        metric = f"{words[:LONGEST_NAME].rstrip('_')}_{crc32(metric.encode()):08x}"
    parts = [re.sub(r"[^A-Za-z0-9_]", "_", metric.replace(":", "__"))]
    parts += [share.role] if share.role else []
    parts += [f"g{share.group:02d}"] if share.group is not None else []
    return ".".join([*parts, f"{chunk:03d}", "json.gz"])


def iso(moment: float) -> str:
    """Return Unix seconds as ISO 8601 UTC text."""
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def number(value: float) -> str:
    """Return seconds as the API takes them: whole where they are, else to the millisecond."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


DRAFT_PREFIX = ".draft-"
"""Of a file that is not whole yet; what begins with a dot is no input."""


@dataclass(frozen=True)
class Caller:
    """Who asks which server, as the commands should say it: never the secrets, only where they are kept.

    ``token`` and ``password`` are shell words that give the secret when the command runs; ``parameters`` go
    with each query.
    """

    url: str
    tenant: str | None = None
    tenant_header: str = TENANT_HEADER
    token: str | None = None
    user: str | None = None
    password: str | None = None
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    insecure: bool = False
    parameters: tuple[tuple[str, str], ...] = ()


def curl(file: PlannedFile, caller: Caller) -> str:
    """Return the shell line of one file for curl; of an answer that is an error nothing is kept."""
    head = ["curl", "-fsSG", *_curl_access(caller), shlex.quote(f"{caller.url}/api/v1/{file.api}")]
    commands = []
    for match in file.selections:
        (_, query), *others = parameters(file.api, match, file.chunk, file.step_s)
        words = [*head, "--data-urlencode", shlex.quote(f"query={query}")]
        commands.append(
            " ".join([*words, *(f"-d {name}={value}" for name, value in (*others, *caller.parameters))])
        )
    return _line(file, commands, "-o")


def _line(file: PlannedFile, commands: Sequence[str], into: str) -> str:
    """Return a shell line that leaves a finished file alone, and under ``set -e`` ends at what fails.

    The answers to several commands are kept only when all are there: some would pass for all of them.
    """
    plain = shlex.quote(file.file.removesuffix(".gz"))
    fetched = f"{commands[0]} {into} {plain}"
    if len(commands) > 1:
        draft = shlex.quote(f"{DRAFT_PREFIX}{file.file}")
        fetched = f"{{ {'; '.join(commands)}; }} > {draft}; mv {draft} {plain}"
    return f"[ -s {shlex.quote(file.file)} ] || {{ {fetched}; gzip -f {plain}; }}"


def _curl_access(caller: Caller) -> list[str]:
    words = [f'-H "Authorization: Bearer {caller.token}"'] if caller.token else []
    if caller.user is not None or caller.password is not None:
        words.append(f'-u "{caller.user or ""}:{caller.password or ""}"')
    words += _option("-H", f"{caller.tenant_header}: {caller.tenant}" if caller.tenant else None)
    words += _option("--cacert", caller.ca_file)
    words += _option("--cert", caller.client_cert) + _option("--key", caller.client_key)
    return words + (["-k"] if caller.insecure else [])


def _option(flag: str, value: str | None) -> list[str]:
    return [flag, shlex.quote(value)] if value else []


def promtool(file: PlannedFile, caller: Caller) -> str:
    """Return the shell line of one file for promtool; its answers have no envelope, and so no warnings."""
    head = ["promtool", "query", "instant" if file.api == "query" else "range", "--format=json"]
    if caller.token:
        head.append(f'--header "Authorization=Bearer {caller.token}"')
    if caller.tenant:
        head.append(f"--header {shlex.quote(f'{caller.tenant_header}={caller.tenant}')}")
    commands = []
    for match in file.selections:
        (_, query), *others = parameters(file.api, match, file.chunk, file.step_s)
        flags = [f"--{name}={value}{'s' * (name == 'step')}" for name, value in others]
        commands.append(" ".join([*head, *flags, shlex.quote(caller.url), shlex.quote(query)]))
    return _line(file, commands, ">")


TOOLS: dict[str, Callable[[PlannedFile, Caller], str]] = {"curl": curl, "promtool": promtool}


def promtool_lacks(caller: Caller, files: Iterable[PlannedFile]) -> str | None:
    """Return what promtool can't do for this caller, None when it can do all."""
    if caller.user is not None or caller.password is not None:
        return "promtool takes no user and password"
    if caller.parameters:
        return f"promtool sends no {caller.parameters[0][0]}, without which an answer may be a part"
    if caller.ca_file or caller.client_cert or caller.insecure:
        return "promtool takes no certificates"
    if (caller.token or caller.tenant) and any(file.api == "query" for file in files):
        return "promtool takes no token and no tenant where samples are asked for as scraped"
    return None
