"""What a file is that no reader knows, in words that say what to do with it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from hs_analysis.ingest.bytestream import BOM
from hs_analysis.ingest.delimited import split_header
from hs_analysis.ingest.mapped import HOW_TO_MAP
from hs_analysis.ingest.parquet_rows import MAGIC, column_names

EXPORT = "export it with /api/v1/query_range as JSON"

NO_DUMP = "not a metric dump this tool reads"

WRAPPED = "holds API answers inside a document of its own"

UNWRAP = "write each answer to a file of its own, as the server gave it, and name its query with --query"

MOST_NAMES = 20
"""Columns that a message lists."""


def unknown(head: bytes, path: Path) -> tuple[str, str]:
    """Return what a file is and what to do: a table lists its columns, so that they can be mapped.

    Answers that a script put together under names of its own are told: nobody but it knows what they answer.
    """
    columns = column_names(path) if head[: len(MAGIC)] == MAGIC else _csv_columns(head)
    if columns:
        shown = ", ".join(name[:60] for name in columns[:MOST_NAMES])
        more = f" and {len(columns) - MOST_NAMES} more" if len(columns) > MOST_NAMES else ""
        return f"a table that no reader knows, with the columns {shown}{more}", HOW_TO_MAP
    return (WRAPPED, UNWRAP) if _ANSWER.search(head) else (NO_DUMP, EXPORT)


_ANSWER = re.compile(rb'"status"\s*:\s*"success"\s*,\s*"data"\s*:\s*\{\s*"resultType"')
"""How an answer of the Prometheus API begins, wherever it stands."""


def _csv_columns(head: bytes) -> list[str]:
    """Return the names of a header that the next line fits, none when it is no table."""
    try:
        lines = head.removeprefix(BOM).decode("utf-8", "ignore").splitlines()
        lines = [line for line in lines if line.strip()][:2]
        if len(lines) < 2 or lines[0].lstrip()[:1] in ("{", "[", "<", "#"):
            return []
        names, delimiter = split_header(lines[0])
        cells = next(csv.reader([lines[1]], delimiter=delimiter), [])
    except csv.Error:
        return []
    return names if len(names) > 1 and len(cells) == len(names) and all(names) else []
