"""PromQL of a signal for the user's own Prometheus: the very quantity the study judged.

A selector has to hold for instances that do not exist yet, so labels that stay when pods come and go are
preferred, in this order: a label that names the role, a label of the workload, the role's word in the pod
name, the pod's Kubernetes labels, how a Deployment or StatefulSet names its pods, no role matcher where only
this role exports the metric, the hardware, and a list of today's pods last. Every candidate is tried on all
series of the input; the first that picks exactly the wanted ones is taken. One that picks other services'
series too is tried once more within the Dynamo namespace of the wanted ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import polars as pl

from hs_analysis.catalogue import Signal, Source, Term, is_query
from hs_analysis.catalogue.pod_labels import OF_DEPLOYMENT, POD_LABEL_METRIC
from hs_analysis.schema.aligned import POOL_ROLES
from hs_analysis.schema.constants import SCRAPES_PER_WINDOW
from hs_analysis.schema.exported import NOT_SEEN

Labels = Mapping[str, str]

# Names that exporters and operators use for the role itself (SGLang, Dynamo, llm-d, AIBrix).
ROLE_LABELS = (
    "engine_type",
    "dynamo_component",
    "worker_type",
    "llm_d_ai_role",
    "role_name",
    "role",
)
# Labels of the workload that Prometheus service discovery attaches; they outlive pods.
WORKLOAD_LABELS = (
    "job",
    "service",
    "app",
    "app_kubernetes_io_component",
    "app_kubernetes_io_name",
    "component",
    "deployment",
    "container",
    "exported_container",
)
HARDWARE_LABELS = ("gpu_type", "modelName", "card_model", "accelerator")
MODEL_LABELS = ("model_name", "model")
DYNAMO_LABELS = ("dynamo_namespace",)
NAMESPACE_LABELS = (
    "exported_namespace",
    "namespace",
    "pod_namespace",
    "kubernetes_namespace",
    "k8s_namespace_name",
)
# exported_pod first: beside it, plain `pod` is the exporter's own.
POD_LABELS = ("exported_pod", "pod", "pod_name", "kubernetes_pod_name", "k8s_pod_name", "instance")
POD_WORDS = ("prefill", "decode")

_INEXACT = "no label tells these series from those of another role or service, which are picked as well"
_ONLY_ROLE = "no label says {role}, but in this input no other role exports the metric"
_HARDWARE = "the GPU type gives the role: change it with the hardware"
_JOIN = "joins {metric}: allow-list the pod label behind {label} in kube-state-metrics"
_LIST = f"picks today's {{count}} {{label}} values only, {NOT_SEEN}: add a role label first"
_WORDS = {word: re.compile(rf"(?<![a-z]){word}(?![a-z])", re.IGNORECASE) for word in POD_WORDS}
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NUMBERED = re.compile(r"(.*[^0-9.:-].*)-[0-9]+")
"""Name of a pod of a StatefulSet; an address is none."""
_REGEX_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


@dataclass(frozen=True)
class PromqlMatcher:
    """One PromQL label matcher: equal to a value, one of several, or a fully anchored RE2 pattern."""

    label: str
    values: tuple[str, ...] = ()
    pattern: str | None = None

    def __str__(self) -> str:
        if self.pattern is None and len(self.values) == 1:
            return f"{self.label}={quoted(self.values[0])}"
        return f"{self.label}=~{quoted(self._regex())}"

    def _regex(self) -> str:
        if self.pattern is not None:
            return self.pattern
        return "|".join(escaped(value) for value in self.values)

    def matches(self, labels: Labels) -> bool:
        """Whether a series with these labels is picked; a missing label is the empty string."""
        value = labels.get(self.label, "")
        if self.pattern is not None:
            return re.fullmatch(self.pattern, value) is not None
        return value in self.values


@dataclass(frozen=True)
class PodJoin:
    """A join with kube-state-metrics' pod labels, for series that do not say their role themselves."""

    label: str
    values: tuple[str, ...]
    pod: str
    namespace: str


@dataclass(frozen=True)
class PromqlSelector:
    """What to put between the braces, and around the series where a join is needed.

    ``exact`` says whether it picks the wanted series and no other of the input.
    """

    matchers: tuple[PromqlMatcher, ...]
    join: PodJoin | None = None
    exact: bool = True
    warning: str = ""


@dataclass(frozen=True)
class SelectorContext:
    """What a selector is judged on.

    Attributes
    ----------
    wanted
        Labels of the series to pick.
    others
        Labels of all other series of the same metric, of whatever service or role.
    neighbours
        Labels of series of the other roles of this service, of whatever metric.
    pods
        Labels of the ``kube_pod_labels`` series.
    role
        prefill, decode or mixed; empty where the series speak of the whole service.
    """

    wanted: Sequence[Labels]
    others: Sequence[Labels]
    neighbours: Sequence[Labels]
    pods: Sequence[Labels]
    role: str


def quoted(text: str) -> str:
    """Return a PromQL string literal; what can't be seen in it is escaped, as Go's %q does."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", plain) + '"'


def escaped(text: str) -> str:
    """Return an RE2 pattern for exactly this text, without escapes that are not needed."""
    return _REGEX_SPECIAL.sub(r"\\\g<0>", text)


def select(scene: SelectorContext) -> PromqlSelector:
    """Return the most lasting selector that picks exactly the wanted series.

    When none does, the list of today's pods is returned with ``exact=False`` and a warning.
    """
    scope = _scope(scene.wanted)
    dynamo = _matcher(scene.wanted, DYNAMO_LABELS)
    last = PromqlSelector(scope)
    for candidate in _candidates(scene):
        for within in (scope, scope + dynamo) if dynamo else (scope,):
            last = PromqlSelector(within + candidate.matchers, candidate.join, True, candidate.warning)
            if _exact(last, scene):
                return last
    return PromqlSelector(last.matchers, last.join, False, _INEXACT)


def pod_label(rows: Sequence[Labels]) -> str | None:
    """Return the label that names the pod on all these series, None when there is none."""
    return next((name for name in POD_LABELS if all(row.get(name) for row in rows)), None)


def _exact(selector: PromqlSelector, scene: SelectorContext) -> bool:
    picked = _picker(selector, scene.pods)
    return all(map(picked, scene.wanted)) and not any(map(picked, scene.others))


def _picker(selector: PromqlSelector, pods: Sequence[Labels]) -> Callable[[Labels], bool]:
    """Return what Prometheus would do: whether a series passes the matchers and the join."""
    join = selector.join
    joined = _pods_with(pods, join.label, join.values) if join else set()

    def picked(labels: Labels) -> bool:
        if not all(matcher.matches(labels) for matcher in selector.matchers):
            return False
        return join is None or _pod_key(labels, join.namespace, join.pod) in joined

    return picked


def _pod_key(labels: Labels, namespace: str, pod: str) -> tuple[str, str]:
    return labels.get(namespace, ""), labels.get(pod, "")


def _pods_with(pods: Sequence[Labels], label: str, values: Sequence[str]) -> set[tuple[str, str]]:
    return {_pod_key(row, "namespace", "pod") for row in pods if row.get(label, "") in values}


def _scope(wanted: Sequence[Labels]) -> tuple[PromqlMatcher, ...]:
    """Return matchers on model and namespace: other services may export the same names tomorrow."""
    return _matcher(wanted, NAMESPACE_LABELS) + _matcher(wanted, MODEL_LABELS)


def _matcher(wanted: Sequence[Labels], names: Sequence[str]) -> tuple[PromqlMatcher, ...]:
    """Return a matcher on the first of the labels that all wanted series have; empty when none is."""
    name = next((label for label in names if all(row.get(label) for row in wanted)), None)
    return (PromqlMatcher(name, tuple(sorted({row[name] for row in wanted}))),) if name else ()


def _candidates(scene: SelectorContext) -> Iterator[PromqlSelector]:
    nothing = PromqlSelector(())
    sized = scene.role in POD_WORDS
    if not sized:
        yield nothing
    for labels in (ROLE_LABELS, WORKLOAD_LABELS) if sized else (WORKLOAD_LABELS,):
        yield from _by_label(scene, labels, "")
    yield from _by_pod_name(scene)
    if sized:
        yield from _by_pod_labels(scene)
    yield from _by_workload(scene)
    if sized:
        yield PromqlSelector((), warning=_ONLY_ROLE.format(role=scene.role))
    yield from _by_label(scene, HARDWARE_LABELS, _HARDWARE)
    yield from _by_list(scene)


def _by_label(scene: SelectorContext, names: Sequence[str], warning: str) -> Iterator[PromqlSelector]:
    against = [*scene.neighbours, *([] if scene.role in POD_WORDS else scene.others)]
    for name in names:
        if not all(row.get(name) for row in scene.wanted):
            continue
        values = {row[name] for row in scene.wanted}
        rivals = {row[name] for row in against if row.get(name)}
        # Without a rival that carries the label, only the role's word in the value shows what it separates.
        proven = bool(rivals) or all(_says(value, scene.role) for value in values)
        if proven and not values & rivals and not values & _pod_names(scene.wanted):
            yield PromqlSelector((PromqlMatcher(name, tuple(sorted(values))),), warning=warning)


def _by_pod_name(scene: SelectorContext) -> Iterator[PromqlSelector]:
    name = pod_label(scene.wanted)
    if name is None or scene.role not in POD_WORDS:
        return
    pods = sorted({row[name] for row in scene.wanted})
    if not all(_says(pod, scene.role) for pod in pods):
        return
    yield PromqlSelector((PromqlMatcher(name, pattern=_stem_pattern(pods, scene.role)),))
    yield PromqlSelector((PromqlMatcher(name, pattern=_word_pattern(pods, scene.role)),))


def _by_pod_labels(scene: SelectorContext) -> Iterator[PromqlSelector]:
    name = pod_label(scene.wanted)
    namespace = next((n for n in NAMESPACE_LABELS if all(row.get(n) for row in scene.wanted)), None)
    if name is None or namespace is None or not scene.pods:
        return
    ours = {_pod_key(row, namespace, name) for row in scene.wanted}
    rows = [row for row in scene.pods if _pod_key(row, "namespace", "pod") in ours]
    for label in sorted({label for row in rows for label in row if label.startswith("label_")}):
        values = tuple(sorted({row.get(label, "") for row in rows}))
        if "" in values or not any(_says(value, scene.role) for value in values):
            continue
        yield PromqlSelector(
            (),
            PodJoin(label, values, name, namespace),
            warning=_JOIN.format(metric=POD_LABEL_METRIC, label=label),
        )


def _by_workload(scene: SelectorContext) -> Iterator[PromqlSelector]:
    """Yield a pattern of what Kubernetes calls the pods of today's workloads, those of tomorrow included."""
    name = pod_label(scene.wanted)
    if name is None or name == "instance":
        return
    patterns = {_pods_of_workload(row[name]) for row in scene.wanted}
    if "" not in patterns:
        yield PromqlSelector((PromqlMatcher(name, pattern="|".join(sorted(patterns))),))


def _pods_of_workload(pod: str) -> str:
    """Return a pattern of the pods that the same Deployment or StatefulSet runs; empty where none is told."""
    if found := OF_DEPLOYMENT.fullmatch(pod):
        return f"{escaped(found['deployment'])}-[a-z0-9]{{6,10}}-[a-z0-9]{{5}}"
    if numbered := _NUMBERED.fullmatch(pod):
        return f"{escaped(numbered[1])}-[0-9]+"
    return ""


def _by_list(scene: SelectorContext) -> Iterator[PromqlSelector]:
    name = pod_label(scene.wanted)
    if name is not None:
        pods = tuple(sorted({row[name] for row in scene.wanted}))
        yield PromqlSelector((PromqlMatcher(name, pods),), warning=_LIST.format(count=len(pods), label=name))


def _pod_names(rows: Sequence[Labels]) -> set[str]:
    return {row[name] for row in rows for name in POD_LABELS if row.get(name)}


def _says(text: str, role: str) -> bool:
    """Whether the text holds the role's whole word and not the other one."""
    return [word for word, pattern in _WORDS.items() if pattern.search(text)] == [role]


def _stem_pattern(pods: Sequence[str], role: str) -> str:
    """Return the pods' common beginning up to the role's word, and anything after it."""
    ends = {pod[: found.end()] for pod in pods if (found := _WORDS[role].search(pod))}
    if len(ends) > 1:
        return _word_pattern(pods, role)
    stem = ends.pop()
    following = {pod[len(stem) : len(stem) + 1] for pod in pods}
    if len(following) == 1 and following <= {"-", ".", "_"}:
        stem += following.pop()
    return escaped(stem) + ".*"


def _word_pattern(pods: Sequence[str], role: str) -> str:
    flag = "" if all(role in pod for pod in pods) else "(?i)"
    return f"{flag}.*{role}.*"


_UNNARROWED = "is a query of yours, taken as it is: it must pick the series of this service and role itself"
_PLAIN_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_PLAIN_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class PromqlExpression:
    """An expression that ends in one series, and what the user should know of it.

    Attributes
    ----------
    expr
        PromQL; empty when no series of the input carries the signal.
    window_s
        Range window inside it [s].
    exact
        Whether it picks exactly the series the study read, judged on the input.
    warnings
        Sentences.
    """

    expr: str
    window_s: float
    exact: bool
    warnings: tuple[str, ...]


def expression(
    signal: Signal, recipe: Source, role: str, series: pl.DataFrame, *, service: str, window_s: float
) -> PromqlExpression:
    """Build the PromQL of one signal of one role.

    Parameters
    ----------
    signal
        Catalogue signal; its ``pool`` says whether the result is a total, a mean or a ratio of totals.
    recipe
        The source the study used.
    role
        prefill, decode, mixed or service.
    series
        Frame of contract ``SERIES``, all services of the input: they are what the selector must leave out.
    service
        ``namespace/model``.
    window_s
        Averaging window wanted [s]; widened to four scrape intervals where it is shorter.
    """
    parts = [_part(term, recipe, role, series, service) for term in recipe.terms]
    window = range_window(window_s, [row.interval_s for part in parts for row in part.wanted])
    missing = sorted({part.term.metric for part in parts if not part.wanted})
    if missing:
        return PromqlExpression("", window, False, (f"no series of {', '.join(missing)} for {role}",))
    texts: list[str] = []
    warnings: dict[str, list[str]] = {}
    exact, pool = True, recipe.pool or signal.pool
    for part in parts:
        selector = select(_context(part, series, service))
        if is_query(part.term.metric):
            narrowed = bool(selector.matchers or part.where)
            selector = PromqlSelector((), None, not narrowed, _UNNARROWED if narrowed else "")
        instance, note = _instance_labels(part.wanted) if pool == "mean" else ((), "")
        matchers = (*part.where, *selector.matchers)
        vector = _vector(part, matchers, selector.join, recipe.read, window)
        texts.append(_pooled(vector, pool, instance))
        exact &= selector.exact
        for warning in filter(None, (selector.warning, note)):
            warnings.setdefault(warning, []).append(part.term.metric)
    sentences = tuple(f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in warnings.items())
    return PromqlExpression(_combined(recipe.terms, texts, recipe.scale), window, exact, sentences)


def share_over(recipe: Source, edge_s: float, series: pl.DataFrame) -> Source:
    """Return the recipe of the share of a histogram's samples over one of its edges [ratio].

    Parameters
    ----------
    recipe
        A source with a histogram, its names those of the input.
    edge_s
        The edge [s], one that the input has.
    series
        Frame of contract ``SERIES``. An edge is asked for in the exporter's unit, in every way that it is
        written there, and as Prometheus 3 writes it: ``1`` is ``1.0`` there.
    """
    metric = f"{recipe.histogram}_bucket"
    written = {row.labels.get("le", "") for row in _rows(series.filter(pl.col("metric") == metric))}
    edge = recipe.written_edge(edge_s)
    texts = {text for text in written if _is_edge(text, edge)} | {f"{edge:.12g}"}
    if edge == int(edge):
        texts.add(f"{edge:.1f}")
    chosen = recipe.terms[0].where
    everything = {**chosen, "le": ("+Inf",)}
    terms = (
        Term(metric, everything, 1.0, "num"),
        Term(metric, {**chosen, "le": tuple(sorted(texts))}, -1.0, "num"),
        Term(metric, everything, 1.0, "den"),
    )
    return replace(recipe, read="rate", scale=1.0, terms=terms, older=())


def _is_edge(text: str, edge: float) -> bool:
    try:
        return math.isclose(float(text), edge, rel_tol=1e-9)
    except ValueError:
        return False


def instance_count(
    recipe: Source, role: str, series: pl.DataFrame, *, service: str, window_s: float
) -> PromqlExpression:
    """Build the PromQL that counts the instances of a role that report a metric.

    Parameters
    ----------
    recipe
        A source that every instance of the role exports; its first term is counted.
    role, series, service, window_s
        As in `expression`. An instance counts from its second sample in the window on.

    Returns
    -------
    The expression; empty where no series carries the metric, or no label names the instance.
    """
    part = _part(recipe.terms[0], recipe, role, series, service)
    window = range_window(window_s, [row.interval_s for row in part.wanted])
    metric = part.term.metric
    if not part.wanted:
        return PromqlExpression("", window, False, (f"no series of {metric} for {role}",))
    labels, _ = _instance_labels(part.wanted)
    if not labels or is_query(metric):
        return PromqlExpression("", window, False, (f"{metric}: no label names the instance",))
    selector = select(_context(part, series, service))
    vector = _vector(part, (*part.where, *selector.matchers), selector.join, recipe.read, window)
    warnings = (f"{metric}: {selector.warning}",) if selector.warning else ()
    return PromqlExpression(
        f"count(count by ({', '.join(labels)}) ({vector}))", window, selector.exact, warnings
    )


def range_window(window_s: float, intervals_s: Sequence[float | None]) -> float:
    """Return the range window [s]: the wanted one, but no shorter than four scrape intervals."""
    known = [value for value in intervals_s if value is not None and math.isfinite(value)]
    return float(math.ceil(max([window_s, *(SCRAPES_PER_WINDOW * value for value in known)])))


def is_sum(promql: str) -> bool:
    """Whether an expression starts with a sum over instances, parentheses left aside."""
    return promql.lstrip("(").startswith("sum(")


def surging(fresh: str, usual: str, above_ratio: float) -> str:
    """Return the fresh reading where it is so many times the usual one, else the usual one.

    The same text comes back where the scrapes of the metric make both ranges the same.
    """
    if fresh == usual:
        return usual
    is_one_call = re.match(r"\w+\(", usual) is not None and _is_one_group(usual)
    factored = usual if is_one_call else f"({usual})"
    return f"({fresh} > {above_ratio:g} * {factored} or {usual})"


def duration(seconds: float) -> str:
    """Return a Prometheus duration of whole seconds, in the largest unit that holds it."""
    whole = math.ceil(seconds)
    for unit, size in (("h", 3600), ("m", 60)):
        if whole % size == 0 and whole:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def pool_total(promql: str) -> str | None:
    """Turn the mean over instances into its sum, which is what an average-per-replica threshold divides.

    Only the form `expression` writes is understood, ``avg(…)`` with an optional factor; None for any other.
    """
    found = re.fullmatch(r"avg(\(.*\))( [/*] [0-9.e+-]+)?", promql, re.DOTALL)
    if found is None or not _is_one_group(found.group(1)):
        return None
    return "sum" + promql.removeprefix("avg")


@dataclass(frozen=True)
class _InputSeries:
    """A series of the input, as far as an expression needs it."""

    labels: Labels
    emitter_role: str
    service: str | None
    instance: str | None
    interval_s: float | None
    copy_label: str | None


@dataclass(frozen=True)
class _TermSeries:
    """One term of a formula: the series it wants, and the others of the same metric and state."""

    term: Term
    where: tuple[PromqlMatcher, ...]
    wanted: tuple[_InputSeries, ...]
    others: tuple[_InputSeries, ...]

    @property
    def copy_label(self) -> str | None:
        """Label in which copies of its series differ; None where there are no copies."""
        return next((row.copy_label for row in self.wanted if row.copy_label), None)


def _rows(series: pl.DataFrame) -> list[_InputSeries]:
    columns = series.select("labels", "emitter_role", "service", "instance", "interval_s", "copy_label")
    return [_InputSeries(_as_dict(labels), *rest) for labels, *rest in columns.iter_rows()]


def _as_dict(labels: Mapping[str, str] | Sequence[Mapping[str, str]]) -> Labels:
    """Return the contract's map, which older polars hands over as a list of key-value pairs."""
    if isinstance(labels, Mapping):
        return labels
    return {pair["key"]: pair["value"] for pair in labels}


def _part(term: Term, recipe: Source, role: str, series: pl.DataFrame, service: str) -> _TermSeries:
    where = _where(term, recipe, role)
    emitters = (role,) if role in recipe.emitters else recipe.emitters
    rows = [
        row
        for row in _rows(series.filter(pl.col("metric") == term.metric))
        if all(matcher.matches(row.labels) for matcher in where)
    ]

    def wanted(row: _InputSeries) -> bool:
        emits = row.emitter_role in emitters if emitters else row.emitter_role != "ignore"
        return emits and row.service == service

    return _TermSeries(term, where, tuple(filter(wanted, rows)), tuple(r for r in rows if not wanted(r)))


def _context(part: _TermSeries, series: pl.DataFrame, service: str) -> SelectorContext:
    roles = {row.emitter_role for row in part.wanted}
    role = roles.pop() if len(roles) == 1 and roles <= set(POOL_ROLES) else ""
    rivals = [other for other in POOL_ROLES if role and other != role]
    neighbours = series.filter((pl.col("service") == service) & pl.col("emitter_role").is_in(rivals))
    return SelectorContext(
        wanted=[row.labels for row in part.wanted],
        others=[row.labels for row in part.others],
        neighbours=[row.labels for row in _rows(neighbours)],
        pods=[row.labels for row in _rows(series.filter(pl.col("metric") == POD_LABEL_METRIC))],
        role=role,
    )


def _where(term: Term, recipe: Source, role: str) -> tuple[PromqlMatcher, ...]:
    """Return the matchers that belong to the quantity itself: a state, a phase, a histogram edge."""
    found = [PromqlMatcher(label, values) for label, values in term.where.items()]
    for label, roles in recipe.role_label.items():
        found.append(PromqlMatcher(label, tuple(sorted(value for value, r in roles.items() if r == role))))
    return tuple(found)


def _instance_labels(rows: Sequence[_InputSeries]) -> tuple[tuple[str, ...], str]:
    """Return the labels that name the instance, so that several GPUs or ranks of one weigh as one."""
    instances = [row.instance for row in rows]
    names = list(dict.fromkeys([*POD_LABELS, *sorted({name for row in rows for name in row.labels})]))
    # Two labels: a replica group is named by its set and its number.
    for candidate in [*((name,) for name in names), *combinations(names, 2)]:
        values = [tuple(row.labels.get(name, "") for name in candidate) for row in rows]
        pairs = set(zip(values, instances, strict=True))
        if all(map(all, values)) and len(pairs) == len(set(values)) == len(set(instances)):
            return candidate, ""
    if len(set(instances)) == len(rows):
        return (), ""
    return (), "no label names the instance, so each series weighs the same in the mean"


def _vector(
    part: _TermSeries, matchers: Sequence[PromqlMatcher], join: PodJoin | None, read: str, window: float
) -> str:
    metric, over = part.term.metric, duration(window)
    inside = [str(matcher) for matcher in matchers]
    name = metric
    if is_query(metric):
        name, inside, over = f"({metric})", [], f"{over}:"
    elif not _PLAIN_METRIC.fullmatch(metric):
        name, inside = "", [f"__name__={quoted(metric)}", *inside]
    picked = f"{name}{{{','.join(inside)}}}" if inside else name
    text = of_one_copy(f"{'rate' if read == 'rate' else 'avg_over_time'}({picked}[{over}])", part.copy_label)
    return _joined(text, join) if join else text


def of_one_copy(vector: str, label: str | None) -> str:
    """Return each series once where a server holds it several times over, told apart by a label.

    The highest copy: one whose scraper has just started, or lost scrapes, tells less than the pod did.
    Unchanged without a label; a server that holds one copy answers the same either way.
    """
    if label is None:
        return vector
    return f"max without ({label if _PLAIN_LABEL.fullmatch(label) else quoted(label)}) ({vector})"


def _joined(text: str, join: PodJoin) -> str:
    """Multiply by 1 where the pod carries the role's label; the pod's names are aligned first."""
    for ours, theirs in ((join.namespace, "namespace"), (join.pod, "pod")):
        if ours != theirs:
            text = f'label_replace({text}, "{theirs}", "$1", "{ours}", "(.+)")'
    labels = f"{POD_LABEL_METRIC}{{{PromqlMatcher(join.label, join.values)}}}"
    # max: kube-state-metrics may run twice, and one of two equal answers is enough.
    return f"{text} * on (namespace, pod) group_left () max by (namespace, pod) ({labels})"


def _pooled(vector: str, pool: str, instance: Sequence[str]) -> str:
    if pool != "mean":
        return f"sum({vector})"
    return f"avg(avg by ({', '.join(instance)}) ({vector}))" if instance else f"avg({vector})"


def _combined(terms: Sequence[Term], texts: Sequence[str], scale: float) -> str:
    sides: dict[str, str] = {}
    divides = any(term.side == "den" for term in terms)
    for side in ("num", "den"):
        signed = [
            (term.sign, text if abs(term.sign) == 1.0 else f"{text} {_factor(abs(term.sign))}")
            for term, text in zip(terms, texts, strict=True)
            if term.side == side
        ]
        signed.sort(key=lambda pair: -pair[0])  # a formula starts with what is added
        joined = "".join(f" {'-' if sign < 0 else '+'} {text}" for sign, text in signed)
        joined = joined.removeprefix(" + ").removeprefix(" ")
        sides[side] = f"({joined})" if len(signed) > 1 and (scale != 1.0 or divides) else joined
    expr = f"{sides['num']} / {sides['den']}" if sides["den"] else sides["num"]
    return expr if scale == 1.0 else f"{expr} {_factor(scale)}"


def _factor(scale: float) -> str:
    inverse = round(1.0 / scale)
    if inverse > 1 and math.isclose(inverse * scale, 1.0, rel_tol=1e-9):
        return f"/ {inverse}"
    return f"* {scale:.12g}"


def _is_one_group(text: str) -> bool:
    """Whether the first parenthesis closes at the very end; quoted text is passed over."""
    depth, in_string, skip = 0, False, False
    for position, char in enumerate(text):
        if skip:
            skip = False
        elif in_string:
            skip, in_string = char == "\\", char != '"'
        elif char == '"':
            in_string = True
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0:
                return position == len(text) - 1
    return False
