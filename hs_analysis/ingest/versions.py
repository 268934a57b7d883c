"""What was released when: engine, image and driver versions that change inside the window."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.catalogue.pod_labels import IMAGE_METRIC
from hs_analysis.schema.aligned import POOL_ROLES
from hs_analysis.schema.constants import SETTLED_S
from hs_analysis.schema.frames import VERSIONS, check, empty, label_map

HELPERS = ("istio-proxy", "linkerd-proxy", "routing-proxy", "dcgm-exporter", "otel-collector")
"""Containers beside an engine whose image is not the engine's; names of their projects' documentations."""

TEMPLATES = (
    "pod_template_hash", "label_pod_template_hash", "controller_revision_hash",
    "label_controller_revision_hash",
)  # fmt: skip
"""Kubernetes' own hashes of a pod's template: they change with a version, and with a mere restart too."""

DRIVER = "DCGM_FI_DRIVER_VERSION"
"""dcgm-exporter's driver version, of the node and not of the engine."""

VERSION_LABELS = {
    **dict.fromkeys(
        ("version", "model_version", "revision", "app_kubernetes_io_version",
         "label_app_kubernetes_io_version"), "version",
    ),
    **dict.fromkeys(TEMPLATES, "template"),
    DRIVER: "driver",
}  # fmt: skip
"""Labels whose value changes with a release, and what they tell (`tells` of contract VERSIONS): build-info
metrics, Kubernetes' recommended labels, its hashes, the driver."""

PYTHON_INFO, PYTHON = "python_info", "version of Python"
"""Every exporter of prometheus_client says which Python runs it: that is no version of the engine."""

NAMES = "metric names"
"""What a change is called that shows in an exporter's names: an older one ends, a newer one begins."""

CHANGES: dict[str, pl.DataType | type[pl.DataType]] = {
    "service": pl.String, "role": pl.String, "what": pl.String, "t": pl.Datetime("us", "UTC"),
    "until": pl.Datetime("us", "UTC"), "from": pl.String, "to": pl.String,
}  # fmt: skip
"""Columns of `version_changes`: ``t`` is when the new value was seen first, ``until`` the old one last."""


def version_spans(series: pl.DataFrame, quality: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Return when and where each version was seen that series, their labels and their names tell.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    quality
        Frame of `quality.quality_frame`: when each series was first and last seen.
    catalogue
        Which metric names are older ones, and until which version.

    Returns
    -------
    Frame of contract VERSIONS, sorted, of the pools of services; from the first sample of any series of an
    instance that tells the version to the last.
    """
    placed = series.filter(pl.col("service").is_not_null() & pl.col("emitter_role").is_in(POOL_ROLES))
    joined = placed.join(quality.select("series_id", "first_t", "last_t"), "series_id").drop_nulls("first_t")
    seen = pl.DataFrame(_sightings(joined, catalogue), schema=empty(VERSIONS).schema, orient="row")
    key = [name for name in VERSIONS.names if name not in ("first", "last")]
    spans = seen.group_by(key).agg(pl.col("first").min(), pl.col("last").max())
    return check(spans.sort(key), VERSIONS)


def version_changes(spans: pl.DataFrame) -> pl.DataFrame:
    """Return the releases that the sightings of versions show.

    Parameters
    ----------
    spans
        Frame of contract VERSIONS.

    Returns
    -------
    Frame ``CHANGES``, sorted; one row per service, role, kind of evidence and new value. Values that are
    there from the start are no change, and neither is one that comes back.
    """
    key = ["service", "role", "what"]
    values = spans.group_by(*key, "value").agg(pl.col("first").min(), pl.col("last").max())
    rows = [
        (*own, *change)
        for own, part in values.partition_by(key, as_dict=True).items()
        for change in _changes({value: (first, last) for *_, value, first, last in part.iter_rows()})
    ]
    return pl.DataFrame(rows, schema=CHANGES, orient="row").sort("service", "role", "t", "what", "to")


def _sightings(joined: pl.DataFrame, catalogue: Catalogue) -> Iterator[tuple[Any, ...]]:
    """Yield rows of contract VERSIONS, one a series and kind of evidence."""
    ages = _ages(catalogue)
    for row in joined.iter_rows(named=True):
        labels = label_map(row["labels"])
        pool = row["service"], row["capture"], row["emitter_role"]
        place = row["instance"] or "", row["first_t"], row["last_t"]
        if row["metric"] == IMAGE_METRIC and labels.get("image") and labels.get("container") not in HELPERS:
            what = f"image of {labels.get('container', 'the container')}"
            yield *pool, what, "version", labels["image"], *place
        for label, tells in VERSION_LABELS.items():
            if not labels.get(label):
                continue
            if label == "version" and row["metric"] == PYTHON_INFO:
                yield *pool, PYTHON, "sign", labels[label], *place
            else:
                yield *pool, label.removeprefix("label_"), tells, labels[label], *place
        if row["metric"] in ages:
            exporter, age = ages[row["metric"]]
            yield *pool, exporter, "sign", age, *place


def _ages(catalogue: Catalogue) -> dict[str, tuple[str, str]]:
    """Return what is renamed, and whether it is the old name or the new, of metrics with several names."""
    found: dict[str, tuple[str, str]] = {}
    for signal in catalogue.signals:
        for source in signal.sources:
            aged = [names for names in source.names if not names.renamed]
            for names in aged if len(aged) > 1 else ():
                last = aged[1].until
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
