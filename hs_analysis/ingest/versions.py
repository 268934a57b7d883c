"""What was released when: engine, image and driver versions that change inside the window."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.schema.aligned import POOL_ROLES
from hs_analysis.schema.frames import label_map

IMAGES = "kube_pod_container_info"
HELPERS = ("istio-proxy", "linkerd-proxy", "routing-proxy", "dcgm-exporter", "otel-collector")
"""Containers beside an engine whose image is not the engine's; names of their projects' documentations."""

VERSION_LABELS = (
    "version", "model_version", "revision", "app_kubernetes_io_version", "label_app_kubernetes_io_version",
    "pod_template_hash", "label_pod_template_hash", "controller_revision_hash",
    "label_controller_revision_hash", "DCGM_FI_DRIVER_VERSION",
)  # fmt: skip
"""Labels whose value changes with a release: build-info metrics, Kubernetes' recommended labels and its own
hashes of a pod's template, dcgm-exporter's driver version."""

NAMES = "metric names"
"""What a change is called that shows in an exporter's names: an older one ends, a newer one begins."""

SETTLED_S = 300.0
"""A value first seen this long after the first of its kind is a change, not a late scrape [s]."""

CHANGES: dict[str, pl.DataType | type[pl.DataType]] = {
    "service": pl.String, "role": pl.String, "what": pl.String, "t": pl.Datetime("us", "UTC"),
    "until": pl.Datetime("us", "UTC"), "from": pl.String, "to": pl.String,
}  # fmt: skip
"""Columns of `version_changes`: ``t`` is when the new value was seen first, ``until`` the old one last."""

_Sighting = tuple[str, str, str, str, datetime, datetime]
"""Service, role, what, value, first and last seen."""


def version_changes(series: pl.DataFrame, quality: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Return the releases that series, their labels and their names show.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    quality
        Result of the query ``ingest/series_quality``: when each series was first and last seen.
    catalogue
        Which metric names are older ones, and until which version.

    Returns
    -------
    Frame ``CHANGES``, sorted; one row per service, role, kind of evidence and new value. Values that are
    there from the start are no change, and neither is one that comes back.
    """
    seen: dict[tuple[str, str, str], dict[str, tuple[datetime, datetime]]] = {}
    placed = series.filter(pl.col("service").is_not_null() & pl.col("emitter_role").is_in(POOL_ROLES))
    joined = placed.join(quality.select("series_id", "first_t", "last_t"), "series_id").drop_nulls("first_t")
    for service, role, what, value, first, last in _sightings(joined, catalogue):
        values = seen.setdefault((service, role, what), {})
        before = values.get(value, (first, last))
        values[value] = (min(before[0], first), max(before[1], last))
    rows = [(*key, *change) for key, values in sorted(seen.items()) for change in _changes(values)]
    return pl.DataFrame(rows, schema=CHANGES, orient="row").sort("service", "role", "t", "what", "to")


def _sightings(joined: pl.DataFrame, catalogue: Catalogue) -> Iterator[_Sighting]:
    ages = _ages(catalogue)
    for row in joined.iter_rows(named=True):
        labels, key = label_map(row["labels"]), (row["service"], row["emitter_role"])
        span = row["first_t"], row["last_t"]
        if row["metric"] == IMAGES and labels.get("image") and labels.get("container") not in HELPERS:
            yield *key, f"image of {labels.get('container', 'the container')}", labels["image"], *span
        for label in VERSION_LABELS:
            if labels.get(label):
                yield *key, label.removeprefix("label_"), labels[label], *span
        if row["metric"] in ages:
            exporter, age = ages[row["metric"]]
            yield *key, exporter, age, *span


def _ages(catalogue: Catalogue) -> dict[str, tuple[str, str]]:
    """Return what is renamed, and whether it is the old name or the new, of metrics with several names."""
    found: dict[str, tuple[str, str]] = {}
    for signal in catalogue.signals:
        for source in signal.sources:
            for names in source.names if source.older else ():
                last = source.older[0].until
                age = f"{names.until} or older" if names.until else f"newer than {last}"
                for metric in names.metrics:
                    found.setdefault(metric, (f"{NAMES} of {source.source} at {last}", age))
    return found


def _changes(
    values: dict[str, tuple[datetime, datetime]],
) -> Iterator[tuple[datetime, datetime | None, str, str]]:
    """Yield (first seen, old one last seen, old value, new value) of the values that came later."""
    order = sorted(values.items(), key=lambda item: (item[1][0], item[0]))
    start = order[0][1][0]
    for number, (value, (first, _)) in enumerate(order):
        if first - start < timedelta(seconds=SETTLED_S):
            continue
        old, (_, last) = order[number - 1]
        yield first, last, old, value
