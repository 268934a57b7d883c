"""What is replayed is what Prometheus would answer: queries that were exported, and quantiles of today's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from end_to_end.runs import SAMPLES, Finished, Run

from hs_analysis.catalogue import load_catalogue
from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.hpa import Hpa, Metric
from hs_analysis.controllers.registry import with_slots
from hs_analysis.current import (
    CurrentAutoscaler,
    Definitions,
    Known,
    QuantileAnswer,
    read_definitions,
    read_manifests,
    translate,
)
from hs_analysis.current.adapter import AskedMetric, external_query
from hs_analysis.current.documents import resolved
from hs_analysis.pipeline import policy_stages
from hs_analysis.pipeline.answers import answers_at_ends, p90s_of, with_answers
from hs_analysis.pipeline.objects import stored_series
from hs_analysis.pipeline.select_stage import ServiceTask
from hs_analysis.pipeline.study_stages import read_derived
from hs_analysis.pipeline.tables import PLACES, read_frames
from hs_analysis.policy import load_all
from hs_analysis.promql import PROMETHEUS_2, PROMETHEUS_3, Form, Server, parse, selectors
from hs_analysis.promql.forms import Aggregate, Binary
from hs_analysis.replay.demand import DemandTrace, demands, rows_of, trailing_mean_of_known
from hs_analysis.replay.fleet import FleetModel, fit_fleet
from hs_analysis.replay.signals import quantile_of, waited
from hs_analysis.replay.simulate import Run as Replayed
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.settings import Beside, Document, Settings, Slo
from hs_analysis.store import read_table

SAME = 1e-6
"""Relative difference up to which two values are equal [ratio]."""

BIAS, MOST_OFF = 2e-3, 0.15
"""Relative difference of a rate over 120 s from one that leaves out an interval of it, a quarter at most: of
all windows together, and in 95 % of them. Of a shorter range the interval is as much more."""

OBJECTS = {"hpa": "*.hpa.yaml", "keda": "*.scaledobjects.yaml"}


class Sample:
    """A finished run of a shipped sample: its only service, policy and series."""

    def __init__(self, done: Run, name: str) -> None:
        self.folder, self.name = done.folder, name
        (self.frame,) = read_frames(done.folder)
        (self.policy,) = load_all((done.folder / "policy.yaml").read_text("utf-8"))
        self.series = read_table(done.folder / PLACES["series"])
        self.samples = done.folder / PLACES["samples"]

    def answers(self, form: Form, server: Server = PROMETHEUS_2) -> np.ndarray:
        """Return what an expression answers at the end of each window."""
        return answers_at_ends(form, self.frame, self.series, self.samples, server)

    def followed(self, signal: str, role: str) -> np.ndarray:
        """Return what the policy reads of a signal at the end of each window: a trailing mean of windows.

        Of fewer windows where that is so much higher.
        """
        reading, values = self.policy.reading, self.frame.values(signal, role)
        usual = trailing_mean_of_known(values, rows_of(reading.window_s, self.frame.window_s))
        if reading.surge is None:
            return usual
        fresh = trailing_mean_of_known(values, rows_of(reading.surge.window_s, self.frame.window_s))
        return np.where(fresh > reading.surge.above_ratio * usual, fresh, usual)

    def whole(self, form: Form, signal: str, role: str) -> np.ndarray:
        """Return the windows whose range has no gap, and at whose end and start all series were scraped.

        Where a scrape was missed there, Prometheus carries the rate on to the end of the range, and the run
        draws a line between the scrapes on either side.
        """
        metrics = [one.metric for one in selectors(form)]
        numbers = self.series.filter(pl.col("metric").is_in(metrics))["series_id"].to_list()
        times = pl.scan_parquet(self.samples).filter(pl.col("series_id").is_in(numbers)).select("t")
        scraped = times.unique().collect()["t"].dt.epoch("us").to_numpy()
        ends = self.frame.table["t"].dt.epoch("us").to_numpy() + round(self.frame.window_s * 1e6)
        reading = self.policy.reading
        ranges_s = [reading.window_s, *([reading.surge.window_s] if reading.surge else [])]
        bounded = np.all([np.isin(ends - round(range_s * 1e6), scraped) for range_s in ranges_s], axis=0)
        known = np.isfinite(self.frame.values(signal, role)).astype(float)
        rows = rows_of(reading.window_s, self.frame.window_s)
        return (trailing_mean_of_known(known, rows) == 1.0) & np.isin(ends, scraped) & bounded


@pytest.fixture(scope="module", params=sorted(SAMPLES))
def sample(request: pytest.FixtureRequest, root: Path, finished: Finished) -> Sample:
    """A run of a shipped sample."""
    return Sample(finished(root / "data_samples" / request.param, *SAMPLES[request.param]), request.param)


def exported(sample: Sample, target: str) -> Iterator[tuple[str, str, Form, float]]:
    """Yield signal, role, query and the signal's unit per unit of the query, of each exported metric."""
    folder = sample.folder / "exports" / target
    rules = [read_definitions(path.read_text("utf-8"), path.name) for path in folder.glob("*.yaml")]
    definitions = sum(rules, Definitions())
    known = Known(
        sample.frame.pools,
        {(i.signal, i.role): i.pool for i in sample.frame.signals},
        series=stored_series(sample.series, sample.frame.service),
    )
    for path in folder.glob(OBJECTS[target]):
        manifests = [(one, "") for one in read_manifests(path.read_text("utf-8"), path.name)]
        found = translate(manifests, known, load_catalogue(), definitions)
        assert found.notes == ()
        for one, (manifest, _) in zip(found.objects, manifests, strict=True):
            spec = manifest.body["spec"]
            if target == "keda":
                texts = [trigger["metadata"]["query"] for trigger in spec["triggers"]]
            else:
                parts = [entry["external"]["metric"] for entry in spec["metrics"]]
                texts = [
                    external_query(
                        AskedMetric(part["name"], part.get("selector", {}).get("matchLabels", {})),
                        known.series,
                        definitions.adapter,
                    )
                    for part in parts
                ]
            for read, text in zip(one.metrics, texts, strict=True):
                yield read.signal, read.role, resolved(parse(text), definitions), read.scale


def promised(sample: Sample) -> list[tuple[str, str, Form, float]]:
    """Return what policy.yaml and every exported object read."""
    found = [(one.signal, one.role, parse(one.promql), 1.0) for one in sample.policy.primaries]
    found += [one for target in OBJECTS for one in exported(sample, target)]
    return [(signal, role, served(form), scale) for signal, role, form, scale in found]


def served(form: Form) -> Form:
    """Return the part of a query that counts served work, without what waits."""
    form = form.of if isinstance(form, Aggregate) and isinstance(form.of, Binary) else form
    waits = isinstance(form, Binary) and form.sign == "+" and is_queue(form.right)
    return form.left if waits and isinstance(form, Binary) else form


def is_queue(form: Form) -> bool:
    """Whether an expression reads requests that wait."""
    return all("requests_waiting" in one.metric for one in selectors(form))


def test_an_exported_query_answers_what_the_policy_follows(sample: Sample) -> None:
    """To 1e-6, as a Prometheus before 3.0 answers it, in every window whose ends were scraped."""
    found = promised(sample)
    assert len(found) >= 1 + 2 * len(OBJECTS)
    for signal, role, form, scale in found:
        answer, wanted = scale * sample.answers(form), sample.followed(signal, role)
        compared = sample.whole(form, signal, role) & np.isfinite(answer)
        assert compared.mean() > 0.8
        assert answer[compared] == pytest.approx(wanted[compared], rel=SAME)


def test_what_waits_in_a_query_is_the_queue_of_the_study(sample: Sample) -> None:
    """Its weight times the mean queue: 19 of 20 windows within one request of it."""
    counted = [one for one in sample.policy.primaries if one.waiting is not None]
    assert bool(counted) == (sample.name == "simulated-days")
    for one in counted:
        form = parse(one.promql)
        assert one.waiting is not None
        assert isinstance(form, Binary)
        rows = rows_of(one.waiting.window_s, sample.frame.window_s)
        queue = trailing_mean_of_known(sample.frame.values(one.waiting.signal, one.waiting.role), rows)
        asked = sample.answers(form.right) / one.waiting.weight
        known = np.isfinite(asked) & np.isfinite(queue)
        assert known.mean() > 0.8
        assert (np.abs(asked - queue)[known] < 1.0).mean() > 0.95


def test_since_prometheus_3_a_rate_leaves_out_the_first_sample_of_its_range(sample: Sample) -> None:
    """The named difference: all intervals but one stand for the range. A little noise, and no bias."""
    for signal, role, form, scale in promised(sample):
        answer, wanted = scale * sample.answers(form, PROMETHEUS_3), sample.followed(signal, role)
        compared = sample.whole(form, signal, role) & np.isfinite(answer)
        off = answer[compared] / wanted[compared] - 1.0
        assert (np.abs(off) > SAME).any()
        shorter = 120.0 / sample.policy.reading.window_s
        assert abs(answer[compared].sum() / wanted[compared].sum() - 1.0) < BIAS * shorter
        assert np.quantile(np.abs(off), 0.95) < MOST_OFF * shorter


QUANTILES = {
    "simulated-days": {
        ("ttft_p95_300s", "service"): "dynamo_frontend_time_to_first_token_seconds_bucket",
        ("tbt_p99_60s", "decode"): "dynamo_frontend_inter_token_latency_seconds_bucket",
    },
    "dynamo-pd": {
        ("ttft_p90_60s", "service"): "dynamo_frontend_time_to_first_token_seconds_bucket",
        ("tbt_p95_60s", "decode"): "vllm:inter_token_latency_seconds_bucket",
    },
}


def test_at_recorded_counts_a_quantile_reads_what_its_query_answers(sample: Sample) -> None:
    """The same number, from the stored buckets, in a replay that holds the counts that ran.

    But for windows whose range reaches back to a gap or a queue: what waited then is not known.
    """
    asked = {}
    for (signal, role), metric in QUANTILES[sample.name].items():
        quantile = quantile_of(signal)
        assert quantile is not None
        rate = f"sum by (le) (rate({metric}[{quantile.range_s:.0f}s]))"
        asked[signal, role] = QuantileAnswer(parse(f"histogram_quantile({quantile.share}, {rate})"), 1.0)
    frame = with_answers(sample.frame, asked, sample.series, sample.samples)
    model = fit_fleet(frame, read_derived(sample.folder, frame.service), Settings())
    (part,) = demands(frame, model.pools)
    pools = {}
    for (signal, role), pool in zip(asked, ("prefill", "decode"), strict=True):
        assert (signal, role) in model.signals
        (count,) = {round(one) for one in part.counts(pool)}
        pools[pool] = Hpa((Metric(f"{signal}@{role}", 1.0, "Value", 0.0),), count, count)
    seen_of = scraped(Autoscaler("today", pools), part, model)
    for key, answer in asked.items():
        seen, wanted = seen_of[key], sample.answers(answer.form, PROMETHEUS_3)
        quantile = quantile_of(key[0])
        assert quantile is not None
        known = lasting(part, quantile.range_s) & np.isfinite(wanted)
        assert known.mean() > 0.5
        assert np.array_equal(seen[known], wanted[known])
        assert len(np.unique(seen[known])) > 40


def test_the_p90s_of_llm_ds_formula_are_asked_of_the_latencies_histograms(sample: Sample) -> None:
    """Over a minute, where the latency has a limit: the same numbers as a query written by hand."""
    catalogue = load_catalogue()
    asked = p90s_of(sample.frame, sample.series, catalogue, Slo(ttft_s=2.0, tbt_s=0.05))
    assert set(asked) == {("ttft_p90_60s", "service"), ("tbt_p90_60s", "decode")}
    families = {"ttft_p90_60s": "time_to_first_token", "tbt_p90_60s": "inter_token_latency"}
    for (signal, _), answer in asked.items():
        metric = f"dynamo_frontend_{families[signal]}_seconds_bucket"
        by_hand = parse(f"histogram_quantile(0.9, sum by (le) (rate({metric}[1m])))")
        wanted = sample.answers(by_hand, PROMETHEUS_3)
        assert answer.scale == 1.0
        assert np.isfinite(wanted).mean() > 0.5
        assert np.array_equal(sample.answers(answer.form, PROMETHEUS_3), wanted, equal_nan=True)
    alone = p90s_of(sample.frame, sample.series, catalogue, Slo(ttft_s=None, tbt_s=0.05))
    assert set(alone) == {("tbt_p90_60s", "decode")}


def scraped(control: Autoscaler, part: DemandTrace, model: FleetModel) -> dict[tuple[str, str], np.ndarray]:
    """Return what a control reads of each signal, row by row."""
    run = Replayed((control,), part, model)
    (lot,), (_, slots) = run.lots, with_slots(control)
    rows: dict[tuple[str, str], list[float]] = {key: [] for key in slots.values()}
    for row in range(part.rows):
        run.advance(row + 1)
        for slot, key in slots.items():
            rows[key].append(lot.slots.seen().last(slot)[0])
    return {key: np.array(values) for key, values in rows.items()}


def lasting(part: DemandTrace, range_s: float) -> np.ndarray:
    """Return the rows in whose range, and two rows before it, there was neither a gap nor a queue."""
    rows = rows_of(range_s, part.window_s) + 2
    calm = ~part.gap
    for role in part.offered:
        calm &= ~waited(part, role)
    found: np.ndarray = trailing_mean_of_known(calm.astype(float), rows) == 1.0
    return found


TODAY = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: m-prefill}
spec:
  scaleTargetRef: {name: m-prefill}
  triggers:
    - type: prometheus
      metricType: Value
      metadata: {query: 'QUERY', threshold: "1.5"}
"""


def test_a_quantile_of_todays_autoscaler_becomes_a_signal_or_is_refused(sample: Sample) -> None:
    """Followed in a short range; refused where the history has too few whole ranges of it."""
    rate = "sum by (le) (rate(dynamo_frontend_time_to_first_token_seconds_bucket[1m]))"
    current, frame = today(sample, f"histogram_quantile(0.5, {rate})")
    assert current.scaler is not None, current.notes
    (metric,) = current.scaler.pools["prefill"].hpa.metrics
    assert frame.has(metric.signal, "service")
    assert sample.frame.signals == frame.signals[:-1]
    if sample.name == "dynamo-pd":
        late = "sum by (le) (rate(dynamo_frontend_time_to_first_token_seconds_bucket[5m]))"
        current, _ = today(sample, f"histogram_quantile(0.99, {late})")
        assert current.scaler is None
        assert "windows without a queue, and a curve of it needs 100" in current.notes[0]


def today(sample: Sample, query: str) -> tuple[CurrentAutoscaler, ServiceFrame]:
    """Return what the replay stage reads of an object, and the service with what it follows."""
    files = (Document("k.yaml", TODAY.replace("QUERY", query), "prefill"),)
    settings = replace(Settings(), beside=Beside(current=files))
    task = ServiceTask(sample.folder, settings, sample.frame.service)
    current, frame = policy_stages._current(task, sample.frame)
    assert current is not None
    return current, frame
