"""The role of a place: from labels and names, else from what its engine counts.

A prefill worker is asked for one token a request; a decode worker gets its prompts' KV from elsewhere. Each
alone proves little: a scoring service asks for one token too, and a KV store sends prompts to workers that do
both. A pair is proof: what one side prefilled arrives at the other, token for token or request for request.
Where there is no such pair, and no worker that computes its own prompts either, the role stays unknown.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from hs_analysis.catalogue import MAPPING, Catalogue
from hs_analysis.catalogue.pod_labels import POD_LABEL_METRIC, POD_LABEL_PREFIX, POD_ROLES
from hs_analysis.catalogue.rows import RECORDED_PREFIX
from hs_analysis.errors import UsageError
from hs_analysis.ingest.instance_identity import OriginKey, SeriesOrigin
from hs_analysis.ingest.quality import OVER_ONE, bounded_series, infer_scales
from hs_analysis.patterns import check, hits
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.runners import QueryRunner

EMITTER_ROLES = ("prefill", "decode", "mixed", "encode", "frontend", "ignore")

DYNAMO_COMPONENT = "dynamo_component"
"""Dynamo's role label. Its decode worker is called backend, and so is a worker that does both."""

UNKNOWN = ("unknown", "none")

MOST_MISSES = 5
"""Pods a join's miss names [count]."""

_WORDS = {role: re.compile(rf"(?<![a-z]){role}(?![a-z])", re.IGNORECASE) for role in ("prefill", "decode")}

Role = tuple[str, str]
"""A role and the step of the chain that decided it."""


@dataclass(frozen=True)
class PodLabelJoin:
    """How the join of series with kube_pod_labels on (namespace, pod) went; all empty without that metric.

    Attributes
    ----------
    matched
        Pods that have both.
    without_labels
        Pods with engine series, and none in kube_pod_labels (left misses), sorted.
    without_series
        Pods in kube_pod_labels with a role label, and no engine series (right misses), sorted.
    contradictory
        Pods to which kube_pod_labels gives several roles (many-to-many matches), sorted.
    """

    matched: int
    without_labels: tuple[str, ...]
    without_series: tuple[str, ...]
    contradictory: tuple[str, ...]

    def sentences(self) -> tuple[str, ...]:
        """Return one sentence per kind of miss, empty when the join is whole."""
        kinds = (
            (self.without_labels, "pods export engine metrics and have no kube_pod_labels"),
            (self.without_series, "pods have a role label and export no engine metrics"),
            (self.contradictory, "pods have several roles in kube_pod_labels: none is taken"),
        )
        return tuple(
            f"{len(pods)} {what} ({', '.join(pods[:MOST_MISSES])}{', …' * (len(pods) > MOST_MISSES)})"
            for pods, what in kinds
            if pods
        )


def whole_word_role(name: str) -> str | None:
    """Return the role a name spells out as a whole word; None when it names none or both."""
    hits = [role for role, word in _WORDS.items() if word.search(name)]
    return hits[0] if len(hits) == 1 else None


def roles_of(rows: Sequence[SeriesOrigin], mapped: Mapping[str, str] | None = None) -> list[Role]:
    """Return (role, evidence) per series.

    Parameters
    ----------
    rows
        The series with their places.
    mapped
        The user's own: regular expression on the name of the place or pod → role, the first that is found in
        it wins.

    Notes
    -----
    First hit wins: the user's mapping, front-end metric at the place, role label on any series of the place,
    pod label, whole word in the name of the place or deployment, unknown. A place whose series carry
    different role labels is decided by the later steps. A series without a place speaks for itself only. What
    an instance does (`behaviour`) is asked when all of these say nothing.

    Raises
    ------
    UsageError
        When a pattern is no regular expression or names a role that does not exist.
    """
    patterns = _patterns(mapped or {}, rows)
    workers = _dynamo_workers(rows)
    labelled = {i: role for i, row in enumerate(rows) if (role := _by_label(row, workers))}
    settled = _roles_by_place(rows, labelled)
    return [_by_user(row, patterns) or _role_of(row, settled, labelled.get(i)) for i, row in enumerate(rows)]


def pod_label_join(rows: Sequence[SeriesOrigin]) -> PodLabelJoin:
    """Return how the series of engines match kube_pod_labels on (namespace, pod)."""
    labels: dict[OriginKey, set[str]] = defaultdict(set)
    engines: set[OriginKey] = set()
    for row in rows:
        if row.pod_key is None:
            continue
        if row.metric.removeprefix(RECORDED_PREFIX) == POD_LABEL_METRIC:
            found = _by_pod_label(row.labels)
            labels[row.pod_key] |= {found[0]} if found else set()
        elif row.model and not row.exporter.frontend:
            engines.add(row.pod_key)
    if not labels:
        return PodLabelJoin(0, (), (), ())
    several = {key for key, roles in labels.items() if len(roles) > 1}
    with_role = {key for key, roles in labels.items() if roles}
    return PodLabelJoin(
        len(engines & set(labels)),
        _names(engines - set(labels)),
        _names(with_role - engines),
        _names(several),
    )


def _names(keys: set[OriginKey]) -> tuple[str, ...]:
    return tuple(sorted(f"{namespace}/{pod}" for _, namespace, pod in keys))


def _patterns(
    mapped: Mapping[str, str], rows: Sequence[SeriesOrigin]
) -> list[tuple[str, frozenset[str], str]]:
    """Return each pattern of the user's with the names of `rows` that it is found in, and its role."""
    found = []
    names = {name for row in rows if mapped for name in _names_of(row) if name}
    for pattern, role in mapped.items():
        if role not in EMITTER_ROLES:
            raise UsageError(
                f"no role {role!r}", where=f'roles."{pattern}"', hint=f"roles: {', '.join(EMITTER_ROLES)}"
            )
        found.append((pattern, hits(check(pattern, f'roles."{pattern}"'), names), role))
    return found


def _names_of(row: SeriesOrigin) -> tuple[str | None, ...]:
    """Return the names that a pattern of the user's may be on."""
    return row.place, row.pod, _workload(row)


def _by_user(row: SeriesOrigin, patterns: Sequence[tuple[str, frozenset[str], str]]) -> Role | None:
    for pattern, named, role in patterns:
        if not named.isdisjoint(_names_of(row)):
            return role, f"user:{pattern}"
    if row.exporter.name == MAPPING and (found := _by_label(row, set())):
        return found[0], "user:role"
    return None


def _workload(row: SeriesOrigin) -> str | None:
    """Return the Deployment or StatefulSet that a series of kube-state-metrics speaks of."""
    return row.labels.get("deployment") or row.labels.get("statefulset")


def _graph(row: SeriesOrigin) -> tuple[str, str, str]:
    """Return what one Dynamo deployment shares; its namespace label is not the Kubernetes one."""
    return row.capture, row.namespace, row.labels.get("dynamo_namespace", "")


def _dynamo_workers(rows: Sequence[SeriesOrigin]) -> set[tuple[str, str, str]]:
    """Return the Dynamo deployments that have prefill workers."""
    return {
        _graph(row)
        for row in rows
        if not row.exporter.frontend and row.labels.get(DYNAMO_COMPONENT) == "prefill"
    }


def _by_label(row: SeriesOrigin, disaggregated: set[tuple[str, str, str]]) -> Role | None:
    for label, values in row.exporter.role_label.items():
        if role := values.get(row.labels.get(label, "")):
            does_both = label == DYNAMO_COMPONENT and role == "decode" and _graph(row) not in disaggregated
            return "mixed" if does_both else role, f"label:{label}"
    return None


def _roles_by_place(rows: Sequence[SeriesOrigin], labelled: Mapping[int, Role]) -> dict[OriginKey, Role]:
    """Return the role per place that front-end metrics, role labels or pod labels settle."""
    by_label: dict[OriginKey, set[Role]] = defaultdict(set)
    by_pod_label: dict[OriginKey, set[Role]] = defaultdict(set)
    frontends: dict[OriginKey, Role] = {}
    for i, row in enumerate(rows):
        if row.key is None:
            continue
        if row.exporter.frontend:
            frontends[row.key] = min(frontends.get(row.key, ("~", "")), _frontend(row))
        if i in labelled:
            by_label[row.key].add(labelled[i])
        if found := _by_pod_label(row.labels):
            by_pod_label[row.key].add(found)
    return {**_unanimous(by_pod_label), **_unanimous(by_label), **frontends}


def _by_pod_label(labels: Mapping[str, str]) -> Role | None:
    for label, values in POD_ROLES.items():
        for name in (POD_LABEL_PREFIX + label, label):
            if role := values.get(labels.get(name, "")):
                return role, f"pod_label:{name}"
    return None


def _unanimous(found: Mapping[OriginKey, set[Role]]) -> dict[OriginKey, Role]:
    return {key: min(roles) for key, roles in found.items() if len({role for role, _ in roles}) == 1}


def _frontend(row: SeriesOrigin) -> Role:
    return "frontend", f"metric:{row.exporter.prefix_of(row.metric)}"


def _role_of(row: SeriesOrigin, settled: Mapping[OriginKey, Role], own: Role | None) -> Role:
    if row.exporter.frontend:
        return _frontend(row)
    by_labels = settled.get(row.key) if row.key else own or _by_pod_label(row.labels)
    if by_labels:
        return by_labels
    for source, name in (("pod_name", row.place), ("pod_name", row.pod), ("deployment_name", _workload(row))):
        if name and (role := whole_word_role(name)):
            return role, source
    return UNKNOWN


ONE_TOKEN = 1.5
"""Output tokens per finished request below which a worker answers with one token [tokens]."""

RECEIVES = 0.5
"""Share of the prompt tokens it did not find in its own cache above which a worker receives them [ratio]."""

COMPUTES = 0.1
"""Share below which it computes its prompts itself; between the two nothing is said [ratio]."""

ENOUGH_REQUESTS = 100
"""Finished requests below which a worker has not shown what it does [count]; default of this project."""

TOKENS_ARRIVED = (0.5, 1.25)
"""Prompt tokens received ÷ prompt tokens prefilled of a pair [ratio]: KV moves in whole blocks, so that short
prompts arrive with less; more cannot arrive than was made, up to what straddles the window's ends."""

SAME_REQUESTS = 0.05
"""Relative difference up to which two sides handled the same requests and prompt tokens [ratio]."""

QUANTITIES: dict[str, tuple[tuple[str, str | None], ...]] = {
    "output": (
        ("vllm:generation_tokens_total", None), ("trtllm_generation_tokens_total", None),
        ("trtllm:generation_tokens_total", None),
    ),
    "finished": (
        ("vllm:request_success_total", None), ("trtllm_request_success_total", None),
        ("trtllm:request_success_total", None),
    ),
    "prompt": (
        ("vllm:prompt_tokens_total", None), ("trtllm_prompt_tokens_total", None),
        ("trtllm:prompt_tokens_total", None),
    ),
    "computed": (("vllm:prompt_tokens_by_source_total", "local_compute"),),
    "received": (("vllm:prompt_tokens_by_source_total", "external_kv_transfer"),),
}  # fmt: skip
"""Quantity → metric, and the value its label ``source`` must have (vLLM and TensorRT-LLM sources)."""

COUNTERS = {"series_id": pl.Int64, "quantity": pl.String}
ENGINES = ("vllm", "trtllm")
_INSTANCE = ("capture", "service", "instance")


@dataclass(frozen=True)
class _EngineTotals:
    """Totals of one instance; None where the engine does not count it."""

    key: tuple[str, str, str]
    role: str
    output: float | None
    finished: float | None
    prompt: float | None
    computed: float | None
    received: float | None

    @property
    def per_request(self) -> float | None:
        """Output tokens per finished request."""
        if self.output is None or self.finished is None or self.finished < ENOUGH_REQUESTS:
            return None
        return self.output / self.finished

    @property
    def received_share(self) -> float | None:
        """Share received of the prompt tokens that were not in its own cache."""
        if self.computed is None or self.received is None or self.computed + self.received <= 0:
            return None
        return self.received / (self.computed + self.received)

    @property
    def answers_one_token(self) -> bool:
        """Whether it looks like a prefill worker."""
        return self.per_request is not None and self.per_request < ONE_TOKEN

    @property
    def generates(self) -> bool:
        """Whether it looks like a worker that decodes."""
        return self.per_request is not None and self.per_request >= ONE_TOKEN

    @property
    def receives(self) -> bool:
        """Whether its prompts come from elsewhere."""
        return self.received_share is not None and self.received_share > RECEIVES


def role_counters(series: pl.DataFrame) -> pl.DataFrame:
    """Return the counters whose totals are needed: those of services with an engine of unknown role.

    Parameters
    ----------
    series
        Frame of contract SERIES.

    Returns
    -------
    Frame (series_id, quantity), input ``counters`` of the query ``ingest/behaviour_totals``; empty when every
    engine's role is known.
    """
    engines = series.filter(
        pl.col("source").is_in(ENGINES) & pl.col("service").is_not_null() & pl.col("instance").is_not_null()
    )
    open_ones = engines.filter(pl.col("emitter_role") == "unknown").select("capture", "service").unique()
    asked = engines.join(open_ones, ["capture", "service"], how="semi")
    found = [
        (row["series_id"], quantity)
        for row in asked.select("series_id", "metric", "labels").iter_rows(named=True)
        for quantity, carriers in QUANTITIES.items()
        for metric, source in carriers
        if row["metric"] == metric and source in (None, label_map(row["labels"]).get("source"))
    ]
    return pl.DataFrame(found, schema=COUNTERS, orient="row").sort("series_id", "quantity")


def infer_roles(series: pl.DataFrame, totals: pl.DataFrame) -> pl.DataFrame:
    """Return the series with the roles that instances of unknown role show by what they count.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    totals
        Result of the query ``ingest/behaviour_totals``.

    Returns
    -------
    Frame of contract SERIES: ``emitter_role`` and ``role_evidence`` of all series of an instance that was
    unknown and shows its role; the rest as it was.
    """
    workers = _workers(series, totals)
    decided: dict[tuple[str, str, str], tuple[str, str]] = {}
    for group in {worker.key[:2] for worker in workers}:
        decided |= _decided([worker for worker in workers if worker.key[:2] == group])
    if not decided:
        return series
    inferred = pl.DataFrame(
        [(*key, *role) for key, role in sorted(decided.items())],
        schema=[*_INSTANCE, "shown_role", "shown_by"],
        orient="row",
    )
    joined = series.join(inferred, list(_INSTANCE), how="left", maintain_order="left")
    takes = (pl.col("emitter_role") == "unknown") & pl.col("shown_role").is_not_null()
    return joined.with_columns(
        pl.when(takes).then("shown_role").otherwise("emitter_role").alias("emitter_role"),
        pl.when(takes).then("shown_by").otherwise("role_evidence").alias("role_evidence"),
    ).select(series.columns)


def _workers(series: pl.DataFrame, totals: pl.DataFrame) -> list[_EngineTotals]:
    summed = (
        totals.join(series.select("series_id", "emitter_role", *_INSTANCE), "series_id")
        .group_by(*_INSTANCE, "quantity")
        .agg(pl.col("total").sum(), pl.col("emitter_role").first())
        .sort(*_INSTANCE, "quantity")
    )
    counts: dict[tuple[str, str, str], dict[str, float]] = {}
    roles: dict[tuple[str, str, str], str] = {}
    for row in summed.iter_rows(named=True):
        key = (row["capture"], row["service"], row["instance"])
        counts.setdefault(key, {})[row["quantity"]] = row["total"]
        roles[key] = row["emitter_role"]
    return [_EngineTotals(key, roles[key], *map(own.get, QUANTITIES)) for key, own in counts.items()]


def _decided(workers: list[_EngineTotals]) -> Mapping[tuple[str, str, str], tuple[str, str]]:
    """Return the roles of one service's unknown workers in one capture."""
    unknown = [worker for worker in workers if worker.role == "unknown"]
    prefilling = [w for w in workers if w.role == "prefill" or (w.role == "unknown" and w.answers_one_token)]
    decoding = [w for w in workers if w.role == "decode" or (w.role == "unknown" and w.generates)]
    if not prefilling:
        return {} if any(w.role == "decode" for w in workers) else _by_computing(unknown)
    if not decoding:
        return {}
    if _arrived(prefilling, decoding):
        inferred = {
            w.key: ("decode", "behaviour:receives_its_prompts")
            for w in unknown
            if w in decoding and w.receives
        }
    elif _same_requests(prefilling, decoding):
        inferred = {
            w.key: ("decode", "behaviour:finishes_what_prefill_began") for w in unknown if w in decoding
        }
    else:
        return {}
    return inferred | {
        w.key: ("prefill", "behaviour:answers_with_one_token") for w in unknown if w in prefilling
    }


def _by_computing(unknown: Iterable[_EngineTotals]) -> Mapping[tuple[str, str, str], tuple[str, str]]:
    """Return mixed for workers that generate and compute their own prompts, with no prefill worker around."""
    return {
        w.key: ("mixed", "behaviour:computes_its_prompts")
        for w in unknown
        if w.generates and w.received_share is not None and w.received_share < COMPUTES
    }


def _arrived(prefilling: Iterable[_EngineTotals], decoding: Iterable[_EngineTotals]) -> bool:
    """Whether the prompt tokens that one side prefilled are those that the other received."""
    made, received = [w.prompt for w in prefilling], [w.received for w in decoding if w.receives]
    sent = _complete_sum(made)
    got = _complete_sum(received)
    if not sent or not got:
        return False
    low, high = TOKENS_ARRIVED
    return low <= got / sent <= high


def _same_requests(prefilling: Iterable[_EngineTotals], decoding: Iterable[_EngineTotals]) -> bool:
    """Whether both sides finished the same requests over the same prompt tokens, and none says otherwise."""
    sides = [list(prefilling), list(decoding)]
    if any(w.received_share is not None for w in sides[1]):
        return False  # the engines count what they received: that decides
    for quantity in ("finished", "prompt"):
        one, other = (_complete_sum([getattr(w, quantity) for w in side]) for side in sides)
        if not one or not other or abs(one - other) > SAME_REQUESTS * max(one, other):
            return False
    return True


def _complete_sum(values: Iterable[float | None]) -> float | None:
    """Return the sum, None when a part of it is not known or there is none."""
    parts = list(values)
    return None if not parts or any(part is None for part in parts) else sum(part for part in parts if part)


COUNTERS_AT_ONCE = 8
"""Counters whose samples a query holds at once: a week at 15 s of them is 320,000 samples."""


def infer_from_samples(
    series: pl.DataFrame,
    samples: Any,
    catalogue: Catalogue,
    query: QueryRunner,
    help_texts: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Return the series with the roles and the scales that their values show.

    Parameters
    ----------
    series
        Frame of contract SERIES, roles decided as far as labels and names tell.
    samples
        Frame of contract SAMPLES, or what the query runner takes for it.
    catalogue
        The catalogue, the user's rows included.
    query
        Runs a shipped query.
    help_texts
        HELP text per metric name, where the input has them.

    Returns
    -------
    Frame of contract SERIES; a role that is known stays.
    """
    counters = role_counters(series)
    if counters.height:
        totals = [
            query("ingest/behaviour_totals", {}, {"samples": samples, "counters": some})
            for some in counters.sort("series_id").iter_slices(COUNTERS_AT_ONCE)
        ]
        series = infer_roles(series, pl.concat(totals))
    bounded = bounded_series(series, catalogue)
    if bounded.is_empty():
        return series
    ranges = query("ingest/value_ranges", {"over_one": OVER_ONE}, {"samples": samples, "bounded": bounded})
    return infer_scales(series, ranges, catalogue, help_texts)
