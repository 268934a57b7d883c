import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from export.prometheus_server import instant, over, prometheus_with, read_query_range
from export.scenes import full_policy, series_frame
from outside import needs

from hs_analysis.catalogue import load_catalogue
from hs_analysis.export import export
from hs_analysis.export.model import load_documents
from hs_analysis.export.queries import expression, pool_total
from hs_analysis.policy.model import Guard, Primary, Target, Tier

pytestmark = pytest.mark.outside("promtool", "prometheus")

SAMPLES = Path(__file__).resolve().parents[2] / "data_samples"
# Prefill pods of the capture of real serving components, as its README tells them.
DYNAMO_PREFILL = {"llama8b-0", "llama8b-1", "llama8b-2"}
WINDOW_S = 300.0

SIMULATED = [
    ("decode_tps", "decode"),
    ("prefill_tps", "prefill"),
    ("prefill_tps_effective", "prefill"),
    ("queue_length", "prefill"),
    ("running", "decode"),
    ("kv_usage", "decode"),
    ("gpu_util", "prefill"),
    ("gpu_util", "decode"),
    ("sm_activity", "decode"),
    ("ttft", "service"),
    ("tbt", "decode"),
    ("request_rate", "service"),
]
DYNAMO = [
    ("decode_tps", "decode"),
    ("prefill_tps_effective", "prefill"),
    ("queue_length", "decode"),
    ("running", "prefill"),
    ("running", "decode"),
    ("kv_usage", "decode"),
    ("ttft", "service"),
    ("tbt", "decode"),
    ("request_rate", "service"),
]


def pod_of(labels):
    return labels.get("exported_pod") or labels.get("pod") or ""


def role_of(labels):
    """Return the role by the sample's own README: pod names spell it, or are listed there."""
    pod = pod_of(labels)
    if pod.startswith("llama8b-") and "frontend" not in pod:
        return "prefill" if pod in DYNAMO_PREFILL else "decode"
    words = [word for word in ("prefill", "decode") if word in pod]
    return words[0] if words else "frontend"


def frame_of(series):
    """Return the recorded series as a frame of contract SERIES, with the scrape interval as observed."""
    catalogue = load_catalogue()
    rows = []
    for row in series:
        labels = {name: value for name, value in row["metric"].items() if name != "__name__"}
        metric, times = row["metric"]["__name__"], [float(t) for t, _ in row["values"]]
        rows.append(
            {
                "metric": metric,
                "labels": labels,
                "emitter_role": role_of(labels),
                "service": "demo/m-large",
                "instance": pod_of(labels) or None,
                "interval_s": float(np.median(np.diff(times))) if len(times) > 1 else None,
                "source": catalogue.exporter_of(metric).name,
            }
        )
    return series_frame(rows)


class Recording:
    """A sample, what the catalogue says of it, and a Prometheus that holds it."""

    def __init__(self, series, url):
        self.series, self.url = series, url
        self.frame = frame_of(series)
        self.metrics = {row["metric"]["__name__"] for row in series}
        times = [float(t) for row in series for t, _ in row["values"]]
        self.start, self.end = min(times), max(times)
        self.values = {id(row): np.array([[float(t), float(v)] for t, v in row["values"]]) for row in series}

    def source(self, name, role):
        """Return the first source of a signal whose metrics the sample has for the role."""
        signal = load_catalogue().signal(name)
        for source in signal.sources:
            if all(self.chosen(term, source, role) for term in source.terms):
                return signal, source
        raise LookupError(name)

    def chosen(self, term, source, role):
        """Return the series of a term by plain reading: metric, states, and the emitting pod's role."""
        want = dict(term.where)
        for label, roles in source.role_label.items():
            want[label] = tuple(value for value, r in roles.items() if r == role)
        emitters = {role} if role in source.emitters else set(source.emitters)
        return [
            row
            for row in self.series
            if row["metric"]["__name__"] == term.metric
            and all(row["metric"].get(label) in values for label, values in want.items())
            and (not emitters or role_of(row["metric"]) in emitters)
        ]

    def expected(self, signal, source, role, at, window):
        """Return the value of the last `window` seconds from the bare samples; None where they thin out."""
        sides = {"num": 0.0, "den": 0.0}
        for term in source.terms:
            parts = []
            for row in self.chosen(term, source, role):
                t, v = self.values[id(row)].T
                # Prometheus 2 counts a sample at the very start of the range as well.
                inside = (t >= at - window) & (t <= at)
                interval = np.median(np.diff(t))
                if inside.sum() < 0.9 * window / interval or np.isnan(v[inside]).any():
                    return None
                if source.read == "gauge":
                    parts.append(v[inside].mean())
                else:
                    steps = np.diff(v[inside])
                    gained = np.where(steps < 0, v[inside][1:], steps).sum()
                    parts.append(gained / (t[inside][-1] - t[inside][0]))
            pooled = np.mean(parts) if signal.pool == "mean" else np.sum(parts)
            sides[term.side] += term.sign * pooled
        value = sides["num"] / sides["den"] if signal.pool == "ratio" and sides["den"] else sides["num"]
        return value * source.scale


def first_day(series):
    """Return series with the samples of the first 24 h: the server takes long to fill, and a day has all."""
    end = min(float(row["values"][0][0]) for row in series) + 86_400.0
    days = [{**row, "values": [pair for pair in row["values"] if float(pair[0]) <= end]} for row in series]
    return [row for row in days if row["values"]]


@pytest.fixture(scope="module")
def recordings():
    found = {}

    def ready(name):
        if name not in found:
            series = first_day(read_query_range(SAMPLES / name))
            manager = prometheus_with(series)
            found[name] = (Recording(series, manager.__enter__()), manager)
        return found[name][0]

    yield ready
    for _, manager in found.values():
        manager.__exit__(None, None, None)


CASES = [("simulated-days", *case) for case in SIMULATED] + [("dynamo-pd", *case) for case in DYNAMO]


@pytest.mark.parametrize(("sample", "name", "role"), CASES)
def test_an_expression_gives_the_value_of_its_pool(recordings, sample, name, role):
    """At times over the whole sample the expression gives one series and the value the samples hold."""
    recording = recordings(sample)
    signal, source = recording.source(name, role)
    made = expression(signal, source, role, recording.frame, service="demo/m-large", window_s=WINDOW_S)
    assert made.exact
    compared = 0
    for at in np.linspace(recording.start + 3 * WINDOW_S, recording.end, 40).round():
        expected = recording.expected(signal, source, role, at, made.window_s)
        if expected is None:
            continue
        ((labels, value),) = instant(recording.url, made.expr, at)
        assert labels == {}
        assert value == pytest.approx(expected, rel=0.01, abs=1e-9)
        compared += 1
    assert compared >= 25


@pytest.mark.parametrize("name", ["decode_tps", "prefill_tps"])
def test_the_mean_over_a_day_is_the_tokens_of_the_counters(recordings, name):
    """Integrated over 24 h, the recorded rate gives the tokens that the pool's counters gained."""
    recording = recordings("simulated-days")
    role = name.removesuffix("_tps")
    signal, source = recording.source(name, role)
    made = expression(signal, source, role, recording.frame, service="demo/m-large", window_s=60.0)
    gained = 0.0
    for row in recording.chosen(source.terms[0], source, role):
        steps = np.diff(recording.values[id(row)][:, 1])
        gained += np.where(steps < 0, 0.0, steps).sum()
    rates = over(recording.url, made.expr, recording.start + 120, recording.end, 60.0)
    tokens = np.mean(list(rates.values())) * (recording.end - recording.start)
    assert tokens == pytest.approx(gained, rel=0.01)


def test_a_pool_total_is_the_mean_times_the_instances(recordings):
    """What an average-per-replica threshold divides: the mean over instances × their number."""
    recording = recordings("simulated-days")
    signal, source = recording.source("gpu_util", "decode")
    made = expression(signal, source, "decode", recording.frame, service="demo/m-large", window_s=WINDOW_S)
    pods = {pod_of(row["metric"]) for row in recording.chosen(source.terms[0], source, "decode")}
    at = recording.start + 36_000
    ((_, mean),) = instant(recording.url, made.expr, at)
    ((_, total),) = instant(recording.url, pool_total(made.expr), at)
    assert total == pytest.approx(mean * len(pods), rel=1e-9)


LATE_S = 4.0
"""How long after the first scraper the second one reads a target [s]."""


def of_two_scrapers(series):
    """Return every series twice, as two servers scraped it: the second sees what the target counts later."""
    found = []
    for row in series:
        t, v = np.array([[float(at), float(value)] for at, value in row["values"]]).T
        known = np.isfinite(v)
        is_counter = row["metric"]["__name__"].endswith(("_total", "_sum", "_count", "_bucket"))
        later = np.interp(t + LATE_S, t[known], v[known]) if is_counter and known.any() else v
        steps = np.diff(v, append=v[-1:]) < 0  # nothing is known of a counter between its end and its restart
        later = np.where(steps, v, later)
        pairs = [[at + LATE_S, f"{value:.10g}"] for at, value in zip(t, later, strict=True)]
        found += [
            {"metric": {**row["metric"], "replica": name}, "values": values}
            for name, values in (("a", row["values"]), ("b", pairs))
        ]
    return found


@pytest.fixture(scope="module")
def doubled(recordings):
    """A server that holds what two scrapers delivered of a sample, and what ingest makes of that."""
    single = recordings("dynamo-pd")
    with prometheus_with(of_two_scrapers(single.series)) as url:
        told = pl.Series([["a", "b"]] * single.frame.height)
        yield (
            single,
            url,
            single.frame.with_columns(pl.lit("replica").alias("copy_label"), told.alias("copies")),
        )


@pytest.mark.parametrize(("name", "role"), DYNAMO)
def test_two_copies_of_every_series_count_once(doubled, name, role):
    """What two scrapers delivered gives the pool's own value, and gave a total twice as high."""
    single, url, frame = doubled
    signal, source = single.source(name, role)
    how = {"service": "demo/m-large", "window_s": WINDOW_S}
    made = expression(signal, source, role, frame, **how)
    careless = expression(signal, source, role, single.frame, **how)
    values, summed = [], []
    for at in np.linspace(single.start + 3 * WINDOW_S, single.end, 40).round():
        expected = single.expected(signal, source, role, at, made.window_s)
        if expected is None or expected < 1e-9:
            continue
        ((labels, value),) = instant(url, made.expr, at)
        assert labels == {}
        ((_, twice),) = instant(url, careless.expr, at)
        values.append(value / expected)
        summed.append(twice / expected)
    assert len(values) >= 20
    assert np.median(values) == pytest.approx(1.0, abs=0.01)
    assert np.median(summed) == pytest.approx(2.0 if signal.pool == "sum" else 1.0, abs=0.02)


def policy_of(recording):
    """Return a policy whose primaries and guards read the sample."""

    def promql(name, role):
        signal, source = recording.source(name, role)
        return expression(
            signal, source, role, recording.frame, service="demo/m-large", window_s=WINDOW_S
        ).expr

    return full_policy(
        service="demo/m-large",
        primaries=(
            Primary(
                "prefill_tps",
                "prefill",
                "tokens/s",
                promql("prefill_tps", "prefill"),
                "vllm",
                Target(9000.0),
            ),
            Primary("gpu_util", "decode", "ratio", promql("gpu_util", "decode"), "dcgm", Target(0.7), "mean"),
        ),
        guards=(Guard("ttft", "prefill", 1.0, promql("ttft", "service"), (Tier(1.0, 0.1),)),),
    )


def test_each_rule_of_the_written_file_gives_one_series(recordings, tmp_path):
    """The file passes promtool, and every expression read back from it answers on the sample."""
    recording = recordings("simulated-days")
    made = export(policy_of(recording), "keda")
    (name,) = [name for name in made.files if name.endswith("rules.yaml")]
    path = tmp_path / name
    path.write_text(made.files[name], "utf-8")
    checked = subprocess.run(
        [needs("promtool"), "check", "rules", "--lint-fatal", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rules = load_documents(made.files[name])[0]["groups"][0]["rules"]
    assert len(rules) == 4
    for rule in rules:
        ((labels, value),) = instant(recording.url, rule["expr"], recording.start + 36_000)
        assert labels == {}
        assert value > 0


def test_a_signal_that_sizes_and_guards_is_recorded_once(tmp_path):
    """Prometheus refuses the same series twice, so primary and guard share a rule."""
    primary = replace(full_policy().primaries[0], signal="tbt", promql="sum(rate(b_sum[5m]))")
    guard = replace(full_policy().guards[1], promql=primary.promql)
    text = export(full_policy(primaries=(primary,), guards=(guard,)), "rules").files["prod.chat.rules.yaml"]
    path = tmp_path / "rules.yaml"
    path.write_text(text, "utf-8")
    assert len(load_documents(text)[0]["groups"][0]["rules"]) == 1
    subprocess.run(
        [needs("promtool"), "check", "rules", "--lint-fatal", path], capture_output=True, check=True
    )


def test_promtool_refuses_a_broken_rules_file(tmp_path):
    """The check can fail: an expression with a missing bracket does not pass."""
    policy = full_policy(primaries=(replace(full_policy().primaries[0], promql="sum(rate(a[5m])"),))
    path = tmp_path / "rules.yaml"
    path.write_text(export(policy, "rules").files["prod.chat.rules.yaml"], "utf-8")
    checked = subprocess.run([needs("promtool"), "check", "rules", path], capture_output=True, check=False)
    assert checked.returncode == 1


def constant(metric, value, **labels):
    return {
        "metric": {"__name__": metric, **labels},
        "values": [[1_767_225_600 + 15 * i, str(value)] for i in range(41)],
    }


def test_a_pod_label_join_and_odd_names_answer_on_prometheus():
    """Opaque GPU series joined by kube_pod_labels; quotes, backslashes and dots in labels are escaped."""
    model = 'a"b\\c.d'
    series, rows = [], []
    for pod, role, value in (("w0", "decode", 3), ("w1", "decode", 5), ("v0", "prefill", 100)):
        labels = {"exported_namespace": "n", "exported_pod": pod, "pod": "dcgm-1", "model": model}
        series.append(constant("g", value, **labels))
        rows.append({"metric": "g", "labels": labels, "emitter_role": role, "service": "n/a"})
        known = {"namespace": "n", "pod": pod, "label_llm_d_ai_role": role}
        series += [constant("kube_pod_labels", 1, instance=twin, **known) for twin in ("ksm-0", "ksm-1")]
        rows.append({"metric": "kube_pod_labels", "labels": known, "emitter_role": role, "service": "n/a"})
    series.append(
        constant("g", 1000, exported_namespace="n", exported_pod="w0", pod="dcgm-1", model='a"bxc.d')
    )
    signal = load_catalogue().signal("queue_length")
    source = replace(signal.sources[0], terms=(replace(signal.sources[0].terms[0], metric="g"),))
    made = expression(signal, source, "decode", series_frame(rows), service="n/a", window_s=60.0)
    assert "kube_pod_labels" in made.expr
    with prometheus_with(series) as url:
        assert instant(url, made.expr, 1_767_225_600 + 300) == [({}, 8.0)]


def test_the_server_holds_what_the_files_say():
    """Every sample of a small set comes back as it was written, resets and decimals included."""
    row = constant("a_total", 1)
    row["values"] = [[1_767_225_600 + 15 * i, str(v)] for i, v in enumerate((1.5, 2.25, 0.125, 7))]
    with prometheus_with([row]) as url:
        result = instant(url, "a_total[5m]".replace("[5m]", ""), 1_767_225_600 + 46)
        assert result == [({"__name__": "a_total"}, 7.0)]
        assert over(url, "a_total", 1_767_225_600, 1_767_225_645, 15) == {
            float(t): float(v) for t, v in row["values"]
        }
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
