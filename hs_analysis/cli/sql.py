"""``hsa sql``: the tables of a run in DuckDB's SQL."""

from __future__ import annotations

from typing import Annotated

import typer

from hs_analysis.cli.groups import grouped
from hs_analysis.cli.options import OUTPUT, FormFlags, Run
from hs_analysis.cli.shown import Shown, Table, show

MOST_ROWS = 1000
"""Rows printed unless said otherwise; more than a reader takes in, less than a terminal drowns in."""

SQL_HELP = """hsa sql reports/dumps-20260701T0000-20260708T0000 "SUMMARIZE signals"

The tables of a run in DuckDB's SQL: read-only, and nothing else within reach. Without QUERY it lists them."""


@grouped
def sql(
    run: Run,
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="One SELECT; FROM and DESCRIBE count.", show_default=False),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="ROWS", min=0, rich_help_panel=OUTPUT, help="Rows to print; 0 for all of them."
        ),
    ] = MOST_ROWS,
    *,
    form: FormFlags,
) -> None:
    """Print the rows of a query, or the tables there are."""
    from hs_analysis.pipeline.results import described_tables, queried, stale_note

    if stale := stale_note(run):
        typer.echo(stale, err=True)
    if query is None:
        listed = described_tables(run)
        columns = [(name, name) for name in ("table", "rows", "grain", "columns")]
        shown = Shown({"tables": listed}, listed, lambda: [Table("Tables", columns, listed)])
        show(shown, form.output, no_color=form.no_color)
        return
    found = queried(run, query, limit or None)
    rows = list(found.rows)
    heads = [(name, name) for name in found.columns]
    show(Shown(rows, rows, lambda: [Table("Rows", heads, rows)]), form.output, no_color=form.no_color)
    if found.more:
        typer.echo(f"the first {limit:,} rows; --limit 0 prints all of them", err=True)
