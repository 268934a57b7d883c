"""What an export is: files with names, a header and YAML text, and a list of what the target can't hold."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from hs_analysis.controllers.ablation import field_of
from hs_analysis.export import blanks
from hs_analysis.export.blanks import Blank
from hs_analysis.export.queries import quoted
from hs_analysis.policy.model import Guard, Policy, Primary
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.names import NOT_RECOMMENDED
from hs_analysis.schema.places import documents_of
from hs_analysis.schema.results import Estimate

_NO_REASON = "keep what runs"

LOSSES_SUFFIX = "losses.json"
"""End of the name of the file that lists what a target does not say."""


DROPPED = {
    "pd_ratio.low": "one fixed ratio only",
    "pd_ratio.high": "one fixed ratio only",
    "pd_ratio.max_deviation": "nothing watches the ratio of the two pools",
    "pd_ratio.prefill": "the thresholds hold the ratio as a number, not as a pair",
    "pd_ratio.gpu_types": "every pod counts the same, whatever its GPU",
    "pd_ratio.decode": "the thresholds hold the ratio as a number, not as a pair",
    "step.dampening": "each step takes all of the wanted change",
    "soft_scale_in": "instances taken out are not watched before they stop",
    "placement": "placement is the scheduler's",
    "start_up_s": "instances that start are not waited for beyond their readiness",
    "replay": "a status, not a setting",
    "recommended": "a status, not a setting",
    "confidence": "a status, not a setting",
    "confidence_reasons": "a status, not a setting",
    "refusals": "a status, not a setting",
    "*.target_per_instance.capacity": "a threshold is one number: comments name its capacity",
    "*.target_per_instance.headroom_ratio": "it is in the threshold",
    "*.gpu_types": "every pod counts the same, whatever its GPU: right for the recorded mix of types",
    "*.unit": "thresholds carry no unit",
    "*.source": "named by the query only",
    "*.status": "objects hold no status of a number",
    "*.evidence": "objects hold no links",
    "*.provenance": "objects hold no provenance",
}
"""Items that no autoscaler object of Kubernetes can hold, and what follows from that."""

NO_SETTINGS = frozenset(
    {
        "replay",
        "recommended",
        "confidence",
        "confidence_reasons",
        "refusals",
        "*.target_per_instance.capacity",
        "*.target_per_instance.headroom_ratio",
        "*.unit",
        "*.source",
        "*.status",
        "*.evidence",
        "*.provenance",
        "pd_ratio.status",
        "pd_ratio.evidence",
    }
)
"""Items that nothing acts on: without them an object runs the same counts."""

HEADER_LINES = 6
"""Most comment lines above the objects of a file: what is measured and what to check, not every loss."""

NO_COST = "Alone it changes nothing in the backtest"
"""Cost of a loss that no figure shows."""

LOSSES_SHOWN = 3
"""Texts of losses in a header; the losses file has them all."""


@dataclass(frozen=True)
class Loss:
    """A policy item that the target does not carry, or not quite.

    Attributes
    ----------
    item
        Path in the policy, such as ``guards[0].tiers``; it covers everything below. ``*.evidence`` covers
        every field of that name below the top, ``*`` the whole policy. ``alerts.HsRatioOutOfBand`` is an
        alert that could not be written.
    kind
        ``dropped`` = nothing of it is in the output; ``approximated`` = something close to it is;
        ``refused`` = no object was written for it.
    text
        What that means, and what to do about it.
    cost
        What the replay measured of it, as a sentence; empty where it did not.
    """

    item: str
    kind: Literal["dropped", "approximated", "refused"]
    text: str
    cost: str = ""

    @property
    def changes_counts(self) -> bool:
        """Whether a pool may run another count for it: no status, unit or link ever does."""
        return self.item not in NO_SETTINGS

    def covers(self, path: str) -> bool:
        """Whether the loss speaks of this path of the policy."""
        return self.covers_any(_in_steps(path))

    def covers_any(self, paths: str) -> bool:
        """Whether the loss speaks of one of several paths, each of them `_in_steps`."""
        if self.item.startswith("*."):
            return f"{self.item[1:]}." in paths
        return self.item == "*" or _in_steps(self.item) in paths


def _in_steps(path: str) -> str:
    """Return a path on a line of its own, with a dot after each step."""
    return "\n" + path.replace("[", ".[") + "."


@dataclass(frozen=True)
class Export:
    """Files of one target by name, everything of the policy that they do not say, and names to fill in."""

    target: str
    files: dict[str, str]
    losses: tuple[Loss, ...]
    to_fill: tuple[Blank, ...] = ()


@dataclass(frozen=True)
class Workload:
    """The object whose replica count is set."""

    name: str
    kind: str = "Deployment"
    api_version: str = "apps/v1"


@dataclass(frozen=True)
class PrometheusAccess:
    """How a trigger of today reaches Prometheus.

    Attributes
    ----------
    server_address
        Its address; None where the object has none, or several.
    authentication
        ``authenticationRef`` of the trigger; empty for none.
    metadata
        Other keys of its metadata that are about the way to Prometheus, not about what is asked.
    """

    server_address: str | None = None
    authentication: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TodaysObject:
    """What an object of today is called and what it scales; a file of the same kind takes its place.

    Attributes
    ----------
    kind
        Its kind; an object of another kind keeps its own name.
    name, namespace, labels
        Of its metadata; the namespace is None where it says none.
    workload
        What it scales; None where it does not say.
    access
        How it reaches Prometheus.
    where
        Its file and line.
    """

    kind: str
    name: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    workload: Workload | None = None
    access: PrometheusAccess = field(default_factory=PrometheusAccess)
    where: str = ""


@dataclass(frozen=True)
class IdleTtft:
    """TTFT of requests that found a service empty: their median [s], their number, and their prompts.

    ``prompt_tokens`` is the median of their cache-missed prompt tokens [tokens].
    """

    median_s: float
    requests: int
    prompt_tokens: float


@dataclass(frozen=True)
class Measured:
    """What a run measured of a service that its policy does not hold; None where it did not.

    Attributes
    ----------
    ratio_band
        Least and most prefill per decode instance: the 95 % interval of the balance, or the band in which it
        moves. For a policy that keeps no ratio of its own.
    gpus_per_instance
        GPUs of an instance per role; roles without a number are absent.
    prefill_capacity
        Cache-missed prompt tokens per second at which a prefill instance just holds the SLO, with its 95 %
        interval [tokens/s per instance].
    prompt_tokens
        Cache-missed prompt tokens of a request, the median over windows [tokens].
    kv_usage_target
        Share of the KV cache that a decode instance should hold [ratio].
    slo_quantile
        Share of a window's requests that the SLO speaks of [ratio].
    idle_ttft
        TTFT of requests that found the service empty.
    slo_s
        The limits of the SLO, ttft and tbt [s]: a policy holds those alone that one of its guards watches.
    """

    ratio_band: tuple[float, float] | None = None
    gpus_per_instance: Mapping[str, float] = field(default_factory=dict)
    prefill_capacity: Estimate | None = None
    prompt_tokens: float | None = None
    kv_usage_target: float | None = None
    slo_quantile: float | None = None
    idle_ttft: IdleTtft | None = None
    slo_s: Mapping[str, float] = field(default_factory=dict)

    def limits_s(self, policy: Policy) -> dict[str, float]:
        """Return the limit of each latency [s]: the policy's own, else that of the SLO."""
        return {**self.slo_s, **{guard.signal: guard.slo_s for guard in policy.guards}}


@dataclass(frozen=True)
class WatchedLimit:
    """A latency limit, and how a histogram of the user's Prometheus judges it.

    Attributes
    ----------
    role
        The pool that answers for the latency.
    edges
        The histogram's edges about the limit.
    over_low, over_high
        PromQL of the share of requests or token gaps over the edge below and above the limit [ratio]; one
        expression where an edge lies at it, empty where there is no such edge.
    """

    role: str
    edges: LimitEdges
    over_low: str
    over_high: str


@dataclass(frozen=True)
class WatchedLength:
    """Tokens of a request as the history had them.

    Attributes
    ----------
    name
        ``prompt_tokens`` or ``output_tokens``.
    tokens, requests
        PromQL of the tokens and of the requests they belong to, over an hour [1/s].
    least, most
        Least and most of the history's hourly means [tokens].
    """

    name: str
    tokens: str
    requests: str
    least: float
    most: float


@dataclass(frozen=True)
class Watched:
    """What alerts ask of the user's Prometheus beyond the signals of the policy.

    Attributes
    ----------
    limits, lengths
        Latency limits, and tokens of a request.
    instances
        PromQL that counts the instances of a pool, by role.
    broken_at
        Lowest load of an instance at which the history itself kept breaking a limit of the pool for as long
        as `DRIFT_FOR_S` says, by ``<signal>@<role>`` [unit of the signal]; without an entry it never did.
    lacking
        Why one of them has no query: by latency, by ``instances@<role>`` and by name of a length.
    """

    limits: tuple[WatchedLimit, ...] = ()
    lengths: tuple[WatchedLength, ...] = ()
    instances: Mapping[str, str] = field(default_factory=dict)
    broken_at: Mapping[str, float] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportOptions:
    """What the policy does not know of the cluster. A name that nothing tells is a blank in the files.

    Attributes
    ----------
    namespace
        Kubernetes namespace of the objects; None takes the service's own.
    workloads
        Scaled object per role.
    serving
        Name of the object that deploys the whole service, by its kind.
    todays
        Object of today per role, whose place a file takes.
    labels
        Labels of every object.
    unknown
        What was found in place of a name, by the blank that stands for it.
    server_address
        Prometheus as seen from the autoscaler.
    scrape_interval_s
        Interval at which the recording rules are evaluated [s].
    kubernetes
        Version of the cluster; fields it does not know are left out.
    policy_sha256
        SHA-256 of policy.yaml, for the header.
    notes
        What the user should know of the expressions; printed above the rules.
    selected_for
        For which controller the policy was selected and what it costs to run it with another one: by target,
        a sentence that is the first line of the target's files and the first of its losses.
    measured
        What the run measured beyond the policy.
    edited
        That the policy is not the run's own, and what follows: the first line of every file. Empty where it
        is.
    watched
        What alerts ask of the user's Prometheus.
    runbook_url
        Page that every alert names; None names none.
    costs
        What it costs that the files hold a field of the policy otherwise, by field as a sentence; what
        changes most first.
    advised_against
        Why a policy that is not recommended is not, in one clause.
    dedup_label
        Label in which copies of a series differ on the user's Prometheus; None where nothing tells of any.
    """

    namespace: str | None = None
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    serving: Mapping[str, str] = field(default_factory=dict)
    todays: Mapping[str, TodaysObject] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    server_address: str = blanks.SERVER_ADDRESS
    scrape_interval_s: float = 15.0
    # First version whose HPA tolerance is on without a feature gate.
    kubernetes: tuple[int, int] = (1, 35)
    policy_sha256: str = ""
    notes: tuple[str, ...] = ()
    selected_for: Mapping[str, str] = field(default_factory=dict)
    measured: Measured = field(default_factory=Measured)
    edited: str = ""
    watched: Watched = field(default_factory=Watched)
    runbook_url: str | None = None
    costs: Mapping[str, str] = field(default_factory=dict)
    advised_against: str = ""
    dedup_label: str | None = None

    def access(self, role: str) -> PrometheusAccess:
        """Return how Prometheus is reached for a pool: as today, else at the address."""
        today = self.todays.get(role)
        found = today.access if today else PrometheusAccess()
        return found if found.server_address else replace(found, server_address=self.server_address)

    def serving_name(self, kind: str) -> str:
        """Return the name of the object of a kind that deploys the whole service, a blank for none."""
        return self.serving.get(kind) or blanks.parent(kind)


def warning_of(options: ExportOptions) -> str:
    """Return the first line of every file of a policy that is not recommended."""
    return f"{NOT_RECOMMENDED}: {(options.advised_against or _NO_REASON).rstrip('.')}."


def items(policy: Policy) -> dict[str, Any]:
    """Return every value that the policy sets, by paths such as ``guards[0].tiers[0].above_ratio``.

    What is None or empty was not set and is left out; a block of which nothing is set stands for itself.
    """
    return dict(_walk(policy, ""))


def concerning(
    losses: Sequence[Loss], policy: Policy, costs: Mapping[str, str] | None = None
) -> tuple[Loss, ...]:
    """Return the losses that speak of something the policy sets, each once, what changes counts first.

    ``costs`` are those of `ExportOptions`, whose order is kept. A loss with a cost of its own keeps it and
    comes before them.
    """
    paths, known = "".join(map(_in_steps, items(policy))), costs or {}
    places = {name: place for place, name in enumerate(known)}
    found = [loss for loss in dict.fromkeys(losses) if loss.covers_any(paths)]
    found.sort(key=lambda one: -1 if one.cost else places.get(field_of(one.item), -1))
    return in_order([replace(one, cost=one.cost or known.get(field_of(one.item), "")) for one in found])


_KINDS = ("refused", "approximated", "dropped")
"""Kinds of a loss in the order they are listed."""


def in_order(losses: Sequence[Loss]) -> tuple[Loss, ...]:
    """Return the losses that change counts first, else as given.

    Of those first what the backtest shows a cost of, as given, then what is refused, then what the target
    does otherwise, then what no autoscaler object holds.
    """

    def rank(loss: Loss) -> tuple[bool, bool, bool, int]:
        if loss.cost not in ("", NO_COST):
            return not loss.changes_counts, False, False, 0
        common = DROPPED.get(loss.item) == loss.text
        return not loss.changes_counts, True, common, _KINDS.index(loss.kind)

    return tuple(sorted(losses, key=rank))


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if value is None or value in ("", (), {}):
        return
    if is_dataclass(value):
        below = [_walk(getattr(value, f.name), f"{path}.{f.name}".lstrip(".")) for f in fields(value)]
        found = [item for part in below for item in part]
        yield from found or [(path, value)]
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from _walk(value[key], f"{path}.{key}")
    elif isinstance(value, tuple) and not isinstance(value[0], str):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]")
    else:
        yield path, value


# A Kubernetes label value holds 63 characters and KEDA puts the object's name into one; the role follows it.
NAME_LENGTH = 52

_READ = re.compile(r"\b(rate|increase|avg_over_time|max_over_time)\(.*?\[(\w+)\]", re.DOTALL)
_DURATION = re.compile(r"(\d+)(ms|[smhd])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_OPERATIONS = {"avg_over_time": "avg", "max_over_time": "max"}


def model_name(service: str) -> str:
    """Return the service's model as a Kubernetes name; a hash is added where something had to go."""
    model = service.split("/", 1)[-1]
    name = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "service"
    if name == model and len(name) <= NAME_LENGTH:
        return name
    digest = hashlib.sha256(model.encode()).hexdigest()[:6]
    return f"{name[: NAME_LENGTH - 7].rstrip('-')}-{digest}"


def namespace_of(service: str) -> str | None:
    """Return the Kubernetes namespace in a service's name, None where it has none."""
    namespace, slash, _ = service.partition("/")
    return namespace if slash and re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", namespace) else None


def file_stem(service: str) -> str:
    """Return the beginning of the file names of a service, different for different services."""
    namespace = namespace_of(service)
    return f"{namespace}.{model_name(service)}" if namespace else model_name(service)


def record_name(item: Primary | Guard, *, total: bool = False) -> str:
    """Return the name under which an expression is recorded, ``level:name:operation``.

    ``total`` names the sum over instances of a signal that is a mean over them.
    """
    # A ratio of two totals is a mean: of a latency over its requests, say.
    operation = reading(item.promql, "mean" if ") / sum(" in item.promql else "")
    name = re.sub(r"[^A-Za-z0-9_]", "_", item.signal)
    if isinstance(item, Primary) and item.waiting:
        name += "_and_waiting"
    return f"service:hs_{name}{'_total' if total else ''}:{operation}"


def reading(promql: str, kind: str = "") -> str:
    """Return how an expression reads its samples, for a recorded name: ``rate2m``, ``avg5m``, ``value``.

    ``kind`` takes the place of the function's name.
    """
    found = _longest(promql)
    if found is None:
        return "value"
    return f"{kind or _OPERATIONS.get(found.group(1), found.group(1))}{found.group(2)}"


def range_s(promql: str) -> float | None:
    """Return the longest range over which an expression reads samples [s]; None where it takes the newest."""
    found = _longest(promql)
    return _seconds(found.group(2)) if found else None


def _longest(promql: str) -> re.Match[str] | None:
    """Return the function over the longest range of an expression, the first of several as long."""
    return max(_READ.finditer(promql), key=lambda found: _seconds(found.group(2)), default=None)


def _seconds(duration: str) -> float:
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(duration))


def record_labels(policy: Policy, role: str) -> dict[str, str]:
    """Return the labels of a recorded series: enough to find exactly one of them.

    They name no date, version or hash: a policy written again goes on with the series that are there.
    """
    return {"policy": model_name(policy.service), "service": policy.service, "role": role}


def recorded(policy: Policy, item: Primary | Guard, *, total: bool = False) -> str:
    """Return the query of a recorded series; ``sum`` makes it end in exactly one."""
    matchers = ",".join(f"{k}={quoted(v)}" for k, v in record_labels(policy, item.role).items())
    return f"sum({record_name(item, total=total)}{{{matchers}}})"


def header(
    policy: Policy, options: ExportOptions, title: str, losses: Sequence[Loss] = (), more: Sequence[str] = ()
) -> str:
    """Return the comment a file starts with: what it does otherwise, what to check, what made it from what.

    With the two lines that `export` may put above it, it has at most `HEADER_LINES` lines.

    Parameters
    ----------
    policy, options
        What the file is written from.
    title
        What the file is, and what it was checked against.
    losses
        Losses as `concerning` returns them; the first that change counts are named.
    more
        At most two lines: where numbers come from, and what to check.
    """
    rest = sorted(set(policy.window) - {"start", "end"})
    window = f"{policy.window.get('start', '?')} to {policy.window.get('end', '?')}"
    window += "".join(f", {key} {policy.window[key]}" for key in rest)
    made = (
        f"{title}, written by hs_analysis {policy.tool_version or '(version unknown)'} for {policy.service}; "
        f"policy: sha256 {options.policy_sha256 or 'unknown'}, run {policy.run or 'unknown'}; "
        f"data: {window}; inputs sha256 {policy.inputs_sha256 or 'unknown'}"
    )
    return comment([*_otherwise(policy, losses), *more, made])


def _otherwise(policy: Policy, losses: Sequence[Loss]) -> list[str]:
    """Return the line that names the losses that change counts most, and where the others are."""
    if not losses:
        return []
    together: dict[str, list[str]] = {}
    for loss in losses:
        if loss.changes_counts:
            text = ". ".join(filter(None, (loss.text.rstrip("."), loss.cost.rstrip("."))))
            together.setdefault(text, []).append(loss.item)
    shown = list(together.items())[:LOSSES_SHOWN]
    said = [f"{', '.join(names)}: {text}" for text, names in shown]
    left = len(losses) - sum(len(names) for _, names in shown)
    if left:
        said.append(f"{left} more {'item' if left == 1 else 'items'} in {losses_file(policy)}")
    return [f"Otherwise than the policy: {'; '.join(said)}."]


def losses_file(policy: Policy) -> str:
    """Return the name of the file that lists what a target does not say."""
    return f"{file_stem(policy.service)}.{LOSSES_SUFFIX}"


def comment(lines: Sequence[str]) -> str:
    """Return lines as YAML comments; a line break inside a line can't end the comment."""
    return "".join(f"# {_visible(' '.join(line.split()))}".rstrip() + "\n" for line in lines)


def _visible(text: str) -> str:
    """Return a text with what can't be seen as escapes: YAML allows no control characters, not even here."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def plain_number(value: float) -> str:
    """Return a number as a decimal string of six significant digits, without an exponent."""
    text = f"{value:.6g}"
    if "e" not in text:
        return text
    digits = max(0, 6 - int(text.partition("e")[2]) - 1)
    text = f"{float(text):.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# Expressions stay on one line: a folded query is hard to copy.
_WIDTH = 100_000
# Text that Kubernetes' YAML 1.1 would read as a boolean, null, time or number, although YAML 1.2 would not.
_MISREAD = re.compile(
    r"y|n|yes|no|on|off|true|false|null|~|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[-+]?[.0-9][0-9_.e+-]*"
    r"|0[xob][0-9a-f_]+|[-+]?\.(inf|nan)",
    re.IGNORECASE,
)


def dump_documents(documents: Sequence[Any]) -> str:
    """Return plain values as YAML documents in the order given, keys in the order they were put in."""
    return "---\n".join(_written(json.dumps(body)) for body in documents)


@lru_cache(maxsize=512)
def _written(body: str) -> str:
    """Return a document, given as JSON, in YAML: what stands in files of several targets is made once."""
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_quoted(json.loads(body)), stream)
    return stream.getvalue()


def load_documents(text: str) -> list[Any]:
    """Return the documents of a YAML text as plain values."""
    return [copy.deepcopy(value) for _, value in documents_of(text)]


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {_quoted(key): _quoted(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_quoted(below) for below in value]
    if isinstance(value, str) and _MISREAD.fullmatch(value):
        return DoubleQuotedScalarString(value)
    return value
