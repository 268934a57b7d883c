"""The only place that talks to DuckDB and writes run folders' tables."""

from hs_analysis.store.database import Database, Input, query_names, query_text
from hs_analysis.store.explore import PackQuery, QueryRows, explore, operators_pack
from hs_analysis.store.samples import (
    flagged_samples,
    link_or_copy,
    renumbered,
    sample_parts,
    series_samples,
    without_stretches,
)
from hs_analysis.store.tables import read_table, write_table, write_view_database

__all__ = [
    "Database",
    "Input",
    "PackQuery",
    "QueryRows",
    "explore",
    "flagged_samples",
    "link_or_copy",
    "operators_pack",
    "query_names",
    "query_text",
    "read_table",
    "renumbered",
    "sample_parts",
    "series_samples",
    "without_stretches",
    "write_table",
    "write_view_database",
]
