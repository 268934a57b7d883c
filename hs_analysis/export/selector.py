"""Label matchers that pick exactly one role's series of one service on the user's own Prometheus.

A selector has to hold for instances that do not exist yet, so labels that stay when pods come and go are
preferred, in this order: a label that names the role, a label of the workload, the role's word in the pod
name, the pod's Kubernetes labels, no role matcher where only this role exports the metric, the hardware, and
a list of today's pods last. Every candidate is tried on all series of the input; the first that picks exactly
the wanted ones is taken. One that picks other services' series too is tried once more within the Dynamo
namespace of the wanted ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
NAMESPACE_LABELS = ("exported_namespace", "namespace", "pod_namespace", "kubernetes_namespace")
# exported_pod first: beside it, plain `pod` is the exporter's own.
POD_LABELS = ("exported_pod", "pod", "pod_name", "kubernetes_pod_name", "instance")
POD_WORDS = ("prefill", "decode")
POD_LABEL_METRIC = "kube_pod_labels"

_INEXACT = "no label tells these series from those of another role or service, which are picked as well"
_ONLY_ROLE = "no label says {role}, but in this input no other role exports the metric"
_HARDWARE = "the role is told by the GPU type: change it with the hardware"
_JOIN = "joins {metric}: allow-list the pod label behind {label} in kube-state-metrics"
_LIST = "picks today's {count} {label} values only, new instances are not seen: add a role label first"
_WORDS = {word: re.compile(rf"(?<![a-z]){word}(?![a-z])", re.IGNORECASE) for word in POD_WORDS}
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_REGEX_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


@dataclass(frozen=True)
class Matcher:
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
class Selector:
    """What to put between the braces, and around the series where a join is needed.

    ``exact`` says whether it picks the wanted series and no other of the input.
    """

    matchers: tuple[Matcher, ...]
    join: PodJoin | None = None
    exact: bool = True
    warning: str = ""


@dataclass(frozen=True)
class Scene:
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


def select(scene: Scene) -> Selector:
    """Return the most lasting selector that picks exactly the wanted series.

    When none does, the list of today's pods is returned with ``exact=False`` and a warning.
    """
    scope = _scope(scene.wanted)
    dynamo = _matcher(scene.wanted, DYNAMO_LABELS)
    last = Selector(scope)
    for candidate in _candidates(scene):
        for within in (scope, scope + dynamo) if dynamo else (scope,):
            last = Selector(within + candidate.matchers, candidate.join, True, candidate.warning)
            if _exact(last, scene):
                return last
    return Selector(last.matchers, last.join, False, _INEXACT)


def pod_label(rows: Sequence[Labels]) -> str | None:
    """Return the label that names the pod on all these series, None when there is none."""
    return next((name for name in POD_LABELS if all(row.get(name) for row in rows)), None)


def _exact(selector: Selector, scene: Scene) -> bool:
    picked = _picker(selector, scene.pods)
    return all(map(picked, scene.wanted)) and not any(map(picked, scene.others))


def _picker(selector: Selector, pods: Sequence[Labels]) -> Callable[[Labels], bool]:
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


def _scope(wanted: Sequence[Labels]) -> tuple[Matcher, ...]:
    """Return matchers on model and namespace: other services may export the same names tomorrow."""
    return _matcher(wanted, NAMESPACE_LABELS) + _matcher(wanted, MODEL_LABELS)


def _matcher(wanted: Sequence[Labels], names: Sequence[str]) -> tuple[Matcher, ...]:
    """Return a matcher on the first of the labels that all wanted series have; empty when none is."""
    name = next((label for label in names if all(row.get(label) for row in wanted)), None)
    return (Matcher(name, tuple(sorted({row[name] for row in wanted}))),) if name else ()


def _candidates(scene: Scene) -> Iterator[Selector]:
    nothing = Selector(())
    sized = scene.role in POD_WORDS
    if not sized:
        yield nothing
    for labels in (ROLE_LABELS, WORKLOAD_LABELS) if sized else (WORKLOAD_LABELS,):
        yield from _by_label(scene, labels, "")
    yield from _by_pod_name(scene)
    if sized:
        yield from _by_pod_labels(scene)
        yield Selector((), warning=_ONLY_ROLE.format(role=scene.role))
    yield from _by_label(scene, HARDWARE_LABELS, _HARDWARE)
    yield from _by_list(scene)


def _by_label(scene: Scene, names: Sequence[str], warning: str) -> Iterator[Selector]:
    against = [*scene.neighbours, *([] if scene.role in POD_WORDS else scene.others)]
    for name in names:
        if not all(row.get(name) for row in scene.wanted):
            continue
        values = {row[name] for row in scene.wanted}
        rivals = {row[name] for row in against if row.get(name)}
        # Without a rival that carries the label, only the role's word in the value shows what it separates.
        proven = bool(rivals) or all(_says(value, scene.role) for value in values)
        if proven and not values & rivals and not values & _pod_names(scene.wanted):
            yield Selector((Matcher(name, tuple(sorted(values))),), warning=warning)


def _by_pod_name(scene: Scene) -> Iterator[Selector]:
    name = pod_label(scene.wanted)
    if name is None or scene.role not in POD_WORDS:
        return
    pods = sorted({row[name] for row in scene.wanted})
    if not all(_says(pod, scene.role) for pod in pods):
        return
    yield Selector((Matcher(name, pattern=_stem_pattern(pods, scene.role)),))
    yield Selector((Matcher(name, pattern=_word_pattern(pods, scene.role)),))


def _by_pod_labels(scene: Scene) -> Iterator[Selector]:
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
        yield Selector(
            (),
            PodJoin(label, values, name, namespace),
            warning=_JOIN.format(metric=POD_LABEL_METRIC, label=label),
        )


def _by_list(scene: Scene) -> Iterator[Selector]:
    name = pod_label(scene.wanted)
    if name is not None:
        pods = tuple(sorted({row[name] for row in scene.wanted}))
        yield Selector((Matcher(name, pods),), warning=_LIST.format(count=len(pods), label=name))


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
