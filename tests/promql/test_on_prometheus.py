"""Expressions over the two samples, and over series made to be awkward, against a real Prometheus."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from export.prometheus_server import prometheus_with, read_query_range
from export.test_rules_on_prometheus import DYNAMO, SIMULATED, Recording

from hs_analysis.catalogue import load_catalogue
from hs_analysis.export.queries import expression
from hs_analysis.promql import PROMETHEUS_2, Grid, History, Refused, evaluate, parse, require_kinds

pytestmark = pytest.mark.outside("promtool", "prometheus")

SAMPLES = Path(__file__).resolve().parents[2] / "data_samples"
TIMES = 20


def expressions(name: str) -> list[str]:
    """Return the expressions of a file, one a line."""
    return (Path(__file__).parent / "expressions" / f"{name}.promql").read_text("utf-8").splitlines()


# A stretch of the simulated days is enough; loading all of them takes longer than all the questions.
DAYS_FROM, DAYS_TO = 1_767_225_600 + 30 * 3600, 1_767_225_600 + 34 * 3600
PAIR_FROM = 1_795_525_395


def awkward() -> list[dict]:
    """Return series with resets, gaps, late starts, NaN, infinities and crooked buckets."""
    rng = np.random.default_rng(0)

    def row(name, values, start=0, step=15.0, gap=(), **labels):
        times = DAYS_FROM + start + step * np.arange(len(values))
        kept = [(t, v) for i, (t, v) in enumerate(zip(times, values, strict=True)) if i not in gap]
        shown = [
            [round(float(t), 3), f"{v:.9g}".replace("inf", "Inf").replace("nan", "NaN")] for t, v in kept
        ]
        return {"metric": {"__name__": name, **labels}, "values": shown}

    count = 900
    grown = np.cumsum(rng.integers(0, 40, count)).astype(float)
    reset = grown.copy()
    for at in (200, 201, 500, 777):
        reset[at:] -= reset[at] - 3.0
    gauge = rng.normal(5.0, 2.0, count)
    holes = gauge.copy()
    holes[rng.integers(0, count, 60)] = np.nan
    peaks = gauge.copy()
    peaks[[100, 400]], peaks[410] = np.inf, -np.inf
    found = [
        row("a_total", grown, pod="a-0", role="prefill"),
        row("a_total", reset, pod="a-1", role="decode", gap=set(range(300, 330)) | set(range(600, 604))),
        row("a_total", grown[:300], pod="a-2", role="decode", start=4000.35, step=15.35),
        row("a_total", np.r_[0.0, 0.0, grown[:200]], pod="b-0", role="decode", start=7000, step=60),
        row("g", gauge, pod="a-0", role="prefill", namespace="x"),
        row("g", holes, pod="a-1", role="decode", namespace="x"),
        row("g", peaks, pod="a-2", role="decode", namespace="y"),
        row("g", gauge[:50], pod="a-3", role="decode", namespace="y", start=6000, step=200),
        row("g", np.zeros(count), pod="", role="none"),
        row("kube_pod_labels", np.ones(count), pod="a-0", namespace="x", label_role="prefill"),
        row("kube_pod_labels", np.ones(count), pod="a-1", namespace="x", label_role="decode"),
        row("kube_pod_labels", np.ones(300), pod="a-2", namespace="y", label_role="decode"),
        row("kube_pod_labels", np.ones(count), pod="a-2", namespace="y", label_role="", start=5000),
    ]
    for number, edge in enumerate(["0.1", "0.5", "1", "2.5", "10", "+Inf"]):
        counts = np.cumsum(rng.poisson(1.0 + number, count)).astype(float)
        late = 3000 if edge == "2.5" else 0
        found.append(row("b_bucket", counts[: 600 if late else count], le=edge, pod="a-0", start=late))
        found.append(
            row("b_bucket", counts * 2 + 1, le=edge.replace("1", "1.0") if edge == "1" else edge, pod="a-1")
        )
        if edge != "+Inf":
            found.append(row("b_bucket", counts, le=edge, pod="no-inf"))
    found.append(row("b_bucket", np.ones(count), le="odd", pod="a-0"))
    for edge, level in (("-1", 3.0), ("0", 2.0), ("+Inf", 5.0)):
        found.append(row("below_bucket", np.arange(count) * level, le=edge))
    found += [row("idle_bucket", np.full(count, 7.0), le=edge) for edge in ("1", "+Inf")]
    return found


def answers(url: str, text: str, grid: Grid) -> dict[tuple, np.ndarray]:
    """Return labels → values at the moments of a grid as Prometheus gives them, None where it gives none."""
    start, step = grid.start_us / 1e6, grid.step_us / 1e6
    asked = {"query": text, "start": start, "end": grid.end_us / 1e6, "step": step}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    address = f"{url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    with opener.open(address, timeout=30) as response:
        rows = json.load(response)["data"]["result"]
    found = {}
    for row in rows:
        values = [None] * grid.steps
        for t, value in row["values"]:
            values[round((float(t) - start) / step)] = float(value)
        found[tuple(sorted(row["metric"].items()))] = values
    return found


def ours(history: History, text: str, grid: Grid) -> dict[tuple, list]:
    """Return the same from our own evaluation."""
    found = evaluate(parse(text), history, grid, PROMETHEUS_2)
    rows = zip(found.labels, found.values.tolist(), found.present.tolist(), strict=True)
    return {
        tuple(sorted(labels.items())): [
            v if there else None for v, there in zip(values, present, strict=True)
        ]
        for labels, values, present in rows
        if any(present)
    }


def apart(mine: dict[tuple, list], theirs: dict[tuple, list]) -> str:
    """Return where two answers differ, empty where they are equal to 1e-6."""
    if mine.keys() != theirs.keys():
        return f"series {sorted(mine.keys() - theirs.keys())[:2]} | {sorted(theirs.keys() - mine.keys())[:2]}"
    for key, values in theirs.items():
        for step, (a, b) in enumerate(zip(mine[key], values, strict=True)):
            same = (
                a is None
                if b is None
                else a is not None and np.isclose(a, b, rtol=1e-6, atol=1e-12, equal_nan=True)
            )
            if not same:
                return f"{dict(key)} at {step}: {a} for {b}"
    return ""


def history_of(series: list[dict]) -> History:
    """Return recorded series as a history."""

    def row(one):
        t = np.array([round(float(t) * 1e6) for t, _ in one["values"]], np.int64)
        values = np.array([float(value) for _, value in one["values"]])
        return one["metric"], t, values, np.zeros(t.size, np.bool_)

    return History.of(map(row, series))


@pytest.fixture(scope="module")
def loaded():
    """One server with a part of the simulated days, the capture of a pair and the awkward series."""
    days = read_query_range(SAMPLES / "simulated-days")
    for row in days:
        row["values"] = [one for one in row["values"] if DAYS_FROM <= float(one[0]) <= DAYS_TO]
    pair = read_query_range(SAMPLES / "dynamo-pd")
    for row in pair:
        # promtool reads its input once for each month that it spans.
        row["values"] = [[float(t) - PAIR_FROM + DAYS_FROM, value] for t, value in row["values"]]
        row["metric"]["recording"] = "pair"
    series = [*days, *pair, *awkward()]
    with prometheus_with(series) as url:
        yield url, history_of(series), {"days": days, "pair": pair}


STRETCHES = {
    # Steps share no divisor with the scrape intervals, so that windows begin anywhere between samples.
    "days": Grid(DAYS_FROM * 1_000_000 + 1_777_000_000, 593_000_000, TIMES),
    "pair": Grid(DAYS_FROM * 1_000_000 + 401_000_000, 211_000_000, TIMES),
}


@pytest.mark.parametrize(("name", "stretch"), [("awkward", "days"), ("days", "days"), ("pair", "pair")])
def test_values_are_those_of_prometheus(loaded, name, stretch):
    """Every series, presence, NaN and value at 20 times, to 1e-6."""
    url, history, _ = loaded
    grid = STRETCHES[stretch]
    differing, answered = {}, 0
    for text in expressions(name):
        theirs = answers(url, text, grid)
        answered += bool(theirs)
        why = apart(ours(history, text, grid), theirs)
        if why:
            differing[text] = why
    assert differing == {}
    assert answered >= 0.9 * len(expressions(name))


def test_exported_expressions_give_what_prometheus_gives(loaded):
    """What an exporter writes for every signal of the samples is read, and is equal to 1e-6."""
    url, history, samples = loaded
    catalogue, differing, compared = load_catalogue(), {}, 0
    for cases, stretch in ((SIMULATED, "days"), (DYNAMO, "pair")):
        recording = Recording(samples[stretch], url)
        for name, role in cases:
            signal, source = recording.source(name, role)
            made = expression(signal, source, role, recording.frame, service="demo/m-large", window_s=300.0)
            form = parse(made.expr)
            require_kinds(form, lambda one: catalogue.kind_of(one.metric) if one.metric else None)
            theirs = answers(url, made.expr, STRETCHES[stretch])
            compared += bool(theirs)
            if why := apart(ours(history, made.expr, STRETCHES[stretch]), theirs):
                differing[made.expr] = why
    assert differing == {}
    assert compared >= 20


@pytest.mark.parametrize("text", expressions("refused"))
def test_what_prometheus_refuses_for_its_series_is_refused(loaded, text):
    """Series that can't be told apart or matched are an error there and here, with the place."""
    url, history, _ = loaded
    with pytest.raises(urllib.error.HTTPError, match="422"):
        answers(url, text, STRETCHES["days"])
    with pytest.raises(Refused, match=r"column \d+: .* at one time"):
        ours(history, text, STRETCHES["days"])


def test_a_sample_on_the_edge_of_a_range_counts_as_in_its_version(loaded):
    """On the scrape times themselves version 2 takes the sample at the very start of a range in."""
    url, history, _ = loaded
    grid = Grid(DAYS_FROM * 1_000_000 + 1_800_000_000, 600_000_000, TIMES)
    for text in (
        "rate(a_total[1m])",
        "avg_over_time(g[1m])",
        "count_over_time(g[1m])",
        "count_over_time(g[5m:1m])",
    ):
        assert apart(ours(history, text, grid), answers(url, text, grid)) == ""
