"""The catalogue of signals and of the exporter metrics that carry them, as data."""

from hs_analysis.catalogue.parse import load_catalogue
from hs_analysis.catalogue.rows import MAPPING, WORKED_OUT, Catalogue, Exporter, Names, Signal, Source, Term
from hs_analysis.catalogue.user_rows import can_be_asked, is_query, with_user_rows

__all__ = [
    "MAPPING",
    "WORKED_OUT",
    "Catalogue",
    "Exporter",
    "Names",
    "Signal",
    "Source",
    "Term",
    "can_be_asked",
    "is_query",
    "load_catalogue",
    "with_user_rows",
]
