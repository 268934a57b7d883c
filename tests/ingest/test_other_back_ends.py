"""One capture through other back ends: the signals of Prometheus, but for what doctor says is lost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from end_to_end.runs import SAMPLES as SAMPLE_OPTIONS
from end_to_end.runs import here, run
from ingest import other_back_ends as written
from ingest.other_back_ends import Series
from ingest.reading import read
from ingest.test_any_bytes import SAMPLES

from hs_analysis.catalogue import load_catalogue
from hs_analysis.errors import InputError
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.formats import format_named
from hs_analysis.ingest.rows import Dump, RawSeries, ReadNotes
from hs_analysis.ingest.stage import Ingested, ingest
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.settings import Reading

MOST_SAMPLES = 40
"""Samples of each series that are looked at: ten minutes."""


@dataclass(frozen=True)
class BackEnd:
    """How a capture is written, and what must be lost.

    ``losses`` are codes of the format's losses that hold for the file, ``endings`` those of the metrics that
    are gone with them;
    ``gain`` is how far the increase of a counter may lie from that of the Prometheus form.
    """

    format: str
    write: Callable[[Sequence[Series]], bytes]
    losses: frozenset[str] = frozenset()
    endings: tuple[str, ...] = ()
    gain: float = 1e-9


HISTOGRAMS = ("_bucket", "_sum", "_count")

BACK_ENDS = {
    "cloudwatch-data": BackEnd(
        "cloudwatch-data",
        written.cloudwatch_data,
        frozenset({"period", "no_histograms", "increases", "names_in_request"}),
        HISTOGRAMS,
    ),
    "cloudwatch-stream": BackEnd(
        "cloudwatch-stream",
        written.cloudwatch_stream,
        frozenset({"period", "no_histograms", "increases"}),
        HISTOGRAMS,
    ),
    "gcp": BackEnd("gcp-timeseries", written.gcp, frozenset({"adjusted", "edges"})),
    "datadog-v1": BackEnd("datadog", written.datadog_v1, frozenset({"rolled_up", "increases"})),
    "datadog-v2": BackEnd("datadog", written.datadog_v2, frozenset({"rolled_up", "increases", "no_names"})),
    "grafana-frames": BackEnd("grafana-frame", written.frames, frozenset({"thinned", "no_type"})),
    "grafana-panel": BackEnd("grafana-frame", written.panel_data, frozenset({"thinned", "no_type"})),
    "grafana-excel": BackEnd("grafana-csv", written.excel, frozenset({"displayed", "legends"})),
    "otlp": BackEnd("otlp-jsonl", written.otlp),
    "otlp-delta": BackEnd("otlp-jsonl", partial(written.otlp, delta=True), frozenset({"delta"})),
}


@pytest.fixture(scope="module")
def captured(root: Path) -> list[Series]:
    return written.capture(root / "data_samples" / "dynamo-pd" / "query_range.core.json.gz", MOST_SAMPLES)


def ingested(folder: Path, raw: bytes) -> tuple[Ingested, pl.DataFrame]:
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "dump").write_bytes(raw)
    found = ingest(discover([folder / "in"]), folder / "data", lambda _name: None)
    return found, pl.read_parquet(folder / "data" / "samples" / "part-0.parquet")


def facts(series: pl.DataFrame) -> set[tuple[str, ...]]:
    """Return (metric, signal, role, service, instance) of every series that a signal is read from."""
    known = series.filter(pl.col("signal").is_not_null())
    return set(known.select("metric", "signal", "emitter_role", "service", "instance").iter_rows())


def gains(found: Ingested, samples: pl.DataFrame) -> dict[tuple[str, str, str], float]:
    """Return what the counters of each metric, instance and bucket gained in all."""
    counters = found.series.filter((pl.col("kind") == "counter") & pl.col("signal").is_not_null())
    total: dict[tuple[str, str, str], float] = {}
    parts = samples.drop_nulls("value").sort("series_id", "t").partition_by("series_id", as_dict=True)
    for number, metric, instance, labels in counters.select(
        "series_id", "metric", "instance", "labels"
    ).iter_rows():
        le = label_map(labels).get("le", "")
        key = (metric, instance or "", str(float(le)) if le else "")
        values = parts[(number,)]["value"].to_numpy()
        steps = np.diff(values)
        total[key] = total.get(key, 0.0) + float(np.where(steps < 0, values[1:], steps).sum())
    return total


@pytest.fixture(scope="module")
def plain(captured: list[Series], tmp_path_factory: pytest.TempPathFactory) -> tuple[Ingested, pl.DataFrame]:
    return ingested(tmp_path_factory.mktemp("prometheus"), written.prometheus(captured))


@pytest.mark.parametrize("name", sorted(BACK_ENDS))
def test_the_same_signals_but_for_what_is_said_to_be_lost(
    name: str, captured: list[Series], plain: tuple[Ingested, pl.DataFrame], tmp_path: Path
) -> None:
    """Signals, roles, services, instances and increases; every loss is a finding, and no other is told."""
    one = BACK_ENDS[name]
    raw = one.write(captured)
    found, samples = ingested(tmp_path, raw)
    (file,) = (f for f in found.files if f.format == one.format)
    assert file.rows_rejected == 0
    kept_metrics = [m for m in set(plain[0].series["metric"]) if not m.endswith(one.endings or ("?",))]
    wanted = facts(plain[0].series.filter(pl.col("metric").is_in(kept_metrics)))
    assert facts(found.series) == wanted
    before, after = gains(*plain), gains(found, samples)
    assert {key for key in before if key[0] in kept_metrics} == set(after)
    for key, gained in after.items():
        assert gained == pytest.approx(before[key], rel=max(one.gain, 1e-9), abs=1e-6), key
    declared = {loss.code: loss.text for loss in format_named(one.format).losses}
    assert {text for _, text in found.losses} == {declared[code] for code in one.losses}


def test_without_histograms_no_latency_is_left(captured: list[Series], tmp_path: Path) -> None:
    """What the loss says of the agent's path: the signals of the latency family are those that are gone."""
    found, _ = ingested(tmp_path, written.cloudwatch_data(captured))
    families = {signal.id: signal.family for signal in load_catalogue().signals}
    left = {families[signal] for signal in found.series["signal"].drop_nulls()}
    assert "latency" not in left
    assert "queue" in left


def test_doctor_names_every_loss(captured: list[Series], tmp_path: Path) -> None:
    """A finding for each loss of each back end, with the file, and no other."""
    wanted = set()
    for name, one in BACK_ENDS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "dump").write_bytes(
            one.write([(labels, values[:8]) for labels, values in captured])
        )
        wanted |= {loss.text for loss in format_named(one.format).losses if loss.code in one.losses}
    told = json.loads(here("doctor", tmp_path, "-o", "json", "-q").stdout)
    found = [f for f in told["findings"] if f["check"] == "source_losses"]
    assert {f["level"] for f in found} == {"warn"}
    assert {f["text"].partition(": ")[2] for f in found} == wanted
    assert all("/dump" in f["text"].partition(": ")[0] for f in found)


WHOLE = {
    "as scraped": ("otlp", "otlp-delta", "gcp", "datadog-v1", "datadog-v2"),
    "a server's answers": ("grafana-frames", "grafana-panel", "grafana-excel"),
}
"""Back ends that keep every value of the capture, by what their files are: of a server's answers a stretch in
which all series repeat is a scrape gap, of scraped samples it is not."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_a_run_has_the_same_answer(kind: str, root: Path, tmp_path: Path) -> None:
    """Every number and text of the services in summary.json, of the whole capture at its scrape interval."""
    captured = written.capture(root / "data_samples" / "dynamo-pd" / "query_range.core.json.gz", 1 << 20)
    base = written.victoriametrics if kind == "as scraped" else written.prometheus

    def answer(name: str, write: Callable[[Sequence[Series]], bytes]) -> dict[str, object]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "dump").write_bytes(write(captured))
        done = run(tmp_path / name, tmp_path / name / "run", *SAMPLE_OPTIONS["dynamo-pd"])
        return dict(leaves(done.summary["services"], ""))

    wanted = answer("base", base)
    assert len(wanted) > 1000
    for name in WHOLE[kind]:
        found = answer(name, BACK_ENDS[name].write)
        assert found.keys() == wanted.keys()
        differ = [key for key, value in wanted.items() if not alike(value, found[key])]
        assert not differ, (name, differ[:3])


def leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Yield path and value of everything in a document but the links to evidence, which name the run."""
    parts = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if parts is None:
        yield path, value
        return
    for key, part in parts:
        if key != "evidence":
            yield from leaves(part, f"{path}.{key}")


def alike(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return one == other


SMALL = {kind: SAMPLES[kind][0][0] for kind in sorted({one.format for one in BACK_ENDS.values()})}
"""A small file of every format."""


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_a_page_in_place_of_an_answer_is_named(kind: str, tmp_path: Path) -> None:
    """What a proxy answers when nobody is logged in."""
    (tmp_path / "dump").write_bytes(b"<!DOCTYPE html><html><title>Sign in</title>" + SMALL[kind])
    with pytest.raises(
        InputError, match=r"an HTML page \(Sign in\), not a metric dump; log in or fix the URL"
    ):
        discover([tmp_path / "dump"])


@pytest.mark.parametrize("kind", sorted(set(SMALL) - {"grafana-csv"}))
def test_a_cut_file_is_refused_or_says_where_it_ends(kind: str, tmp_path: Path) -> None:
    """Documents give the byte and what --salvage does; of lines the last one is set aside as truncated."""
    raw = SMALL[kind]
    cut = raw[: len(raw) - len(raw.splitlines()[-1]) // 2 - 1]
    (tmp_path / "dump").write_bytes(cut)
    reader = format_named(kind).read
    if kind.endswith(("jsonl", "stream")):
        pieces, notes = list[RawSeries](), ReadNotes()
        pieces += reader(Dump(tmp_path / "dump", "dump", "dump"), notes)
        assert pieces
    else:
        with pytest.raises(InputError) as refused:
            list(reader(Dump(tmp_path / "dump", "dump", "dump"), ReadNotes()))
        assert f"ends in the middle at byte {len(cut)}" in refused.value.what
        assert "--salvage" in refused.value.hint
        notes = ReadNotes()
        list(reader(Dump(tmp_path / "dump", "dump", "dump", Reading(salvage=True)), notes))
    assert [row.reason for row in notes.rejections] == ["truncated"]


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("otlp-jsonl", b'{"resourceMetrics": {}}\n'),
        ("otlp-jsonl", b'{"resourceMetrics": [7]}\n'),
        ("grafana-frame", b'{"results": {"A": {"frames": [7]}}}'),
        ("grafana-frame", b'[{"schema": 7, "data": 7}]'),
        ("datadog", b'{"series": 7}'),
        ("datadog", b'{"series": [{"pointlist": [7], "metric": "m"}]}'),
        ("cloudwatch-stream", b'{"metric_stream_name": 7}\n'),
        ("gcp-timeseries", b'{"timeSeries": 7}'),
        ("gcp-timeseries", b'{"timeSeries": [7]}'),
        ("cloudwatch-data", b'{"MetricDataResults": [7]}'),
        ("cloudwatch-data", b'{"MetricDataResults": 7}'),
    ],
)
def test_another_type_than_documented_is_set_aside(kind: str, raw: bytes) -> None:
    """Nothing of it is read as a sample, and it is not passed over."""
    pieces, notes = read(format_named(kind).read, raw)
    assert (pieces, len(notes.rejections)) == ([], 1)
