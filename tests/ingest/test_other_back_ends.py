"""One capture through other back ends: the signals of Prometheus, but for what doctor says is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from end_to_end.runs import here
from ingest import other_back_ends as written
from ingest.other_back_ends import Series

from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.formats import format_named
from hs_analysis.ingest.stage import Ingested, ingest
from hs_analysis.schema.frames import label_map

SAMPLES = 40
"""Samples of each series that are looked at: ten minutes."""


@dataclass(frozen=True)
class BackEnd:
    """How a capture is written, and what must be lost.

    ``losses`` are codes of the format's losses that hold for the file, ``signals`` what is gone with them;
    ``gain`` is how far the increase of a counter may lie from that of the Prometheus form.
    """

    format: str
    write: Callable[[Sequence[Series]], bytes]
    losses: frozenset[str] = frozenset()
    signals: frozenset[str] = frozenset()
    gain: float = 1e-9


BACK_ENDS = {
    "otlp": BackEnd("otlp-jsonl", written.otlp),
    "otlp-delta": BackEnd("otlp-jsonl", partial(written.otlp, delta=True), frozenset({"delta"})),
}


@pytest.fixture(scope="module")
def captured(root: Path) -> list[Series]:
    return written.capture(root / "data_samples" / "dynamo-pd" / "query_range.core.json.gz", SAMPLES)


def ingested(folder: Path, raw: bytes) -> tuple[Ingested, pl.DataFrame]:
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "dump").write_bytes(raw)
    found = ingest(discover([folder / "in"]), folder / "data", lambda _name: None)
    return found, pl.read_parquet(folder / "data" / "samples" / "part-0.parquet")


def facts(found: Ingested) -> set[tuple[str, ...]]:
    """Return (signal, role, service, instance) of every series that a signal is read from."""
    known = found.series.filter(pl.col("signal").is_not_null())
    return set(known.select("signal", "emitter_role", "service", "instance").iter_rows())


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
    wanted = {fact for fact in facts(plain[0]) if fact[0] not in one.signals}
    assert facts(found) == wanted
    before, after = gains(*plain), gains(found, samples)
    kept = {metric for metric, signal in found.series.select("metric", "signal").iter_rows() if signal}
    assert {key for key in before if key[0] in kept} == set(after)
    for key, gained in after.items():
        assert gained == pytest.approx(before[key], rel=max(one.gain, 1e-9), abs=1e-6), key
    declared = {loss.code: loss.text for loss in format_named(one.format).losses}
    assert {text for _, text in found.losses} == {declared[code] for code in one.losses}


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
