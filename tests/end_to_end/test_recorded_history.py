"""The rules to install before a study, evaluated by a real Prometheus: what they keep is the same service."""

from __future__ import annotations

import gzip
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from align.service import put_on_grid
from export.prometheus_server import prometheus_over, prometheus_with, read_query_range, samples
from outside import needs

from hs_analysis.catalogue import load_catalogue
from hs_analysis.collect.recording import pack_text, rules_packs
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.settings import Settings, Slo

pytestmark = pytest.mark.outside("promtool", "prometheus")

INSTALLED = ("dynamo", "vllm")
"""Packs of the sample's stack."""

SETTINGS = Settings(slo=Slo(ttft_s=2.0, tbt_s=0.05), history_kind="pressure_test")
MINUTE_S = 60

LOST = {("e2e_latency", "service"), ("preemptions", "decode")}
"""Signals that no decision needs, and that the rules leave out."""

WITHIN, LATENCY_WITHIN = 0.01, 0.06
"""Largest relative difference of the mean over the capture, of rates and gauges, and of mean latencies, whose
windows weigh the same however many requests are in them."""

ALIKE, GAUGES_ALIKE = 0.99, 0.95
"""Least correlation of windows, of counters and of gauges, of which two samples are kept of eight."""


def recorded(series: list[dict], start: int, end: int, folder: Path) -> list[dict]:
    """Return what the rules record of series, evaluated once a minute."""
    files = []
    for pack in rules_packs(load_catalogue()):
        if pack.name in INSTALLED:
            files.append(pack.file)
            (folder / pack.file).write_text(pack_text(pack), "utf-8")
    data = folder / "blocks"
    with prometheus_with(series) as url:
        command = [needs("promtool"), "tsdb", "create-blocks-from", "rules", f"--output-dir={data}"]
        window = [f"--start={start}", f"--end={end}", f"--eval-interval={MINUTE_S}s", f"--url={url}"]
        # Relative names: the second of the minute at which a group is evaluated depends on its file's name.
        subprocess.run([*command, *window, *files], check=True, cwd=folder, capture_output=True, timeout=120)
    with prometheus_over(data) as url:
        return samples(url, '{__name__=~"hs_.+"}', start, end + MINUTE_S)


@dataclass(frozen=True)
class Both:
    """The sample as scraped and as the rules recorded it, and how many series each has."""

    raw: ServiceFrame
    kept: ServiceFrame
    series: int
    recorded: int

    def pairs(self, signal: str, role: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of windows that both have, of the recorded ones' width."""
        width, wide = self.raw.window_s, self.kept.window_s
        found: dict[float, list[float]] = {}
        for t, value in zip(self.raw.seconds(), self.raw.values(signal, role), strict=True):
            found.setdefault(t // wide * wide, []).append(value)
        whole = {t: float(np.mean(v)) for t, v in found.items() if len(v) == round(wide / width)}
        kept = dict(zip(self.kept.seconds(), self.kept.values(signal, role), strict=True))
        shared = [t for t in kept if np.isfinite(kept[t]) and np.isfinite(whole.get(t, np.nan))]
        return np.array([whole[t] for t in shared]), np.array([kept[t] for t in shared])


@pytest.fixture(scope="module")
def both(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The sample twice."""
    folder = tmp_path_factory.mktemp("recorded")
    source = root / "data_samples" / "dynamo-pd" / "query_range.core.json.gz"
    series = read_query_range(source)
    times = [float(t) for row in series for t, _ in row["values"]]
    start, end = (int(t // MINUTE_S * MINUTE_S) for t in (min(times), max(times)))
    kept = recorded(series, start, end, folder)
    (folder / "in").mkdir()
    body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": kept}})
    (folder / "in" / "recorded.json.gz").write_bytes(gzip.compress(body.encode(), 1))
    (raw,) = put_on_grid(folder / "a", source, SETTINGS)[1].frames
    (again,) = put_on_grid(folder / "b", folder / "in", SETTINGS)[1].frames
    return Both(raw, again, len(series), len(kept))


def test_the_rules_keep_every_signal_but_those_named(both: Both) -> None:
    """Same service, roles and sources; what is lost is what no decision needs."""
    named = [{(one.signal, one.role): one.source for one in frame.signals} for frame in (both.raw, both.kept)]
    assert set(named[0]) - set(named[1]) == LOST
    assert set(named[1]) <= set(named[0])
    assert {key: named[0][key] for key in named[1]} == named[1]
    assert (both.kept.service, both.kept.pools) == (both.raw.service, both.raw.pools)
    assert both.kept.limit_edges == both.raw.limit_edges


def test_the_rules_record_fewer_series_once_a_minute(both: Both) -> None:
    """The study's window is twice the minute, and two thirds of the series are there."""
    assert both.kept.window_s == 2 * MINUTE_S
    assert both.recorded <= 0.7 * both.series


RATES = [
    ("decode_tps", "decode"),
    ("prefill_tps_effective", "prefill"),
    ("request_rate", "service"),
    ("input_length", "service"),
    ("output_length", "service"),
    ("first_token_rate", "service"),
    ("finished_output_tps", "service"),
]


@pytest.mark.parametrize(("signal", "role"), RATES)
def test_recorded_rates_are_the_same(both: Both, signal: str, role: str) -> None:
    """The mean over the capture within 1 %, and window by window the same course."""
    raw, kept = both.pairs(signal, role)
    assert raw.size >= 25
    assert kept.mean() == pytest.approx(raw.mean(), rel=WITHIN)
    assert np.corrcoef(raw, kept)[0, 1] >= ALIKE


@pytest.mark.parametrize(
    ("signal", "role"), [("ttft", "service"), ("tbt", "decode"), ("ttft_over", "service")]
)
def test_recorded_latencies_are_the_same(both: Both, signal: str, role: str) -> None:
    """Means and the share over the limit, from the recorded histogram."""
    raw, kept = both.pairs(signal, role)
    assert kept.mean() == pytest.approx(raw.mean(), rel=LATENCY_WITHIN)
    assert np.corrcoef(raw, kept)[0, 1] >= ALIKE


def test_recorded_instances_are_the_same(both: Both) -> None:
    """As many report in each window."""
    for role in ("prefill", "decode"):
        raw, kept = both.pairs("instances", role)
        assert raw.size >= 25
        assert np.mean(raw == kept) >= 0.95
