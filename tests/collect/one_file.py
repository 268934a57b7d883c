"""One planned file of the small Prometheus, and what came of it."""

from __future__ import annotations

import json

from collect.recording_server import PODS, scraped

from hs_analysis.catalogue import load_catalogue
from hs_analysis.collect.fetch import ServerLimits, fetch
from hs_analysis.collect.plan import (
    Api,
    MetricShare,
    PlannedFile,
    PlanRequest,
    make_plan,
    selector_of,
    wanted_metrics,
)
from hs_analysis.collect.server import PrometheusServer

START = 1_764_000_000.0
METRIC = "vllm:generation_tokens_total"


def planned(
    points: int, step_s: float = 15.0, series: int | None = None, api: Api = "query_range"
) -> PlannedFile:
    """One file of the small Prometheus' metric."""
    need = next(n for n in wanted_metrics(load_catalogue()) if n.metric == METRIC)
    share = MetricShare(need, selector_of(need, (), None), step_s, series, api=api)
    return make_plan(PlanRequest(), (START, START + step_s * (points - 1)), [share]).files[0]


def got(file: PlannedFile, server: PrometheusServer, limits: ServerLimits | None = None):
    """Fetch a file; return what came and its points by series, as (pod, time) pairs."""
    bodies: list[bytes] = []
    fetched = fetch(file, server, limits or ServerLimits(1_000_000), bodies.append)
    rows = [row for body in bodies for row in json.loads(body)["data"]["result"]]
    return fetched, [(row["metric"]["pod"], t) for row in rows for t, _ in row["values"]]


def expected(file: PlannedFile) -> list[tuple[str, float]]:
    """Every point, or sample as scraped, of every pod, once."""
    if file.api == "query_range":
        return grid(file.chunk.points, file.step_s)
    return sorted((pod, t) for pod in PODS for t in scraped(pod, file.start, file.end))


def grid(points: int, step_s: float = 15.0) -> list[tuple[str, float]]:
    """Every point of every pod, once."""
    return sorted((pod, START + step_s * n) for pod in PODS for n in range(points))
