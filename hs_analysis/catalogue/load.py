"""The catalogue that ships with the package, parsed once a process."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from hs_analysis.catalogue.parse import parse_catalogue
from hs_analysis.catalogue.rows import Catalogue

FILE = "signals.yaml"


@lru_cache(maxsize=1)
def load_catalogue() -> Catalogue:
    """Return the shipped catalogue.

    Raises
    ------
    InputError, ManyErrors
        When a row of it is wrong: an exporter that does not exist, a field that is misspelled.
    """
    return parse_catalogue(files("hs_analysis.catalogue").joinpath(FILE).read_text("utf-8"), FILE)
