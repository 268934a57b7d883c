"""What is read of a query on a history that has exactly the series it asks for."""

from __future__ import annotations

from collections.abc import Iterator

from hs_analysis.catalogue import Signal, load_catalogue
from hs_analysis.current.model import Known, Stored
from hs_analysis.current.queries import Query, read_query
from hs_analysis.promql import Refused, Selector, parse, selectors
from hs_analysis.replay.signals import FINISHED, IN_FRONT, INSIDE, OF_REQUESTS, SERVICE_LOAD, WHOLE_S
from hs_analysis.schema.aligned import POOL_ROLES

CATALOGUE = load_catalogue()
PODS = ("a-0", "a-1")
EDGES = ("1", "+Inf")


def series_of(selector: Selector, emitter: str, instances: int) -> Iterator[Stored]:
    """Yield the series that a selector asks for: of two pods, or of a front end of the whole service."""
    pods = PODS[:instances] if emitter in POOL_ROLES else ("router",)
    for number, pod in enumerate(pods):
        labels = {"namespace": "demo", "pod": pod}
        for matcher in selector.matchers:
            if matcher.sign == "=":
                labels[matcher.label] = matcher.value
            elif matcher.sign == "=~":
                told = matcher.value.replace(".*", "")
                per_pod = matcher.label in ("pod", "endpoint_name")
                labels[matcher.label] = f"{told}{number}" if per_pod else told
        edges = EDGES if (selector.metric or "").endswith("_bucket") else ("",)
        for edge in edges:
            yield Stored({**labels, **({"le": edge} if edge else {})}, emitter, instance=pod)


def modelled(signal: Signal) -> bool:
    """Whether a replay knows a signal at other counts, where the history has enough rows of it."""
    if signal.id in (*OF_REQUESTS, *FINISHED, INSIDE, IN_FRONT, WHOLE_S):
        return True
    if signal.role == "service" and signal.family != "load":
        return signal.id in SERVICE_LOAD
    return signal.family != "auxiliary"


def history(query: str, emitter: str, instances: int) -> Known:
    """Return a service of one pool, or of a front end before one, with the series of a query."""
    pool = emitter if emitter in POOL_ROLES else "mixed"
    try:
        asked = selectors(parse(query))
    except Refused:
        asked = ()
    series = {repr(one): one for selector in asked for one in series_of(selector, emitter, instances)}
    roles = {signal.id: "service" if signal.role == "service" else pool for signal in CATALOGUE.signals}
    readable = {(one.id, roles[one.id]): one.pool for one in CATALOGUE.signals if modelled(one)}
    recorded = frozenset(roles.items()) - frozenset(readable)
    return Known((pool,), readable, series=tuple(series.values()), recorded=recorded)


def outcome(query: str, emitter: str, instances: int) -> str:
    """Return the reading of a query as text: signal, pool, aggregation, unit and range; or the refusal."""
    known = history(query, emitter, instances)
    found = read_query(query, known.pools[0], known, CATALOGUE)
    if isinstance(found, Query):
        read = f"{found.over} of {found.signal}@{found.role}"
        span = f"over {found.averaging_s:g} s" if found.averaging_s else "over its own range"
        return f"{read}, scale {found.scale:.6g}, {span}"
    return f"refused: {found}"
