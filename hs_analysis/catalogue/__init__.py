"""The catalogue of signals and of the exporter metrics that carry them, as data."""

from hs_analysis.catalogue.rows import (
    Catalogue,
    Exporter,
    Signal,
    Source,
    Term,
    load_catalogue,
    metric_kind,
)

__all__ = ["Catalogue", "Exporter", "Signal", "Source", "Term", "load_catalogue", "metric_kind"]
